"""The clock that counts seconds and starts timers; passed in, so that tests have their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """What `Clock.call_at` returns."""

    def cancel(self) -> None:
        """Call nobody; does nothing afterwards."""


class Clock(Protocol):
    """Seconds, times of day, and timers."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def wall(self) -> datetime:
        """Return the time of day, aware, in UTC; it may jump."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once `monotonic` has reached `when`."""


class LoopClock:
    """The clock of the running event loop and the host's time of day."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall(self) -> datetime:
        """Return the host's time of day."""
        return datetime.now(UTC)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop."""
        return self._loop.call_at(when, callback)
