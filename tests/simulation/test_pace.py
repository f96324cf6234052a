from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from belayd.simulation.pace import BaudPace, Unpaced

Simulated = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_carries_a_fifo_at_once_and_then_a_byte_in_ten_bits() -> None:
    clock = Clock()
    pace = BaudPace(10_000, clock)  # 1 ms a byte

    first = pace.allowed()
    pace.passed(first)
    at_once = pace.allowed()
    clock.now += 0.003
    later = pace.allowed()
    clock.now += 10
    rested = pace.allowed()

    assert (first, at_once, later, rested) == (16, 0, 3, 16)


def test_a_full_fifo_is_worth_a_look_when_half_of_it_is_free() -> None:
    clock = Clock()
    pace = BaudPace(10_000, clock)
    pace.passed(16)

    wait = pace.wait()
    clock.now += wait

    assert 0.0079 < wait < 0.0081
    assert pace.allowed() == 8


def test_a_line_without_a_rate_carries_all() -> None:
    pace = Unpaced()
    pace.passed(1 << 20)

    assert pace.allowed() > 1 << 20


def test_a_slow_board_takes_its_time_and_loses_nothing(simulated: Simulated) -> None:
    board = simulated("--baud", "115200")
    board.wire.enter_raw()
    began = time.monotonic()

    shown = board.wire.run(b"print('x' * 4000)")

    assert shown == b"x" * 4000 + b"\n"
    assert time.monotonic() - began > 4000 / 11_520 * 0.9
