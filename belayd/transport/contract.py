"""What every transport promises; `tests/transport/test_contract.py` holds each to it.

A transport carries bytes and knows nothing of the REPL. It is opened by its link's
own function (`open_serial`, say), which `fleet.py` chooses, used by one board's task
alone, and closed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class TransportError(Exception):
    """The port cannot be opened or used; the message says why and what to do."""


class TransportDenied(TransportError):
    """The board refused belayd's credentials; the same ones will be refused again."""


@dataclass(slots=True)
class Traffic:
    """Bytes counted since the transport was opened, and how the link carries input; metrics read it at scrape time.

    Attributes:
        round_trips: Times that something came after something had been sent.
        steady: Whether the link makes belayd wait while the board does not read, all
            the way: nothing that was sent is ever dropped. False where nobody knows.
        bulky: Whether a board that does nothing but read takes any amount at the
            link's speed; elsewhere never more than its input keeps may be under way.
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    round_trips: int = 0
    steady: bool = False
    bulky: bool = True
    _asked: bool = False

    def sent(self, count: int) -> None:
        """Count bytes that the operating system took."""
        self.sent_bytes += count
        self._asked = self._asked or count > 0

    def received(self, count: int) -> None:
        """Count bytes that came."""
        self.received_bytes += count
        if count and self._asked:
            self.round_trips += 1
            self._asked = False


class Transport(Protocol):
    """An open link to one board.

    Attributes:
        address: Where it is, for people, such as "/dev/ttyACM0"; no secrets.
        traffic: What went through.
        on_pending: Called on the loop, at most once until the next `receive`,
            when bytes or the end arrive while nobody waits in `receive`. Lets an
            idle owner sleep without a task of its own. None for nobody.
    """

    address: str
    traffic: Traffic
    on_pending: Callable[[], None] | None

    async def receive(self) -> bytes:
        """Return the next bytes from the board, at least one.

        Returns b"" if and only if the board is gone, then and ever after.
        Cancellation loses no bytes. One caller at a time. At most 256 KiB are
        held for a caller that does not come; beyond that the port is not read.
        """

    def receive_pending(self) -> bytes | None:
        """Return what `receive` would return at once, or None where it would wait."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`; returns when the operating system has it.

        Whatever fits goes out in one write, before the first await. After a
        cancellation some, all or none may have been sent. To a board that is
        gone it silently does nothing: `receive` tells.
        """

    async def close(self) -> None:
        """Give the port back; idempotent. A waiting `receive` returns b""."""


class Opener(Protocol):
    """Opens one board's link each time it is asked to; made from the inventory's entry."""

    async def __call__(self) -> Transport:
        """Open the link.

        Raises:
            TransportError: It cannot be opened now; nothing is left open.
        """
