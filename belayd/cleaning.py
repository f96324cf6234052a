"""Bringing a board, after a lease, to what its next holder shall find.

A soft reset, or what `between` makes of the inventory entry: that is done after a
soft reset, and again after another, until it finds nothing to do. A board whose
link is lost meanwhile, as a WebREPL's is by each soft reset, goes on from there
when it is back. The board's task alone calls `clean`.

A board that cannot be brought there is not handed over: it is quarantined, and
tried again after longer and longer pauses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

from belayd.backoff import Backoff
from belayd.errors import BelaydError, BoardQuarantined, TransportLost
from belayd.events import Booted, Events
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.recovery import recover
from belayd.session import Emit, Session

ROUNDS = 3
"""Times that a board may find something to do again after a soft reset."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds between two attempts: what failed may have worn a flash."""

Tidy = Callable[[Session], Awaitable[bool]]
"""Brings the board at a session to its state; returns whether there was anything to do."""
TakeOver = Callable[[Session], Awaitable[None]]


class Cleaning:
    """What is to be done on one board before its next holder gets it.

    Attributes:
        tidy: What is done beyond a soft reset; None for nothing.
        due: Whether the board must be cleaned now.
        failed: Whether the last attempt failed.
    """

    def __init__(self, board: str, tidy: Tidy | None, leasing: Leasing, events: Events) -> None:
        self.tidy = tidy
        self.due = False
        self.failed = False
        self._board = board
        self._leasing = leasing
        self._events = events
        self._backoff = Backoff(partial(random.uniform, 0.8, 1.2), FIRST_PAUSE, LONGEST_PAUSE)
        self._used_under: int | None = None
        self._restarted = False
        self._rounds = 0

    @property
    def unclean(self) -> bool:
        """Whether somebody used the board under a lease since it was last clean."""
        return self.due or self._used_under is not None

    def used(self, fence: int | None) -> None:
        """Note that work begins under a lease; None is work without one, and leaves nothing to clean."""
        self._used_under = fence or self._used_under

    def lease_ended(self, fence: int) -> None:
        """Note that a lease ended; a board that was not used under it is clean already."""
        if self._used_under == fence:
            self.begin()
        elif not self.due:
            self._leasing.returned(self._board)

    def begin(self) -> None:
        """Say that the board must be cleaned."""
        self.due = True
        self._restarted = False
        self._rounds = 0

    def change(self, tidy: Tidy | None) -> None:
        """Take another way to clean; a board that failed is tried again at once."""
        self.tidy = tidy
        self._backoff.reset()

    async def paused(self, wake: asyncio.Event) -> bool:
        """Wait after an attempt that failed, or for `wake`; return whether the last one had."""
        if self.failed:
            wake.clear()  # the end of the link has set it
            await self._backoff.wait(wake)
        return self.failed

    async def clean(self, session: Session, identity: Identity, take_over: TakeOver, idle: Emit) -> None:
        """Bring the board there, and say that it may go to its next holder.

        Raises:
            TransportLost: The link was lost; a later call goes on.
            BoardQuarantined: The board cannot be brought there.
        """
        over_webrepl = identity.transport == "webrepl"
        if self.tidy is not None:
            if not session.taken:
                await take_over(session)
            await self._bring(self.tidy, session, over_webrepl, idle)
        if identity.passive or self.tidy is None:
            restart = session.hand_back if identity.passive else session.soft_reset
            try:
                await self._restart(restart, session, idle)
            except TransportLost:
                if over_webrepl:
                    self._settle()
                raise
        self._settle()

    async def _bring(self, tidy: Tidy, session: Session, over_webrepl: bool, idle: Emit) -> None:
        while True:
            if not self._restarted:
                try:
                    await self._restart(session.soft_reset, session, idle)
                except TransportLost:
                    self._restarted = over_webrepl  # whose connection it closes
                    raise
                self._restarted = True
            if not await self._tidied(tidy, session):
                return
            self._restarted = False
            self._rounds += 1
            if self._rounds > ROUNDS:
                self._rounds = 0
                raise self._failure(f"its files were changed again after each of {ROUNDS} soft resets")

    async def _restart(
        self, restart: Callable[[Emit], Awaitable[None]], session: Session, idle: Emit
    ) -> None:
        try:
            await restart(idle)
        except TransportLost:
            raise
        except BelaydError:
            await recover(self._board, session, self._events, idle)
            await restart(idle)
        if session.traffic.sent_bytes:
            self._events.publish(Booted(self._board, "reset"))

    async def _tidied(self, tidy: Tidy, session: Session) -> bool:
        try:
            return await tidy(session)
        except TransportLost:
            raise
        except BelaydError as error:
            raise self._failure(error.message) from error

    def _failure(self, why: str) -> BoardQuarantined:
        self.failed = True
        return BoardQuarantined(
            f"it is not in the state for its next holder: {why}", board=self._board, cause="between"
        )

    def _settle(self) -> None:
        self._used_under = None
        self.due = self.failed = False
        self._backoff.reset()
        self._leasing.returned(self._board)
