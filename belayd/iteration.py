"""What a caller allows of an iteration: items in advance, a value to send, or its end.

The board reads its next order only when it has pushed all items it was allowed;
`take` is asked then, and not before.
"""

from __future__ import annotations

import asyncio
from collections import deque

from belayd.errors import RequestInvalid

MOST_PUSHED = 64
"""Items allowed to the board at once, so that a close or a send waits for no more than these."""
MOST_CREDIT = 100_000


class Orders:
    """A caller's orders to one iteration, in their order."""

    def __init__(self, credit: int) -> None:
        self._credit = 0
        self._sends: deque[str] = deque()
        self._closed = False
        self._news = asyncio.Event()
        self.grant(credit)

    def grant(self, credit: int) -> None:
        """Allow so many more items.

        Raises:
            RequestInvalid: Too many in all.
        """
        if self._credit + credit > MOST_CREDIT:
            raise RequestInvalid(f"credit: at most {MOST_CREDIT} items in advance", field="credit")
        self._credit += credit
        self._news.set()

    def send(self, literal: str) -> None:
        """Send a value, rendered as a literal, into the generator; its next item is allowed."""
        self._sends.append(literal)
        self._news.set()

    def close(self) -> None:
        """Close the generator once the items allowed so far have come."""
        self._closed = True
        self._news.set()

    async def take(self) -> tuple[str, str, int]:
        """Wait for an order; return its letter and body for onboard/loop.py, and the items it allows."""
        while True:
            if self._sends:
                return "s", self._sends.popleft(), 1
            if self._closed:
                return "z", "", 0
            if self._credit:
                items = min(self._credit, MOST_PUSHED)
                self._credit -= items
                return "c", f"{items:x}", items
            self._news.clear()
            await self._news.wait()
