"""Events of one stream on their way to its client.

Whatever has happened when a message is written goes with it. A reader that stalls
makes whoever passes on something of size wait, and with it the board.
"""

from __future__ import annotations

import asyncio
from collections import deque

from belayd.v1 import tasks_pb2

MOST_UNREAD_BYTES = 256 * 1024
"""Events that wait to be written; one more may be of any size."""
MOST_UNREAD_EVENTS = 20_000
"""Of whatever size; beyond it the client is not read until it reads."""
MOST_MESSAGE_BYTES = 1 << 20
"""Of events in one message, unless one alone has more; clients take 16 MiB."""


class Answers:
    """What is to be told, in order."""

    def __init__(self) -> None:
        self._events: deque[tuple[tasks_pb2.ConverseEvent, int]] = deque()
        self._unread_bytes = 0
        self._abandoned = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._slack = asyncio.Event()
        self._slack.set()

    def __bool__(self) -> bool:
        return bool(self._events)

    def tell(self, event: tasks_pb2.ConverseEvent, size: int = 0) -> None:
        """Append an event of `size` bytes without waiting."""
        self._events.append((event, size))
        self._unread_bytes += size
        if self._unread_bytes > MOST_UNREAD_BYTES and not self._abandoned:
            self._room.clear()
        if len(self._events) > MOST_UNREAD_EVENTS and not self._abandoned:
            self._slack.clear()
        self._news.set()

    async def pass_on(self, event: tasks_pb2.ConverseEvent) -> None:
        """Append an event, and then wait while too much is unread; cancellation loses no event."""
        self.tell(event, event.ByteSize())
        if not self._room.is_set():
            await self._room.wait()

    async def slack(self) -> None:
        """Wait while too many events are unread for the client to be asked for more."""
        await self._slack.wait()

    def wake(self) -> None:
        """Let `next` return, even without events."""
        self._news.set()

    def abandon(self) -> None:
        """Let nobody wait any more: the reader has left."""
        self._abandoned = True
        self._room.set()
        self._slack.set()

    async def next(self) -> tasks_pb2.ConverseResponse | None:
        """Wait for news; return a message of what may go in one, None without events."""
        await self._news.wait()
        events: list[tasks_pb2.ConverseEvent] = []
        size = 0
        while self._events and (not events or size + self._events[0][1] <= MOST_MESSAGE_BYTES):
            event, event_bytes = self._events.popleft()
            events.append(event)
            size += event_bytes
        self._unread_bytes -= size
        if self._unread_bytes <= MOST_UNREAD_BYTES:
            self._room.set()
        if len(self._events) <= MOST_UNREAD_EVENTS:
            self._slack.set()
        if not self._events:
            self._news.clear()
        return tasks_pb2.ConverseResponse(events=events) if events else None
