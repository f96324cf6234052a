"""Steps of a conversation that share a job, and each one's own end.

They go to the board back to back. One that is cancelled while it runs is
interrupted alone: those behind it never ran, and run then. One that is cancelled
before its turn never runs, unless it is on its way to the board behind another;
then its result tells what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from belayd.call import Call
from belayd.errors import BelaydError, BoardUnresponsive, RunCancelled
from belayd.outcome import Outcome, Raised
from belayd.rpc.answers import Answers
from belayd.rpc.calls import result_message
from belayd.rpc.jobs import left
from belayd.run import Run, RunState
from belayd.session import Emit, Session
from belayd.v1 import tasks_pb2


class Batch:
    """Steps by id, in their order; those in `open` have not ended.

    Attributes:
        run: The job's, once it is queued.
    """

    def __init__(
        self, calls: Mapping[int, Call | str], answers: Answers, closed: Callable[[int], object]
    ) -> None:
        """`closed` is called with each step that ends."""
        self.open = dict.fromkeys(calls)
        self.run: Run[None] | None = None
        self._calls = calls
        self._answers = answers
        self._closed = closed
        self._cancelled: set[int] = set()
        self._interrupt: Callable[[], None] | None = None
        self._since = 0.0

    @property
    def held_bytes(self) -> int:
        """What the calls take of memory."""
        calls = self._calls.values()
        return sum(len(call.encode()) if isinstance(call, str) else call.held_bytes for call in calls)

    async def job(self, session: Session, show: Emit) -> None:
        """Do the steps, and `show` what they print; what is open then never ran."""
        self._since = asyncio.get_running_loop().time()
        while self.open and await self._flow(session, tuple(self.open), show):
            pass
        # The last answer goes before the board's task looks for more to do.
        await asyncio.sleep(0)

    def cancel(self, step: int) -> None:
        """Interrupt a step that runs; let one that has not begun end without."""
        if self.run is None or step not in self.open:
            return
        self._cancelled.add(step)
        if self.run.state is RunState.QUEUED:
            self._withdraw(step)
        elif next(iter(self.open)) == step and self._interrupt is not None:
            self._interrupt()

    def fail(self, step: int, error: BelaydError) -> None:
        """End a step with an error."""
        self._end(step, error_event(step, error))

    def leave(self) -> None:
        """Interrupt what runs, without anybody to tell."""
        if self.run is not None:
            self.run.stop(left())

    def ended(self, outcome: asyncio.Future[None]) -> None:
        """Settle what the job left open: an interrupt, an exit or a fault came before it."""
        error = None if outcome.cancelled() else outcome.exception()
        if not isinstance(error, BelaydError):
            error = RunCancelled("the call before this one ended the conversation; this one never ran")
        for step in list(self.open):
            self.fail(step, error)

    async def _flow(self, session: Session, steps: tuple[int, ...], show: Emit) -> bool:
        """Do steps until one is interrupted; return whether the rest may run."""
        run = self.run
        assert run is not None
        now = asyncio.get_running_loop().time

        async def emit(number: int, data: bytes) -> None:
            await show(data)
            await self._answers.pass_on(tasks_pb2.ConverseEvent(id=steps[number], output=data))

        async def settle(number: int, outcome: Outcome) -> None:
            began, self._since = self._since, now()
            run.count("board_error" if isinstance(outcome, Raised) else "ok")
            message = result_message(outcome, run.queued, self._since - began)
            # Told first: whatever cancels the wait for room, it has ended.
            await self._answers.pass_on(self._drop(tasks_pb2.ConverseEvent(id=steps[number], result=message)))

        def wanted(number: int) -> bool:
            step = steps[number]
            if step in self._cancelled:
                self._withdraw(step)
            return step in self.open

        calls = [self._calls[step] for step in steps]
        restarts = session.restarts
        try:
            async with asyncio.timeout(None) as scope:
                self._interrupt = lambda: None if scope.expired() else scope.reschedule(now())
                await session.converse(calls, emit, settle, wanted)
                return False
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._interrupt = None
        try:
            met = await session.halt(emit, settle)
        except BoardUnresponsive as error:
            for step in steps:
                if step in self.open and step in self._cancelled:
                    self._interrupted(step)
            raise RunCancelled(
                "the board did not answer when a step was cancelled; whether this one had begun is unknown"
            ) from error
        if met is not None:
            self._interrupted(steps[met])
        return session.restarts == restarts

    def _interrupted(self, step: int) -> None:
        why = "cancelled; the board was interrupted"
        if step not in self._cancelled:
            why = "interrupted as it began: the step before it was cancelled and had just ended; effects unknown"
        self._count_cancelled()
        self.fail(step, RunCancelled(why))

    def _withdraw(self, step: int) -> None:
        if step in self.open:
            self._count_cancelled()
            self.fail(step, RunCancelled("cancelled before its turn; it never ran"))
        if not self.open and self.run is not None and self.run.state is RunState.QUEUED:
            self.run.stop(RunCancelled("all its steps were cancelled"))

    def _count_cancelled(self) -> None:
        if self.run is not None:
            self.run.count("cancelled", RunCancelled.reason)

    def _end(self, step: int, event: tasks_pb2.ConverseEvent) -> None:
        self._answers.tell(self._drop(event), event.ByteSize())

    def _drop(self, event: tasks_pb2.ConverseEvent) -> tasks_pb2.ConverseEvent:
        self.open.pop(event.id, None)
        self._closed(event.id)
        return event


def error_event(step: int, error: BelaydError) -> tasks_pb2.ConverseEvent:
    """Return the event that ends a step with an error."""
    message = tasks_pb2.ConverseError(reason=error.reason, message=error.message, fields=error.fields)
    return tasks_pb2.ConverseEvent(id=step, error=message)
