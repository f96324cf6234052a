"""One board: its state, its queue, and the one task that touches its session.

The task is the lock. It opens the port, proves the prompt, runs one job at a
time, and brings the board back after a cancel, a deadline or a fault; nobody else
has the session. A job's lease is compared where the port is, at the moment the
job begins; when a lease ends, what runs under it is interrupted here.

A passive board's own program goes on until a job needs the board, and again after
the lease that the job came under. A board that an operator disables is closed at
once if nobody holds it, else when its lease has ended.

Leaves to others: who may ask (`leasing`, `access`), what a job does (`run`,
`deployment`), whether the port is there (`discovery`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from belayd.audience import Audience
from belayd.backoff import Backoff
from belayd.cleaning import Cleaning, Tidy
from belayd.errors import (
    BelaydError,
    BoardOffline,
    InternalError,
    OperatorNeeded,
    TransportLost,
    WrongBoard,
)
from belayd.events import Booted, Events, OperationEnded, Reconnected
from belayd.flapping import Flapping
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.link import Link, OnIdentity
from belayd.queue import Queue
from belayd.recovery import recover
from belayd.run import Job, Order, Run, T, ended
from belayd.session import Session
from belayd.settling import Settling
from belayd.snapshot import BoardSnapshot, BoardState, Disabled, Facts
from belayd.standing import Standing
from belayd.transport.contract import Opener

log = logging.getLogger(__name__)

FAREWELL = 3.0
"""Seconds that recovery or connecting may go on when the daemon stops."""


class Board:
    """One board of the inventory; `live` is its task's body, and `audience` watches what it prints."""

    def __init__(
        self,
        identity: Identity,
        leasing: Leasing,
        events: Events,
        new_token: Callable[[int], str],
        backoff: Backoff,
        flapping: Flapping | None = None,
        tidy: Tidy | None = None,
    ) -> None:
        self.identity = identity
        self.audience = Audience(identity.name)
        self.facts: Facts | None = None
        self.last_seen: datetime | None = None
        self._leasing = leasing
        self._events = events
        self._link = Link(identity, new_token, backoff, flapping or Flapping())
        self._standing = Standing(identity.name, leasing, events)
        self._queue = Queue(identity.name, lambda run, why: events.publish(ended(identity.name, run, why)))
        self._wake = asyncio.Event()
        self._session: Session | None = None
        self._cleaning = Cleaning(identity.name, tidy, leasing, events)
        self._settling = Settling(identity.name, events)
        self._connected_before = False
        self._life: asyncio.Timeout | None = None

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self.identity.name

    @property
    def state(self) -> BoardState:
        """What it is doing."""
        return self._standing.state

    def snapshot(self) -> BoardSnapshot:
        """Return how the board is now."""
        traffic = self._link.traffic(self._session)
        return BoardSnapshot(
            name=self.name,
            state=self._standing.state,
            reason=self._standing.told,
            version=self._standing.version,
            labels=self.identity.labels,
            transport=self.identity.transport,
            address=self._link.address,
            facts=self.facts,
            lease=self._leasing.view(self.name),
            queue_length=len(self._queue),
            lease_queue_length=self._leasing.waiting(self.name),
            observers=self.audience.names,
            quarantine=self._standing.code,
            last_seen=self.last_seen,
            received_bytes=traffic.received_bytes,
            sent_bytes=traffic.sent_bytes,
        )

    # Asked by others, on the loop

    def attach(self, opener: Opener, address: str, on_identity: OnIdentity | None = None) -> None:
        """Say where the board can be opened from now on."""
        self._link.attach(opener, address, on_identity)
        self._wake.set()

    def detach(self, reason: str) -> None:
        """Say that the board is not present, and why; its open session ends by itself."""
        self._link.detach(reason)
        self._wake.set()

    def submit(self, order: Order, job: Job[T]) -> Run[T]:
        """Queue a job.

        Raises:
            BoardOffline, BoardDisabled, Draining, ...: The board takes no jobs as it is.
            QueueFull: Too many wait.
            BoardLeased, StaleFence, ...: As `Leasing.admit`.
            LeaseRequired: Its own program is left alone outside leases.
        """
        try:
            self._leasing.admit(self.name, order.fence)
            if refusal := self._standing.refusal() or self._standing.refusal_of_new(order.fence):
                raise refusal
            self.identity.refuse_interruption(order.fence)
            run = self._queue.put(order, job)
        except BelaydError as error:
            told = OperationEnded(self.name, order.operation, "rejected", error.reason, 0, 0, order.steps)
            self._events.publish(told)
            raise
        if order.fence is not None:
            self._queue.make_way()
        self._wake.set()
        return run

    def jobs_before(self, run: Run[Any]) -> int:
        """Return how many jobs run or wait before `run`."""
        return self._queue.before(run)

    def lease_ended(self, fence: int, error: BelaydError) -> None:
        """End everything asked for under a lease, and bring the board back to clean.

        `Leasing.returned` is called when the next holder may have it.
        """
        self._queue.stop(error, lambda order: order.fence == fence)
        self._cleaning.lease_ended(fence)
        self._wake.set()

    @property
    def unclean(self) -> bool:
        """Whether somebody used it under a lease since it was last clean."""
        return self._cleaning.unclean

    def clean_first(self) -> None:
        """Say that it was left unclean before belayd made this object of it."""
        self._cleaning.begin()

    def change(self, labels: Mapping[str, str], tidy: Tidy | None) -> None:
        """Take what its inventory entry says now of what needs no new link."""
        self.identity = replace(self.identity, labels=labels)
        self._cleaning.change(tidy)
        self._standing.touch()
        self._wake.set()  # a folder that failed may have been mended

    def disable(self, disabled: Disabled) -> None:
        """Take it out of service: at once what runs without a lease ends, a lease goes on to its end."""
        self._standing.disable(disabled)
        self._queue.stop(self._standing.disabled_refusal(), lambda order: order.fence is None)
        self._wake.set()

    def enable(self) -> None:
        """Put it back in service; does nothing if it is."""
        self._standing.enable()
        self._wake.set()

    def drain(self, on: bool) -> None:
        """Refuse, or take again, new work without a lease."""
        self._standing.draining = on

    async def close(self, why: BelaydError | None = None) -> None:
        """Refuse new work, end what waits, runs and watches, with `why`, and let `live` return; idempotent."""
        if self._standing.closing:
            return
        self._standing.closing = True
        why = why or self._standing.draining_refusal()
        self._queue.stop(why)
        self.audience.end(why)
        self._wake.set()
        if self._life is not None:
            # Recovery and connecting may take long; nobody waits for them any more.
            self._life.reschedule(asyncio.get_running_loop().time() + FAREWELL)

    # The task

    async def live(self) -> None:
        """Look after the board until `close`."""
        if (lease := self._leasing.view(self.name)) is not None:
            self._cleaning.used(lease.fence)  # by a holder from before the daemon's start, perhaps
        try:
            async with asyncio.timeout(None) as self._life:
                while not self._standing.closing:
                    await self._look_after()
        except TimeoutError:
            log.warning("board %s: given up while it was being brought back", self.name)
        finally:
            await self._disconnect()

    async def _look_after(self) -> None:
        self._wake.clear()
        if self._standing.out_of_service:
            self._standing.close_down()
            await self._wake.wait()
        elif self._link.opener is None:
            self._go_offline(self._link.absence)
            await self._wake.wait()
        elif await self._connect(self._link.opener):
            now = asyncio.get_running_loop().time
            began = now()
            lost_idle = await self._serve(began)
            stays_closed = self._standing.closing or self._standing.out_of_service
            if not (stays_closed or await self._cleaning.paused(self._wake)):
                await self._link.lost(now() - began, lost_idle, self._wake)
        else:
            await self._link.pause(self._wake)

    async def _connect(self, opener: Opener) -> bool:
        retry = self.state is BoardState.OFFLINE and self._link.retrying
        if not retry and self.state is not BoardState.QUARANTINED:
            self._standing.change(BoardState.CONNECTING)
        session = None
        try:
            session = await self._link.open(opener, self._wake.set)
            if not self.identity.passive or self._cleaning.unclean:
                await self._take_over(session)
        except BoardOffline as error:
            self._go_offline(error.message)
        except TransportLost as error:
            self._go_offline(f"went away while it was being connected: {error.message}")
        except OperatorNeeded as error:
            self._quarantine(error)
        except Exception:
            self._quarantine(self._standing.fault("connect it"))
        else:
            self._session = session
            if self._connected_before:
                self._events.publish(Reconnected(self.name))
            self._connected_before = True
            if (fault := self._link.fault) is not None:
                self._quarantine(fault)
            elif not self._cleaning.due:
                self._standing.change(BoardState.READY)
            return True
        if session is not None:
            await session.close()
        return False

    async def _take_over(self, session: Session) -> None:
        self.facts = await self._link.take_over(session, self._idle_output)
        self.last_seen = datetime.now(UTC)
        await self._settling.taken_over(session, self._idle_output)

    async def _serve(self, began: float) -> bool:
        """Run jobs until the link is lost, the board must be reopened, or `close`.

        Returns whether the link was lost by itself, while nothing ran.
        """
        session = self._session
        assert session is not None
        try:
            while not self._standing.closing:
                self._wake.clear()
                if self._cleaning.due:
                    if self.state is not BoardState.QUARANTINED:
                        self._standing.change(BoardState.RECOVERING)
                    await self._cleaning.clean(session, self.identity, self._take_over, self._idle_output)
                    self._standing.change(BoardState.READY)
                elif session.taken and not session.proven:
                    await self._recover(session)
                    self._standing.change(BoardState.READY)
                elif self._queue:
                    await self._perform(session, self._queue.take())
                elif self._standing.out_of_service:
                    break
                else:
                    try:
                        await session.drain(self._idle_output)
                    except TransportLost as error:
                        self._lose(error)
                        return True
                    if not (self._wake.is_set() or self._queue):
                        await self._idle(began)
        except TransportLost as error:
            self._lose(error)
        except OperatorNeeded as error:
            self._quarantine(error)
        except Exception:
            self._quarantine(self._standing.fault("look after it"))
        finally:
            await self._disconnect()
        return False

    def _lose(self, error: TransportLost) -> None:
        log.warning("board %s: %s", self.name, error.message)
        self._standing.change(BoardState.CONNECTING)

    async def _idle(self, began: float) -> None:
        """Wait for work, for output, or for the end of the time that a link must have lasted."""
        if self.state is not BoardState.QUARANTINED:
            await self._wake.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(began + self._link.probation):
                await self._wake.wait()
                return
        self._link.lasted()
        self._standing.change(BoardState.READY)

    async def _perform(self, session: Session, run: Run[Any]) -> None:
        loop = asyncio.get_running_loop()
        restarts = session.restarts
        result: Any
        try:
            # What was printed while nobody ran anything is not this run's output.
            await session.drain(self._idle_output)
            self._leasing.admit(self.name, run.order.fence)
            async with asyncio.timeout(None) as scope:
                run.start(loop.time(), lambda: scope.reschedule(loop.time()))
                self._queue.running = run
                self._cleaning.used(run.order.fence)
                self._standing.change(BoardState.BUSY)
                if not (session.taken or run.order.raw):
                    await self._take_over(session)
                result = await run.job(session, self.audience.beside(run.order.emit))
        except TimeoutError:
            result = run.cause or InternalError(f"board {self.name!r}: a job timed out by itself")
        except BelaydError as error:
            result = error
        except Exception:
            result = self._standing.fault(f"do its {run.order.operation}")
        self._queue.running = None
        run.end(loop.time(), result)
        self._events.publish(ended(self.name, run, result))
        if isinstance(result, TransportLost | WrongBoard):
            raise result
        if session.restarts > restarts:
            cause = "reset" if run.order.operation == "reset" else "unexpected"
            self._events.publish(Booted(self.name, cause))
        if session.taken:
            if not session.proven:
                await self._recover(session)
            self.last_seen = datetime.now(UTC)
            await self._settling.ended(run.order.operation, result, session, self._idle_output)
        if not self._queue:
            self._standing.change(BoardState.READY)

    async def _recover(self, session: Session) -> None:
        self._standing.change(BoardState.RECOVERING)
        await recover(self.name, session, self._events, self._idle_output)

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await self._link.close(session, self._standing.closing, self._idle_output)

    # States

    def _go_offline(self, reason: str) -> None:
        self._standing.change(BoardState.OFFLINE, reason)
        self._fail_queue()

    def _quarantine(self, cause: BelaydError) -> None:
        self._standing.quarantine(cause)
        self._fail_queue()

    def _fail_queue(self) -> None:
        if refusal := self._standing.refusal():
            self._queue.stop(refusal)

    async def _idle_output(self, data: bytes) -> None:
        log.debug("board %s < %r", self.name, data)
        self.audience.show(data)
