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
)
from belayd.lease import LeaseTable
from belayd.snapshot import BoardState, LeaseView
from belayd.store import LeaseRecord, LeaseStore, MemoryStore
from belayd.terms import Change, Dropped, Ended, Granted, Lease, Limits, Moved, Request, hash_token
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
        clock: Clock | None = None,
        store: LeaseStore | None = None,
    ) -> None:
        self._events = events
        self._on_ended = on_ended
        self._clock: Clock = clock or LoopClock()
        self._store: LeaseStore = store or MemoryStore()
        self._table = LeaseTable(Limits(max_hold, idle), self._time_of_day)
        stored = self._store.load()
        self._stored = dict(stored.leases)
        self._fences = dict(stored.fences)
        self._tickets: dict[str, tuple[Ticket, str]] = {}
        self._views: dict[str, LeaseView] = {}
        self._changes: deque[Change] = deque()
        self._applying = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._stop_listening = events.listen(self._hear)

    def drain(self) -> None:
        """Tell all who wait that the daemon stops."""
        for ticket, _ in self._tickets.values():
            ticket.wake(failure=Draining("the daemon is stopping; acquire again when it is back"))

    def close(self) -> None:
        """Listen to nothing and end nothing any more; leases stay as they are stored."""
        self._stop_listening()
        self._arm(math.inf)

    # Acquirers and holders

    def request(
        self,
        boards: Sequence[str],
        principal: str,
        holder: str = "",
        reason: str = "",
        ttl: float | None = None,
    ) -> Ticket:
        """Ask for any one of `boards`, the earlier the better.

        Args:
            boards: Names; one for a board by name.
            principal: Who asks, as authenticated; the token works for nobody else.
            holder: Whom to show to others; "" for the principal.
            reason: Why, to show to others.
            ttl: Seconds; None for DEFAULT_TTL.

        Raises:
            RequestInvalid: The ttl is out of bounds.
            BoardNotFound: There is no such board, or `boards` is empty.
            QueueFull: Too many wait already.
        """
        token = "bl_" + secrets.token_urlsafe(24)
        request = Request(
            name=secrets.token_hex(8),
            boards=tuple(boards),
            principal=principal,
            holder=holder or principal,
            reason=reason,
            ttl=min(DEFAULT_TTL, self._table.limits.max_hold) if ttl is None else ttl,
            token_hash=hash_token(token),
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

    def break_(self, board: str, by: str, why: str) -> None:
        """End a board's lease against its holder's will.

        Raises:
            LeaseNotFound: Nobody holds it.
        """
        self._apply(self._table.break_(board, by, why, self._clock.monotonic()))

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
        self._apply(self._table.set_available(board, available, self._clock.monotonic()))

    def returned(self, board: str) -> None:
        """Say that a board is clean after its last lease and may go to its next holder."""
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
            lease = self._revived(record)
            self._table.restore(lease, self._clock.monotonic())
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
                self._events.publish(LeaseGranted(lease.board, waited))
            case Ended(lease, cause, note, at):
                log.info("board %s: the lease of %s %s", lease.board, lease.holder, note)
                self._views.pop(lease.board, None)
                self._store.remove(lease.board)
                self._events.publish(LeaseEnded(lease.board, cause.value, at - lease.acquired))
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
        """Store a lease that is new or renewed, and make what everybody sees of it."""
        seen = self._views.get(lease.board)
        view = self._views[lease.board] = LeaseView(
            name=lease.name,
            board=lease.board,
            holder=lease.holder,
            reason=lease.reason,
            fence=lease.fence,
            acquired=seen.acquired if seen else self._time_of_day(lease.acquired),
            expires=self._time_of_day(lease.expires),
            ttl=lease.ttl,
        )
        self._store.save(LeaseRecord(view, lease.principal, lease.token_hash))
        return view

    def _revived(self, record: LeaseRecord) -> Lease:
        now, wall, view = self._clock.monotonic(), self._clock.wall(), record.view
        return Lease(
            name=view.name,
            board=view.board,
            principal=record.principal,
            holder=view.holder,
            reason=view.reason,
            ttl=view.ttl,
            token_hash=record.token_hash,
            fence=view.fence,
            acquired=now - max(0.0, (wall - view.acquired).total_seconds()),
            expires=now + max(view.ttl, (view.expires - wall).total_seconds()),
        )

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
