"""Boards that an operator takes out of service and puts back: kept, so that a restart changes nothing.

Who holds a board keeps it until the lease ends, unless it is taken `now`: then the
lease is broken. Work without a lease ends at once. Who waits for the board goes on
waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from belayd.fleet import Fleet
from belayd.leasing import Leasing
from belayd.snapshot import Disabled
from belayd.store import DisabledBoard

log = logging.getLogger(__name__)


class Kept(Protocol):
    """Where the boards out of service are kept; `belayd.store.Disabled` is one."""

    @property
    def boards(self) -> Mapping[str, DisabledBoard]:
        """All of them, by name."""

    def disable(self, disabled: DisabledBoard) -> None:
        """Keep a board as out of service."""

    def enable(self, board: str) -> None:
        """Keep a board as in service."""

    async def settled(self) -> None:
        """Return when what was said so far outlasts a loss of power."""


def stored(kept: Kept) -> Callable[[str], Disabled | None]:
    """Return what tells a fleet which of its boards are out of service."""

    def disabled(name: str) -> Disabled | None:
        board = kept.boards.get(name)
        return Disabled(board.by, board.why, board.since) if board else None

    return disabled


class Disabling:
    """Disables and enables boards of a fleet."""

    def __init__(
        self,
        fleet: Fleet,
        leasing: Leasing,
        kept: Kept,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fleet = fleet
        self._leasing = leasing
        self._kept = kept
        self._now = now

    async def disable(self, name: str, by: str, why: str, now: bool = False) -> None:
        """Take a board out of service; one that is gets the new reason. With `now`, break its lease.

        Raises:
            BoardNotFound: There is none.
            StoreFailed: It is out of service, but that may not outlast a restart.
        """
        board = self._fleet.board(name)
        since = self._now()
        self._kept.disable(DisabledBoard(name, by, why, since))
        board.disable(Disabled(by, why, since))
        log.info("board %s: disabled by %s: %s", name, by, why)
        if now and self._leasing.view(name) is not None:
            self._leasing.break_(name, by, f"the board was disabled: {why}")
        await self._kept.settled()

    async def enable(self, name: str, by: str) -> None:
        """Put a board back in service; does nothing if it is.

        Raises:
            BoardNotFound, StoreFailed: As `disable`.
        """
        board = self._fleet.board(name)
        self._kept.enable(name)
        board.enable()
        log.info("board %s: enabled by %s", name, by)
        await self._kept.settled()
