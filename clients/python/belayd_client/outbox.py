"""Steps of a conversation on their way into messages.

While steps are under way, what comes gathers for the next message, whichever thread
it comes from, so that many calls cost few messages. Whoever is in a hurry lets all
that is ready go. A step can be withdrawn until it goes.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from belayd.v1 import tasks_pb2

MOST_STEPS = 500
"""Steps in one message; the daemon takes 1000."""
MOST_BYTES = 1 << 20
"""Of steps in one message, unless one alone has more; the daemon takes 16 MiB."""


@dataclass(eq=False, slots=True)
class Posted:
    """A step that was posted: sent in a message, or withdrawn before that."""

    step: tasks_pb2.ConverseStep
    awaited: bool
    sent: bool = False
    withdrawn: bool = False


class Outbox:
    """An iterator of messages for gRPC's thread; filled from any other."""

    def __init__(self, first: tasks_pb2.ConverseRequest, *, most_open: int) -> None:
        """Make one without steps.

        Args:
            first: What the first message says besides its steps.
            most_open: Awaited steps from which on others wait for their answers; 1 lets a
                message go when all before it are answered.
        """
        self._request = first
        self._most_open = most_open
        self._posted: deque[Posted] = deque()
        self._open = 0
        self._hurry = False
        self._lock = threading.RLock()  # the same thread may come again: what is dropped cancels itself
        # A SimpleQueue wakes its reader in a third of the time that a Condition takes.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._closed = False

    def post(self, step: tasks_pb2.ConverseStep, *, hurry: bool = False, awaited: bool = True) -> Posted:
        """Append a step, `awaited` if others may wait for its end; `hurry` lets it go at once with all before."""
        posted = Posted(step, awaited)
        with self._lock:
            self._posted.append(posted)
            self._hurry |= hurry
            self._ring()
        return posted

    def withdraw(self, posted: Posted) -> bool:
        """Take a step back; return whether it was still here."""
        with self._lock:
            posted.withdrawn = not posted.sent
            return posted.withdrawn

    def ended(self, steps: Iterable[Posted]) -> None:
        """Note that nothing more will come of steps."""
        with self._lock:
            self._open -= sum(posted.sent and posted.awaited for posted in steps)
            self._ring()

    def close(self) -> None:
        """End the messages; what was not sent never is."""
        with self._lock:
            self._closed = True
            self._ring()

    def __iter__(self) -> Iterator[tasks_pb2.ConverseRequest]:
        while True:
            self._bell.get()
            with self._lock:
                self._rung = False
                if self._closed:
                    return
                request = self._next()
                self._ring()
            if request is not None:
                yield request

    @property
    def _ready(self) -> bool:
        """Whether there is something that may go."""
        # With two messages under way 16 threads call 5 % slower and maps no faster (simulated board).
        return bool(self._posted) and (self._hurry or self._open < self._most_open)

    def _ring(self) -> None:
        if not self._rung and (self._closed or self._ready):
            self._rung = True
            self._bell.put(None)

    def _next(self) -> tasks_pb2.ConverseRequest | None:
        """Return a message of what may go, as far as one may take it."""
        if not self._ready:
            return None
        steps: list[tasks_pb2.ConverseStep] = []
        size = 0
        # With 1 as the bound whole messages take turns.
        free = self._hurry or self._most_open == 1
        while self._posted and len(steps) < MOST_STEPS and (free or self._open < self._most_open):
            posted = self._posted[0]
            if not posted.withdrawn:
                size += posted.step.ByteSize()
                if steps and size > MOST_BYTES:
                    break
                posted.sent = True
                self._open += posted.awaited
                steps.append(posted.step)
            self._posted.popleft()
        self._hurry &= bool(self._posted)
        if not steps:
            return None
        request, self._request = self._request, tasks_pb2.ConverseRequest()
        request.steps.extend(steps)
        return request
