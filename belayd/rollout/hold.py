"""A board held for a rollout: waited for, under a lease that is renewed, given back at once.

Whoever else wants the board waits in the same fair queue. A board that is not there
when a job is to begin is waited for until the job's deadline; a job that began and
was cut short is told as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from belayd.access import Principal, may
from belayd.audit import BELAYD
from belayd.board import Board
from belayd.errors import (
    BelaydError,
    BoardOffline,
    Draining,
    LeaseLost,
    LeaseNotFound,
    OperatorNeeded,
    PermissionDenied,
    QueueFull,
    QuotaExceeded,
    RunCancelled,
    RunTimeout,
)
from belayd.events import BoardChanged, Event, Events
from belayd.fleet import Fleet
from belayd.leasing import Leasing
from belayd.run import Job, Order, Run, RunState, T
from belayd.ticket import Grant, Ticket

TTL = 60.0
"""Seconds that a board stays with a rollout whose daemon died; the daemon that comes back ends that at once."""
RENEW_AT = 1 / 3
"""Of the time to live, as clients do: two renewals may fail in a row."""
LOOK = 1.0
"""Seconds between two looks at what a board waits for."""
RETRY = 5.0
"""Seconds until a lease is asked for again that was refused, as its principal has too many, say."""


@dataclass(frozen=True, slots=True)
class House:
    """Where boards and leases are."""

    fleet: Fleet
    leasing: Leasing
    events: Events


class Hold:
    """One board under a lease of `principal`'s, from `acquire` to `release`.

    Attributes:
        wire_bytes, ran: Of the jobs so far; seconds.
    """

    def __init__(self, house: House, board: str, principal: Principal, earlier: str = "") -> None:
        """`earlier` names a lease that is nobody's any more: its daemon was killed, and its token is lost."""
        self.wire_bytes = 0
        self.ran = 0.0
        self._house = house
        self._name = board
        self._principal = principal
        self._earlier = earlier
        self._token = ""
        self._now = asyncio.get_running_loop().time

    async def acquire(
        self,
        holder: str,
        reason: str,
        patience: float,
        asked: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> float:
        """Take the board's lease and return how many seconds of `patience` are left.

        That anybody holds the board costs none of it.

        Args:
            holder, reason: For others to read.
            asked: Called with the lease's name before anybody can find it on record.
            tell: Called with what the board waits for.

        Raises:
            BoardOffline: It did not come in time.
            BoardNotFound, PermissionDenied: It is not among the principal's, any more perhaps.
            StoreFailed: The lease cannot be kept.
        """
        leasing = self._house.leasing
        while True:
            self._refuse_strange()
            try:
                ticket = leasing.request([self._name], self._principal.name, holder, reason, TTL)
            except (QuotaExceeded, QueueFull, Draining) as error:
                tell(error.message)
                await asyncio.sleep(RETRY)
                continue
            asked(ticket.request.name)
            try:
                grant, patience = await self._granted(ticket, patience, tell)
                await leasing.settled()
                ticket.deliver()
                self._token = grant.token
                return patience
            except Draining as error:
                tell(error.message)
            finally:
                ticket.withdraw()
            await asyncio.sleep(RETRY)

    def release(self) -> None:
        """Give the board back; whatever runs under the lease ends. Idempotent."""
        token, self._token = self._token, ""
        if token:
            with contextlib.suppress(LeaseLost, LeaseNotFound):
                self._house.leasing.release(token, self._principal.name)

    async def run(self, operation: str, job: Job[T], begin_within: float, most: float | None = None) -> T:
        """Do one job; cancelled, it is interrupted.

        Args:
            operation: The metrics' label.
            job: What to do.
            begin_within: Seconds until it must have begun.
            most: Seconds that it may run; None for what is left of `begin_within`.

        Raises:
            RunTimeout: It took longer.
            BelaydError: As the board refuses it, or as it failed.
        """
        deadline = self._now() + begin_within
        with self._news() as news:
            while True:
                news.clear()
                try:
                    return await self._attempt(operation, job, deadline, most)
                except _NotBegun as error:
                    waited_for = error.cause
                try:
                    async with asyncio.timeout_at(deadline):
                        await news.wait()
                except TimeoutError:
                    raise waited_for from None

    async def _attempt(self, operation: str, job: Job[T], deadline: float, most: float | None) -> T:
        leasing, board = self._house.leasing, self._house.fleet.board(self._name)
        fence = leasing.check(board.name, self._token, self._principal.name)
        try:
            run = board.submit(Order(operation, fence, None, _nowhere), job)
        except (BoardOffline, OperatorNeeded) as error:
            raise _NotBegun(error) from error
        before = _wire_bytes(board)
        try:
            await self._see_through(run, deadline, most)
            return await run.outcome
        except (BoardOffline, OperatorNeeded) as error:
            if run.ran:
                raise
            raise _NotBegun(error) from error
        finally:
            run.stop(RunCancelled("the rollout was interrupted"))
            self.ran += run.ran
            self.wire_bytes += max(0, _wire_bytes(board) - before)

    async def _see_through(self, run: Run[T], deadline: float, most: float | None) -> None:
        """Return when a run has ended, which it must in time, and keep the lease until then."""
        began = asyncio.Event()
        run.watch(began.set)
        until, renew_at = deadline, self._now() + TTL * RENEW_AT
        while not run.outcome.done():
            if began.is_set():
                began.clear()
                if most is not None and run.state is RunState.RUNNING:
                    until = self._now() + most
            if self._now() >= until:
                run.stop(_late(self._name, run))
                until = math.inf
            if self._now() >= renew_at:
                renew_at = self._now() + TTL * RENEW_AT
                with contextlib.suppress(LeaseLost, LeaseNotFound):  # its end ends the run
                    self._house.leasing.renew(self._token, self._principal.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, renew_at)):
                    await began.wait()

    async def _granted(
        self, ticket: Ticket, patience: float, tell: Callable[[str], None]
    ) -> tuple[Grant, float]:
        while ticket.granted is None:
            began = self._now()
            view = self._house.leasing.view(self._name)
            if view is not None and view.name == self._earlier:
                self._house.leasing.break_(self._name, BELAYD, "the daemon was restarted")
                continue
            tell(f"{view.holder} holds it" if view else self._absence())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await ticket.changed()
            if view is None:
                patience -= self._now() - began
            if patience <= 0 and ticket.granted is None:
                ticket.withdraw()
                raise ticket.refusal()
        return ticket.granted, patience

    def _absence(self) -> str:
        snapshot = self._house.fleet.board(self._name).snapshot()
        return f"{snapshot.state.value}: {snapshot.reason}" if snapshot.reason else snapshot.state.value

    def _refuse_strange(self) -> None:
        board = self._house.fleet.board(self._name)
        if not may(self._principal, board.name, board.identity.labels):
            raise PermissionDenied(
                f"board {board.name!r} is not among those of {self._principal.name!r} any more",
                board=board.name,
            )

    @contextlib.contextmanager
    def _news(self) -> Iterator[asyncio.Event]:
        news = asyncio.Event()

        def hear(event: Event) -> None:
            if isinstance(event, BoardChanged) and event.board == self._name:
                news.set()

        stop = self._house.events.listen(hear)
        try:
            yield news
        finally:
            stop()


class _NotBegun(Exception):
    """The board does not take a job as it is now."""

    def __init__(self, cause: BelaydError) -> None:
        super().__init__(cause.message)
        self.cause = cause


def _late(board: str, run: Run[T]) -> RunTimeout:
    happened = "the board was interrupted" if run.state is RunState.RUNNING else "it had not begun"
    return RunTimeout(f"board {board!r}: not done in time and {happened}; allow longer", board=board)


def _wire_bytes(board: Board) -> int:
    snapshot = board.snapshot()
    return snapshot.sent_bytes + snapshot.received_bytes


async def _nowhere(data: bytes) -> None:
    """Take no output."""
