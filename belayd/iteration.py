"""What a caller allows of an iteration: items in advance, a value to send, or its end.

The board takes an order when it has pushed all items of the one before. When there is
none it waits, and does other work meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from belayd.errors import RequestInvalid

MOST_PUSHED = 64
"""Items allowed to the board at once, so that a close waits for no more than these."""
MOST_CREDIT = 100_000
MOST_SENDS = 1000
MOST_SENT_BYTES = 1 << 20
"""Of values that wait to be sent; one alone may have more."""


class IterationLost(Exception):
    """The board knows nothing of an iteration that had begun: a restart, or somebody, took it away."""


@dataclass(frozen=True, slots=True)
class IterationOrder:
    """What the board is told next: a letter and a body for onboard/loop.py, and the items it allows."""

    letter: Literal["c", "s", "z"]
    body: str
    items: int


class Orders:
    """A caller's orders to one iteration, in their order.

    Attributes:
        name: The iteration's on the board, from when it may have begun there; None before.
    """

    def __init__(self, credit: int) -> None:
        self.name: str | None = None
        self._waiting: deque[int | str] = deque()  # items, or a value to send
        self._credit = 0
        self._sent_bytes = 0
        self._closed = False
        self.grant(credit)

    def __bool__(self) -> bool:
        return self._closed or bool(self._waiting)

    def grant(self, credit: int) -> None:
        """Allow so many more items.

        Raises:
            RequestInvalid: Too many in all.
        """
        if self._credit + credit > MOST_CREDIT:
            raise RequestInvalid(f"credit: at most {MOST_CREDIT} items in advance", field="credit")
        if self._closed:
            return
        self._credit += credit
        if self._waiting and isinstance(self._waiting[-1], int):
            self._waiting[-1] += credit
        elif credit:
            self._waiting.append(credit)

    def send(self, literal: str) -> None:
        """Send a value, rendered as a literal, into the generator; its next item is allowed.

        Raises:
            RequestInvalid: Nothing was allowed before, or too much waits to be sent.
        """
        if self._closed:
            return
        if self.name is None and not self._waiting:
            raise RequestInvalid("send: the generator has not begun; allow an item first", field="send")
        full = len(self._waiting) >= MOST_SENDS or self._sent_bytes + len(literal) > MOST_SENT_BYTES
        if full and self._sent_bytes:
            raise RequestInvalid("send: too much waits to be sent; take items first", field="send")
        self._waiting.append(literal)
        self._sent_bytes += len(literal)

    def close(self, *, at_once: bool = False) -> None:
        """Close the generator, once the values that wait were sent unless `at_once`; allow nothing more."""
        self._closed = True
        while self._waiting and (at_once or isinstance(self._waiting[-1], int)):
            self._waiting.pop()

    def take(self) -> IterationOrder | None:
        """Return the next order, None while there is none."""
        if not self._waiting:
            return IterationOrder("z", "", 0) if self._closed else None
        order = self._waiting.popleft()
        if isinstance(order, str):
            self._sent_bytes -= len(order)
            return IterationOrder("s", order, 1)
        items = min(order, MOST_PUSHED)
        if order > items:
            self._waiting.appendleft(order - items)
        self._credit -= items
        return IterationOrder("c", f"{items:x}", items)

    def put_back(self, order: IterationOrder) -> None:
        """Undo the `take` of an order that did not reach the board."""
        if order.letter == "s":
            self._waiting.appendleft(order.body)
            self._sent_bytes += len(order.body)
        elif order.letter == "c":
            self._waiting.appendleft(order.items)
            self._credit += order.items
