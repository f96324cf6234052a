"""Failed attempts to come in, by the address they come from: how long each is made to wait.

The first few of an address are answered at once, later ones slower and slower,
and the address is forgiven with time. Whoever shows what counts is never held up,
not even behind the same address: tokens are of 256 random bits, so waiting serves
to keep clients in a loop cheap, not to keep guesses rare. Clock passed in; bounded
in memory, in how many wait at once, and in how long.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

FREE = 5
"""Failures of an address that are answered at once."""
FORGIVEN_EVERY = 10.0
"""Seconds in which one failure of an address is forgotten."""
FIRST_DELAY = 0.1
LONGEST_DELAY = 2.0
MOST_ADDRESSES = 1024
MOST_WAITING = 256
MOST_WAITING_EACH = 32
"""Attempts that wait at once; one more is answered at once, which costs less than its waiting."""


class Attempts:
    """What is remembered of who failed."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level, and when it was so
        self._waiting: Counter[str] = Counter()

    def failed(self, address: str, now: float) -> float:
        """Note a failure; return the seconds after which it may be answered."""
        level, since = self._failures.pop(address, (0.0, now))
        level = max(0.0, level - (now - since) / FORGIVEN_EVERY) + 1
        self._failures[address] = (level, now)
        while len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)
        over = int(level) - FREE
        if over <= 0 or self._waiting.total() >= MOST_WAITING or self._waiting[address] >= MOST_WAITING_EACH:
            return 0.0
        return float(min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(over - 1, 16)))

    @contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """Count one that waits meanwhile."""
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    @property
    def remembered(self) -> int:
        """How many addresses are kept in memory."""
        return len(self._failures)


def origin(host: str) -> str:
    """Return what failures of an IP address are counted by: itself, or its /64, which one IPv6 host has."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
