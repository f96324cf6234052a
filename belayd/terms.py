"""What a lease is, and how one begins and ends.

Times are seconds of one clock that never goes back; whoever shows them turns them
into times of day.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from belayd.errors import LeaseBroken, LeaseExpired, LeaseLost

MIN_TTL = 1.0
"""Seconds; a shorter lease would end before its holder's first call."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of all leases.

    Attributes:
        max_hold: Seconds from its grant after which a lease ends however often it is renewed.
        idle: Seconds without a job after which it ends.
        waiters: Acquirers that may wait in all.
        per_user: Leases that one principal may hold and wait for together; None for any number.
    """

    max_hold: float = 8 * 3600.0
    idle: float = 1800.0
    waiters: int = 4096
    per_user: int | None = None


class Priority(enum.IntEnum):
    """Classes of acquirers: within one, first come, first served; a higher one goes before all lower."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Request:
    """Asks for any one of `boards`, the earlier the better, as a lease called `name`.

    Attributes:
        holder: Whom to show to others; `principal` is who it really is.
        ttl: Seconds.
        token_hash: `hash_token` of the secret that the lease will have.
    """

    name: str
    boards: tuple[str, ...]
    principal: str
    holder: str
    reason: str
    ttl: float
    token_hash: bytes
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Notice:
    """An operator will take the lease: who, why, and when it ends (seconds of the table's clock)."""

    by: str
    why: str
    ends: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease; times are seconds of the table's clock.

    Attributes:
        notice: Given when an operator broke it with some grace; it ends then, renewed or not.
    """

    name: str
    board: str
    principal: str
    holder: str
    reason: str
    ttl: float
    token_hash: bytes
    fence: int
    acquired: float
    expires: float
    notice: Notice | None = None


class Cause(enum.Enum):
    """Why a lease ended; the values are the metric's label."""

    RELEASED = "released"
    EXPIRED = "expired"
    BROKEN = "broken"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease was granted after `waited` seconds."""

    lease: Lease
    waited: float


@dataclass(frozen=True, slots=True)
class Warned:
    """The holder has notice that the lease will be broken."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Ended:
    """A lease ended; `note` says how, for whoever still uses it."""

    lease: Lease
    cause: Cause
    note: str
    at: float

    def error(self) -> LeaseLost:
        """Return what whoever still uses the lease is told; fields: board, lease, cause."""
        board = self.lease.board
        message = f"your lease on board {board!r} {self.note}; acquire again"
        kind = LeaseBroken if self.cause is Cause.BROKEN else LeaseExpired
        return kind(message, board=board, lease=self.lease.name, cause=self.cause.value)


@dataclass(frozen=True, slots=True)
class Moved:
    """The waiter called `name` may have another position now."""

    name: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The waiter called `name` is gone: no board it waited for exists any more."""

    name: str


Change = Granted | Warned | Ended | Moved | Dropped


def hash_token(token: str) -> bytes:
    """Return what is kept of a lease token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
