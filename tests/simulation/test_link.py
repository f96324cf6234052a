from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

SimulatedPty = Callable[..., Any]
PATIENCE = 30.0


def test_a_plug_is_pulled_after_so_many_bytes_and_the_daemons_board_ends(
    simulated: Callable[..., Any],
) -> None:
    board = simulated("--unplug-after", "500", files={"main.py": "while True: print('0123456789' * 3)\n"})

    shown = board.wire.until_gone()

    assert len(shown) == 500
    assert board.process.wait(PATIENCE) == 0


def test_a_pty_comes_back_after_its_plug_was_pulled(
    simulated_pty: SimulatedPty, open_wire: Callable[[Path], Any]
) -> None:
    board = simulated_pty("board", "--unplug-after", "300", "--absence", "0.1")
    wire = open_wire(board.path)
    wire.until(b">>> ")
    wire.send(b"print('x' * 400)\r")
    wire.until_gone()

    assert board.process.stdout.readline().decode().strip() == str(board.path.readlink())
    again = open_wire(board.path)
    again.until(b">>> ")
    again.send(b"import machine; machine.reset_cause() == machine.PWRON_RESET\r")

    assert b"True" in again.until(b">>> ")
