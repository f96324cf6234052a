"""The last things that happened, and those who watch for the next.

Each watcher has a bounded backlog of its own: one that reads too slowly loses the
oldest and is told how many. What happens with every call (its end, and the board's
turns between READY and BUSY) is for those who ask for it alone, and not kept: it
would push out everything else, and cost each call something.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from belayd.events import BoardChanged, Event, LeaseQueueChanged, OperationEnded
from belayd.snapshot import BoardState

MOST_KEPT = 1000
"""Events; some 300 KB."""
MOST_BEHIND = 1000
"""Events that each watcher may be behind."""

_AT_WORK = (BoardState.READY, BoardState.BUSY)


@dataclass(frozen=True, slots=True)
class Happening:
    """An event and its time."""

    at: datetime
    event: Event


class Watcher:
    """One who watches; made by `Chronicle.watch`."""

    def __init__(self, board: str, operations: bool, leave: Callable[[Watcher], None]) -> None:
        self.operations = operations
        self._board = board
        self._leave = leave
        self._backlog: deque[Happening] = deque()
        self._dropped = 0
        self._news = asyncio.Event()

    async def read(self) -> tuple[list[Happening], int]:
        """Wait for something to happen; return it, and how many were lost before it."""
        await self._news.wait()
        self._news.clear()
        happenings, dropped = list(self._backlog), self._dropped
        self._backlog.clear()
        self._dropped = 0
        return happenings, dropped

    def tell(self, happening: Happening) -> None:
        """Keep what happened for the next `read`."""
        if self._board and happening.event.board != self._board:
            return
        if len(self._backlog) >= MOST_BEHIND:
            self._backlog.popleft()
            self._dropped += 1
        self._backlog.append(happening)
        self._news.set()

    def close(self) -> None:
        """Watch no more; idempotent."""
        self._leave(self)


class Chronicle:
    """What happened on one daemon."""

    def __init__(self, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._wall = wall
        self._kept: deque[Happening] = deque(maxlen=MOST_KEPT)
        self._watchers: list[Watcher] = []
        self._curious = 0

    def recent(self, board: str = "") -> list[Happening]:
        """Return what happened last, oldest first; to one board, or "" to any."""
        return [kept for kept in self._kept if not board or kept.event.board == board]

    def watch(self, board: str = "", *, operations: bool = False) -> Watcher:
        """Watch one board, or "" all, from now on until the watcher is closed.

        Args:
            operations: Whether what happens with every call is wanted too.
        """
        watcher = Watcher(board, operations, self._part)
        self._watchers.append(watcher)
        self._curious += operations
        return watcher

    def hear(self, event: Event) -> None:
        """Keep an event, and tell who watches."""
        match event:
            case BoardChanged(_, previous, state):
                if previous is state:
                    return
                routine = previous in _AT_WORK and state in _AT_WORK
            case OperationEnded():
                routine = True
            case LeaseQueueChanged():
                return
            case _:
                routine = False
        if routine and not self._curious:
            return
        happening = Happening(self._wall(), event)
        if not routine:
            self._kept.append(happening)
        for watcher in self._watchers:
            if watcher.operations or not routine:
                watcher.tell(happening)

    def _part(self, watcher: Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._curious -= watcher.operations
