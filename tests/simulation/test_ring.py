from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from belayd.simulation.ring import Ring

Simulated = Callable[..., Any]


def test_what_fits_is_kept_and_the_rest_is_lost() -> None:
    unread = 250
    ring = Ring(255, lambda: unread)

    assert ring.keep(b"abcde") == b"abcde"
    assert ring.keep(b"abcdefgh") == b"abcde"
    assert ring.lost_bytes == 3


def test_an_interrupt_passes_a_full_ring() -> None:
    ring = Ring(10, lambda: 10)

    assert ring.keep(b"abc\x03de\x03") == b"\x03\x03"


def test_a_program_that_reads_later_finds_the_first_bytes_only(simulated: Simulated) -> None:
    board = simulated("--ring", "100")
    board.wire.enter_raw()
    board.wire.send(b"import sys, time\nprint('go')\ntime.sleep(.2)\nsys.stdin.read(101)\x04")
    board.wire.until(b"go")

    board.wire.send(bytes(range(32, 127)) + b"0123456789")
    board.wire.send(b"\x03")

    assert b"KeyboardInterrupt" in board.wire.until(b"\x04>")


@pytest.mark.parametrize("size", [64, 255])
def test_a_busy_board_can_still_be_interrupted(simulated: Simulated, size: int) -> None:
    board = simulated("--ring", str(size))
    board.wire.enter_raw()
    board.wire.send(b"print('go')\nwhile True: pass\x04")
    board.wire.until(b"go")

    board.wire.send(b"x" * 1000 + b"\x03")

    assert b"KeyboardInterrupt" in board.wire.until(b"\x04>")
