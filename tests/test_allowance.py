"""So many resets and deployments an hour, for each principal apart."""

from __future__ import annotations

import pytest

from belayd.allowance import HOUR, MOST_PRINCIPALS, Allowance
from belayd.errors import QuotaExceeded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_beyond_its_allowance_a_principal_waits_and_others_do_not() -> None:
    clock = Clock()
    allowance = Allowance("resets", 10, clock)
    for _ in range(10):
        allowance.take("ann")

    with pytest.raises(
        QuotaExceeded, match="'ann' has had 10 resets within an hour; the next is free in 360 s"
    ):
        allowance.take("ann")
    allowance.take("bob")

    clock.now = HOUR / 10
    allowance.take("ann")
    with pytest.raises(QuotaExceeded):
        allowance.take("ann")


def test_nobody_saves_up_more_than_an_hours_worth() -> None:
    clock = Clock()
    allowance = Allowance("deployments", 3, clock)
    allowance.take("ann")
    clock.now = 100 * HOUR
    for _ in range(3):
        allowance.take("ann")
    with pytest.raises(QuotaExceeded):
        allowance.take("ann")


def test_principals_without_end_are_forgotten_again() -> None:
    allowance = Allowance("resets", 1, Clock())
    for number in range(MOST_PRINCIPALS + 1):
        allowance.take(f"user {number}")
    allowance.take("user 0")  # forgotten, so new
    with pytest.raises(QuotaExceeded):
        allowance.take(f"user {MOST_PRINCIPALS}")
