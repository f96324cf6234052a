"""One acquisition on its way: its place in the queue, its grant, or why there is none.

Decides nothing: `leasing` makes tickets, wakes them and is asked for the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from belayd.errors import BelaydError
from belayd.snapshot import LeaseView
from belayd.terms import Request


class _Leasing(Protocol):
    def position(self, ticket: Ticket) -> int: ...

    def withdraw(self, ticket: Ticket) -> None: ...

    def refusal(self, ticket: Ticket) -> BelaydError: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted lease with its secret, which is kept nowhere else."""

    view: LeaseView
    token: str


class Ticket:
    """One acquisition: it waits, is granted a lease or fails, and is delivered or withdrawn.

    A servicer's use, whose clean-up must not wait:

        ticket = leasing.request(...)
        try:
            while ticket.granted is None:
                ...  # tell ticket.position
                await ticket.changed()
            ...  # tell ticket.granted
            ticket.deliver()
        finally:
            ticket.withdraw()

    Attributes:
        request: What was asked for.
        granted: The lease, from when it is granted.
    """

    def __init__(self, leasing: _Leasing, request: Request) -> None:
        self.request = request
        self.granted: Grant | None = None
        self._leasing = leasing
        self._news = asyncio.Event()
        self._failure: BelaydError | None = None
        self._settled = False

    @property
    def position(self) -> int:
        """The place in the queue, 1 for the next; 0 when it waits no longer."""
        return self._leasing.position(self)

    async def changed(self) -> None:
        """Wait until the place or the grant may have changed since the last call.

        Raises:
            BoardNotFound: No board it waits for exists any more.
            Draining: The daemon stops.
        """
        await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            raise self._failure

    def deliver(self) -> None:
        """Say that the holder has the grant: `withdraw` does nothing from now on."""
        self._settled = True

    def withdraw(self) -> None:
        """Stop waiting, or release what was granted and not delivered; idempotent."""
        if not self._settled:
            self._settled = True
            self._leasing.withdraw(self)

    def refusal(self) -> BelaydError:
        """Return the error for one who waits no longer: BoardLeased or BoardOffline."""
        return self._leasing.refusal(self)

    def wake(self, granted: Grant | None = None, failure: BelaydError | None = None) -> None:
        """Let `changed` return or raise; called by Leasing."""
        self.granted = granted or self.granted
        self._failure = failure or self._failure
        self._news.set()
