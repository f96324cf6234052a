"""What happened, as typed values, and where to hear of it.

Whoever makes something happen publishes it; nobody is imported to listen.
Listeners are called at once on the loop and must be quick: a metric to count, a
watcher to mark. Whoever needs to wait keeps a bounded state of its own (a set of
boards that changed, say), so that a slow reader costs a fixed amount.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from belayd.snapshot import BoardState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoardChanged:
    """Something of a board's snapshot changed; `previous` differs from `state` if its state did."""

    board: str
    previous: BoardState
    state: BoardState
    reason: str


@dataclass(frozen=True, slots=True)
class BoardAdded:
    """The inventory or an adopt rule brought a board."""

    board: str


@dataclass(frozen=True, slots=True)
class BoardRemoved:
    """A board left the inventory."""

    board: str


@dataclass(frozen=True, slots=True)
class OperationEnded:
    """A job of a board ended, and with it one operation, or those of a conversation's steps.

    Attributes:
        board: "" for a board that does not exist.
        operation: run, call, deploy, reset: a fixed few.
        outcome: ok, board_error, timeout, cancelled, transport_error or rejected.
        reason: The error table's reason when it failed, else "".
        queued: Seconds it waited.
        ran: Seconds it ran.
        count: Operations that ended so; may be 0 where there are others.
        others: Outcome, reason and number of those that had ended before.
    """

    board: str
    operation: str
    outcome: str
    reason: str
    queued: float
    ran: float
    count: int = 1
    others: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RecoveryStepTaken:
    """One step of the recovery ladder: interrupt, reenter, soft_reset, reopen, quarantine."""

    board: str
    step: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The port was opened again after it had been lost."""

    board: str


@dataclass(frozen=True, slots=True)
class Booted:
    """The board started anew; cause: reset (asked for), unexpected, power."""

    board: str
    cause: str


@dataclass(frozen=True, slots=True)
class Tenure:
    """Whose lease an event is about.

    Attributes:
        lease: Its name.
        principal: Who has it, as authenticated; `holder`: as they call themselves.
        note: Why it was taken, how it ended, or who will break it.
    """

    lease: str = ""
    principal: str = ""
    holder: str = ""
    note: str = ""


NOBODYS = Tenure()


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A lease was granted after `waited` seconds."""

    board: str
    waited: float
    tenure: Tenure = field(default=NOBODYS, compare=False)


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A lease ended after `held` seconds; cause: released, expired, broken, idle."""

    board: str
    cause: str
    held: float
    tenure: Tenure = field(default=NOBODYS, compare=False)


@dataclass(frozen=True, slots=True)
class LeaseQueueChanged:
    """More or fewer wait for a lease on the board."""

    board: str


@dataclass(frozen=True, slots=True)
class LeaseWarned:
    """The holder of the board's lease was given notice that it will be broken."""

    board: str
    tenure: Tenure = field(default=NOBODYS, compare=False)


@dataclass(frozen=True, slots=True)
class DeploymentEnded:
    """A deployment ended; bytes are those of the files written, of the link, and of files equal already."""

    board: str
    outcome: str
    payload_bytes: int
    wire_bytes: int
    skipped_bytes: int
    ran: float


@dataclass(frozen=True, slots=True)
class DeploymentSettled:
    """At a contact after a deployment had broken off; outcome: completed, undone, failed (it will be tried again)."""

    board: str
    outcome: str


Event = (
    BoardChanged
    | BoardAdded
    | BoardRemoved
    | OperationEnded
    | RecoveryStepTaken
    | Reconnected
    | Booted
    | LeaseGranted
    | LeaseEnded
    | LeaseQueueChanged
    | LeaseWarned
    | DeploymentEnded
    | DeploymentSettled
)
Listener = Callable[[Event], None]


class Events:
    """Where events are published and heard, in the order of publishing."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns what ends that, idempotent."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def publish(self, event: Event) -> None:
        """Tell every listener."""
        for listener in tuple(self._listeners):
            listener(event)
