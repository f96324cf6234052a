"""How one board stands: its state and why, told to leasing and to whoever listens.

An operator may have disabled it, and the daemon may be draining: neither is a
state, since a lease that lives goes on. DISABLED is the state of a board that is
disabled and that nobody holds.
"""

from __future__ import annotations

import logging
import uuid

from belayd.errors import (
    BelaydError,
    BoardDisabled,
    BoardOffline,
    BoardQuarantined,
    Draining,
    InternalError,
    OperatorNeeded,
    WebreplDenied,
    WrongBoard,
)
from belayd.events import BoardChanged, Events, RecoveryStepTaken
from belayd.leasing import Leasing
from belayd.snapshot import BoardState, Disabled

log = logging.getLogger(__name__)


class Standing:
    """The state of the board called `board`; its task alone changes it.

    Attributes:
        reason: Why it is OFFLINE, QUARANTINED or DISABLED, "" otherwise.
        version: Grows with each change.
        cause: What keeps it in quarantine, None elsewhere.
        closing: Whether it takes no more work for good.
        disabled: By whom and why it is to be out of service, None if it is not.
        draining: Whether it takes no new work without a lease.
    """

    def __init__(self, board: str, leasing: Leasing, events: Events) -> None:
        self.state = BoardState.OFFLINE
        self.reason = "not looked for yet"
        self.version = 0
        self.cause: BelaydError | None = None
        self.closing = False
        self.disabled: Disabled | None = None
        self.draining = False
        self._board = board
        self._leasing = leasing
        self._events = events

    @property
    def code(self) -> str:
        """What keeps it in quarantine, as a word for metrics; "" elsewhere."""
        return self.cause.fields.get("cause", self.cause.reason.lower()) if self.cause else ""

    @property
    def told(self) -> str:
        """What an operator reads of it: why it is as it is, and what becomes of it."""
        if self.disabled is None or self.state is BoardState.DISABLED:
            return self.reason
        if self.out_of_service:  # and about to be closed
            return str(self.disabled)
        soon = f"disabled {self.disabled}, once its lease has ended"
        return f"{self.reason}; {soon}" if self.reason else soon

    @property
    def out_of_service(self) -> bool:
        """Whether it is disabled, and nobody holds it from before."""
        return self.disabled is not None and self._leasing.view(self._board) is None

    def disable(self, disabled: Disabled) -> None:
        """Grant it to nobody any more."""
        self.disabled = disabled
        self._leasing.set_available(self._board, False)
        if self.state is BoardState.DISABLED:
            self.close_down()
        else:
            self.touch()

    def enable(self) -> None:
        """Grant it again."""
        if self.disabled is not None:
            self.disabled = None
            self._leasing.set_available(self._board, self.state.up)
            self.touch()

    def close_down(self) -> None:
        """Note that it is out of service."""
        self.change(BoardState.DISABLED, str(self.disabled))

    def touch(self) -> None:
        """Tell that something changed which is no state."""
        self.version += 1
        self._events.publish(BoardChanged(self._board, self.state, self.state, self.reason))

    def change(self, state: BoardState, reason: str = "") -> None:
        """Note and tell a new state."""
        if state is not BoardState.QUARANTINED:
            self.cause = None
        if (state, reason) == (self.state, self.reason):
            return
        previous, self.state, self.reason = self.state, state, reason
        self.version += 1
        if not self.closing:  # a board of the same name may follow
            self._leasing.set_available(self._board, state.up and self.disabled is None)
        self._events.publish(BoardChanged(self._board, previous, state, reason))

    def quarantine(self, cause: BelaydError) -> None:
        """Take the board out of use until it passes again."""
        log.error("board %s: quarantined: %s", self._board, cause.message)
        if self.state is not BoardState.QUARANTINED:
            self._events.publish(RecoveryStepTaken(self._board, "quarantine"))
        self.cause = cause
        self.change(BoardState.QUARANTINED, cause.message)

    def refusal(self) -> BelaydError | None:
        """Return why the board takes no jobs, None if it takes them.

        Draining, BoardDisabled, BoardOffline, BoardQuarantined, or what keeps it in quarantine.
        """
        if self.closing:
            return self.draining_refusal()
        if self.out_of_service:
            return self.disabled_refusal()
        if self.state is BoardState.OFFLINE:
            return BoardOffline(f"board {self._board!r} is offline: {self.reason}", board=self._board)
        if self.state is BoardState.QUARANTINED:
            kind: type[OperatorNeeded] = BoardQuarantined
            fields = self.cause.fields if self.cause else {}
            if isinstance(self.cause, WrongBoard | WebreplDenied):
                kind = type(self.cause)  # says itself what an operator has to do
            return kind(
                f"board {self._board!r} is quarantined: {self.reason}", **{**fields, "board": self._board}
            )
        return None

    def draining_refusal(self) -> Draining:
        """Return what is heard once the daemon stops."""
        return Draining("the daemon is stopping; try again when it is back", board=self._board)

    def refusal_of_new(self, fence: int | None) -> Draining | None:
        """Return why new work is not taken, though what is queued goes on."""
        if self.draining and fence is None:
            return Draining(
                "the daemon is draining and takes no new work without a lease; try again when it is back",
                board=self._board,
            )
        return None

    def disabled_refusal(self) -> BoardDisabled:
        """Return what whoever wants the board hears while it is out of service."""
        return BoardDisabled(
            f"board {self._board!r} was disabled {self.disabled}; take another, or ask for it to be enabled",
            board=self._board,
        )

    def fault(self, what: str) -> InternalError:
        """Log the exception under way under an id; return what its caller hears."""
        incident = uuid.uuid4().hex[:12]
        log.exception("board %s: belayd failed to %s (%s)", self._board, what, incident)
        message = f"belayd failed to {what} (board {self._board!r}); the log has the trace ({incident})"
        return InternalError(message, board=self._board, incident=incident)
