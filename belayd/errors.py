"""Everything that belayd refuses or fails at, split by whose action helps.

    BelaydError
    ├── RequestInvalid             fix the request
    │   └── PreparationFailed
    ├── NotFound                   fix the name
    │   ├── BoardNotFound
    │   ├── LeaseNotFound
    │   ├── FileNotFound
    │   ├── RunNotFound
    │   ├── RolloutNotFound
    │   └── DeploymentNotFound
    ├── Conflict                   acquire a lease, or wait for one
    │   ├── BoardLeased
    │   └── LeaseRequired
    ├── LeaseLost                  acquire again
    │   ├── LeaseExpired
    │   ├── LeaseBroken
    │   └── StaleFence
    ├── Unavailable                retry later
    │   ├── BoardOffline
    │   └── Draining
    ├── TransportLost              start over; effects on the board unknown
    ├── OperatorNeeded             an operator must act
    │   ├── BoardUnresponsive
    │   ├── BoardQuarantined
    │   ├── BoardDisabled
    │   ├── WrongBoard
    │   ├── WebreplDenied
    │   └── ReadOnly
    ├── Unsupported                this board cannot
    ├── Exhausted                  free something
    │   ├── BoardFull
    │   ├── OutOfMemory
    │   ├── QueueFull
    │   └── QuotaExceeded
    ├── RunTimeout                 allow longer
    ├── RunCancelled               the caller wanted it
    ├── Unauthenticated            credentials
    ├── PermissionDenied           rights
    ├── StoreFailed                make room on the daemon's disk, or mend it
    └── InternalError              report it

Only leaves are raised. A message says what happened and what to do next; every
value in it is also in `fields`, which travel as the ErrorInfo's metadata.
`rpc/status.py` maps each leaf to its gRPC status; a test fails until each has
its row. Code that raises on a board is a result, never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class BelaydError(Exception):
    """Something was refused or failed; `reason` is its name in the API and the metrics."""

    reason: ClassVar[str]

    def __init__(self, message: str, **fields: str | int | float) -> None:
        super().__init__(message)
        self.message = message
        self.fields = {name: str(value) for name, value in fields.items()}


class RequestInvalid(BelaydError):
    """The request cannot be understood or is out of bounds; `field` names the part."""

    reason = "REQUEST_INVALID"


class PreparationFailed(RequestInvalid):
    """Files cannot be deployed as they are; nothing was changed on any board."""

    reason = "PREPARATION_FAILED"


class NotFound(BelaydError):
    """Something does not exist under this name."""


class BoardNotFound(NotFound):
    """The inventory has no such board, or a selector matches none."""

    reason = "BOARD_NOT_FOUND"


class LeaseNotFound(NotFound):
    """There is no such lease, or it ended long ago."""

    reason = "LEASE_NOT_FOUND"


class FileNotFound(NotFound):
    """The board has no such file."""

    reason = "FILE_NOT_FOUND"


class RunNotFound(NotFound):
    """There is no such detached run, or it ended long ago and is kept no more."""

    reason = "RUN_NOT_FOUND"


class RolloutNotFound(NotFound):
    """There is no such rollout, or it ended long ago and is kept no more."""

    reason = "ROLLOUT_NOT_FOUND"


class DeploymentNotFound(NotFound):
    """The board had no such deployment, or it is kept no more."""

    reason = "DEPLOYMENT_NOT_FOUND"


class Conflict(BelaydError):
    """Somebody else has what the caller wants."""


class BoardLeased(Conflict):
    """Somebody else holds a lease; fields: holder, since, expires, queue_length."""

    reason = "BOARD_LEASED"


class LeaseRequired(Conflict):
    """What was asked for needs the board's lease, and none was shown."""

    reason = "LEASE_REQUIRED"


class LeaseLost(BelaydError):
    """The caller's lease has ended."""


class LeaseExpired(LeaseLost):
    """It was not renewed in time, or was released."""

    reason = "LEASE_EXPIRED"


class LeaseBroken(LeaseLost):
    """An operator took it."""

    reason = "LEASE_BROKEN"


class StaleFence(LeaseLost):
    """The work was queued under a lease that another has followed."""

    reason = "STALE_FENCE"


class Unavailable(BelaydError):
    """It may work later."""


class BoardOffline(Unavailable):
    """The board is not present, or its port cannot be opened."""

    reason = "BOARD_OFFLINE"


class Draining(Unavailable):
    """The daemon is stopping and takes no new work."""

    reason = "DRAINING"


class TransportLost(BelaydError):
    """The link broke while a job ran; what it did on the board is unknown."""

    reason = "TRANSPORT_LOST"


class OperatorNeeded(BelaydError):
    """The board needs an operator."""


class BoardUnresponsive(OperatorNeeded):
    """The board does not answer, and every step of recovery failed."""

    reason = "BOARD_UNRESPONSIVE"


class BoardQuarantined(OperatorNeeded):
    """The board failed recovery or health and takes no jobs until it passes again."""

    reason = "BOARD_QUARANTINED"


class BoardDisabled(OperatorNeeded):
    """An operator took the board out of service."""

    reason = "BOARD_DISABLED"


class WrongBoard(OperatorNeeded):
    """Another board answers than the inventory's unique_id says."""

    reason = "WRONG_BOARD"


class WebreplDenied(OperatorNeeded):
    """The board's WebREPL refused the password."""

    reason = "WEBREPL_DENIED"


class ReadOnly(OperatorNeeded):
    """The board's filesystem cannot be written by its own code."""

    reason = "READ_ONLY"


class Unsupported(BelaydError):
    """This board cannot do it; the message says why."""

    reason = "UNSUPPORTED"


class Exhausted(BelaydError):
    """Something is full."""


class BoardFull(Exhausted):
    """The board's filesystem has no room."""

    reason = "BOARD_FULL"


class OutOfMemory(Exhausted):
    """The board's memory does not hold what belayd itself must send."""

    reason = "OUT_OF_MEMORY"


class QueueFull(Exhausted):
    """Too many jobs or acquirers wait already."""

    reason = "QUEUE_FULL"


class QuotaExceeded(Exhausted):
    """The caller's own limit is reached."""

    reason = "QUOTA_EXCEEDED"


class RunTimeout(BelaydError):
    """Queueing and running took longer than the caller allowed; the board was interrupted."""

    reason = "RUN_TIMEOUT"


class RunCancelled(BelaydError):
    """The caller cancelled; the board was interrupted."""

    reason = "RUN_CANCELLED"


class Unauthenticated(BelaydError):
    """No credentials, or none that count."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(BelaydError):
    """The caller may not do this here."""

    reason = "PERMISSION_DENIED"


class StoreFailed(BelaydError):
    """What must survive a restart could not be kept, so it was not done; `cause` is SQLite's word."""

    reason = "STORE_FAILED"


class InternalError(BelaydError):
    """A fault of belayd; the log has the id."""

    reason = "INTERNAL"
