"""The table of leases: against a simple model, and sentence by sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from belayd.errors import (
    BelaydError,
    BoardLeased,
    BoardNotFound,
    BoardOffline,
    LeaseBroken,
    LeaseExpired,
    LeaseNotFound,
    PermissionDenied,
    QueueFull,
    QuotaExceeded,
    RequestInvalid,
    StaleFence,
)
from belayd.lease import LeaseTable
from belayd.terms import (
    Cause,
    Change,
    Dropped,
    Ended,
    Granted,
    Limits,
    Moved,
    Priority,
    Request,
    Warned,
    hash_token,
)

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LIMITS = Limits(max_hold=100.0, idle=20.0, waiters=5)


def time_of_day(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ask(
    name: str,
    *boards: str,
    ttl: float = 10.0,
    principal: str = "ann",
    priority: Priority = Priority.NORMAL,
) -> Request:
    """A request whose token is "token of NAME"."""
    token_hash = hash_token(f"token of {name}")
    return Request(name, boards, principal, f"{principal}@desk", "", ttl, token_hash, priority)


def table_of(*boards: str, returning: bool = False, limits: Limits = LIMITS) -> LeaseTable:
    table = LeaseTable(limits, time_of_day, returning=returning)
    for board in boards:
        table.add(board)
        table.set_available(board, True, 0.0)
    return table


def granted(changes: list[Change]) -> list[tuple[str, str, int]]:
    return [
        (change.lease.name, change.lease.board, change.lease.fence)
        for change in changes
        if isinstance(change, Granted)
    ]


# Granting and waiting


def test_a_free_board_is_granted_at_once_with_its_next_fence() -> None:
    table = table_of("a")

    assert granted(table.request(ask("1", "a"), 0.0)) == [("1", "a", 1)]
    table.release("token of 1", "ann", 1.0)
    assert granted(table.request(ask("2", "a"), 2.0)) == [("2", "a", 2)]


def test_whoever_came_first_is_served_first() -> None:
    table = table_of("a")
    for name in "1234":
        table.request(ask(name, "a"), float(name))
    assert [table.position(name) for name in "234"] == [1, 2, 3]

    table.withdraw("2")
    changes = table.release("token of 1", "ann", 9.0)

    assert granted(changes) == [("3", "a", 2)]
    assert [change.waited for change in changes if isinstance(change, Granted)] == [6.0]
    assert [change for change in changes if isinstance(change, Moved)] == [Moved("4")]
    assert table.position("4") == 1


def test_one_that_waits_for_any_gets_the_first_that_is_free_and_awaited_by_nobody_before_it() -> None:
    table = table_of("a", "b")
    table.request(ask("1", "a"), 0.0)
    table.request(ask("2", "b"), 0.0)
    table.request(ask("before", "b"), 1.0)
    table.request(ask("any", "b", "a"), 2.0)
    table.request(ask("after", "a"), 3.0)
    assert [table.position(name) for name in ("before", "any", "after")] == [1, 1, 2]

    assert granted(table.release("token of 2", "ann", 4.0)) == [("before", "b", 2)]
    assert granted(table.release("token of 1", "ann", 5.0)) == [("any", "a", 2)]
    assert table.waiting("b") == 0
    assert table.position("after") == 1


def test_a_board_that_is_not_available_is_granted_to_nobody_and_then_to_who_waited() -> None:
    table = table_of("a", "b")
    table.set_available("a", False, 0.0)

    assert granted(table.request(ask("by name", "a"), 0.0)) == []
    assert granted(table.request(ask("any", "a", "b"), 1.0)) == [("any", "b", 1)]
    assert granted(table.set_available("a", True, 2.0)) == [("by name", "a", 1)]


def test_a_board_waits_for_its_return_before_the_next_holder_gets_it() -> None:
    table = table_of("a", returning=True)
    table.request(ask("1", "a"), 0.0)
    table.request(ask("2", "a"), 0.0)

    assert granted(table.release("token of 1", "ann", 1.0)) == []
    assert table.lease("a") is None
    assert granted(table.set_available("a", True, 2.0)) == []
    assert granted(table.returned("a", 3.0)) == [("2", "a", 2)]
    assert table.returned("a", 4.0) == []


def test_a_removed_board_breaks_its_lease_and_drops_who_waits_for_it_alone() -> None:
    table = table_of("a", "b")
    table.request(ask("1", "a"), 0.0)
    table.request(ask("2", "b"), 0.0)
    table.request(ask("alone", "a"), 0.0)
    table.request(ask("any", "a", "b"), 0.0)

    changes = table.remove("a", 1.0)

    assert Dropped("alone") in changes
    assert Moved("any") in changes
    with pytest.raises(LeaseBroken, match="left the inventory"):
        table.check("a", "token of 1", "ann", 2.0)
    assert granted(table.release("token of 2", "ann", 3.0)) == [("any", "b", 2)]


def test_fences_grow_also_after_a_board_left_and_came_back() -> None:
    table = table_of("a", "b")
    for name in "123":
        table.request(ask(name, "a"), 0.0)
        table.release(f"token of {name}", "ann", 0.0)
    table.remove("a", 1.0)
    table.add("a")
    table.set_available("a", True, 2.0)

    assert granted(table.request(ask("4", "a"), 3.0)) == [("4", "a", 4)]


def test_a_restored_lease_goes_on_with_its_token_and_fence() -> None:
    table = table_of("a")
    table.request(ask("1", "a"), 0.0)
    lease = table.lease("a")
    assert lease is not None
    again = LeaseTable(LIMITS, time_of_day)
    again.add("a", fence=3)

    again.restore(lease, 0.0)
    again.set_available("a", True, 0.0)

    assert again.check("a", "token of 1", "ann", 1.0) == 1
    again.release("token of 1", "ann", 2.0)
    again.returned("a", 3.0)
    assert granted(again.request(ask("2", "a"), 4.0)) == [("2", "a", 4)]


@pytest.mark.parametrize("ttl", [0.0, 0.99, -1.0, 100.1, float("inf"), float("nan")])
def test_a_ttl_out_of_bounds_is_refused(ttl: float) -> None:
    table = table_of("a")

    with pytest.raises(RequestInvalid, match="from 1 s to 100 s"):
        table.request(ask("1", "a", ttl=ttl), 0.0)
    table.request(ask("1", "a"), 0.0)
    with pytest.raises(RequestInvalid, match="from 1 s to 100 s"):
        table.renew("token of 1", "ann", ttl, 0.0)


def test_an_unknown_board_and_none_at_all_are_refused() -> None:
    table = table_of("a")

    with pytest.raises(BoardNotFound, match="'b'"):
        table.request(ask("1", "a", "b"), 0.0)
    with pytest.raises(BoardNotFound, match="no board matches"):
        table.request(ask("1"), 0.0)


def test_waiters_are_bounded() -> None:
    table = table_of("a", "b")
    table.request(ask("holder", "a"), 0.0)
    for number in range(LIMITS.waiters):
        table.request(ask(f"{number}", "a"), 0.0)

    with pytest.raises(QueueFull, match="5 acquirers"):
        table.request(ask("late", "a"), 1.0)
    assert granted(table.request(ask("elsewhere", "b"), 1.0)) == [("elsewhere", "b", 1)]


# Ends


def test_a_lease_ends_at_its_expiry_unless_renewed() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=10.0), 0.0)
    assert table.next_deadline() == 10.0

    table.renew("token of 1", "ann", None, 5.0)
    assert table.expire(14.9) == []
    changes = table.expire(15.0)

    assert [(c.cause, c.at) for c in changes if isinstance(c, Ended)] == [(Cause.EXPIRED, 15.0)]
    assert table.next_deadline() == float("inf")


def test_a_renewal_can_change_the_ttl_and_does_not_reach_beyond_the_longest_hold() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=10.0), 0.0)

    assert table.renew("token of 1", "ann", 15.0, 5.0).expires == 20.0
    for now in (10.0, 24.0, 38.0, 52.0, 66.0, 80.0):
        table.touch("a", busy=False, now=now)
        assert table.renew("token of 1", "ann", None, now).expires == now + 15.0
    assert table.renew("token of 1", "ann", None, 90.0).expires == 100.0


def test_a_lease_without_jobs_ends_as_idle_but_not_while_one_runs() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=90.0), 0.0)

    table.touch("a", busy=True, now=5.0)
    assert table.next_deadline() == 90.0
    table.touch("a", busy=False, now=50.0)
    assert table.next_deadline() == 70.0
    changes = table.expire(70.0)

    assert [change.cause for change in changes if isinstance(change, Ended)] == [Cause.IDLE]
    with pytest.raises(LeaseExpired, match="without a job"):
        table.check("a", "token of 1", "ann", 71.0)


def test_a_broken_lease_tells_its_holder_by_whom_and_why() -> None:
    table = table_of("a")
    table.request(ask("1", "a"), 0.0)
    table.request(ask("2", "a", principal="bob"), 0.0)

    assert granted(table.break_("a", "olga", "fire drill", 1.0)) == [("2", "a", 2)]

    with pytest.raises(LeaseBroken, match="broken by olga: fire drill; acquire again"):
        table.check("a", "token of 1", "ann", 2.0)
    with pytest.raises(LeaseBroken):
        table.renew("token of 1", "ann", None, 2.0)
    with pytest.raises(LeaseNotFound, match="nobody holds"):
        table.break_("b", "olga", "fire drill", 2.0)


def test_a_holder_has_notice_before_its_lease_is_broken_and_cannot_renew_beyond_it() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=10), 0.0)

    [warned] = table.break_("a", "olga", "maintenance", 1.0, grace=5.0)
    renewed = table.renew("token of 1", "ann", 10, 2.0)

    assert isinstance(warned, Warned)
    assert renewed.expires == 6.0
    assert table.check("a", "token of 1", "ann", 5.9) == 1
    [ended] = table.expire(6.0)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error(), LeaseBroken)
    assert "was broken by olga: maintenance" in ended.error().message


def test_a_second_notice_gives_no_more_time_than_the_first() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=50), 0.0)
    table.break_("a", "olga", "soon", 1.0, grace=5.0)

    table.break_("a", "otto", "later", 2.0, grace=60.0)

    assert table.renew("token of 1", "ann", 50, 3.0).expires == 6.0
    table.break_("a", "otto", "sooner", 4.0, grace=1.0)
    assert table.renew("token of 1", "ann", 50, 4.0).expires == 5.0


def test_a_higher_priority_is_served_first_and_moves_the_others_back() -> None:
    table = table_of("a")
    table.request(ask("0", "a"), 0.0)
    table.request(ask("low", "a", priority=Priority.LOW), 1.0)
    table.request(ask("first", "a"), 2.0)
    table.request(ask("second", "a"), 3.0)

    moved = table.request(ask("high", "a", priority=Priority.HIGH), 4.0)

    assert moved == [Moved("first"), Moved("second"), Moved("low")]
    assert [table.position(name) for name in ("high", "first", "second", "low")] == [1, 2, 3, 4]
    assert granted(table.release("token of 0", "ann", 5.0)) == [("high", "a", 2)]


def test_one_principal_holds_and_waits_for_so_many_and_others_are_not_in_its_way() -> None:
    table = table_of("a", "b", "c", limits=Limits(per_user=2))
    table.request(ask("1", "a"), 0.0)
    table.request(ask("2", "a"), 0.0)

    with pytest.raises(QuotaExceeded, match="holds 1 boards and waits for 1, and may have 2"):
        table.request(ask("3", "b"), 0.0)

    assert granted(table.request(ask("4", "b", principal="bob"), 0.0)) == [("4", "b", 1)]
    table.withdraw("2")
    assert granted(table.request(ask("5", "c"), 0.0)) == [("5", "c", 1)]


def test_releasing_twice_finds_no_lease_while_working_on_under_it_has_lost_it() -> None:
    table = table_of("a")
    table.request(ask("1", "a"), 0.0)
    table.release("token of 1", "ann", 1.0)

    with pytest.raises(LeaseNotFound):
        table.release("token of 1", "ann", 2.0)
    with pytest.raises(LeaseExpired, match="was released"):
        table.check("a", "token of 1", "ann", 2.0)


def test_an_ended_lease_is_forgotten_after_a_thousand_others() -> None:
    table = table_of("a")
    for number in range(1001):
        table.request(ask(f"{number}", "a"), 0.0)
        table.release(f"token of {number}", "ann", 0.0)

    with pytest.raises(LeaseNotFound):
        table.check("a", "token of 0", "ann", 0.0)
    with pytest.raises(LeaseExpired):
        table.check("a", "token of 1", "ann", 0.0)


# Checks


def test_work_without_a_lease_is_refused_against_somebodys_lease_only() -> None:
    table = table_of("a", returning=True)
    assert table.check("a", None, "bob", 0.0) is None
    assert table.check("a", "", "bob", 0.0) is None
    table.request(ask("1", "a"), 1.0)
    table.request(ask("2", "a"), 1.0)

    with pytest.raises(BoardLeased) as refused:
        table.check("a", None, "bob", 2.0)

    assert refused.value.fields == {
        "board": "a",
        "holder": "ann@desk",
        "since": "2030-01-01T12:00:01+00:00",
        "expires": "2030-01-01T12:00:11+00:00",
        "queue_length": "1",
    }


def test_a_token_is_worth_nothing_to_another_principal() -> None:
    table = table_of("a")
    table.request(ask("1", "a"), 0.0)

    for use in (
        lambda: table.check("a", "token of 1", "bob", 1.0),
        lambda: table.renew("token of 1", "bob", None, 1.0),
        lambda: table.release("token of 1", "bob", 1.0),
    ):
        with pytest.raises(PermissionDenied):
            use()
    assert table.check("a", "token of 1", "ann", 1.0) == 1


def test_a_token_for_another_board_is_named() -> None:
    table = table_of("a", "b")
    table.request(ask("1", "a"), 0.0)

    with pytest.raises(RequestInvalid, match="is for board 'a', not for 'b'") as refused:
        table.check("b", "token of 1", "ann", 1.0)
    assert refused.value.fields["field"] == "lease_token"


def test_an_overdue_lease_is_worth_nothing_also_before_it_was_ended() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=10.0), 0.0)

    with pytest.raises(LeaseExpired):
        table.check("a", "token of 1", "ann", 10.0)
    with pytest.raises(LeaseExpired):
        table.renew("token of 1", "ann", None, 10.0)
    with pytest.raises(LeaseExpired):
        table.admit("a", 1, 10.0)


def test_queued_work_runs_only_under_the_lease_it_was_asked_for() -> None:
    table = table_of("a")
    table.admit("a", None, 0.0)
    table.request(ask("1", "a"), 0.0)
    table.admit("a", 1, 1.0)
    with pytest.raises(BoardLeased):
        table.admit("a", None, 1.0)

    table.release("token of 1", "ann", 2.0)
    with pytest.raises(LeaseExpired, match="released"):
        table.admit("a", 1, 3.0)
    table.request(ask("2", "a"), 4.0)
    with pytest.raises(StaleFence):
        table.admit("a", 1, 5.0)
    table.admit("a", 2, 5.0)
    with pytest.raises(StaleFence):
        table.admit("gone", 1, 5.0)


def test_admitted_work_keeps_a_lease_from_being_idle() -> None:
    table = table_of("a")
    table.request(ask("1", "a", ttl=90.0), 0.0)

    table.admit("a", 1, 15.0)

    assert table.next_deadline() == 35.0


def test_whoever_waits_no_longer_is_told_why() -> None:
    table = table_of("a", "b", returning=True)
    table.set_available("b", False, 0.0)
    table.request(ask("1", "a"), 0.0)

    assert isinstance(table.refusal(("b", "a")), BoardLeased)
    assert isinstance(table.refusal(("b",)), BoardOffline)
    table.release("token of 1", "ann", 1.0)
    assert "being cleaned" in table.refusal(("a",)).message


# Against a model

BOARDS = ["a", "b", "c"]
boards = st.sampled_from(BOARDS)


@dataclass
class Held:
    name: str
    fence: int
    acquired: float
    ttl: float
    expires: float


@dataclass
class Place:
    fence: int
    available: bool = False
    returning: bool = False
    busy: bool = False
    touched: float = 0.0
    held: Held | None = None
    broken_at: float = math.inf

    @property
    def free(self) -> bool:
        return self.available and not self.returning and self.held is None

    @property
    def ends(self) -> float:
        assert self.held is not None
        return self.held.expires if self.busy else min(self.held.expires, self.touched + LIMITS.idle)


@dataclass
class Waits:
    name: str
    boards: list[str]
    ttl: float
    priority: Priority


def overdue(place: Place) -> Cause:
    assert place.held is not None
    if place.broken_at <= place.ends:
        return Cause.BROKEN
    return Cause.EXPIRED if place.held.expires <= place.ends else Cause.IDLE


class Tables(RuleBasedStateMachine):
    """The same rules told as plainly as possible: one list of who waits, gone through from its start."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(LIMITS, time_of_day)
        self.now = 0.0
        self.names = 0
        self.places: dict[str, Place] = {}
        self.waits: list[Waits] = []
        self.ended: dict[str, type[BelaydError]] = {}
        self.removed_fence = 0
        self.expected: list[tuple[str, str]] = []
        self.lengths: dict[str, int] = {}

    def compare(self, changes: list[Change]) -> None:
        """Let the model grant what it can, then ask for the same news of the table."""
        for wait in list(self.waits):
            for board in wait.boards:
                place = self.places[board]
                if place.free:
                    self.waits.remove(wait)
                    place.fence += 1
                    place.touched, place.broken_at = self.now, math.inf
                    place.held = Held(wait.name, place.fence, self.now, wait.ttl, self.now + wait.ttl)
                    self.expected.append(("granted", wait.name))
                    break
        told = []
        for change in changes:
            match change:
                case Granted(lease):
                    told.append(("granted", lease.name))
                case Ended(lease, cause):
                    told.append((cause.value, lease.name))
                case Dropped(name):
                    told.append(("dropped", name))
        assert sorted(told) == sorted(self.expected)
        self.expected = []

    def end(self, place: Place, cause: Cause) -> None:
        assert place.held is not None
        self.ended[place.held.name] = LeaseBroken if cause is Cause.BROKEN else LeaseExpired
        self.expected.append((cause.value, place.held.name))
        place.held, place.returning = None, True

    def live(self, board: str) -> Place | None:
        place = self.places.get(board)
        return place if place and place.held and self.now < place.ends else None

    @rule(board=boards)
    def add(self, board: str) -> None:
        self.table.add(board)
        self.places.setdefault(board, Place(self.removed_fence))

    @rule(board=boards)
    def remove(self, board: str) -> None:
        place = self.places.pop(board, None)
        if place:
            self.removed_fence = max(self.removed_fence, place.fence)
            if place.held:
                self.end(place, Cause.BROKEN)
        for wait in list(self.waits):
            if board in wait.boards:
                wait.boards.remove(board)
                if not wait.boards:
                    self.waits.remove(wait)
                    self.expected.append(("dropped", wait.name))
        self.compare(self.table.remove(board, self.now))

    @rule(board=boards, available=st.booleans())
    def set_available(self, board: str, available: bool) -> None:
        if board in self.places:
            self.places[board].available = available
        self.compare(self.table.set_available(board, available, self.now))

    @rule(board=boards)
    def clean(self, board: str) -> None:
        if board in self.places:
            self.places[board].returning = False
        self.compare(self.table.returned(board, self.now))

    @rule(
        wanted=st.lists(boards, min_size=1, max_size=3, unique=True),
        ttl=st.integers(1, 100),
        priority=st.sampled_from(Priority),
    )
    def request(self, wanted: list[str], ttl: int, priority: Priority) -> None:
        self.names += 1
        request = ask(f"{self.names}", *wanted, ttl=ttl, priority=priority)
        if not set(wanted) <= set(self.places):
            with pytest.raises(BoardNotFound):
                self.table.request(request, self.now)
        elif len(self.waits) == LIMITS.waiters and not any(self.places[board].free for board in wanted):
            with pytest.raises(QueueFull):
                self.table.request(request, self.now)
        else:
            self.waits.append(Waits(request.name, wanted, ttl, priority))
            self.waits.sort(key=lambda wait: -wait.priority)  # stable: else as they came
            self.compare(self.table.request(request, self.now))

    @precondition(lambda self: self.waits)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        wait = data.draw(st.sampled_from(self.waits))
        self.waits.remove(wait)
        self.compare(self.table.withdraw(wait.name))
        assert self.table.withdraw(wait.name) == []

    @rule(board=boards, ttl=st.none() | st.integers(1, 100))
    def renew(self, board: str, ttl: int | None) -> None:
        place = self.live(board)
        if place and place.held:
            place.held.ttl = ttl or place.held.ttl
            place.held.expires = min(
                self.now + place.held.ttl, place.held.acquired + LIMITS.max_hold, place.broken_at
            )
            self.table.renew(f"token of {place.held.name}", "ann", ttl, self.now)

    @rule(board=boards)
    def release(self, board: str) -> None:
        place = self.live(board)
        if place and place.held:
            token = f"token of {place.held.name}"
            self.end(place, Cause.RELEASED)
            self.compare(self.table.release(token, "ann", self.now))

    @rule(board=boards)
    def break_(self, board: str) -> None:
        place = self.places.get(board)
        if place and place.held:
            self.end(place, Cause.BROKEN)
            self.compare(self.table.break_(board, "olga", "why not", self.now))

    @rule(board=boards, grace=st.integers(1, 30))
    def break_with_grace(self, board: str, grace: int) -> None:
        place = self.places.get(board)
        if place and place.held:
            place.broken_at = min(place.broken_at, self.now + grace)
            place.held.expires = min(place.held.expires, place.broken_at)
            [warned] = self.table.break_(board, "olga", "why not", self.now, grace)
            assert isinstance(warned, Warned)

    @rule(board=boards, busy=st.booleans())
    def touch(self, board: str, busy: bool) -> None:
        if board in self.places:
            self.places[board].busy, self.places[board].touched = busy, self.now
        self.table.touch(board, busy=busy, now=self.now)

    @rule(seconds=st.integers(0, 30))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        for place in self.places.values():
            if place.held and self.now >= place.ends:
                self.end(place, overdue(place))
        self.compare(self.table.expire(self.now))

    @rule()
    def pass_time_to_the_next_deadline(self) -> None:
        deadline = self.table.next_deadline()
        assert deadline == min((place.ends for place in self.places.values() if place.held), default=math.inf)
        if deadline < math.inf:
            self.now = max(self.now, deadline)
            self.expire()

    @rule(board=boards, name=st.integers(1, 30))
    def check(self, board: str, name: int) -> None:
        for place in self.places.values():
            if place.held and place.held.name == f"{name}" and self.now >= place.ends:
                with pytest.raises(LeaseBroken if overdue(place) is Cause.BROKEN else LeaseExpired):
                    self.table.check(board, f"token of {name}", "ann", self.now)
                return
        if f"{name}" in self.ended:
            with pytest.raises(self.ended[f"{name}"]):
                self.table.check(board, f"token of {name}", "ann", self.now)

    @invariant()
    def the_table_says_what_the_model_says(self) -> None:
        for board in BOARDS:
            place, lease = self.places.get(board), self.table.lease(board)
            held = place.held if place else None
            assert (lease is None) == (held is None)
            if place and lease and held:
                assert (lease.name, lease.fence, lease.expires) == (held.name, held.fence, held.expires)
                with pytest.raises(BoardLeased):
                    self.table.check(board, None, "ann", self.now)
            assert self.table.waiting(board) == sum(board in wait.boards for wait in self.waits)
        for index, wait in enumerate(self.waits):
            before = self.waits[:index]
            places = [1 + sum(board in other.boards for other in before) for board in wait.boards]
            assert self.table.position(wait.name) == min(places)

    @invariant()
    def the_table_names_the_queues_that_have_changed(self) -> None:
        lengths = {board: self.table.waiting(board) for board in self.places}
        assert self.table.take_changed_queues() == sorted(
            board for board, length in lengths.items() if length != self.lengths.get(board, 0)
        )
        self.lengths = lengths

    @invariant()
    def a_live_lease_works_for_its_board_alone(self) -> None:
        for board in BOARDS:
            place = self.live(board)
            if place and place.held:
                token = f"token of {place.held.name}"
                assert self.table.check(board, token, "ann", self.now) == place.fence
                with pytest.raises(PermissionDenied):
                    self.table.check(board, token, "bob", self.now)
                with pytest.raises(StaleFence):
                    self.table.admit(board, place.fence - 1, self.now)


Tables.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_the_table_does_what_a_simple_model_does = Tables.TestCase
