from __future__ import annotations

from contextlib import ExitStack

import pytest

from belayd.attempts import (
    FORGIVEN_EVERY,
    FREE,
    LONGEST_DELAY,
    MOST_ADDRESSES,
    MOST_WAITING,
    MOST_WAITING_EACH,
    Attempts,
    origin,
)


def test_the_first_failures_are_answered_at_once_and_later_ones_ever_later() -> None:
    attempts = Attempts()

    delays = [attempts.failed("10.0.0.7", 0.0) for _ in range(FREE + 20)]

    assert delays[:FREE] == [0.0] * FREE
    assert delays[FREE:] == sorted(delays[FREE:])
    assert 0 < delays[FREE] < delays[-1] == LONGEST_DELAY


def test_another_address_is_not_slowed() -> None:
    attempts = Attempts()
    for _ in range(10_000):
        attempts.failed("10.0.0.7", 0.0)

    assert attempts.failed("10.0.0.8", 0.0) == 0.0


def test_an_address_is_forgiven_with_time() -> None:
    attempts = Attempts()
    for _ in range(FREE + 3):
        attempts.failed("10.0.0.7", 0.0)

    assert attempts.failed("10.0.0.7", 1000 * FORGIVEN_EVERY) == 0.0


def test_ten_thousand_addresses_take_no_more_memory_than_a_thousand() -> None:
    attempts = Attempts()
    for number in range(10_000):
        attempts.failed(f"10.0.{number // 256}.{number % 256}", 0.0)

    assert attempts.remembered == MOST_ADDRESSES


def test_only_so_many_of_an_address_wait_at_once() -> None:
    attempts = Attempts()
    for _ in range(FREE):
        attempts.failed("10.0.0.7", 0.0)
    with ExitStack() as stack:
        for _ in range(MOST_WAITING_EACH):
            assert attempts.failed("10.0.0.7", 0.0) > 0
            stack.enter_context(attempts.waiting("10.0.0.7"))

        assert attempts.failed("10.0.0.7", 0.0) == 0.0
    assert attempts.failed("10.0.0.7", 0.0) > 0


def test_only_so_many_wait_in_all() -> None:
    attempts = Attempts()
    for _ in range(FREE):
        attempts.failed("10.0.0.7", 0.0)
    with ExitStack() as stack:
        for number in range(MOST_WAITING):
            stack.enter_context(attempts.waiting(f"10.0.1.{number}"))

        assert attempts.failed("10.0.0.7", 0.0) == 0.0


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::1", "::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("no address", "no address"),
    ],
)
def test_an_address_is_counted_as_one_host(host: str, counted: str) -> None:
    assert origin(host) == counted
