"""Calls on one board over one stream, for programs that call often.

A call costs one message each way, half of what an RPC of its own does; calls that
are ready at the same time share messages. Of the threads that wait for an answer
one reads, and hands the others theirs; a thread for reading begins with the first
call that nobody may be waiting for, a future's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import grpc

from belayd.v1 import tasks_pb2, tasks_pb2_grpc, values_pb2
from belayd_client.board import resource
from belayd_client.errors import ConnectionLost
from belayd_client.iteration import Items
from belayd_client.link import Link
from belayd_client.outbox import Outbox, Posted
from belayd_client.results import value_of
from belayd_client.status import from_reason, from_rpc_error
from belayd_client.times import to_duration

Output = Callable[[bytes], object]

MOST_PLACES = 64
"""In the board's queue: without a lease each call takes one, before those of others."""
MOST_OUTPUT_BYTES = 1 << 20
"""Kept of what a call prints until it ends or yields: the first; a board can print without end."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Waiting:
    """A call under way: what it printed, what it yielded, and how it ended once it has.

    `on_end` is called then, by whichever thread reads.
    """

    on_end: Callable[[Waiting], None] | None = None
    output: list[bytes] = field(default_factory=list)
    output_bytes: int = 0
    items: deque[values_pb2.Value] = field(default_factory=deque)
    result: tasks_pb2.TaskResult | None = None
    error: Exception | None = None
    posted: Posted | None = None
    bell: threading.Lock | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.result is not None or self.error is not None

    @property
    def news(self) -> bool:
        """Whether there is something to take."""
        return bool(self.items) or self.ended

    def keep(self, printed: bytes) -> None:
        """Take what it printed, as far as there is room."""
        if room := max(0, MOST_OUTPUT_BYTES - self.output_bytes):
            self.output.append(printed[:room])
        self.output_bytes += len(printed)


class Conversation:
    """One stream to one board; safe to use from several threads. Opened by the first call."""

    def __init__(self, link: Link, board: str, token: str) -> None:
        self._link = link
        first = tasks_pb2.ConverseRequest(board=resource(board), lease_token=token)
        self._outbox = Outbox(first, most_open=1 if token else MOST_PLACES)
        self._lock = threading.RLock()  # the same thread may come again: what is dropped cancels itself
        self._waiting: dict[int, Waiting] = {}
        self._number = 0
        self._reader: int | None = None  # the thread that reads
        self._sleeping: dict[Waiting, None] = {}  # their threads sleep until they have news or must read
        self._attendant: Waiting | None = None  # of the thread that reads for futures
        self._failure: Exception | None = None
        self._stream = link.stub(tasks_pb2_grpc.TaskServiceStub).Converse(
            iter(self._outbox), metadata=link.metadata
        )

    @property
    def broken(self) -> bool:
        """Whether the stream has ended; a new conversation is needed then."""
        # A stream that ends while nobody reads (a Ctrl-C dropped its channel, the daemon
        # restarted) has told nobody yet.
        return self._failure is not None or not self._stream.is_active()

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return not self._waiting

    @property
    def reading(self) -> bool:
        """Whether this very thread hands out what comes, so that nothing comes while it waits."""
        return self._reader == threading.get_ident()

    def call(
        self,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        timeout: float | None,
        output: Output | None,
    ) -> object:
        """Return what a function on the board returns; what it prints comes to `output` at the end."""
        waiting = self.send(call_step(function, arguments, keywords, timeout))
        self.wait(waiting)
        return self.settle(waiting, output)

    def submit(self, step: tasks_pb2.ConverseStep, output: Output | None) -> Future[object]:
        """Send a step and return its future, which ends without anybody waiting for it.

        Cancelling it withdraws a step that is still here. Of one that has left the
        daemon is asked to: what happened is then the future's end.
        """
        future = StepFuture(self)

        def end(waiting: Waiting) -> None:
            try:
                value = self.settle(waiting, output)
            except BaseException as error:  # also what `output` raises: it is nobody's but the caller's
                future.set_exception(error)
            else:
                future.set_result(value)

        future.waiting = self.send(step, end)
        if self._attendant is None:
            self._begin_to_attend()
        return future

    def iterate(
        self,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        window: int,
        output: Output | None,
    ) -> Items:
        """Return a generator over what a function on the board yields."""
        step = tasks_pb2.ConverseStep()
        _fill(step.iterate.call, function, arguments, keywords)
        return Items(self, step, window, output)

    def send(self, step: tasks_pb2.ConverseStep, on_end: Callable[[Waiting], None] | None = None) -> Waiting:
        """Send a step, numbered here, and return what to wait for."""
        waiting = Waiting(on_end)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._number += 1
            step.id = self._number
            self._waiting[step.id] = waiting
            # A time limit counts from when the daemon has the step; it goes to the board by itself anyway.
            # An iteration may go on for ever while others have their turn.
            waiting.posted = self._outbox.post(
                step, hurry=step.HasField("timeout"), awaited=not step.HasField("iterate")
            )
        return waiting

    def await_news(self, waiting: Waiting) -> None:
        """As `wait`; what a Ctrl-C leaves of the link serves no later call."""
        with self._link.calling():
            self.wait(waiting)

    def order(self, step: tasks_pb2.ConverseStep) -> None:
        """Send an order to a step that is under way."""
        self._outbox.post(step, hurry=True, awaited=False)

    def cancel(self, waiting: Waiting) -> bool:
        """Withdraw a call; return whether it will never run. If not, the daemon was asked to cancel it."""
        posted = waiting.posted
        if posted is None or waiting.ended:
            return False
        with self._lock:  # else the stream might end it at the same time
            if self._outbox.withdraw(posted):
                return self._waiting.pop(posted.step.id, None) is not None
        self.order(tasks_pb2.ConverseStep(id=posted.step.id, cancel=tasks_pb2.CancelStep()))
        return False

    def wait(self, waiting: Waiting) -> None:
        """Wait until a call has news: an item, or its end.

        Whoever leaves early, by Ctrl-C say, ends the stream and interrupts the board.
        """
        try:
            while not waiting.news:
                if self.reading:  # a callback of a future waits
                    self._read()
                elif self._may_read(waiting):
                    try:
                        while not waiting.news:
                            self._read()
                    finally:
                        self._hand_over()
        except BaseException:
            self.close()
            raise

    def pass_on(self, waiting: Waiting, output: Output | None) -> None:
        """Give `output` at once what was printed since the last time."""
        if waiting.output:
            printed, waiting.output = waiting.output, []
            dropped, waiting.output_bytes = waiting.output_bytes - MOST_OUTPUT_BYTES, 0
            if dropped > 0:
                logger.warning("a call printed %d more bytes than are kept; use run for long output", dropped)
            if output:
                output(b"".join(printed))

    def settle(self, waiting: Waiting, output: Output | None) -> object:
        """Return the value of a call that has ended, or raise what it ended with."""
        self.pass_on(waiting, output)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.result is not None
        return value_of(waiting.result)

    def close(self) -> None:
        """End the stream; calls under way end as cancelled, and the daemon interrupts the board."""
        self._outbox.close()
        self._stream.cancel()

    def _may_read(self, waiting: Waiting) -> bool:
        """Become the thread that reads; or sleep until there is news or nobody reads, and return False."""
        with self._lock:
            if waiting.news:
                return False
            if self._reader is None:
                self._reader = threading.get_ident()
                return True
            bell = waiting.bell = threading.Lock()
            bell.acquire()
            self._sleeping[waiting] = None
        bell.acquire()
        return False

    def _hand_over(self) -> None:
        with self._lock:
            self._reader = None
            if self._attendant in self._sleeping:
                self._wake(self._attendant)
            elif self._sleeping:
                self._wake(next(iter(self._sleeping)))

    def _wake(self, waiting: Waiting) -> None:
        if waiting.bell is not None:
            del self._sleeping[waiting]
            waiting.bell.release()
            waiting.bell = None

    def _begin_to_attend(self) -> None:
        with self._lock:
            if self._attendant is not None:
                return
            self._attendant = Waiting()
            # A daemon thread: a program that never closes its client ends all the same.
            threading.Thread(target=self._attend, args=(self._attendant,), name="belayd", daemon=True).start()

    def _attend(self, waiting: Waiting) -> None:
        """Read from when nobody else does to the stream's end."""
        while not (waiting.ended or self._may_read(waiting)):
            pass
        while self._failure is None:
            self._read()

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
            self._take(response.events)

    def _take(self, events: Iterable[tasks_pb2.ConverseEvent]) -> None:
        ended: list[Waiting] = []
        with self._lock:
            for event in events:
                waiting = self._waiting.get(event.id)
                if waiting is None:
                    continue
                match event.WhichOneof("event"):
                    case "output":
                        waiting.keep(event.output)
                        continue
                    case "item":
                        waiting.items.append(event.item)
                    case "result":
                        waiting.result = event.result
                    case _:
                        error = event.error
                        waiting.error = from_reason(error.reason, error.message, dict(error.fields))
                if waiting.ended:
                    self._waiting.pop(event.id, None)
                    ended.append(waiting)
                self._wake(waiting)
        self._outbox.ended(waiting.posted for waiting in ended if waiting.posted)
        _tell(ended)

    def _fail(self, error: Exception) -> None:
        self._outbox.close()
        with self._lock:
            self._failure = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
            for each in (*waiting, *self._sleeping):
                each.error = error
            for each in list(self._sleeping):
                self._wake(each)
        _tell(waiting)


class StepFuture(Future[object]):
    """The future of a call; always about to run, since nobody knows better before it ended."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self.waiting: Waiting | None = None
        self._conversation = conversation

    def cancel(self) -> bool:
        """Cancel the call if it has not been sent; else ask the daemon to, and return False."""
        waiting = self.waiting
        if waiting is None or self.cancelled():
            return self.cancelled()
        return self._conversation.cancel(waiting) and super().cancel()

    def result(self, timeout: float | None = None) -> object:
        """Wait for the value, or raise what it ended with; as of any Future."""
        self._read_on(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for what it raised, None if it did not; as of any Future."""
        self._read_on(timeout)
        return super().exception(timeout)

    def _read_on(self, timeout: float | None) -> None:
        """Where another future's callback waits for this one, nobody else reads what would end it."""
        waiting = self.waiting
        if timeout is None and waiting is not None and self._conversation.reading and not self.done():
            self._conversation.wait(waiting)
            _tell([waiting])


def _tell(ended: Iterable[Waiting]) -> None:
    for waiting in ended:
        on_end, waiting.on_end = waiting.on_end, None
        if on_end is not None:
            on_end(waiting)


def call_step(
    function: str, arguments: Sequence[object], keywords: Mapping[str, object], timeout: float | None
) -> tasks_pb2.ConverseStep:
    """Return the step that calls a function; raises TypeError where an argument has no typed form."""
    step = tasks_pb2.ConverseStep(timeout=to_duration(timeout))
    _fill(step.call, function, arguments, keywords)
    return step


def _fill(
    call: tasks_pb2.FunctionCall, function: str, arguments: Sequence[object], keywords: Mapping[str, object]
) -> None:
    from belayd import wire  # Late: 28 ms that only calls and values need.

    call.function = function
    call.arguments.extend(wire.to_value(item, f"argument {n}") for n, item in enumerate(arguments, 1))
    for name, value in keywords.items():
        call.keywords[name].CopyFrom(wire.to_value(value, name))
