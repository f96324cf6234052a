"""Deployments whose end nobody knows: those that run, and those that broke off.

What becomes of one that broke off is told by whoever settles it on the board. Where
nothing was left to settle there, since it broke off before its first write or after
its last, a look at the board tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from belayd.errors import StoreFailed
from belayd.events import BoardChanged, DeploymentSettled, Event
from belayd.records import looking
from belayd.session import Session
from belayd.snapshot import BoardState
from belayd.store import Change, DeploymentOutcome, DeploymentRecord, Deployments

log = logging.getLogger(__name__)

MOST_LOOKS = 3
"""At a board for one deployment, unasked: one that cannot be told apart is not looked at for ever."""


class Unsettled:
    """What is open, on record in `stored`.

    Attributes:
        news: Set when a board is due for a look.
    """

    def __init__(self, stored: Deployments) -> None:
        self.news = asyncio.Event()
        self._stored = stored
        self._open: dict[str, DeploymentRecord] = {}
        self._running: set[str] = set()
        self._looks: dict[str, int] = {}
        self._judged: dict[str, str] = {}
        self._due: dict[str, None] = {}

    async def start(self) -> None:
        """Learn what broke off with an earlier daemon."""
        self._open = {record.name: record for record in await self._stored.unsettled()}

    async def begin(self, record: DeploymentRecord, changes: Sequence[Change]) -> None:
        """Put a deployment on record; it outlasts a loss of power when this returns.

        Raises:
            StoreFailed: It cannot be put there.
        """
        self._judged.pop(record.board, None)
        if record.outcome is DeploymentOutcome.OPEN:
            self._open[record.name] = record
            self._running.add(record.name)
        self._stored.add(record, changes)
        await self._stored.settled()

    def end(self, name: str, outcome: DeploymentOutcome, *, urgent: bool = False) -> None:
        """Put on record what became of a deployment."""
        self._looks.pop(name, None)
        try:
            self._stored.end(name, outcome, urgent=urgent)
        except StoreFailed as error:  # it stays open, and is found out again
            log.warning("deployment %s: %s", name, error.message)
        else:
            self._open.pop(name, None)

    async def done(self, name: str) -> None:
        """Put on record that a deployment is done; that outlasts a loss of power when this returns, if it can be."""
        if name not in self._open:
            return
        self.end(name, DeploymentOutcome.DONE, urgent=True)
        with contextlib.suppress(StoreFailed):  # tried again by itself, and found out again at worst
            await self._stored.settled()

    def leave(self, name: str) -> None:
        """Say that a deployment does not run any more; does nothing if it never did."""
        self._running.discard(name)

    def hear(self, event: Event) -> None:
        """Take note of what became of a deployment, and when a board serves again that one broke off on."""
        match event:
            case DeploymentSettled(board, "completed"):
                self.settle(board, DeploymentOutcome.DONE)
            case DeploymentSettled(board, "undone"):
                self.settle(board, DeploymentOutcome.UNDONE)
            case BoardChanged(board, _, BoardState.READY):
                if any(self._looks.get(each.name, 0) < MOST_LOOKS for each in self._of(board)):
                    self._due[board] = None
                    self.news.set()

    def due(self) -> list[str]:
        """Return, once, the boards that are due for a look."""
        self.news.clear()
        due, self._due = list(self._due), {}
        return due

    async def look(self, session: Session, board: str) -> None:
        """Find out from what a board has; as `Records.look`."""
        for record in self._of(board):
            self._looks[record.name] = self._looks.get(record.name, 0) + 1
            outcome = await looking.outcome_of(session, record, await self._stored.changes(record.name))
            self.end(record.name, outcome)
            if outcome is not DeploymentOutcome.DONE:
                self._judged[board] = record.name

    def settle(self, board: str, outcome: DeploymentOutcome) -> None:
        """Take note of what became of what had broken off on a board."""
        # A look that came before it saw what was not the end yet.
        judged = self._judged.pop(board, None)
        names = [record.name for record in self._of(board)]
        for name in names or ([judged] if judged else []):
            self.end(name, outcome)

    def _of(self, board: str) -> list[DeploymentRecord]:
        return [
            record
            for record in self._open.values()
            if record.board == board and record.name not in self._running
        ]
