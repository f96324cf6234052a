"""What can go wrong between a caller and a board, split by whose action helps.

    BelaydError
    ├── RequestInvalid        fix the request
    │   └── PreparationFailed fix the files; nothing was sent
    ├── NotFound              fix the name
    ├── BoardLeased           acquire it and wait
    ├── LeaseRequired         acquire it first
    ├── LeaseLost             acquire again
    │   └── LeaseNotFound     likewise; a NotFound too
    ├── BoardUnavailable      try later, or another board
    │   └── OperatorNeeded    an operator must act
    ├── TransportLost         start over; effects on the board unknown
    ├── Unsupported           this board or daemon cannot
    ├── Exhausted             free something
    ├── RunTimeout            allow longer
    ├── RunCancelled          the caller wanted it
    ├── Refused               credentials or rights
    ├── InternalError         report it
    └── ConnectionFailed      no daemon answers there
        └── ConnectionLost    it did, and then no more; effects unknown
    BoardException            what code on a board raised; not a failure of belayd

A message is the daemon's own. `reason` is its name in the API (INTERFACE's
error table), empty where the failure is the client's or the network's; every
value in the message is in `fields` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime


class BelaydError(Exception):
    """Something was refused or failed; says what, and what to do next."""

    def __init__(self, message: str, *, reason: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.fields: dict[str, str] = dict(fields or {})


class RequestInvalid(BelaydError):
    """The request cannot be understood or is out of bounds."""


class PreparationFailed(RequestInvalid):
    """Files cannot be deployed as they are; nothing was changed on any board."""


class NotFound(BelaydError):
    """There is no such board, lease, run or file; `reason` tells which of them."""


class BoardLeased(BelaydError):
    """Somebody else holds a lease on the board."""

    @property
    def holder(self) -> str:
        """Who holds it, as they said."""
        return self.fields.get("holder", "")

    @property
    def since(self) -> datetime | None:
        """Since when; None when the daemon did not say."""
        return _time(self.fields.get("since", ""))

    @property
    def expires(self) -> datetime | None:
        """When it ends unless renewed; None when the daemon did not say."""
        return _time(self.fields.get("expires", ""))

    @property
    def queue_length(self) -> int:
        """How many wait for it already."""
        text = self.fields.get("queue_length", "")
        return int(text) if text.isdecimal() else 0


class LeaseRequired(BelaydError):
    """What was asked for needs the board's lease."""


class LeaseLost(BelaydError):
    """The caller's lease has ended; nothing is acquired again by itself."""


class LeaseNotFound(NotFound, LeaseLost):
    """The daemon knows no such lease: it ended long ago, or the daemon restarted."""


class BoardUnavailable(BelaydError):
    """The board is not present, or the daemon is stopping."""


class OperatorNeeded(BoardUnavailable):
    """The board is quarantined, disabled, unresponsive or another than expected."""


class TransportLost(BelaydError):
    """The board's link broke while a job ran; what it did on the board is unknown."""


class Unsupported(BelaydError):
    """This board, or this daemon, cannot do it; the message says why."""


class Exhausted(BelaydError):
    """The board, a queue or the caller's quota is full."""


class RunTimeout(BelaydError):
    """It took longer than the caller allowed; the board was interrupted."""


class RunCancelled(BelaydError):
    """The caller cancelled; the board was interrupted."""


class Refused(BelaydError):
    """No credentials that count, or not the rights."""


class InternalError(BelaydError):
    """A fault of belayd; its log has the id."""


class ConnectionFailed(BelaydError):
    """No daemon answers at the address."""


class ConnectionLost(ConnectionFailed):
    """The connection broke during the call; what it did on the board is unknown."""


class BoardException(Exception):
    """What code on a board raised; its text is the board's traceback."""

    def __init__(self, type_name: str, message: str, traceback: str) -> None:
        super().__init__(traceback.rstrip("\n") or f"{type_name}: {message}".removesuffix(": "))
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None
