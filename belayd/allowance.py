"""How often each principal may do what is dear, in any hour."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from belayd.errors import QuotaExceeded

HOUR = 3600.0
MOST_PRINCIPALS = 10_000
"""Remembered at once; beyond it the one that was seen longest ago starts anew."""


class Allowance:
    """So many of one thing an hour, for each principal apart.

    Each has a store that fills evenly and is full at first; counting one by one
    would keep a time for each.
    """

    def __init__(self, what: str, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` is the plural, for the message."""
        self._what = what
        self._most = most
        self._clock = clock
        self._stores: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, principal: str) -> None:
        """Count one.

        Raises:
            QuotaExceeded: The principal has had all it may have; `retry_after` says for how many seconds.
        """
        now = self._clock()
        left, since = self._stores.get(principal, (float(self._most), now))
        left = min(self._most, left + (now - since) * self._most / HOUR)
        if left < 1:
            wait = (1 - left) * HOUR / self._most
            raise QuotaExceeded(
                f"{principal!r} has had {self._most} {self._what} within an hour; the next is free in {wait:.0f} s",
                limit=self._most,
                retry_after=round(wait, 1),
            )
        self._stores[principal] = (left - 1, now)
        self._stores.move_to_end(principal)
        if len(self._stores) > MOST_PRINCIPALS:
            self._stores.popitem(last=False)
