"""One board's link over time: where it is, how it is opened, what went through, how often it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from belayd.backoff import Backoff
from belayd.errors import BelaydError, BoardOffline, BoardQuarantined, WebreplDenied
from belayd.flapping import Flapping
from belayd.identity import Identity
from belayd.session import Emit, Session
from belayd.snapshot import Facts
from belayd.transport.contract import Opener, Traffic, TransportDenied, TransportError

LET_GO = 3.0
"""Seconds that a board may take to start its own program when the daemon stops."""

OnIdentity = Callable[[str], str | None]
"""Takes the unique_id that a board told; returns whose it is by the inventory, if anybody's."""


class Link:
    """The link of one board.

    Attributes:
        opener: Opens it; None while the board is not present.
        address: Where it is, "" while not present.
        absence: Why it is not present.
    """

    def __init__(
        self, identity: Identity, new_token: Callable[[int], str], backoff: Backoff, flapping: Flapping
    ) -> None:
        """`new_token` is as for Session."""
        self.opener: Opener | None = None
        self.address = ""
        self.absence = "not looked for yet"
        self._identity = identity
        self._new_token = new_token
        self._backoff = backoff
        self._flapping = flapping
        self._on_identity: OnIdentity = _nobodys
        self._asked: OnIdentity = _nobodys
        self._past = Traffic()

    def attach(self, opener: Opener, address: str, on_identity: OnIdentity | None) -> None:
        """Say where the board can be opened from now on."""
        self.opener, self.address = opener, address
        self._on_identity = on_identity or _nobodys
        self._backoff.reset()

    def detach(self, reason: str) -> None:
        """Say that the board is not present, and why."""
        self.opener, self.address, self.absence = None, "", reason

    async def open(self, opener: Opener, on_pending: Callable[[], None]) -> Session:
        """Open it; the board is left as it is.

        `on_pending` is called when bytes or the end arrive while nobody reads.

        Raises:
            BoardOffline: It cannot be opened now.
            WebreplDenied: The board refused the password.
        """
        board = self._identity.name
        self._asked = self._on_identity  # another place may be told of while this one is open
        try:
            transport = await opener()
        except TransportDenied as error:
            raise WebreplDenied(str(error), board=board) from error
        except TransportError as error:
            raise BoardOffline(str(error), board=board) from error
        transport.on_pending = on_pending
        return Session(board, transport, self._new_token)

    async def take_over(self, session: Session, idle: Emit) -> Facts:
        """Start a session with the right board.

        Raises:
            BoardOffline: The board there is another entry's.
            WrongBoard: It is nobody's.
            TransportLost, BoardUnresponsive: As `Session.start`.
        """
        facts = await session.start(idle)
        name = self._identity.name
        owner = self._asked(facts.unique_id or "")
        if owner not in (None, name):
            # Entries may share a USB match: discovery knows now, and moves each to its port.
            raise BoardOffline(
                f"on {session.address} is {owner}, as its unique_id tells; looking for {name} elsewhere",
                board=name,
            )
        self._identity.refuse_stranger(facts)
        return facts

    def traffic(self, session: Session | None) -> Traffic:
        """Return what went through so far, `session` included."""
        now = session.traffic if session else Traffic()
        return Traffic(self._past.received_bytes + now.received_bytes, self._past.sent_bytes + now.sent_bytes)

    async def close(self, session: Session, stopping: bool, idle: Emit) -> None:
        """End a session; a passive board runs its own program again if the daemon is `stopping`."""
        if stopping and self._identity.passive:
            with contextlib.suppress(BelaydError, TimeoutError):
                async with asyncio.timeout(LET_GO):
                    await session.hand_back(idle)
        self._past = self.traffic(session)
        await session.close()

    # Comings and goings

    @property
    def retrying(self) -> bool:
        """Whether opening it failed the last time."""
        return self._backoff.retrying

    @property
    def fault(self) -> BoardQuarantined | None:
        """What speaks against using the board even while its link is there."""
        return self._flapping.fault(self._identity.name) if self._flapping.too_often else None

    @property
    def probation(self) -> float:
        """Seconds that a link with a fault must last."""
        return self._flapping.probation

    def lasted(self) -> None:
        """Say that it has lasted as long as its probation."""
        self._flapping.forgive()

    async def lost(self, lived: float, idle: bool, wake: asyncio.Event) -> None:
        """Say that it was lost after `lived` seconds, `idle` if nothing ran; wait until it may be tried again."""
        if idle:
            self._flapping.lost(lived)
        if lived > self._flapping.steady:
            self._backoff.reset()
        else:
            await self._backoff.wait(wake)

    async def pause(self, wake: asyncio.Event) -> None:
        """Wait after an attempt that failed, or for `wake`."""
        await self._backoff.wait(wake)


def _nobodys(unique_id: str) -> str | None:
    return None
