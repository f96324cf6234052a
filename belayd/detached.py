"""Detached runs: jobs that go on when their client leaves, each followed to its end by a task of the daemon.

What a run prints and how it ends goes on record (`store`), where whoever asks later
reads it; nothing of a run goes to its board before the run itself is on record.
Under a lease, the lease is renewed while the run waits and runs, up to the maximum
hold. That its lease ended stops a run as it stops any other: by the board's task.

Leaves to others: who may ask, and what an outcome is in bytes (`rpc`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from belayd.audit import Deed, Trail
from belayd.board import Board
from belayd.errors import BelaydError, Draining, InternalError, QuotaExceeded, RunCancelled, StoreFailed
from belayd.leasing import Leasing
from belayd.outcome import Outcome
from belayd.run import Job, Order, Run, RunState, ended
from belayd.session import Emit, Session
from belayd.store import Runs

log = logging.getLogger(__name__)

MOST_PER_PRINCIPAL = 200
"""Detached runs of one principal that have not ended; each costs a task and its source."""
RENEW_AT = 1 / 3
"""Of a lease's time to live, as clients do: two renewals may fail in a row."""
LOOK = 1.0
"""Seconds between two looks whether a run's principal may stay."""
RETRY = 1.0
"""Seconds between two attempts to put on record how a run ended, while the store fails."""
FAREWELL = 2.0
"""Seconds for putting on record how runs ended when the daemon stops."""

OutcomeBytes = Callable[[Outcome | BelaydError, float, float], bytes]
"""Spells an outcome, with the seconds it was queued and ran, for the store."""


def _always() -> None:
    """Let stay."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for.

    Attributes:
        token: The lease's; "" for none.
        what: SHA-256 of the code.
        held_bytes: What the job keeps in memory.
        timeout: Seconds for queueing and running; None for no limit.
        release: Whether the lease ends with the run.
        stay: Returns why the principal may stay no longer, which ends the run; None while it may.
    """

    principal: str
    token: str
    job: Job[Outcome]
    what: bytes
    held_bytes: int
    timeout: float | None = None
    release: bool = False
    stay: Callable[[], BelaydError | None] = _always


class Live:
    """A detached run whose end is not on record yet.

    Attributes:
        ended: Set when it is.
    """

    def __init__(self, name: str, board: str, lease: str, asked: Asked, run: Run[Outcome]) -> None:
        self.name = name
        self.board = board
        self.lease = lease
        self.asked = asked
        self.run = run
        self.ended = asyncio.Event()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Return what is set when the run next prints, starts or ends."""
        return self._news

    def wake(self) -> None:
        """Tell all who watch."""
        news, self._news = self._news, asyncio.Event()
        news.set()


class Detached:
    """The detached runs that have not ended.

    Args:
        runs: Where they are on record.
        trail: Hears how each ended; that it began, the border tells.
        outcome_bytes: How their outcomes are spelled in `runs`.
        most: Of one principal.
    """

    def __init__(
        self,
        leasing: Leasing,
        runs: Runs,
        trail: Trail,
        outcome_bytes: OutcomeBytes,
        most: int = MOST_PER_PRINCIPAL,
    ) -> None:
        self._trail = trail
        self._leasing = leasing
        self._runs = runs
        self._outcome_bytes = outcome_bytes
        self._most = most
        self._live: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def live(self, name: str) -> Live | None:
        """Return a run; None if there is none, or its end is on record."""
        return self._live.get(name)

    async def start(self, board: Board, asked: Asked) -> str:
        """Queue a run and return its name once it is on record.

        Cancellation before that ends it.

        Raises:
            QuotaExceeded: The principal has too many that have not ended.
            StoreFailed: It cannot be put on record; nothing of it ran.
            BoardLeased, LeaseExpired, ...: As `Leasing.check` and `Board.submit`.
        """
        self._refuse_greed(asked.principal)
        fence = self._leasing.check(board.name, asked.token, asked.principal)
        view = self._leasing.view(board.name) if fence is not None else None
        lease = view.name if view else ""
        name = secrets.token_hex(8)
        on_record = asyncio.Event()

        async def job(session: Session, emit: Emit) -> Outcome:
            await on_record.wait()
            return await asked.job(session, emit)

        async def emit(data: bytes) -> None:
            self._runs.append(name, data)
            live.wake()

        run = board.submit(Order("run", fence, asked.timeout, emit, asked.held_bytes), job)
        live = Live(name, board.name, lease, asked, run)
        try:
            self._runs.create(name, board.name, asked.principal, lease, asked.what)
            self._live[name] = live
            run.watch(lambda: self._changed(live))
            self._follow(live)
            await self._runs.settled()
            on_record.set()
        except StoreFailed as error:
            run.stop(error)
            raise
        finally:
            if not on_record.is_set():
                run.stop(RunCancelled("the caller left before it was told the run's name; nothing ran"))
        log.info("board %s: detached run %s of %s is queued", board.name, name, asked.principal)
        return name

    async def cancel(self, name: str, why: BelaydError) -> None:
        """End a run with `why` and return when its end is on record; does nothing after that.

        Cancellation of this leaves the run to end by itself.
        """
        live = self._live.get(name)
        if live is not None:
            live.run.stop(why)
            await live.ended.wait()

    async def close(self) -> None:
        """End all that have not ended, and return when that is on record or cannot be put there."""
        for live in self._live.values():
            live.run.stop(Draining("the daemon is stopping; start the run again when it is back"))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=FAREWELL)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _refuse_greed(self, principal: str) -> None:
        running = sum(live.asked.principal == principal for live in self._live.values())
        if running >= self._most:
            raise QuotaExceeded(
                f"{principal!r} has {running} detached runs that have not ended, and may have {self._most}; "
                "wait for some, or cancel them",
                limit=self._most,
                running=running,
            )

    def _changed(self, live: Live) -> None:
        if live.run.state is RunState.RUNNING:
            with contextlib.suppress(StoreFailed):  # then it is on record as queued until its end
                self._runs.start(live.name)
        live.wake()

    def _follow(self, live: Live) -> None:
        task = asyncio.create_task(self._see_through(live), name=f"detached run {live.name}")
        self._tasks.add(task)
        task.add_done_callback(self._followed)

    def _followed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: its end is not on record", task.get_name(), exc_info=error)

    async def _see_through(self, live: Live) -> None:
        """Keep a run's lease while it goes on, and put on record how it ended."""
        run, asked = live.run, live.asked
        await self._keep(run, asked)
        if asked.release:
            with contextlib.suppress(BelaydError):  # it has ended already
                self._leasing.release(asked.token, asked.principal)
        outcome = _outcome(run)
        self._tell(live, outcome)
        try:
            await self._record(live.name, self._outcome_bytes(outcome, run.queued, run.ran))
        finally:
            del self._live[live.name]
            live.ended.set()
            live.wake()

    async def _keep(self, run: Run[Outcome], asked: Asked) -> None:
        """Return when a run has ended, and keep its lease until then; end it when its principal may not stay."""
        now = asyncio.get_running_loop().time
        renew_at = now() + self._renew(asked)
        while not run.outcome.done():
            await asyncio.wait([run.outcome], timeout=min(LOOK, max(0.0, renew_at - now())))
            if run.outcome.done():
                return
            if (why := asked.stay()) is not None:
                run.stop(why)
                renew_at = math.inf
            elif now() >= renew_at:
                renew_at = now() + self._renew(asked)

    def _tell(self, live: Live, outcome: Outcome | BelaydError) -> None:
        event = ended(live.board, live.run, outcome)
        deed = Deed(
            "run/ended",
            live.board,
            live.lease,
            live.asked.what,
            event.outcome,
            event.reason,
            f"runs/{live.name}",
        )
        self._trail.happened(deed, live.asked.principal, live.run.ran)

    def _renew(self, asked: Asked) -> float:
        """Renew a run's lease, if it is under one, and return after how many seconds to do so again."""
        if not asked.token:
            return math.inf
        try:
            return self._leasing.renew(asked.token, asked.principal).ttl * RENEW_AT
        except BelaydError:  # it has ended, and its end ends the run
            return math.inf

    async def _record(self, name: str, outcome: bytes) -> None:
        told = False
        while True:
            try:
                if not told:
                    self._runs.end(name, outcome)
                    told = True
                await self._runs.settled()
                return
            except StoreFailed:
                await asyncio.sleep(RETRY)


def _outcome(run: Run[Outcome]) -> Outcome | BelaydError:
    error = run.outcome.exception()
    if error is None:
        return run.outcome.result()
    return error if isinstance(error, BelaydError) else InternalError(f"belayd failed: {error}")
