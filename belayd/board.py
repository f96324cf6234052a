"""One board: its state, its queue, and the one task that touches its session.

The task is the lock. It opens the port, proves the prompt, runs one job at a
time, and brings the board back after a cancel, a deadline or a fault; nobody else
has the session. A job's lease is compared where the port is, at the moment the
job begins; when a lease ends, what runs under it is interrupted here.

Leaves to others: who may ask (`leasing`, `access`), what a job does (`run`,
`deployment`), whether the port is there (`discovery`).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from belayd.backoff import Backoff
from belayd.errors import (
    BelaydError,
    BoardLeased,
    BoardOffline,
    BoardQuarantined,
    BoardUnresponsive,
    Draining,
    InternalError,
    OperatorNeeded,
    TransportLost,
)
from belayd.events import BoardChanged, Booted, Events, OperationEnded, Reconnected, RecoveryStepTaken
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.queue import Queue
from belayd.recovery import recover
from belayd.run import Job, Order, Run, T, ended
from belayd.session import Session
from belayd.snapshot import BoardSnapshot, BoardState, Facts
from belayd.transport.contract import Opener, TransportDenied, TransportError

log = logging.getLogger(__name__)

MAKE_WAY = 1.0
"""Seconds that a run without a lease may go on once the holder of a new lease wants the board."""
FAREWELL = 3.0
"""Seconds that recovery or connecting may go on when the daemon stops."""
STEADY = 5.0
"""Seconds after which a link that was lost is opened again at once."""


class Board:
    """One board of the inventory; `live` is its task's body."""

    def __init__(
        self,
        identity: Identity,
        leasing: Leasing,
        events: Events,
        new_token: Callable[[int], str],
        backoff: Backoff,
    ) -> None:
        self.identity = identity
        self.state = BoardState.OFFLINE
        self.reason = self._absence = "not looked for yet"
        self.version = 0
        self.facts: Facts | None = None
        self.last_seen: datetime | None = None
        self._leasing = leasing
        self._events = events
        self._new_token = new_token
        self._backoff = backoff
        self._opener: Opener | None = None
        self._address = ""
        self._queue = Queue(identity.name, lambda run, why: events.publish(ended(identity.name, run, why)))
        self._running: Run[Any] | None = None
        self._wake = asyncio.Event()
        self._session: Session | None = None
        self._closing = False
        self._used_under: int | None = None
        self._cleaning = False
        self._connected_before = False
        self._life: asyncio.Timeout | None = None
        self._received_bytes = 0
        self._sent_bytes = 0

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self.identity.name

    def snapshot(self) -> BoardSnapshot:
        """Return how the board is now."""
        traffic = self._session.traffic if self._session else None
        return BoardSnapshot(
            name=self.name,
            state=self.state,
            reason=self.reason,
            version=self.version,
            labels=self.identity.labels,
            transport=self.identity.transport,
            address=self._address,
            facts=self.facts,
            lease=self._leasing.view(self.name),
            queue_length=len(self._queue),
            lease_queue_length=self._leasing.waiting(self.name),
            last_seen=self.last_seen,
            received_bytes=self._received_bytes + (traffic.received_bytes if traffic else 0),
            sent_bytes=self._sent_bytes + (traffic.sent_bytes if traffic else 0),
        )

    # Asked by others, on the loop

    def attach(self, opener: Opener, address: str) -> None:
        """Say where the board can be opened from now on."""
        self._opener = opener
        self._address = address
        self._backoff.reset()
        self._wake.set()

    def detach(self, reason: str) -> None:
        """Say that the board is not present, and why; its open session ends by itself."""
        self._opener = None
        self._address = ""
        self._absence = reason
        self._wake.set()

    def submit(self, order: Order, job: Job[T]) -> Run[T]:
        """Queue a job.

        Raises:
            BoardOffline, BoardQuarantined, ...: The board takes no jobs as it is.
            QueueFull: Too many wait.
            BoardLeased, StaleFence, ...: As `Leasing.admit`.
        """
        try:
            self._leasing.admit(self.name, order.fence)
            self._refuse_if_unfit()
            run = self._queue.put(order, job)
        except BelaydError as error:
            self._events.publish(OperationEnded(self.name, order.operation, "rejected", error.reason, 0, 0))
            raise
        if order.fence is not None:
            self._make_way()
        self._wake.set()
        return run

    def _make_way(self) -> None:
        """Let a holder's work begin soon, though somebody's run from before the lease still runs."""
        running = self._running
        if running is not None and running.order.fence is None:
            message = (
                f"board {self.name!r} was leased while this ran without a lease; acquire one for long work"
            )
            taken = BoardLeased(message, board=self.name)
            asyncio.get_running_loop().call_later(MAKE_WAY, running.stop, taken)

    def jobs_before(self, run: Run[Any]) -> int:
        """Return how many jobs run or wait before `run`."""
        return (self._running is not None) + self._queue.before(run)

    def lease_ended(self, fence: int, error: BelaydError) -> None:
        """End everything asked for under a lease, and bring the board back to clean.

        `Leasing.returned` is called when the next holder may have it.
        """
        for run in [run for run in (self._running, *self._queue) if run and run.order.fence == fence]:
            run.stop(error)
        if self._used_under == fence:
            self._cleaning = True
            self._wake.set()
        else:
            self._leasing.returned(self.name)

    async def close(self, why: BelaydError | None = None) -> None:
        """Refuse new work, end what waits and runs, with `why`, and let `live` return; idempotent."""
        if self._closing:
            return
        self._closing = True
        why = why or Draining("the daemon is stopping; try again when it is back", board=self.name)
        for run in [run for run in (self._running, *self._queue) if run]:
            run.stop(why)
        self._wake.set()
        if self._life is not None:
            # Recovery and connecting may take long; nobody waits for them any more.
            self._life.reschedule(asyncio.get_running_loop().time() + FAREWELL)

    # The task

    async def live(self) -> None:
        """Look after the board until `close`."""
        try:
            async with asyncio.timeout(None) as self._life:
                while not self._closing:
                    await self._look_after()
        except TimeoutError:
            log.warning("board %s: given up while it was being brought back", self.name)
        finally:
            await self._disconnect()

    async def _look_after(self) -> None:
        self._wake.clear()
        if self._opener is None:
            self._go_offline(self._absence)
            await self._wake.wait()
        elif await self._connect(self._opener):
            began = asyncio.get_running_loop().time()
            await self._serve()
            if asyncio.get_running_loop().time() - began > STEADY:
                self._backoff.reset()
            elif not self._closing:
                await self._backoff.wait(self._wake)  # a link that comes and goes
        else:
            await self._backoff.wait(self._wake)

    async def _connect(self, opener: Opener) -> bool:
        retry = self.state is BoardState.OFFLINE and self._backoff.retrying
        if not retry and self.state is not BoardState.QUARANTINED:
            self._change(BoardState.CONNECTING, "")
        transport = None
        try:
            transport = await opener()
            session = Session(self.name, transport, self._new_token)
            transport.on_pending = self._wake.set
            facts = await session.start(self._idle_output)
            self.identity.refuse_stranger(facts)
        except TransportDenied as error:
            self._quarantine(f"{error} (WEBREPL_DENIED)")
        except TransportError as error:
            self._go_offline(str(error))
        except TransportLost as error:
            self._go_offline(f"went away while it was being connected: {error.message}")
        except OperatorNeeded as error:
            self._quarantine(error.message)
        except Exception:
            log.exception("board %s: connecting failed", self.name)
            self._quarantine(f"belayd failed to connect it; the log has the trace ({_incident()})")
        else:
            self._session, self.facts = session, facts
            if self._connected_before:
                self._events.publish(Reconnected(self.name))
            self._connected_before = True
            self.last_seen = datetime.now(UTC)
            self._change(BoardState.READY, "")
            return True
        if transport is not None:
            await transport.close()
        return False

    async def _serve(self) -> None:
        """Run jobs until the link is lost, the board must be reopened, or `close`."""
        session = self._session
        assert session is not None
        try:
            while not self._closing:
                self._wake.clear()
                if self._cleaning:
                    await self._clean(session)
                elif not session.proven:
                    await self._recover(session)
                    self._change(BoardState.READY, "")
                elif self._queue:
                    await self._perform(session, self._queue.take())
                else:
                    await session.drain(self._idle_output)
                    if not (self._wake.is_set() or self._queue):
                        await self._wake.wait()
        except TransportLost as error:
            log.warning("board %s: %s", self.name, error.message)
            self._change(BoardState.CONNECTING, "")
        except BoardUnresponsive as error:
            self._quarantine(error.message)
        except Exception:
            incident = _incident()
            log.exception("board %s: looking after it failed (%s)", self.name, incident)
            self._quarantine(f"belayd failed to look after it; the log has the trace ({incident})")
        finally:
            await self._disconnect()

    async def _perform(self, session: Session, run: Run[Any]) -> None:
        loop = asyncio.get_running_loop()
        restarts = session.restarts
        result: Any
        lost: TransportLost | None = None
        try:
            self._leasing.admit(self.name, run.order.fence)
            # What was printed while nobody ran anything is not this run's output.
            await session.drain(self._idle_output)
            async with asyncio.timeout(None) as scope:
                run.start(loop.time(), lambda: scope.reschedule(loop.time()))
                self._running = run
                self._used_under = run.order.fence or self._used_under
                self._change(BoardState.BUSY, "")
                result = await run.job(session, run.order.emit)
        except TimeoutError:
            result = run.cause or InternalError(f"board {self.name!r}: a job timed out by itself")
        except TransportLost as error:
            result = lost = error
        except BelaydError as error:
            result = error
        except Exception:
            incident = _incident()
            log.exception("board %s: a %s failed (%s)", self.name, run.order.operation, incident)
            result = InternalError(
                f"belayd failed on board {self.name!r}; the log has the trace ({incident})",
                board=self.name,
                incident=incident,
            )
        self._running = None
        run.end(loop.time(), result)
        self._events.publish(ended(self.name, run, result))
        if lost is not None:
            raise lost
        if session.restarts > restarts:
            self._events.publish(
                Booted(self.name, "reset" if run.order.operation == "reset" else "unexpected")
            )
        if not session.proven:
            await self._recover(session)
        self.last_seen = datetime.now(UTC)
        if not self._queue:
            self._change(BoardState.READY, "")

    async def _recover(self, session: Session) -> None:
        self._change(BoardState.RECOVERING, "")
        await recover(self.name, session, self._events, self._idle_output)

    async def _clean(self, session: Session) -> None:
        """Bring the board to the state that its next holder shall find."""
        self._change(BoardState.RECOVERING, "")
        try:
            await session.soft_reset(self._idle_output)
        except TransportLost:
            if self.identity.transport == "webrepl":  # a soft reset closes its connection
                self._settle_return()
            raise
        except BelaydError:
            await self._recover(session)
            await session.soft_reset(self._idle_output)
        self._events.publish(Booted(self.name, "reset"))
        self._settle_return()
        self._change(BoardState.READY, "")

    def _settle_return(self) -> None:
        self._used_under = None
        self._cleaning = False
        self._leasing.returned(self.name)

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        self._received_bytes += session.traffic.received_bytes
        self._sent_bytes += session.traffic.sent_bytes
        await session.close()

    # States

    def _change(self, state: BoardState, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        previous, self.state, self.reason = self.state, state, reason
        self.version += 1
        if not self._closing:  # a board of the same name may follow
            self._leasing.set_available(self.name, state.up)
        self._events.publish(BoardChanged(self.name, previous, state, reason))

    def _go_offline(self, reason: str) -> None:
        self._change(BoardState.OFFLINE, reason)
        self._fail_queue()

    def _quarantine(self, reason: str) -> None:
        log.error("board %s: quarantined: %s", self.name, reason)
        if self.state is not BoardState.QUARANTINED:
            self._events.publish(RecoveryStepTaken(self.name, "quarantine"))
        self._change(BoardState.QUARANTINED, reason)
        self._fail_queue()

    def _fail_queue(self) -> None:
        for run in self._queue:
            try:
                self._refuse_if_unfit()
            except BelaydError as error:
                run.stop(error)

    def _refuse_if_unfit(self) -> None:
        if self._closing:
            raise Draining("the daemon is stopping; try again when it is back", board=self.name)
        if self.state is BoardState.OFFLINE:
            raise BoardOffline(f"board {self.name!r} is offline: {self.reason}", board=self.name)
        if self.state is BoardState.QUARANTINED:
            raise BoardQuarantined(f"board {self.name!r} is quarantined: {self.reason}", board=self.name)

    async def _idle_output(self, data: bytes) -> None:
        log.debug("board %s < %r", self.name, data)


def _incident() -> str:
    return uuid.uuid4().hex[:12]
