"""One Converse stream: steps become jobs of the board's queue, what happens becomes events.

Steps of one message that have no time limit share a job under a lease, so that
they go to the board back to back (`batch`). `answers` carries what comes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from belayd.call import Call
from belayd.errors import BelaydError, QuotaExceeded, RequestInvalid, RunCancelled
from belayd.rpc import convert
from belayd.rpc.answers import Answers
from belayd.rpc.batch import Batch, error_event
from belayd.rpc.calls import function_call
from belayd.rpc.iteration import Iteration
from belayd.rpc.jobs import Jobs
from belayd.run import Job, Run
from belayd.v1 import tasks_pb2

MOST_STEPS = 1000
MOST_ITERATIONS = 1000
"""Under way in one conversation; each takes memory here and on the board while it waits."""
MOST_EXPRESSION = 1 << 16


class Conversation:
    """The daemon's side of one stream."""

    def __init__(self, jobs: Jobs, context: Any) -> None:
        self._jobs = jobs
        self._context = context
        self._board = ""
        self._token = ""
        self._batches: dict[int, Batch | Iteration] = {}
        self._answers = Answers()

    async def hold(self, requests: AsyncIterator[tasks_pb2.ConverseRequest]) -> None:
        """Serve the stream until the client has said all and everything of it has ended."""
        answers = self._answers
        reading = asyncio.create_task(self._read(requests), name="converse")
        reading.add_done_callback(lambda _: answers.wake())
        try:
            while True:
                message = await answers.next()
                if message is not None:
                    await self._context.write(message)
                if reading.done() and (reading.exception() or not (self._batches or answers)):
                    return reading.result()
        finally:
            reading.cancel()
            answers.abandon()
            for batch in set(self._batches.values()):
                batch.leave()

    async def _read(self, requests: AsyncIterator[tasks_pb2.ConverseRequest]) -> None:
        async for request in requests:
            if request.board:
                self._board = convert.board_name(request.board)
                self._token = request.lease_token
            if not self._board:
                raise RequestInvalid("board: the first message must name it", field="board")
            if len(request.steps) > MOST_STEPS:
                raise RequestInvalid(f"steps: at most {MOST_STEPS} in a message", field="steps")
            self._accept(request.steps)
            await self._answers.slack()
        for batch in tuple(self._batches.values()):
            if isinstance(batch, Iteration):
                batch.finish()

    def _accept(self, steps: Sequence[tasks_pb2.ConverseStep]) -> None:
        together: dict[int, Call | str] = {}
        for step in steps:
            kind = step.WhichOneof("step")
            if kind == "cancel":
                self._cancel(step.id, together)
                continue
            if kind == "order":
                batch = self._batches.get(step.id)
                if isinstance(batch, Iteration):  # else it has ended meanwhile
                    batch.order(step.order)
                continue
            if step.id in self._batches or step.id in together:
                # Ends the stream: an answer could not be told from the other step's.
                raise RequestInvalid(f"id: a step called {step.id} has not ended", field="id")
            try:
                if kind == "iterate":
                    iteration = self._iteration(step)
                    self._submit(together, None)
                    together = {}
                    self._batches[step.id] = iteration
                    iteration.go_on()
                    continue
                call = _call(step)
                # One that brings bytes may find no room for them, which is no fault of its neighbours.
                brings = isinstance(call, Call) and bool(call.contents)
                timeout = convert.seconds(step, "timeout")
                if timeout is not None or not self._token or brings:
                    self._submit(together, None)
                    together = {}
                    self._submit({step.id: call}, timeout)
                else:
                    together[step.id] = call
            except BelaydError as error:
                self._fail(step.id, error)
        self._submit(together, None)

    def _submit(self, calls: dict[int, Call | str], timeout: float | None) -> None:
        if calls:
            self._queue(Batch(calls, self._answers, self._closed), timeout)

    def _queue(self, batch: Batch, timeout: float | None) -> None:
        self._batches |= dict.fromkeys(batch.open, batch)
        try:
            batch.run = self._submit_job(
                batch.job, timeout, held_bytes=batch.held_bytes, steps=len(batch.open)
            )
        except BelaydError as error:
            for step in list(batch.open):
                batch.fail(step, error)
            return
        batch.run.outcome.add_done_callback(batch.ended)

    def _iteration(self, step: tasks_pb2.ConverseStep) -> Iteration:
        if sum(isinstance(batch, Iteration) for batch in self._batches.values()) >= MOST_ITERATIONS:
            raise QuotaExceeded(
                f"{MOST_ITERATIONS} iterations of this conversation have not ended; close some",
                limit=MOST_ITERATIONS,
            )
        timeout = convert.seconds(step, "timeout")
        return Iteration(step, timeout, self._answers, self._submit_job, self._closed)

    def _submit_job(
        self,
        job: Job[None],
        timeout: float | None,
        *,
        held_bytes: int = 0,
        steps: int = 1,
        earlier: tuple[float, float] = (0.0, 0.0),
    ) -> Run[None]:
        return self._jobs.submit_calls(
            self._context,
            job,
            name=self._board,
            lease_token=self._token,
            timeout=timeout,
            held_bytes=held_bytes,
            steps=steps,
            earlier=earlier,
        )

    def _cancel(self, step: int, together: dict[int, Call | str]) -> None:
        if step in together:  # it came in the same message
            del together[step]
            self._fail(step, RunCancelled("cancelled before its turn; it never ran"))
        elif (batch := self._batches.get(step)) is not None:
            batch.cancel() if isinstance(batch, Iteration) else batch.cancel(step)

    def _closed(self, step: int) -> None:
        self._batches.pop(step, None)

    def _fail(self, step: int, error: BelaydError) -> None:
        self._answers.tell(error_event(step, error))


def _call(step: tasks_pb2.ConverseStep) -> Call | str:
    match step.WhichOneof("step"):
        case "call":
            return function_call(step.call)
        case "expression":
            if not step.expression.strip() or len(step.expression.encode()) > MOST_EXPRESSION:
                raise RequestInvalid(f"expression: 1 to {MOST_EXPRESSION} bytes", field="expression")
            return step.expression
        case _:
            raise RequestInvalid("step: a call or an expression must be given", field="step")
