"""One Converse stream: steps become jobs of the board's queue, what happens becomes events.

Steps of one message that have no time limit share a job under a lease, so that
they go to the board back to back. Whatever has happened when a message is written
goes with it. A reader that stalls makes the board wait at the output's bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from belayd import wire
from belayd.call import Call
from belayd.errors import BelaydError, RequestInvalid, RunCancelled
from belayd.iteration import Orders
from belayd.outcome import Outcome
from belayd.rpc import convert
from belayd.rpc.calls import function_call, literal_of, result_message
from belayd.rpc.jobs import Jobs, left
from belayd.run import Job, Run
from belayd.session import Emit, Session
from belayd.v1 import tasks_pb2

MOST_STEPS = 1000
MOST_EXPRESSION = 1 << 16
MOST_UNREAD_BYTES = 256 * 1024


@dataclass(slots=True)
class _Batch:
    """Steps that share a job; those in `open` have not ended."""

    calls: dict[int, Call | str]
    open: dict[int, None] = field(default_factory=dict)
    run: Run[None] | None = None
    orders: Orders | None = None


class Conversation:
    """The daemon's side of one stream."""

    def __init__(self, jobs: Jobs, context: Any) -> None:
        self._jobs = jobs
        self._context = context
        self._board = ""
        self._token = ""
        self._batches: dict[int, _Batch] = {}
        self._events: list[tasks_pb2.ConverseEvent] = []
        self._unread_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def hold(self, requests: AsyncIterator[tasks_pb2.ConverseRequest]) -> None:
        """Serve the stream until the client has said all and everything of it has ended."""
        reading = asyncio.create_task(self._read(requests), name="converse")
        reading.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                events, self._events = self._events, []
                self._unread_bytes = 0
                self._room.set()
                if events:
                    await self._context.write(tasks_pb2.ConverseResponse(events=events))
                ended = reading.done()
                if ended and (reading.exception() or not (self._batches or self._events)):
                    return reading.result()
        finally:
            reading.cancel()
            self._room.set()
            for batch in list(self._batches.values()):
                if batch.run is not None:
                    batch.run.stop(left())

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
        for batch in self._batches.values():
            if batch.orders is not None:
                batch.orders.close()  # nobody can order more

    def _accept(self, steps: Sequence[tasks_pb2.ConverseStep]) -> None:
        together: dict[int, Call | str] = {}
        for step in steps:
            if step.WhichOneof("step") == "cancel":
                self._cancel(step.id)
                continue
            if step.WhichOneof("step") == "order":
                self._order(step)
                continue
            if step.id in self._batches or step.id in together:
                # Ends the stream: an answer could not be told from the other step's.
                raise RequestInvalid(f"id: a step called {step.id} has not ended", field="id")
            try:
                if step.WhichOneof("step") == "iterate":
                    self._submit(together, None)
                    together = {}
                    self._iterate(step)
                    continue
                call = _call(step)
                if step.HasField("timeout") or not self._token:
                    self._submit(together, None)
                    together = {}
                    self._submit({step.id: call}, convert.seconds(step, "timeout"))
                else:
                    together[step.id] = call
            except BelaydError as error:
                self._fail(step.id, error)
        self._submit(together, None)

    def _submit(self, calls: dict[int, Call | str], timeout: float | None) -> None:
        if not calls:
            return
        batch = _Batch(calls, dict.fromkeys(calls))
        ids = list(calls)

        async def emit(number: int, data: bytes) -> None:
            await self._pass_on(tasks_pb2.ConverseEvent(id=ids[number], output=data), len(data))

        async def settle(number: int, outcome: Outcome) -> None:
            assert batch.run is not None
            message = result_message(outcome, batch.run.queued, 0.0)
            self._close(ids[number], tasks_pb2.ConverseEvent(id=ids[number], result=message))

        async def job(session: Session, _: Emit) -> None:
            await session.converse(list(calls.values()), emit, settle)

        self._queue(batch, job, timeout, sum(map(_held_bytes, calls.values())))

    def _queue(self, batch: _Batch, job: Job[None], timeout: float | None, held_bytes: int) -> None:
        try:
            batch.run = self._jobs.submit_calls(
                self._context,
                job,
                name=self._board,
                lease_token=self._token,
                timeout=timeout,
                held_bytes=held_bytes,
            )
        except BelaydError as error:
            for step in list(batch.open):
                self._fail(step, error)
            return
        self._batches |= dict.fromkeys(batch.open, batch)
        batch.run.outcome.add_done_callback(lambda outcome: self._ended(batch, outcome))

    def _iterate(self, step: tasks_pb2.ConverseStep) -> None:
        call, orders = function_call(step.iterate.call), Orders(step.iterate.credit)
        batch = _Batch({step.id: call}, {step.id: None}, orders=orders)

        async def emit(data: bytes) -> None:
            await self._pass_on(tasks_pb2.ConverseEvent(id=number, output=data), len(data))

        async def item(value: object) -> None:
            event = tasks_pb2.ConverseEvent(id=number, item=wire.to_value(value))
            await self._pass_on(event, event.ByteSize())

        async def job(session: Session, _: Emit) -> None:
            outcome = await session.iterate(call, orders, emit, item)
            message = result_message(outcome, batch.run.queued if batch.run else 0.0, 0.0)
            self._close(number, tasks_pb2.ConverseEvent(id=number, result=message))

        number = step.id
        self._queue(batch, job, convert.seconds(step, "timeout"), call.held_bytes)

    def _order(self, step: tasks_pb2.ConverseStep) -> None:
        batch = self._batches.get(step.id)
        if batch is None or batch.orders is None:
            return  # it has ended meanwhile
        try:
            match step.order.WhichOneof("order"):
                case "credit":
                    batch.orders.grant(step.order.credit)
                case "send":
                    batch.orders.send(literal_of(step.order.send))
                case "close":
                    batch.orders.close()
        except BelaydError as error:
            if batch.run is not None:
                batch.run.stop(error)  # the step ends with it, and the board is free again

    def _ended(self, batch: _Batch, outcome: asyncio.Future[None]) -> None:
        """Settle what the job left open: an interrupt, an exit or a fault came before it."""
        error = None if outcome.cancelled() else outcome.exception()
        if not isinstance(error, BelaydError):
            error = RunCancelled("the call before this one ended the conversation; this one never ran")
        for step in list(batch.open):
            self._fail(step, error)

    def _cancel(self, step: int) -> None:
        batch = self._batches.get(step)
        # Only the first open one can be running; the others' turn comes without harm.
        if batch is not None and batch.run is not None and next(iter(batch.open), None) == step:
            batch.run.stop(RunCancelled("cancelled; the board was interrupted"))

    def _fail(self, step: int, error: BelaydError) -> None:
        message = tasks_pb2.ConverseError(reason=error.reason, message=error.message, fields=error.fields)
        self._close(step, tasks_pb2.ConverseEvent(id=step, error=message))

    def _close(self, step: int, event: tasks_pb2.ConverseEvent) -> None:
        batch = self._batches.pop(step, None)
        if batch is not None:
            batch.open.pop(step, None)
        self._tell(event)

    async def _pass_on(self, event: tasks_pb2.ConverseEvent, size: int) -> None:
        """Tell an event of `size` bytes; the board waits while too many are unread."""
        await self._room.wait()
        self._tell(event)
        self._unread_bytes += size
        if self._unread_bytes > MOST_UNREAD_BYTES:
            self._room.clear()

    def _tell(self, event: tasks_pb2.ConverseEvent) -> None:
        self._events.append(event)
        self._news.set()


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


def _held_bytes(call: Call | str) -> int:
    return len(call.encode()) if isinstance(call, str) else call.held_bytes
