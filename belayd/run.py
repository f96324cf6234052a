"""One job's life as its caller sees it: queued, running, ended.

The board's task starts and ends a run; a caller waits for it, reads its output
and may stop it. Both are on one loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from belayd.errors import BelaydError
from belayd.events import OperationEnded
from belayd.outcome import Raised
from belayd.session import Emit, Session

T = TypeVar("T")

Job = Callable[[Session, Emit], Awaitable[T]]
"""What a board's queue runs: uses the session until it returns, passes output to emit."""


OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "RUN_TIMEOUT": "timeout",
        "RUN_CANCELLED": "cancelled",
        "LEASE_EXPIRED": "cancelled",
        "LEASE_BROKEN": "cancelled",
        "TRANSPORT_LOST": "transport_error",
        "BOARD_UNRESPONSIVE": "transport_error",
    }
)
"""The metrics' outcomes by error reason; whatever else was refused before it ran."""


class RunState(enum.Enum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a board.

    Attributes:
        operation: run, call, deploy, reset: the metrics' label.
        fence: Of the lease it is asked under; None without one.
        timeout: Seconds for queueing and running; None for no limit.
        emit: Gets the output; the board waits for it.
        held_bytes: What is kept of it in memory while it is queued.
        steps: Operations that it is, for the metrics: a conversation's steps share a job.
        earlier: Seconds that the jobs before, of which it is the continuation, were queued and ran.
        raw: Whether the job takes the board as it is, its own program running perhaps.
    """

    operation: str
    fence: int | None
    timeout: float | None
    emit: Emit
    held_bytes: int = 0
    raw: bool = False
    steps: int = 1
    earlier: tuple[float, float] = (0.0, 0.0)


class Run(Generic[T]):
    """One job in one board's queue.

    Attributes:
        queued, ran: Seconds spent so; final once ENDED.
        counted: Steps that ended by themselves, by the metrics' outcome and reason.
        continued: Whether another job goes on with what this one began, and will count for both.
        outcome: Done when the run has ended, whichever way; a caller awaits it.
    """

    def __init__(self, order: Order, job: Job[T], now: float) -> None:
        self.order = order
        self.job = job
        self.state = RunState.QUEUED
        self.outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.deadline = None if order.timeout is None else now + order.timeout
        self.cause: BelaydError | None = None
        self.queued = 0.0
        self.ran = 0.0
        self.counted: Counter[tuple[str, str]] = Counter()
        self.continued = False
        self._entered = now
        self._started = now
        self._stop: Callable[[], None] | None = None
        self._watchers: list[Callable[[], None]] = []

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when the run starts and when it ends."""
        self._watchers.append(watcher)

    def stop(self, cause: BelaydError) -> None:
        """End the run with `cause`: at once while queued, by interrupting the board while running.

        Returns immediately; after the end it does nothing.
        """
        if self.state is RunState.ENDED or self.cause is not None:
            return
        self.cause = cause
        if self._stop is not None:
            self._stop()

    def count(self, outcome: str, reason: str = "") -> None:
        """Note how one of the job's steps ended, for the metrics; the job's own end counts for the others."""
        self.counted[outcome, reason] += 1

    # The board's side

    def queue(self, withdraw: Callable[[], None]) -> None:
        """Say how a queued run is taken out of its queue."""
        self._stop = withdraw

    def start(self, now: float, interrupt: Callable[[], None]) -> None:
        """Say that the job begins, and how to interrupt it."""
        self.state = RunState.RUNNING
        self.queued = now - self._entered
        self._started = now
        self._stop = interrupt
        self._tell()

    def end(self, now: float, result: T | BelaydError) -> None:
        """Settle the outcome."""
        if self.state is RunState.QUEUED:
            self.queued = now - self._entered
        else:
            self.ran = now - self._started
        self.state = RunState.ENDED
        self._stop = None
        if not self.outcome.done():
            if isinstance(result, BelaydError):
                self.outcome.set_exception(result)
                self.outcome.exception()  # a caller that left does not come for it
            else:
                self.outcome.set_result(result)
        self._tell()

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()


def ended(board: str, run: Run[T], result: object) -> OperationEnded:
    """Return the event that tells how a run ended: `result` is what it settled with."""
    reason = result.reason if isinstance(result, BelaydError) else ""
    outcome = OUTCOMES.get(reason, "rejected") if reason else "ok"
    if isinstance(result, Raised):
        outcome = "board_error"
    others = tuple((*how, count) for how, count in run.counted.items())
    rest = run.order.steps - run.counted.total()
    if run.counted and not reason:  # what the job left undone
        outcome, reason = "cancelled", "RUN_CANCELLED"
    queued, ran = (before + now for before, now in zip(run.order.earlier, (run.queued, run.ran), strict=True))
    if run.continued and not reason:
        queued = ran = rest = 0
    return OperationEnded(board, run.order.operation, outcome, reason, queued, ran, rest, others)


class Feed:
    """A run's output on its way to one reader, at most `limit` bytes of it.

    The writer, and with it the board, waits while it is full: a reader that
    stalls costs a fixed amount of memory.
    """

    def __init__(self, limit: int = 256 * 1024) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._closed = False
        self._room = asyncio.Event()
        self._room.set()
        self._changed = asyncio.Event()

    async def write(self, data: bytes) -> None:
        """Append `data`, waiting for room; after `close` it is dropped."""
        await self._room.wait()
        if self._closed:
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= self._limit:
            self._room.clear()
        self._changed.set()

    def wake(self) -> None:
        """Let `changed` return."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait until something was written or `wake` was called since the last time."""
        await self._changed.wait()
        self._changed.clear()

    def take(self) -> bytes:
        """Return everything written so far, and make room."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._room.set()
        return data

    def close(self) -> None:
        """Drop what is there and what will be written: the reader has left."""
        self._closed = True
        self.take()


class Transcript:
    """A run's output kept for a caller that reads it at the end: the first `limit` bytes."""

    def __init__(self, limit: int = 64 * 1024) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.dropped_bytes = 0

    async def write(self, data: bytes) -> None:
        """Keep what there is room for and count the rest."""
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.dropped_bytes += max(0, len(data) - room)

    @property
    def kept(self) -> bytes:
        """What was kept."""
        return bytes(self._kept)
