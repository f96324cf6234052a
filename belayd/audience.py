"""Who watches a board's console: each observer with a backlog of its own, bounded.

Showing never waits: an observer that reads too slowly loses the oldest bytes and is
told how many. Recording is another matter, and other rooms'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from belayd.errors import BelaydError, QuotaExceeded

Emit = Callable[[bytes], Awaitable[None]]

MOST_OBSERVERS = 32
BACKLOG_BYTES = 64 * 1024
"""What each observer may be behind."""


class Observer:
    """One who watches; made by `Audience.join`."""

    def __init__(self, name: str, leave: Callable[[Observer], None]) -> None:
        self.name = name
        self._leave = leave
        self._backlog = bytearray()
        self._dropped_bytes = 0
        self._over: BelaydError | None = None
        self._news = asyncio.Event()

    async def read(self) -> tuple[bytes, int]:
        """Wait for output; return it, and how many bytes were lost before it.

        Raises what the board was ended with, after its last output.
        """
        await self._news.wait()
        if self._over is None:
            self._news.clear()
        elif not self._backlog:
            raise self._over
        data, self._backlog = bytes(self._backlog), bytearray()
        dropped, self._dropped_bytes = self._dropped_bytes, 0
        return data, dropped

    def show(self, data: bytes) -> None:
        """Keep `data` for the next `read`."""
        self._backlog += data
        excess = len(self._backlog) - BACKLOG_BYTES
        if excess > 0:
            del self._backlog[:excess]
            self._dropped_bytes += excess
        self._news.set()

    def end(self, why: BelaydError) -> None:
        """Say that nothing comes any more."""
        self._over = why
        self._news.set()

    def close(self) -> None:
        """Watch no more; idempotent."""
        self._leave(self)


class Audience:
    """The observers of one board."""

    def __init__(self, board: str) -> None:
        self._board = board
        self._observers: list[Observer] = []
        self._over: BelaydError | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Who watches, for the board's holder to see."""
        return tuple(observer.name for observer in self._observers)

    def join(self, name: str) -> Observer:
        """Watch from now on, as `name`, until the observer is closed.

        Raises:
            QuotaExceeded: Too many watch already.
            BelaydError: What the board was ended with.
        """
        if self._over is not None:
            raise self._over
        if len(self._observers) >= MOST_OBSERVERS:
            raise QuotaExceeded(
                f"{MOST_OBSERVERS} already watch board {self._board!r}; one of them must leave first",
                board=self._board,
            )
        observer = Observer(name, self._part)
        self._observers.append(observer)
        return observer

    def show(self, data: bytes) -> None:
        """Show what the board printed to everybody who watches."""
        for observer in self._observers:
            observer.show(data)

    def end(self, why: BelaydError) -> None:
        """Say to everybody who watches, and who would, that the board prints no more."""
        self._over = why
        for observer in self._observers:
            observer.end(why)

    def beside(self, emit: Emit) -> Emit:
        """Return `emit` that shows what it is given here as well."""

        async def show(data: bytes) -> None:
            self.show(data)
            await emit(data)

        return show

    def _part(self, observer: Observer) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
