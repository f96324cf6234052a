"""The table of leases: who holds which board, who waits, when each lease ends.

Pure: the caller passes the time in (seconds of one clock that never goes back)
and gets back what changed; ids and secrets are made by the caller too. The table
promises:

- a board has at most one lease, and its fence grows by one with each;
- first come, first served within a class of priority: a free board goes to whoever
  waits longest in the highest class among those who want it, so one that waits for
  any of several boards gets the first that is free and on which nobody waits before it;
- a board that is not available, or whose last lease has ended but which was not
  yet said to have `returned`, is granted to nobody;
- a token works only together with the principal that acquired the lease, and only
  its SHA-256 is kept.

Leaves to others: timers, storing, telling anybody (`leasing`).
"""

from __future__ import annotations

import hmac
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from belayd.errors import (
    BelaydError,
    BoardLeased,
    BoardNotFound,
    BoardOffline,
    LeaseNotFound,
    PermissionDenied,
    QueueFull,
    RequestInvalid,
    StaleFence,
)
from belayd.refusing import leased, refuse_greed, refuse_ttl
from belayd.terms import (
    Cause,
    Change,
    Dropped,
    Ended,
    Granted,
    Lease,
    Limits,
    Moved,
    Notice,
    Request,
    Warned,
    hash_token,
)
from belayd.waiting import WaitingList

_REMEMBERED = 1000  # ended leases, so that their tokens get a better answer than "no such lease"


@dataclass(slots=True)
class _Board:
    """What the table knows of a board; `fence` is that of its latest lease."""

    fence: int
    available: bool = False
    returning: bool = False
    lease: Lease | None = None
    ended: Ended | None = None
    touched: float = 0.0
    busy: bool = False


class LeaseTable:
    """Who holds and who waits; no method may be told an earlier `now` than one before it.

    Args:
        limits: May be replaced; counts from the next call on.
        time_of_day: Turns the clock's seconds into an aware datetime, for messages.
        returning: Whether a board whose lease ended is granted only after `returned`.
    """

    def __init__(
        self, limits: Limits, time_of_day: Callable[[float], datetime], *, returning: bool = True
    ) -> None:
        self.limits = limits
        self._time_of_day = time_of_day
        self._returning = returning
        self._boards: dict[str, _Board] = {}
        self._waiting = WaitingList()
        self._tokens: dict[bytes, Lease] = {}
        self._ended: OrderedDict[bytes, Ended] = OrderedDict()
        self._highest_removed_fence = 0

    # Boards

    def add(self, board: str, *, fence: int = 0) -> None:
        """Add a board, not available yet, whose leases so far had fences up to `fence`."""
        if board not in self._boards:
            self._boards[board] = _Board(fence=max(fence, self._highest_removed_fence))

    def remove(self, board: str, now: float) -> list[Change]:
        """Forget a board: its lease is broken, and whoever waits for it alone is dropped."""
        slot = self._boards.get(board)
        if slot is None:
            return []
        elsewhere, gone = self._waiting.close(board)
        changes: list[Change] = [*map(Moved, elsewhere), *map(Dropped, gone)]
        if slot.lease is not None:
            changes += self._finish(slot.lease, Cause.BROKEN, "ended as the board left the inventory", now)
        del self._boards[board]
        # One number for all that ever left keeps fences growing in bounded memory.
        self._highest_removed_fence = max(self._highest_removed_fence, slot.fence)
        return changes

    def set_available(self, board: str, available: bool, now: float) -> list[Change]:
        """Say whether a board can be granted; a lease that lives goes on either way."""
        slot = self._boards.get(board)
        if slot is None:
            return []
        slot.available = available
        return self._offer(board, slot, now)

    def returned(self, board: str, now: float) -> list[Change]:
        """Say that a board whose lease ended is clean again; does nothing otherwise."""
        slot = self._boards.get(board)
        if slot is None:
            return []
        slot.returning = False
        return self._offer(board, slot, now)

    def restore(self, lease: Lease, now: float) -> None:
        """Put back a lease that was stored, on a board that is there and has none."""
        slot = self._boards[lease.board]
        slot.lease, slot.fence, slot.touched = lease, max(slot.fence, lease.fence), now
        self._tokens[lease.token_hash] = lease

    # Waiting

    def request(self, request: Request, now: float) -> list[Change]:
        """Grant a board at once or let the request wait.

        Raises:
            RequestInvalid: The ttl is out of bounds.
            BoardNotFound: There is no such board, or none is named.
            QueueFull: Too many wait already.
            QuotaExceeded: The principal holds and waits for as many as one may.
        """
        refuse_ttl(request.ttl, self.limits)
        held = sum(lease.principal == request.principal for lease in self._tokens.values())
        refuse_greed(request.principal, held, self._waiting.count_of(request.principal), self.limits)
        if not request.boards:
            raise BoardNotFound("no board matches; `belayctl boards` lists those there are")
        for board in request.boards:
            if board not in self._boards:
                raise BoardNotFound(f"no board is called {board!r}; `belayctl boards` lists all", board=board)
        for board in request.boards:
            slot = self._boards[board]
            if slot.available and not slot.returning and slot.lease is None:
                return [self._grant(slot, board, request, now, now)]  # nobody waits for a free board
        if len(self._waiting) >= self.limits.waiters:
            waiting = len(self._waiting)
            raise QueueFull(f"{waiting} acquirers wait already; try again later", waiting=waiting)
        return [*map(Moved, self._waiting.join(request, now))]

    def withdraw(self, name: str) -> list[Change]:
        """Let the waiter called `name` go; does nothing if it does not wait."""
        return [*map(Moved, self._waiting.leave(name))] if name in self._waiting else []

    def position(self, name: str) -> int:
        """Return the place in the queue, 1 for the next, the best one if several boards will do; 0 for none."""
        return self._waiting.position(name) if name in self._waiting else 0

    def waiting(self, board: str) -> int:
        """Return how many wait for a board."""
        return self._waiting.count(board)

    def take_changed_queues(self) -> list[str]:
        """Return the boards for which more or fewer wait than when last asked, each once."""
        return self._waiting.take_changed()

    # Holding

    def renew(self, token: str, principal: str, ttl: float | None, now: float) -> Lease:
        """Move the expiry to now + `ttl` (None: the lease's own), at most to the maximum hold.

        Raises:
            RequestInvalid: The ttl is out of bounds.
            LeaseNotFound, LeaseExpired, LeaseBroken, PermissionDenied: As `check`.
        """
        lease = self._find(token, principal, now)
        ttl = lease.ttl if ttl is None else refuse_ttl(ttl, self.limits)
        expires = min(now + ttl, lease.acquired + self.limits.max_hold)
        if lease.notice is not None:
            expires = min(expires, lease.notice.ends)
        renewed = replace(lease, ttl=ttl, expires=expires)
        self._boards[lease.board].lease = self._tokens[lease.token_hash] = renewed
        return renewed

    def release(self, token: str, principal: str, now: float) -> list[Change]:
        """End a lease.

        Raises:
            LeaseNotFound: There is no such lease, or it was released before.
            LeaseExpired, LeaseBroken, PermissionDenied: As `check`.
        """
        ended = self._ended.get(hash_token(token))
        if ended is not None and ended.cause is Cause.RELEASED:
            raise LeaseNotFound("this lease was released before", lease=ended.lease.name)
        lease = self._find(token, principal, now)
        return self._finish(lease, Cause.RELEASED, "was released", now)

    def break_(self, board: str, by: str, why: str, now: float, grace: float = 0.0) -> list[Change]:
        """End a board's lease against its holder's will, after `grace` seconds.

        Raises:
            LeaseNotFound: Nobody holds it.
        """
        lease = self.lease(board)
        if lease is None:
            raise LeaseNotFound(f"nobody holds board {board!r}", board=board)
        notice = Notice(by, why, now + grace)
        if lease.notice is not None and lease.notice.ends < notice.ends:
            notice = lease.notice  # a second word gives no more time than the first
        if grace <= 0:
            return self._finish(lease, Cause.BROKEN, _broken(notice), now)
        warned = replace(lease, notice=notice, expires=min(lease.expires, notice.ends))
        self._boards[board].lease = self._tokens[lease.token_hash] = warned
        return [Warned(warned)]

    def touch(self, board: str, *, busy: bool, now: float) -> None:
        """Note that a job began (`busy`: the lease is not idle until the next touch) or ended."""
        if slot := self._boards.get(board):
            slot.touched, slot.busy = now, busy

    def expire(self, now: float) -> list[Change]:
        """End every lease whose time has come."""
        changes: list[Change] = []
        for board, slot in self._boards.items():
            if slot.lease is not None and now >= self.deadline(board):
                changes += self._finish(slot.lease, *self._overdue(slot.lease), now)
        return changes

    def deadline(self, board: str) -> float:
        """Return when a board's lease ends unless it is renewed or used; inf without one."""
        slot = self._boards.get(board)
        if slot is None or slot.lease is None:
            return math.inf
        return slot.lease.expires if slot.busy else min(slot.lease.expires, slot.touched + self.limits.idle)

    def next_deadline(self) -> float:
        """Return when `expire` is to be called next unless something changes; inf for never."""
        return min(map(self.deadline, self._boards), default=math.inf)

    # Asking

    def lease(self, board: str) -> Lease | None:
        """Return a board's lease."""
        slot = self._boards.get(board)
        return slot.lease if slot else None

    def leases(self) -> list[Lease]:
        """Return all leases, oldest first."""
        return sorted(self._tokens.values(), key=lambda lease: lease.acquired)

    def check(self, board: str, token: str | None, principal: str, now: float) -> int | None:
        """Return the fence that work on `board` has under a token; None for work without a lease.

        Raises:
            BoardLeased: No token, and somebody holds the board.
            RequestInvalid: The token is for another board.
            LeaseExpired, LeaseBroken: The token's lease has ended.
            LeaseNotFound: There is no such lease, or it ended long ago.
            PermissionDenied: Somebody else acquired it.
        """
        if not token:
            self.admit(board, None, now)
            return None
        lease = self._find(token, principal, now)
        if lease.board != board:
            raise RequestInvalid(
                f"this lease is for board {lease.board!r}, not for {board!r}",
                field="lease_token",
                board=board,
            )
        return lease.fence

    def admit(self, board: str, fence: int | None, now: float) -> None:
        """Raise unless work that was given `fence` by `check` may run on `board` now.

        Raises:
            BoardLeased: It was asked for without a lease, and somebody holds the board.
            LeaseExpired, LeaseBroken: Its lease has ended.
            StaleFence: Its lease has ended and another has followed.
        """
        slot = self._boards.get(board)
        lease, ended = (slot.lease, slot.ended) if slot else (None, None)
        if fence is None:
            if lease is not None:
                raise self._leased(lease)
        elif slot and lease and lease.fence == fence:
            if now >= self.deadline(board):
                raise Ended(lease, *self._overdue(lease), now).error()
            slot.touched = now
        elif slot and slot.fence == fence and ended:
            raise ended.error()
        else:
            raise StaleFence(f"the lease on board {board!r} has ended; acquire again", board=board)

    def refusal(self, boards: tuple[str, ...]) -> BelaydError:
        """Return why none of `boards` can be had now, for one who waits no longer."""
        for board in boards:
            if lease := self.lease(board):
                return self._leased(lease)
        for board in boards:
            if (slot := self._boards.get(board)) and slot.available:
                return BoardLeased(
                    f"board {board!r} is being cleaned after its last lease; acquire it and wait",
                    board=board,
                    queue_length=self.waiting(board),
                )
        return BoardOffline(f"not available now: {', '.join(boards)}; `belayctl boards` says why")

    def _leased(self, lease: Lease) -> BoardLeased:
        return leased(lease, self.waiting(lease.board), self._time_of_day)

    def _find(self, token: str, principal: str, now: float) -> Lease:
        digest = hash_token(token)
        lease = self._tokens.get(digest)
        ended = self._ended.get(digest)
        known = lease or (ended.lease if ended else None)
        if known is None or not hmac.compare_digest(known.token_hash, digest):
            raise LeaseNotFound("there is no such lease, or it ended long ago; acquire again")
        if known.principal != principal:
            raise PermissionDenied(
                f"this lease was acquired by somebody else than {principal!r}; acquire your own",
                principal=principal,
            )
        if lease is None:
            assert ended is not None
            raise ended.error()
        if now >= self.deadline(lease.board):  # its timer has not come yet
            raise Ended(lease, *self._overdue(lease), now).error()
        return lease

    def _overdue(self, lease: Lease) -> tuple[Cause, str]:
        if lease.notice is not None and lease.notice.ends <= self.deadline(lease.board):
            return Cause.BROKEN, _broken(lease.notice)
        if lease.expires <= self.deadline(lease.board):
            if lease.expires >= lease.acquired + self.limits.max_hold:
                return Cause.EXPIRED, f"reached the longest hold of {self.limits.max_hold:g} s"
            return Cause.EXPIRED, "expired, as it was not renewed in time"
        return Cause.IDLE, f"ended after {self.limits.idle:g} s without a job"

    def _offer(self, board: str, slot: _Board, now: float) -> list[Change]:
        waiter = self._waiting.first(board)
        if waiter is None or not slot.available or slot.returning or slot.lease is not None:
            return []
        moved = self._waiting.leave(waiter.request.name)
        return [self._grant(slot, board, waiter.request, waiter.since, now), *map(Moved, moved)]

    def _grant(self, slot: _Board, board: str, request: Request, since: float, now: float) -> Granted:
        slot.fence += 1
        slot.touched = now
        slot.lease = self._tokens[request.token_hash] = Lease(
            name=request.name,
            board=board,
            principal=request.principal,
            holder=request.holder,
            reason=request.reason,
            ttl=request.ttl,
            token_hash=request.token_hash,
            fence=slot.fence,
            acquired=now,
            expires=now + min(request.ttl, self.limits.max_hold),
        )
        return Granted(slot.lease, now - since)

    def _finish(self, lease: Lease, cause: Cause, note: str, now: float) -> list[Change]:
        slot = self._boards[lease.board]
        ended = slot.ended = Ended(lease, cause, note, now)
        slot.lease, slot.returning = None, self._returning
        del self._tokens[lease.token_hash]
        self._ended[lease.token_hash] = ended
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        return [ended, *self._offer(lease.board, slot, now)]


def _broken(notice: Notice) -> str:
    return f"was broken by {notice.by}: {notice.why}"
