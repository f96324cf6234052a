"""How fast a line carries bytes: at once, or at a baud rate.

A slow line never waits; it says how much may pass by now, and when there is more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

_BITS = 10  # of a byte on the line, with start and stop bit
_FIFO_BYTES = 16  # what a UART passes at once
_UNLIMITED = 1 << 30


class Pace(Protocol):
    """One direction of a line."""

    def allowed(self) -> int:
        """Return how many bytes may pass now."""

    def passed(self, count: int) -> None:
        """Note that so many have passed."""

    def wait(self) -> float:
        """Return after how many seconds it is worth to look again."""


class Unpaced:
    """A line as fast as its reader."""

    def allowed(self) -> int:
        """Return more than anybody has."""
        return _UNLIMITED

    def passed(self, count: int) -> None:
        """Forget it."""

    def wait(self) -> float:
        """Return 0."""
        return 0.0


class BaudPace:
    """A serial line: so many bits a second, and a FIFO's worth of bytes at once."""

    __slots__ = ("_burst", "_clock", "_free_at", "_seconds")

    def __init__(self, baudrate: int, clock: Callable[[], float]) -> None:
        self._seconds = _BITS / baudrate
        self._burst = _FIFO_BYTES * self._seconds
        self._clock = clock
        self._free_at = clock()  # when all that passed is through

    def allowed(self) -> int:
        """Return how many bytes fit into the FIFO now."""
        behind = max(0.0, self._free_at - self._clock())
        return max(0, int((self._burst - behind) / self._seconds + 1e-6))

    def passed(self, count: int) -> None:
        """Put so many bytes into the FIFO."""
        self._free_at = max(self._free_at, self._clock()) + count * self._seconds

    def wait(self) -> float:
        """Return when half the FIFO is free."""
        return max(0.0, self._free_at - self._clock() - self._burst / 2)
