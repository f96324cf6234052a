"""A step of a conversation that pushes items: its jobs, and its client's orders.

While there are no orders the generator waits on the board and the step has no job, so
that the board is free for others, the same client's calls among them. Each new order
then brings the next job. However the step ends, the generator is closed: where nobody
is left to order that, by a job of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from belayd import wire
from belayd.call import Call
from belayd.errors import BelaydError, RunCancelled, RunTimeout, TransportLost
from belayd.iteration import IterationLost, Orders
from belayd.outcome import Raised
from belayd.rpc.answers import Answers
from belayd.rpc.batch import error_event
from belayd.rpc.calls import function_call, literal_of, result_message
from belayd.rpc.jobs import left
from belayd.run import OUTCOMES, Job, Run, RunState
from belayd.session import Emit, Session
from belayd.v1 import tasks_pb2

CLOSING = 10.0
"""Seconds that the finally clauses of a generator may take whose caller has left."""


class Submit(Protocol):
    """Queues a job under the conversation's lease; `steps` and `earlier` as `run.Order` has them."""

    def __call__(
        self,
        job: Job[None],
        timeout: float | None,
        *,
        held_bytes: int = 0,
        steps: int = 1,
        earlier: tuple[float, float] = (0.0, 0.0),
    ) -> Run[None]:
        """Raises whatever refuses it."""
        ...


class Iteration:
    """One step, from its first job to its end."""

    def __init__(
        self,
        step: tasks_pb2.ConverseStep,
        timeout: float | None,
        answers: Answers,
        submit: Submit,
        closed: Callable[[int], object],
    ) -> None:
        """Raise RequestInvalid for a step that cannot be.

        `timeout` is of the seconds in which it has a job; `closed` is called with the step's id when it ends.
        """
        self._step = step.id
        self._call: Call | None = function_call(step.iterate.call)
        self._orders = Orders(step.iterate.credit)
        self._timeout = timeout
        self._answers = answers
        self._submit = submit
        self._closed = closed
        self._run: Run[None] | None = None
        self._queued = self._ran = 0.0  # of the jobs before
        self._ended = False

    def go_on(self) -> None:
        """Queue a job for the orders that there are, unless there is one."""
        if self._run is not None or self._ended or not self._orders:
            return
        spent = self._queued + self._ran
        try:
            self._run = self._submit(
                self._push,
                None if self._timeout is None else max(0.0, self._timeout - spent),
                held_bytes=self._call.held_bytes if self._call else 0,
                earlier=(self._queued, self._ran),
            )
        except BelaydError as error:
            self._fail(error)
            return
        self._run.outcome.add_done_callback(self._job_ended)

    def order(self, order: tasks_pb2.IterationOrder) -> None:
        """Take an order; one that cannot be ends the step."""
        try:
            match order.WhichOneof("order"):
                case "credit":
                    self._orders.grant(order.credit)
                case "send":
                    self._orders.send(literal_of(order.send))
                case "close":
                    self._orders.close()
        except BelaydError as error:
            self._stop(error)
        else:
            self.go_on()

    def finish(self) -> None:
        """Close the generator: nobody can order more."""
        self._orders.close()
        self.go_on()

    def cancel(self) -> None:
        """Interrupt it if it runs; close the generator if it waits."""
        why = "cancelled; the generator is closed"
        if self._run is not None and self._run.state is not RunState.QUEUED:
            why = "cancelled; the board was interrupted"
        elif self._orders.name is None:
            why = "cancelled before its turn; it never ran"
        self._stop(RunCancelled(why))

    def leave(self) -> None:
        """End it without anybody to tell."""
        self._stop(left())

    def _stop(self, error: BelaydError) -> None:
        if self._run is not None:
            self._run.stop(error)
        elif not self._ended:
            self._fail(error, counted=False)

    async def _push(self, session: Session, show: Emit) -> None:
        """Push items as far as orders allow, and `show` what is printed."""
        run = self._run
        assert run is not None
        now = asyncio.get_running_loop().time
        began = now()

        async def emit(data: bytes) -> None:
            await show(data)
            await self._answers.pass_on(tasks_pb2.ConverseEvent(id=self._step, output=data))

        async def item(value: object) -> None:
            await self._answers.pass_on(tasks_pb2.ConverseEvent(id=self._step, item=wire.to_value(value)))

        try:
            outcome = await session.iterate(self._call, self._orders, emit, item)
        except IterationLost:
            lost = TransportLost(
                "the board restarted, or lost its loop, while the generator waited; it is gone: start over"
            )
            run.count(OUTCOMES[lost.reason], lost.reason)
            self._end(error_event(self._step, lost))
            return
        if self._orders.name is not None:
            self._call = None  # it is on the board now; it may have brought megabytes
        if outcome is None:
            run.continued = True
            return
        run.count("board_error" if isinstance(outcome, Raised) else "ok")
        message = result_message(outcome, self._queued + run.queued, self._ran + now() - began)
        self._end(tasks_pb2.ConverseEvent(id=self._step, result=message))

    def _job_ended(self, outcome: asyncio.Future[None]) -> None:
        run, self._run = self._run, None
        assert run is not None
        self._queued += run.queued
        self._ran += run.ran
        if self._ended:
            return
        error = None if outcome.cancelled() else outcome.exception()
        if isinstance(error, BelaydError):
            self._fail(error)
        else:
            self.go_on()

    def _fail(self, error: BelaydError, *, counted: bool = True) -> None:
        """End the step with an error, for the metrics too unless that is `counted`, and close its generator."""
        self._end(error_event(self._step, error))
        if self._orders.name is None:
            return
        self._orders.close(at_once=True)

        async def close(session: Session, show: Emit) -> None:
            try:
                async with asyncio.timeout(CLOSING):
                    await session.iterate(None, self._orders, show, _discard)
            except IterationLost:
                pass  # the interrupt that ended it has closed it, or a restart
            except TimeoutError:
                raise RunTimeout(f"a generator did not let itself be closed within {CLOSING:g} s") from None
            if not counted:
                run.count(OUTCOMES.get(error.reason, "rejected"), error.reason)

        try:
            run = self._submit(
                close,
                None,
                steps=0 if counted else 1,
                earlier=(0.0, 0.0) if counted else (self._queued, self._ran),
            )
        except BelaydError:
            return  # not this caller's board any more, or away: a restart comes before anybody's next use

    def _end(self, event: tasks_pb2.ConverseEvent) -> None:
        self._ended = True
        self._answers.tell(event, event.ByteSize())
        self._closed(self._step)


async def _discard(what: object) -> None:
    """Take what nobody waits for."""
