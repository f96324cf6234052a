"""Leases at work: the one writer of the table, with its clock, its store and its listeners.

Decides nothing by itself (`lease` does): it asks the table, stores what changed,
wakes who waits, tells whoever must interrupt the board whose lease ended, and sets
one timer for the next end. Boards come and go, and jobs begin and end on them, by
their events. Everything runs on the loop and nothing waits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from belayd.clock import Clock, LoopClock, Timer
from belayd.errors import BelaydError, BoardNotFound, Draining, LeaseLost, LeaseNotFound
from belayd.events import (
    BoardAdded,
    BoardChanged,
    BoardRemoved,
    Event,
    Events,
    LeaseEnded,
    LeaseGranted,
    LeaseQueueChanged,
    LeaseWarned,
    Tenure,
)
from belayd.lease import LeaseTable
from belayd.revival import record_of, revived, view_of
from belayd.snapshot import BoardState, LeaseView
from belayd.store import LeaseStore, MemoryStore
from belayd.terms import (
    Change,
    Dropped,
    Ended,
    Granted,
    Lease,
    Limits,
    Moved,
    Priority,
    Request,
    Warned,
    hash_token,
)
from belayd.ticket import Grant, Ticket

log = logging.getLogger(__name__)

DEFAULT_TTL = 600.0
"""Seconds, of a lease whose holder asks for none; at most the maximum hold."""

OnEnded = Callable[[str, int, LeaseLost], None]


class Leasing:
    """Every board's leases.

    Boards come and go by BoardAdded and BoardRemoved; one that comes is not
    available until `set_available`. A lease stored for a board lives on when the
    board comes, for at least one full ttl, since nobody could renew it meanwhile.

    Args:
        on_ended: Called with board, fence and the error for what still uses the lease,
            when one has ended. The board goes to nobody until it `returned`.
        max_hold: Seconds after which a lease ends however often it is renewed.
        idle: Seconds without a job after which it ends.
        per_user: Leases that one principal may hold and wait for together; None for any number.
        clock: None for that of the running loop.
        store: None for one that keeps nothing.
    """

    def __init__(
        self,
        events: Events,
        *,
        on_ended: OnEnded,
        max_hold: float,
        idle: float,
        per_user: int | None = None,
        clock: Clock | None = None,
        store: LeaseStore | None = None,
    ) -> None:
        self._events = events
        self._on_ended = on_ended
        self._clock: Clock = clock or LoopClock()
        self._store: LeaseStore = store or MemoryStore()
        self._table = LeaseTable(Limits(max_hold, idle, per_user=per_user), self._time_of_day)
        stored = self._store.load()
        self._stored = dict(stored.leases)
        self._fences = dict(stored.fences)
        self._cleaned_after: set[str] = set()
        self._refused: str | None = None
        self._tickets: dict[str, tuple[Ticket, str]] = {}
        self._views: dict[str, LeaseView] = {}
        self._changes: deque[Change] = deque()
        self._applying = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._forgetting: Timer | None = None
        if stored.leases:
            longest = max(record.view.ttl for record in stored.leases.values())
            self._forgetting = self._clock.call_at(self._clock.monotonic() + longest, self._forget_absent)
        self._stop_listening = events.listen(self._hear)

    def drain(self) -> None:
        """Tell all who wait that the daemon stops."""
        for ticket, _ in self._tickets.values():
            ticket.wake(failure=Draining("the daemon is stopping; acquire again when it is back"))

    def refuse_new(self, why: str | None) -> None:
        """Grant nothing new, and tell those who wait and who come why; None ends that."""
        self._refused = why
        for ticket, _ in self._tickets.values() if why is not None else ():
            ticket.wake(failure=Draining(why or ""))

    def limit(self, max_hold: float, idle: float, per_user: int | None) -> None:
        """Take other limits; those of time count for leases that live as well."""
        self._table.limits = replace(self._table.limits, max_hold=max_hold, idle=idle, per_user=per_user)
        self._arm(self._table.next_deadline())

    def close(self) -> None:
        """Listen to nothing and end nothing any more; leases stay as they are stored."""
        self._stop_listening()
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._arm(math.inf)

    async def settled(self) -> None:
        """Return when everything done so far would survive a kill of the daemon or a loss of power.

        A grant, a renewal or an end is told to its caller only after that.

        Raises:
            StoreFailed: It could not be written; withdraw what was granted.
        """
        await self._store.settled()

    # Acquirers and holders

    def request(
        self,
        boards: Sequence[str],
        principal: str,
        holder: str = "",
        reason: str = "",
        ttl: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Ticket:
        """Ask for any one of `boards`, the earlier the better.

        Args:
            boards: Names; one for a board by name.
            principal: Who asks, as authenticated; the token works for nobody else.
            holder: Whom to show to others; "" for the principal.
            reason: Why, to show to others.
            ttl: Seconds; None for DEFAULT_TTL.
            priority: Before whom to be served.

        Raises:
            RequestInvalid: The ttl is out of bounds.
            BoardNotFound: There is no such board, or `boards` is empty.
            QueueFull, QuotaExceeded: Too many wait already; the principal has too many.
            Draining: Nothing new is granted now.
        """
        if self._refused is not None:
            raise Draining(self._refused)
        token = "bl_" + secrets.token_urlsafe(24)
        request = Request(
            name=secrets.token_hex(8),
            boards=tuple(boards),
            principal=principal,
            holder=holder or principal,
            reason=reason,
            ttl=min(DEFAULT_TTL, self._table.limits.max_hold) if ttl is None else ttl,
            token_hash=hash_token(token),
            priority=priority,
        )
        changes = self._table.request(request, self._clock.monotonic())
        ticket = Ticket(self, request)
        self._tickets[request.name] = (ticket, token)
        self._apply(changes)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Stop waiting, or release a grant; for Ticket.withdraw."""
        self._tickets.pop(ticket.request.name, None)
        self._apply(self._table.withdraw(ticket.request.name))
        if ticket.granted is not None:
            with contextlib.suppress(LeaseLost, LeaseNotFound):
                self.release(ticket.granted.token, ticket.request.principal)

    def position(self, ticket: Ticket) -> int:
        """Return a ticket's place, 0 if it does not wait; for Ticket.position."""
        return self._table.position(ticket.request.name)

    def refusal(self, ticket: Ticket) -> BelaydError:
        """Return why a ticket was granted nothing; for Ticket.refusal."""
        return self._table.refusal(ticket.request.boards)

    def renew(self, token: str, principal: str, ttl: float | None = None) -> LeaseView:
        """Move a lease's expiry to now + `ttl` (None: its own), at most to the maximum hold.

        Raises:
            RequestInvalid: The ttl is out of bounds.
            LeaseNotFound, LeaseExpired, LeaseBroken, PermissionDenied: As `check`.
        """
        view = self._keep(self._table.renew(token, principal, ttl, self._clock.monotonic()))
        self._arm(self._table.next_deadline())
        return view

    def release(self, token: str, principal: str) -> None:
        """End a lease; what runs under it is interrupted.

        Raises:
            LeaseNotFound: There is no such lease, or it was released before.
            LeaseExpired, LeaseBroken, PermissionDenied: As `check`.
        """
        self._apply(self._table.release(token, principal, self._clock.monotonic()))

    def break_(self, board: str, by: str, why: str, grace: float = 0.0) -> LeaseView:
        """End a board's lease against its holder's will; the holder has notice for `grace` seconds.

        Returns the lease, with its notice or as it was.

        Raises:
            LeaseNotFound: Nobody holds it.
        """
        before = self._views.get(board)
        self._apply(self._table.break_(board, by, why, self._clock.monotonic(), grace))
        after = self._views.get(board, before)
        assert after is not None and before is not None
        return after if after.name == before.name else before

    def check(self, board: str, token: str | None, principal: str) -> int | None:
        """Return the fence that work on `board` has under a token; None for work without a lease.

        Raises as `LeaseTable.check`.
        """
        return self._table.check(board, token, principal, self._clock.monotonic())

    # Boards

    def admit(self, board: str, fence: int | None) -> None:
        """Raise unless work that was given `fence` by `check` may run on `board` now.

        Raises:
            BoardLeased: It was asked for without a lease, and somebody holds the board.
            LeaseExpired, LeaseBroken: Its lease has ended.
            StaleFence: Its lease has ended and another has followed.
        """
        self._table.admit(board, fence, self._clock.monotonic())

    def set_available(self, board: str, available: bool) -> None:
        """Say whether a board may be granted; a lease that lives goes on either way."""
        changes = self._table.set_available(board, available, self._clock.monotonic())
        if changes:  # else no end moved either; looking through all boards twice a call would cost
            self._apply(changes)

    def returned(self, board: str) -> None:
        """Say that a board is clean after its last lease and may go to its next holder."""
        if board in self._cleaned_after:
            self._cleaned_after.discard(board)
            self._store.remove(board)
        self._apply(self._table.returned(board, self._clock.monotonic()))

    # Everybody

    def view(self, board: str) -> LeaseView | None:
        """Return a board's lease."""
        return self._views.get(board)

    def get(self, name: str) -> LeaseView:
        """Return the lease called `name`.

        Raises:
            LeaseNotFound: No live lease is called so.
        """
        for view in self._views.values():
            if view.name == name:
                return view
        raise LeaseNotFound(f"no live lease is called {name!r}; `belayctl leases` lists them", lease=name)

    def waiting(self, board: str) -> int:
        """Return how many wait for a board."""
        return self._table.waiting(board)

    def list(self) -> list[LeaseView]:
        """Return all leases, oldest first."""
        return [self._views[lease.board] for lease in self._table.leases()]

    def _hear(self, event: Event) -> None:
        match event:
            case BoardAdded(board):
                self._add(board)
            case BoardRemoved(board):
                self._apply(self._table.remove(board, self._clock.monotonic()))
            case BoardChanged(board, previous, state) if BoardState.BUSY in (previous, state):
                self._table.touch(board, busy=state is BoardState.BUSY, now=self._clock.monotonic())
                self._arm(min(self._timer_at, self._table.deadline(board)))

    def _add(self, board: str) -> None:
        self._table.add(board, fence=self._fences.pop(board, 0))
        record = self._stored.pop(board, None)
        if record is not None:
            now = self._clock.monotonic()
            lease = revived(record, now, self._table.limits.max_hold)
            self._table.restore(lease, now)
            self._views[board] = record.view
            if not record.ended:
                log.info("board %s: still leased by %s, fence %d", board, lease.holder, lease.fence)
                self._keep(lease)
            self._arm(self._table.next_deadline())

    def _apply(self, changes: Sequence[Change]) -> None:
        # A listener may call back and change more: that is told after what came before it.
        self._changes += changes
        if self._applying:
            return
        self._applying = True
        try:
            while self._changes:
                self._tell(self._changes.popleft())
        finally:
            self._applying = False
        for board in self._table.take_changed_queues():
            self._events.publish(LeaseQueueChanged(board))
        self._arm(self._table.next_deadline())

    def _tell(self, change: Change) -> None:
        match change:
            case Granted(lease, waited):
                log.info("board %s: leased by %s, fence %d", lease.board, lease.holder, lease.fence)
                view = self._keep(lease)
                ticket, token = self._tickets.pop(lease.name)
                ticket.wake(granted=Grant(view, token))
                self._events.publish(LeaseGranted(lease.board, waited, _tenure(lease, lease.reason)))
            case Warned(lease):
                log.info("board %s: the lease of %s will be broken", lease.board, lease.holder)
                self._keep(lease)
                self._events.publish(LeaseWarned(lease.board, _tenure(lease, _warning(lease))))
            case Ended(lease, cause, note, at):
                log.info("board %s: the lease of %s %s", lease.board, lease.holder, note)
                self._views.pop(lease.board, None)
                # Its row goes when the board is clean: a daemon killed before that must clean it after.
                self._cleaned_after.add(lease.board)
                self._store.end(lease.board)
                held = at - lease.acquired
                self._events.publish(LeaseEnded(lease.board, cause.value, held, _tenure(lease, note)))
                self._on_ended(lease.board, lease.fence, change.error())
            case Moved(name):
                if name in self._tickets:
                    self._tickets[name][0].wake()
            case Dropped(name):
                ticket, _ = self._tickets.pop(name)
                gone = ", ".join(ticket.request.boards)
                ticket.wake(failure=BoardNotFound(f"what you waited for left the inventory: {gone}"))
            case _:
                assert_never(change)

    def _keep(self, lease: Lease) -> LeaseView:
        """Store a lease that is new or changed, and make what everybody sees of it."""
        view = self._views[lease.board] = view_of(lease, self._time_of_day, self._views.get(lease.board))
        self._store.save(record_of(lease, view, self._clock.monotonic()))
        return view

    def _forget_absent(self) -> None:
        """Forget the leases of boards that did not come before their holders had to give up."""
        for board in self._stored:
            self._store.remove(board)
        self._stored.clear()

    def _time_of_day(self, at: float) -> datetime:
        return self._clock.wall() + timedelta(seconds=at - self._clock.monotonic())

    def _arm(self, when: float) -> None:
        if when != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._clock.call_at(when, self._expire) if when < math.inf else None

    def _expire(self) -> None:
        self._timer_at = math.inf
        self._apply(self._table.expire(self._clock.monotonic()))


def _tenure(lease: Lease, note: str) -> Tenure:
    return Tenure(lease.name, lease.principal, lease.holder, note)


def _warning(lease: Lease) -> str:
    return f"will be broken by {lease.notice.by}: {lease.notice.why}" if lease.notice else ""
