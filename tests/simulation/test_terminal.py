from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 30.0

SimulatedPty = Callable[..., Any]
OpenWire = Callable[[Path], Any]


def test_a_pty_is_its_owners_only(simulated_pty: SimulatedPty) -> None:
    board = simulated_pty()

    assert stat.S_IMODE(board.path.stat().st_mode) == 0o600
    assert board.path.resolve().is_char_device()


def test_the_board_waits_for_its_first_tool_and_survives_it(
    simulated_pty: SimulatedPty, open_wire: OpenWire
) -> None:
    board = simulated_pty()

    first = open_wire(board.path)
    first.until(b">>> ")
    first.send(b"x = 5\r")
    first.until(b">>> ")
    second = open_wire(board.path)
    second.send(b"x\r")

    assert second.until(b">>> ") == b"x\r\n5\n>>> "


def test_a_hard_reset_takes_the_pty_away_and_brings_a_fresh_board_back(
    simulated_pty: SimulatedPty, open_wire: OpenWire
) -> None:
    board = simulated_pty("board", "--absence", "0.1", files={"main.py": "print('main ran')\n"})
    wire = open_wire(board.path)
    wire.enter_raw()

    wire.send(b"x = 1\nimport machine; machine.reset()\x04")
    wire.until_gone()
    again = board.process.stdout.readline().decode().strip()

    assert str(board.path.readlink()) == again
    wire = open_wire(board.path)
    assert wire.until(b">>> ").startswith(b"main ran\n")
    wire.send(b"import machine; machine.reset_cause() == machine.HARD_RESET\r")
    assert b"True" in wire.until(b">>> ")


def test_the_link_goes_with_the_board(simulated_pty: SimulatedPty) -> None:
    board = simulated_pty()

    board.process.send_signal(signal.SIGTERM)

    assert board.process.wait(PATIENCE) == 0
    assert not board.path.is_symlink()


def test_a_crash_takes_the_pty_away_and_ends_the_program(
    simulated_pty: SimulatedPty, open_wire: OpenWire
) -> None:
    board = simulated_pty()
    wire = open_wire(board.path)
    wire.until(b">>> ")
    pid = board.process.pid

    os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()), signal.SIGKILL)

    wire.until_gone()
    assert board.process.wait(PATIENCE) == 1
    assert not board.path.is_symlink()


def test_output_that_nobody_reads_stops_the_board_and_is_all_there_later(
    simulated_pty: SimulatedPty, open_wire: OpenWire
) -> None:
    lines = b"".join(b"%d " % number for number in range(100_000))
    board = simulated_pty("board", files={"main.py": "for i in range(100000): print(i, end=' ')\nprint()\n"})
    wire = open_wire(board.path)
    select.select([wire.fd], [], [], PATIENCE)

    shown = wire.until(b"\n")

    assert shown == lines + b"\n"
