"""What a deployment that broke off left on one board: completed or undone before anything else runs there.

The board's task alone calls this: when it takes the board over, and after a job that
may have staged files failed. What cannot be settled now is told and tried again at
the next contact; the next deployment begins with it too. Leaves to others: how
(`deployment/journal.py`), writing down what became of it (whoever hears the event).
"""

from __future__ import annotations

import asyncio
import logging

from belayd.deployment.journal import Settled, settle
from belayd.errors import BelaydError, OperatorNeeded, ReadOnly, TransportLost
from belayd.events import DeploymentSettled, Events
from belayd.recovery import recover
from belayd.session import Emit, Session

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds; some 10 ms a file are usual, and a second where FAT must copy one."""
ATTEMPTS = 3
STAGED = "belayd.staging"
"""Among a board's modules where something is left."""
_STAGE_NOTHING = frozenset(("run", "call", "reset", "attach"))


class Settling:
    """What is to be settled on one board.

    Attributes:
        due: Whether something is, or may be, left there.
    """

    def __init__(self, board: str, events: Events) -> None:
        self.due = False
        self._board = board
        self._events = events

    async def taken_over(self, session: Session, idle: Emit) -> None:
        """Settle what the board told of when it was taken over.

        Raises:
            TransportLost, BoardUnresponsive: As `Session.command`; a later call goes on.
        """
        self.due = STAGED in session.facts.modules
        await self._settle(session, idle)

    async def ended(self, operation: str, result: object, session: Session, idle: Emit) -> None:
        """Settle what a job left that ended with `result`, at a proven prompt.

        Raises:
            TransportLost, BoardUnresponsive: As `taken_over`.
        """
        failed = isinstance(result, BelaydError) and operation not in _STAGE_NOTHING
        self.due = self.due or (failed and "hashlib" in session.facts.modules)
        await self._settle(session, idle)

    async def _settle(self, session: Session, idle: Emit) -> None:
        attempt = 0
        while self.due:
            attempt += 1
            try:
                async with asyncio.timeout(PATIENCE):
                    await settle(session, self._tell)
                self.due = False
            except TimeoutError:
                log.warning("board %s: not settled within %g s", self._board, PATIENCE)
                await recover(self._board, session, self._events, idle)
                self.due = attempt < ATTEMPTS
            except TransportLost:
                raise
            except BelaydError as error:
                if isinstance(error, OperatorNeeded) and not isinstance(error, ReadOnly):
                    raise
                log.warning("board %s: a deployment is not settled: %s", self._board, error.message)
                self.due = False
                self._events.publish(DeploymentSettled(self._board, "failed"))

    async def _tell(self, settled: Settled) -> None:
        log.info("board %s: a deployment that broke off was %s", self._board, settled.value)
        self._events.publish(DeploymentSettled(self._board, settled.value))
