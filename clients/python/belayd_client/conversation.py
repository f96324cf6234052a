"""Calls on one board over one stream, for programs that call often.

A call costs one message each way, half of what an RPC of its own does; calls of
several threads share messages. There is no thread for reading: of the threads
that wait for an answer one reads, and hands the others theirs.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from belayd.v1 import tasks_pb2, tasks_pb2_grpc, values_pb2
from belayd_client.board import resource
from belayd_client.errors import ConnectionLost
from belayd_client.iteration import Items
from belayd_client.link import Link
from belayd_client.results import value_of
from belayd_client.status import from_reason, from_rpc_error
from belayd_client.times import to_duration

MOST_STEPS = 500
"""Steps that wait to be sent and go in one message; the daemon takes 1000."""


@dataclass(slots=True)
class Waiting:
    """A call under way: what it printed, what it yielded, and how it ended once it has."""

    output: list[bytes] = field(default_factory=list)
    items: deque[values_pb2.Value] = field(default_factory=deque)
    result: tasks_pb2.TaskResult | None = None
    error: Exception | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.result is not None or self.error is not None


class Conversation:
    """One stream to one board; safe to use from several threads. Opened by the first call."""

    def __init__(self, link: Link, board: str, token: str) -> None:
        self._link = link
        self._board = board
        self._token = token
        self._steps: queue.SimpleQueue[tasks_pb2.ConverseStep | None] = queue.SimpleQueue()
        self._waiting: dict[int, Waiting] = {}
        self._number = 0
        self._changed = threading.Condition()
        self._reading = False
        self._failure: Exception | None = None
        self._stream = link.stub(tasks_pb2_grpc.TaskServiceStub).Converse(
            self._requests(), metadata=link.metadata
        )

    @property
    def broken(self) -> bool:
        """Whether the stream has ended; a new conversation is needed then."""
        # A stream that ends while nobody reads (a Ctrl-C dropped its channel, the daemon
        # restarted) has told nobody yet.
        return self._failure is not None or not self._stream.is_active()

    def call(
        self,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        timeout: float | None,
        output: Callable[[bytes], object] | None,
    ) -> object:
        """Return what a function on the board returns; what it prints comes to `output` at the end."""
        step = tasks_pb2.ConverseStep(timeout=to_duration(timeout))
        _fill(step.call, function, arguments, keywords)
        waiting = self.send(step)
        while not waiting.ended:
            self.wait(waiting)
        return self.settle(waiting, output)

    def iterate(
        self,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        window: int,
        output: Callable[[bytes], object] | None,
    ) -> Items:
        """Return a generator over what a function on the board yields."""
        step = tasks_pb2.ConverseStep()
        _fill(step.iterate.call, function, arguments, keywords)
        return Items(self, step, window, output)

    def send(self, step: tasks_pb2.ConverseStep) -> Waiting:
        """Send a step, numbered here, and return what to wait for."""
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._number += 1
            step.id = self._number
            waiting = self._waiting[step.id] = Waiting()
        self._steps.put(step)
        return waiting

    def order(self, step: tasks_pb2.ConverseStep) -> None:
        """Send an order to a step that is under way."""
        self._steps.put(step)

    def wait(self, waiting: Waiting) -> None:
        """Wait until something has come for a call, or for any other.

        Whoever leaves early, by Ctrl-C say, ends the stream and interrupts the board.
        """
        try:
            self._wait(waiting)
        except BaseException:
            self.close()
            raise

    def pass_on(self, waiting: Waiting, output: Callable[[bytes], object] | None) -> None:
        """Give `output` what was printed so far."""
        printed, waiting.output = waiting.output, []
        if output:
            for data in printed:
                output(data)

    def settle(self, waiting: Waiting, output: Callable[[bytes], object] | None) -> object:
        """Return the value of a call that has ended, or raise what it ended with."""
        self.pass_on(waiting, output)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.result is not None
        return value_of(waiting.result)

    def close(self) -> None:
        """End the stream; calls under way end as cancelled, and the daemon interrupts the board."""
        self._steps.put(None)
        self._stream.cancel()

    def _requests(self) -> Iterator[tasks_pb2.ConverseRequest]:
        request = tasks_pb2.ConverseRequest(board=resource(self._board), lease_token=self._token)
        while (step := self._steps.get()) is not None:
            request.steps.append(step)
            while len(request.steps) < MOST_STEPS:  # what other threads have ready goes along
                try:
                    step = self._steps.get_nowait()
                except queue.Empty:
                    break
                if step is None:
                    return
                request.steps.append(step)
            yield request
            request = tasks_pb2.ConverseRequest()

    def _wait(self, waiting: Waiting) -> None:
        with self._changed:
            while self._reading and not (waiting.ended or waiting.items):
                self._changed.wait()
            if waiting.ended or waiting.items:
                return
            self._reading = True
        try:
            self._read()
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()

    def _read(self) -> None:
        try:
            response = next(self._stream)
        except StopIteration:
            self._fail(
                ConnectionLost(f"belayd at {self._link.address} ended the conversation; effects unknown")
            )
        except grpc.RpcError as error:
            self._fail(from_rpc_error(error, self._link.address))
        else:
            with self._changed:
                for event in response.events:
                    self._take(event)

    def _take(self, event: tasks_pb2.ConverseEvent) -> None:
        waiting = self._waiting.get(event.id)
        if waiting is None:
            return
        match event.WhichOneof("event"):
            case "output":
                waiting.output.append(event.output)
                return
            case "item":
                waiting.items.append(event.item)
                return
            case "result":
                waiting.result = event.result
            case _:
                error = event.error
                waiting.error = from_reason(error.reason, error.message, dict(error.fields))
        del self._waiting[event.id]

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            for waiting in self._waiting.values():
                waiting.error = error
            self._waiting.clear()


def _fill(
    call: tasks_pb2.FunctionCall, function: str, arguments: Sequence[object], keywords: Mapping[str, object]
) -> None:
    from belayd import wire  # Late: 28 ms that only calls and values need.

    call.function = function
    call.arguments.extend(wire.to_value(item, f"argument {n}") for n, item in enumerate(arguments, 1))
    for name, value in keywords.items():
        call.keywords[name].CopyFrom(wire.to_value(value, name))
