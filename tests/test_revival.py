"""Stored leases as they come back, however long the daemon was away and whatever the host's clock shows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from belayd.revival import record_of, revived, view_of
from belayd.store import LeaseRecord
from belayd.terms import Lease, Notice, hash_token

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LEASE = Lease(
    name="7f3a",
    board="a",
    principal="ann",
    holder="ann@desk",
    reason="demo",
    ttl=60.0,
    token_hash=hash_token("bl_secret"),
    fence=7,
    acquired=100.0,
    expires=160.0,
)


def time_of_day(at: float) -> datetime:
    return NOON + timedelta(seconds=at)


def stored(lease: Lease = LEASE, at: float = 130.0, **more: object) -> LeaseRecord:
    return replace(record_of(lease, view_of(lease, time_of_day, None), at), **more)


@pytest.mark.parametrize("jump", [-10 * 365, -1, 0, 1, 10 * 365], ids=lambda days: f"{days} days")
@pytest.mark.parametrize("away", [None, 0.0, 20.0, 500.0])
def test_a_lease_gets_one_full_ttl_whatever_the_time_of_day(jump: int, away: float | None) -> None:
    record = stored(away=away)
    view = replace(record.view, expires=record.view.expires + timedelta(days=jump))

    lease = revived(replace(record, view=view), now=5000.0, max_hold=3600.0)

    assert lease == replace(LEASE, acquired=5000.0 - 30.0 - (away or 0.0), expires=5060.0)


def test_the_longest_hold_goes_on_while_the_daemon_is_away() -> None:
    lease = revived(stored(away=3000.0), now=5000.0, max_hold=3600.0)
    almost_over = revived(stored(away=3550.0), now=5000.0, max_hold=3600.0)
    over = revived(stored(away=3580.0), now=5000.0, max_hold=3600.0)

    assert lease.acquired + 3600.0 == 5000.0 + 570.0
    assert lease.expires == 5060.0
    assert almost_over.expires == 5000.0 + 20.0
    assert over.expires < 5000.0


def test_what_the_host_was_off_does_not_count() -> None:
    lease = revived(stored(at=3600.0, away=None), now=10.0, max_hold=7200.0)

    assert (lease.acquired, lease.expires) == (10.0 - 3500.0, 70.0)


def test_a_lease_that_had_ended_ends_at_once() -> None:
    assert revived(stored(ended=True, away=1.0), now=5000.0, max_hold=3600.0).expires == 5000.0


@pytest.mark.parametrize(("away", "left"), [(None, 40.0), (15.0, 25.0), (400.0, 0.0)])
def test_an_operators_notice_goes_on_while_the_daemon_is_away(away: float | None, left: float) -> None:
    warned = replace(LEASE, notice=Notice("olga", "fire drill", 170.0))
    record = stored(warned, away=away)

    lease = revived(record, now=5000.0, max_hold=3600.0)

    assert record.view.notice is not None
    assert record.view.notice.ends == time_of_day(170.0)
    assert lease.notice == Notice("olga", "fire drill", 5000.0 + left)


def test_everybody_sees_the_time_of_the_grant_that_they_saw_before() -> None:
    before = view_of(LEASE, time_of_day, None)

    after = view_of(replace(LEASE, expires=190.0), lambda at: time_of_day(at + 86400.0), before)

    assert (after.acquired, after.expires) == (time_of_day(100.0), time_of_day(190.0 + 86400.0))
