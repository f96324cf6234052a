"""How long to wait before the next attempt: longer each time, never in step with others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Backoff:
    """Waits between attempts: at once first, then doubling up to `limit` seconds.

    `jitter` returns a factor for each wait (say 0.8 to 1.2), so that boards that
    were lost together do not come back together.
    """

    def __init__(self, jitter: Callable[[], float], first: float = 0.1, limit: float = 10.0) -> None:
        self._jitter = jitter
        self._first = first
        self._limit = limit
        self._attempts = 0

    def reset(self) -> None:
        """Start anew: an attempt succeeded, or the world changed."""
        self._attempts = 0

    @property
    def retrying(self) -> bool:
        """Whether an attempt has failed since the last `reset`."""
        return self._attempts > 0

    async def wait(self, wake: asyncio.Event) -> None:
        """Wait for the next attempt or for `wake`, whichever is first."""
        pause = min(self._limit, self._first * 2**self._attempts) * self._jitter()
        self._attempts = min(self._attempts + 1, 20)
        try:
            async with asyncio.timeout(pause):
                await wake.wait()
        except TimeoutError:
            pass
