"""The daemon before an upgrade: no new leases, no new work without one; what lives goes on.

It ends with the process: the daemon that comes after takes everything again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from belayd.fleet import Fleet
from belayd.leasing import Leasing
from belayd.snapshot import BoardState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drained:
    """Who let the daemon drain, why, and since when."""

    by: str
    why: str
    since: datetime


class Drain:
    """Whether one daemon drains; it does not at first.

    Attributes:
        since: By whom and since when; None while it does not.
    """

    def __init__(
        self, fleet: Fleet, leasing: Leasing, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.since: Drained | None = None
        self._fleet = fleet
        self._leasing = leasing
        self._now = now
        self._tell: Callable[[bool], Awaitable[None]] = _nobody

    @property
    def on(self) -> bool:
        """Whether the daemon drains."""
        return self.since is not None

    @property
    def leases(self) -> int:
        """How many leases live."""
        return len(self._leasing.list())

    @property
    def working(self) -> int:
        """How many boards have work, or are being cleaned after a lease."""
        busy = (BoardState.BUSY, BoardState.RECOVERING)
        return sum(board.state in busy or board.queue_length > 0 for board in self._fleet.snapshots())

    def tell(self, listener: Callable[[bool], Awaitable[None]]) -> None:
        """Tell `listener` whether the daemon takes new work, each time that changes."""
        self._tell = listener

    async def begin(self, by: str, why: str) -> None:
        """Take nothing new; who waits for a lease is told so. Does nothing if that is so already."""
        if self.since is None:
            log.info("draining, by %s: %s", by, why)
            self.since = Drained(by, why, self._now())
            self._fleet.drain(True)
            self._leasing.refuse_new("the daemon is draining; acquire again when it is back")
            await self._tell(False)

    async def end(self, by: str) -> None:
        """Take new leases and new work again."""
        if self.since is not None:
            log.info("draining no more, by %s", by)
            self.since = None
            self._fleet.drain(False)
            self._leasing.refuse_new(None)
            await self._tell(True)


async def _nobody(serving: bool) -> None:
    """Hear nothing."""
