"""Leases at work: on a clock of the test's own, and once on the loop's."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from belayd.errors import (
    BoardLeased,
    BoardNotFound,
    BoardOffline,
    LeaseBroken,
    LeaseExpired,
    LeaseLost,
    LeaseNotFound,
    PermissionDenied,
    RequestInvalid,
    StaleFence,
)
from belayd.events import (
    BoardAdded,
    BoardChanged,
    BoardRemoved,
    Event,
    Events,
    LeaseEnded,
    LeaseGranted,
    LeaseQueueChanged,
)
from belayd.leasing import Leasing
from belayd.snapshot import BoardState
from belayd.store import MemoryStore
from belayd.ticket import Ticket

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Alarm:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HandClock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.jumped = timedelta()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._count = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 1000.0) + self.jumped

    def call_at(self, when: float, callback: Callable[[], None]) -> Alarm:
        alarm = Alarm(callback)
        heapq.heappush(self._alarms, (when, next(self._count), alarm))
        return alarm

    @property
    def alarms(self) -> list[float]:
        return sorted(when for when, _, alarm in self._alarms if alarm.callback)

    def go(self, seconds: float) -> None:
        end = self.now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            self.now, _, alarm = heapq.heappop(self._alarms)
            if alarm.callback:
                alarm.callback()
        self.now = end


class Lab:
    """Leasing with boards "a", "b", ... and all it told; a board returns at once unless `slow`."""

    def __init__(self, *boards: str, store: MemoryStore | None = None, slow: bool = False) -> None:
        self.clock = HandClock()
        self.store = store or MemoryStore()
        self.events = Events()
        self.heard: list[Event] = []
        self.ended: list[tuple[str, int, LeaseLost]] = []
        self.slow = slow
        self.leasing = Leasing(
            self.events, on_ended=self._end, max_hold=3600.0, idle=600.0, clock=self.clock, store=self.store
        )
        for board in boards:
            self.events.publish(BoardAdded(board))
            self.leasing.set_available(board, True)
        self.events.listen(self.heard.append)

    def _end(self, board: str, fence: int, error: LeaseLost) -> None:
        self.ended.append((board, fence, error))
        if not self.slow:
            self.leasing.returned(board)

    def change(self, board: str, previous: BoardState, state: BoardState) -> None:
        self.events.publish(BoardChanged(board, previous, state, ""))

    def hold(self, *boards: str, principal: str = "ann", ttl: float = 60.0) -> str:
        """Acquire what is free; returns the token."""
        ticket = self.leasing.request(boards, principal, ttl=ttl)
        assert ticket.granted is not None
        ticket.deliver()
        return ticket.granted.token


async def settled(ticket: Ticket) -> None:
    async with asyncio.timeout(10):
        await ticket.changed()


async def test_a_free_board_is_granted_at_once_and_everybody_hears_of_it() -> None:
    lab = Lab("a")

    ticket = lab.leasing.request(["a"], "ann", holder="ann@desk", reason="demo", ttl=60.0)

    await settled(ticket)
    assert ticket.granted is not None
    view = ticket.granted.view
    assert (view.board, view.holder, view.reason, view.fence, view.ttl) == ("a", "ann@desk", "demo", 1, 60.0)
    assert (view.acquired, view.expires) == (NOON, NOON + timedelta(seconds=60))
    assert lab.leasing.view("a") == lab.leasing.get(view.name) == view
    assert lab.leasing.list() == [view]
    assert ticket.granted.token.startswith("bl_")
    assert lab.heard == [LeaseGranted("a", 0.0)]
    assert lab.leasing.check("a", ticket.granted.token, "ann") == 1


async def test_two_tokens_are_never_alike_and_never_stored() -> None:
    lab = Lab("a", "b")

    tokens = [lab.hold("a"), lab.hold("b")]

    assert len({token[:8] for token in tokens}) == 2
    assert len(tokens[0]) == len("bl_") + 32
    assert not [token for token in tokens if token in repr(lab.store.load())]


async def test_whoever_waits_hears_its_place_and_then_the_grant() -> None:
    lab = Lab("a")
    token = lab.hold("a")
    first = lab.leasing.request(["a"], "bob")
    second = lab.leasing.request(["a"], "eve")
    assert (first.position, second.position, lab.leasing.waiting("a")) == (1, 2, 2)

    lab.clock.go(5.0)
    lab.leasing.release(token, "ann")

    await settled(first)
    await settled(second)
    assert first.granted is not None
    assert (first.position, second.position, lab.leasing.waiting("a")) == (0, 1, 1)
    assert lab.heard[-3:] == [
        LeaseEnded("a", "released", 5.0),
        LeaseGranted("a", 5.0),
        LeaseQueueChanged("a"),
    ]


async def test_everybody_hears_which_boards_queues_have_changed() -> None:
    lab = Lab("a", "b", "c")
    tokens = {board: lab.hold(board) for board in "abc"}

    def queues() -> list[str]:
        changed = [event.board for event in lab.heard if isinstance(event, LeaseQueueChanged)]
        lab.heard.clear()
        return changed

    assert queues() == []  # nobody waited
    any_of_two = lab.leasing.request(["c", "a"], "bob")
    assert queues() == ["a", "c"]
    withdrawn = lab.leasing.request(["b"], "eve")
    assert queues() == ["b"]
    withdrawn.withdraw()
    withdrawn.withdraw()
    assert queues() == ["b"]
    lab.leasing.release(tokens["c"], "ann")
    assert any_of_two.granted is not None
    assert queues() == ["a", "c"]
    any_of_two.withdraw()
    assert queues() == []


async def test_a_watcher_of_queues_reads_their_new_length() -> None:
    lab = Lab("a")
    token = lab.hold("a")
    seen: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, LeaseQueueChanged):
            seen.append(lab.leasing.waiting("a"))

    lab.events.listen(look)
    for name in ("bob", "eve"):
        lab.leasing.request(["a"], name)
    lab.leasing.release(token, "ann")

    assert seen == [1, 2, 1]


async def test_a_withdrawn_waiter_is_passed_over_and_those_behind_move_up() -> None:
    lab = Lab("a")
    token = lab.hold("a")
    first, second = lab.leasing.request(["a"], "bob"), lab.leasing.request(["a"], "eve")

    first.withdraw()
    first.withdraw()

    await settled(second)
    assert (first.position, second.position) == (0, 1)
    lab.leasing.release(token, "ann")
    assert first.granted is None
    assert second.granted is not None


async def test_a_grant_that_was_not_delivered_is_released_by_withdrawing() -> None:
    lab = Lab("a")
    undelivered = lab.leasing.request(["a"], "ann")
    waiting = lab.leasing.request(["a"], "bob")

    undelivered.withdraw()

    assert undelivered.granted is not None
    assert waiting.granted is not None
    assert lab.leasing.view("a") == waiting.granted.view


async def test_a_delivered_grant_outlives_its_ticket() -> None:
    lab = Lab("a")
    ticket = lab.leasing.request(["a"], "ann")

    ticket.deliver()
    ticket.withdraw()

    assert lab.leasing.view("a") is not None


async def test_withdrawing_after_the_lease_has_ended_does_no_harm() -> None:
    lab = Lab("a")
    ticket = lab.leasing.request(["a"], "ann", ttl=5.0)
    lab.clock.go(5.0)
    next_holder = lab.leasing.request(["a"], "bob")

    ticket.withdraw()

    assert next_holder.granted is not None
    assert lab.leasing.view("a") == next_holder.granted.view


async def test_a_lease_that_is_not_renewed_ends_on_time_and_the_board_is_told() -> None:
    lab = Lab("a")
    token = lab.hold("a", ttl=60.0)

    lab.clock.go(59.9)
    assert lab.leasing.check("a", token, "ann") == 1
    lab.clock.go(0.1)

    [(board, fence, error)] = lab.ended
    assert (board, fence, type(error), error.fields["cause"]) == ("a", 1, LeaseExpired, "expired")
    assert lab.heard[-1] == LeaseEnded("a", "expired", 60.0)
    assert lab.leasing.view("a") is None
    with pytest.raises(LeaseExpired):
        lab.leasing.check("a", token, "ann")


async def test_a_renewed_lease_lives_on_and_shows_its_new_expiry() -> None:
    lab = Lab("a")
    token = lab.hold("a", ttl=60.0)

    lab.clock.go(50.0)
    view = lab.leasing.renew(token, "ann")
    lab.clock.go(55.0)

    assert (view.acquired, view.expires) == (NOON, NOON + timedelta(seconds=110))
    assert lab.leasing.view("a") == view
    lab.clock.go(5.0)
    assert lab.leasing.view("a") is None


async def test_a_lease_shows_the_time_of_its_grant_also_after_the_host_set_its_clock() -> None:
    lab = Lab("a")
    token = lab.hold("a", ttl=60.0)

    lab.clock.jumped = timedelta(hours=5)
    view = lab.leasing.renew(token, "ann")

    assert (view.acquired, view.expires) == (NOON, NOON + timedelta(hours=5, seconds=60))
    lab.clock.go(59.0)
    assert lab.leasing.view("a") is not None


async def test_one_timer_is_set_for_the_next_end_and_none_without_leases() -> None:
    lab = Lab("a", "b")
    assert lab.clock.alarms == []

    tokens = [lab.hold("a", ttl=60.0), lab.hold("b", ttl=30.0)]
    assert lab.clock.alarms == [1030.0]
    lab.leasing.renew(tokens[1], "ann", 90.0)
    assert lab.clock.alarms == [1060.0]
    lab.leasing.release(tokens[0], "ann")
    assert lab.clock.alarms == [1090.0]
    lab.leasing.release(tokens[1], "ann")
    assert lab.clock.alarms == []


async def test_a_lease_ends_as_idle_after_its_last_job_but_not_while_one_runs() -> None:
    lab = Lab("a")
    lab.hold("a", ttl=3600.0)

    lab.change("a", BoardState.READY, BoardState.BUSY)
    lab.clock.go(700.0)
    assert lab.leasing.view("a") is not None
    lab.change("a", BoardState.BUSY, BoardState.READY)
    lab.clock.go(599.0)
    assert lab.leasing.view("a") is not None
    lab.clock.go(1.0)

    assert lab.heard[-1] == LeaseEnded("a", "idle", 1300.0)


async def test_a_job_without_end_keeps_no_lease_beyond_its_expiry() -> None:
    lab = Lab("a")
    lab.hold("a", ttl=60.0)
    lab.change("a", BoardState.READY, BoardState.BUSY)

    lab.clock.go(60.0)

    assert [fence for _, fence, _ in lab.ended] == [1]


async def test_the_next_holder_gets_the_board_only_when_it_has_returned() -> None:
    lab = Lab("a", slow=True)
    token = lab.hold("a")
    ticket = lab.leasing.request(["a"], "bob")

    lab.leasing.release(token, "ann")
    assert ticket.granted is None
    assert isinstance(ticket.refusal(), BoardLeased)
    lab.leasing.returned("a")

    assert ticket.granted is not None
    assert ticket.granted.view.fence == 2


async def test_every_listener_hears_in_order_what_follows_from_what() -> None:
    lab = Lab("a", slow=True)
    heard: list[Event] = []

    def return_at_once(event: Event) -> None:
        if isinstance(event, LeaseEnded):
            lab.leasing.returned(event.board)

    lab.events.listen(return_at_once)
    lab.events.listen(heard.append)
    token = lab.hold("a")
    lab.leasing.request(["a"], "bob")

    lab.leasing.release(token, "ann")

    assert [type(event) for event in heard if not isinstance(event, LeaseQueueChanged)] == [
        LeaseGranted,
        LeaseEnded,
        LeaseGranted,
    ]


async def test_an_unavailable_board_is_granted_when_it_comes_back() -> None:
    lab = Lab("a")
    lab.leasing.set_available("a", False)
    ticket = lab.leasing.request(["a"], "ann")
    assert isinstance(ticket.refusal(), BoardOffline)

    lab.leasing.set_available("a", True)

    assert ticket.granted is not None


async def test_a_board_that_leaves_ends_its_lease_and_fails_who_waits() -> None:
    lab = Lab("a")
    token = lab.hold("a")
    ticket = lab.leasing.request(["a"], "bob")

    lab.events.publish(BoardRemoved("a"))

    with pytest.raises(BoardNotFound, match="left the inventory: a"):
        await settled(ticket)
    ticket.withdraw()
    with pytest.raises(LeaseBroken):
        lab.leasing.check("a", token, "ann")
    assert [(type(error), error.fields["cause"]) for _, _, error in lab.ended] == [(LeaseBroken, "broken")]
    assert lab.leasing.list() == []


async def test_a_broken_lease_goes_to_the_next_and_its_work_is_refused() -> None:
    lab = Lab("a")
    token = lab.hold("a")
    ticket = lab.leasing.request(["a"], "bob")
    lab.leasing.admit("a", 1)

    lab.leasing.break_("a", "olga", "fire drill")

    assert ticket.granted is not None
    with pytest.raises(LeaseBroken, match="by olga: fire drill"):
        lab.leasing.check("a", token, "ann")
    with pytest.raises(StaleFence):
        lab.leasing.admit("a", 1)
    lab.leasing.admit("a", 2)


async def test_what_a_caller_may_not_do_is_refused() -> None:
    lab = Lab("a", "b")
    token = lab.hold("a")

    with pytest.raises(BoardLeased) as leased:
        lab.leasing.check("a", None, "bob")
    assert leased.value.fields["since"] == "2030-01-01T12:00:00+00:00"
    with pytest.raises(PermissionDenied):
        lab.leasing.renew(token, "bob")
    with pytest.raises(RequestInvalid, match="for board 'a'"):
        lab.leasing.check("b", token, "ann")
    with pytest.raises(LeaseNotFound):
        lab.leasing.check("b", "bl_guess", "ann")
    with pytest.raises(LeaseNotFound):
        lab.leasing.get("nothing")
    with pytest.raises(RequestInvalid):
        lab.leasing.request(["b"], "ann", ttl=0.5)
    with pytest.raises(BoardNotFound):
        lab.leasing.request(["c"], "ann")
    assert lab.leasing.check("b", None, "bob") is None


async def test_the_default_ttl_is_within_the_longest_hold() -> None:
    events = Events()
    leasing = Leasing(
        events, on_ended=lambda board, fence, error: None, max_hold=120.0, idle=600.0, clock=HandClock()
    )
    events.publish(BoardAdded("a"))
    leasing.set_available("a", True)

    ticket = leasing.request(["a"], "ann")

    assert ticket.granted is not None
    assert ticket.granted.view.ttl == 120.0


async def test_after_a_restart_leases_fences_and_tokens_are_those_that_were_stored() -> None:
    before = Lab("a", "b")
    token = before.hold("a", ttl=60.0)
    before.leasing.release(before.hold("b"), "ann")
    before.leasing.close()
    after = Lab(store=before.store)
    after.clock.jumped = timedelta(seconds=50)

    for board in ("a", "b"):
        after.events.publish(BoardAdded(board))
        after.leasing.set_available(board, True)

    view = after.leasing.view("a")
    assert view is not None
    assert (view.fence, view.holder, view.acquired) == (1, "ann", NOON)
    assert after.leasing.check("a", token, "ann") == 1
    with pytest.raises(PermissionDenied):
        after.leasing.check("a", token, "bob")
    assert after.leasing.request(["b"], "bob").granted is not None
    assert [view.fence for view in after.leasing.list() if view.board == "b"] == [2]
    after.clock.go(59.0)  # a full ttl from the restart
    after.leasing.renew(token, "ann")


async def test_a_restart_neither_ends_a_lease_early_nor_makes_it_longer_when_the_host_set_its_clock() -> None:
    before = Lab("a")
    token = before.hold("a", ttl=60.0)
    before.clock.go(30.0)
    before.leasing.renew(token, "ann")
    before.leasing.close()
    for jump in (timedelta(days=-400), timedelta(days=400)):
        store = MemoryStore()
        store.save(replace(before.store.load().leases["a"], away=3500.0))
        after = Lab(store=store)
        after.clock.jumped = jump
        after.events.publish(BoardAdded("a"))

        view = after.leasing.view("a")
        assert view is not None
        assert view.acquired == NOON
        after.clock.go(59.0)  # a full ttl from the restart
        after.leasing.renew(token, "ann")
        after.clock.go(10.0)  # 3,599 s after the grant
        assert after.leasing.check("a", token, "ann") == 1
        after.clock.go(1.0)
        assert after.leasing.view("a") is None
        assert "longest hold" in after.ended[0][2].message


async def test_a_board_that_was_not_cleaned_before_the_restart_goes_to_nobody_before_it_is() -> None:
    before = Lab("a", slow=True)
    token = before.hold("a")
    before.leasing.release(token, "ann")
    before.leasing.close()
    after = Lab(store=before.store, slow=True)

    after.events.publish(BoardAdded("a"))
    after.leasing.set_available("a", True)
    waiting = after.leasing.request(["a"], "bob")
    with pytest.raises(LeaseExpired):
        after.leasing.check("a", token, "ann")
    after.clock.go(0.0)

    assert [(board, fence) for board, fence, _ in after.ended] == [("a", 1)]
    assert waiting.granted is None
    after.leasing.returned("a")
    assert waiting.granted is not None
    assert waiting.granted.view.fence == 2
    assert not after.store.load().leases["a"].ended


async def test_a_board_that_is_clean_leaves_nothing_to_do_after_a_restart() -> None:
    lab = Lab("a", slow=True)
    lab.leasing.release(lab.hold("a"), "ann")
    assert lab.store.load().leases["a"].ended

    lab.leasing.returned("a")
    lab.leasing.returned("a")

    assert lab.store.load().leases == {}


async def test_the_lease_of_a_board_that_does_not_come_back_in_time_is_forgotten() -> None:
    before = Lab("a", "b")
    tokens = {board: before.hold(board, ttl=60.0) for board in "ab"}
    before.leasing.close()
    after = Lab("a", store=before.store)
    assert after.leasing.check("a", tokens["a"], "ann") == 1

    after.clock.go(60.0)
    after.events.publish(BoardAdded("b"))
    after.leasing.set_available("b", True)

    assert after.leasing.view("b") is None
    assert list(after.store.load().leases) == []
    ticket = after.leasing.request(["b"], "bob")
    assert ticket.granted is not None
    assert ticket.granted.view.fence == 2


async def test_an_ended_lease_is_stored_no_more() -> None:
    lab = Lab("a")
    lab.hold("a", ttl=60.0)
    assert list(lab.store.load().leases) == ["a"]

    lab.clock.go(60.0)

    assert (lab.store.load().leases, lab.store.load().fences) == ({}, {"a": 1})


async def test_sixteen_race_for_one_board_and_each_round_has_one_winner() -> None:
    lab = Lab("a")
    fences = []

    async def take(name: str) -> None:
        ticket = lab.leasing.request(["a"], name)
        try:
            while ticket.granted is None:
                await ticket.changed()
            ticket.deliver()
            fences.append(lab.leasing.check("a", ticket.granted.token, name))
            await asyncio.sleep(0)
            lab.leasing.release(ticket.granted.token, name)
        finally:
            ticket.withdraw()

    for _ in range(100):
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(take(f"racer {number}"))

    assert fences == list(range(1, 1601))


async def test_a_cancelled_acquirer_leaves_nothing_behind() -> None:
    lab = Lab("a")
    token = lab.hold("a")

    async def take() -> None:
        ticket = lab.leasing.request(["a"], "bob")
        try:
            await ticket.changed()
        finally:
            ticket.withdraw()

    task = asyncio.create_task(take())
    await asyncio.sleep(0)
    assert lab.leasing.waiting("a") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert lab.leasing.waiting("a") == 0
    lab.leasing.release(token, "ann")
    assert lab.leasing.view("a") is None


async def test_on_the_clock_of_the_loop_a_lease_ends_by_itself() -> None:
    events = Events()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    leasing = Leasing(
        events, on_ended=lambda board, fence, error: ended.set_result(board), max_hold=60.0, idle=60.0
    )
    events.publish(BoardAdded("a"))
    leasing.set_available("a", True)

    ticket = leasing.request(["a"], "ann", ttl=1.0)
    assert ticket.granted is not None
    assert abs(ticket.granted.view.acquired - datetime.now(UTC)) < timedelta(seconds=30)

    async with asyncio.timeout(30):
        assert await ended == "a"
    leasing.close()
