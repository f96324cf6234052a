"""How a command ended, as the exit code that INTERFACE fixes."""

from __future__ import annotations

from belayd_client import errors

BOARD_RAISED = 1
REFUSED = 3
NO_CONNECTION = 4
BUSY = 5
TIMEOUT = 6


def exit_code(error: Exception) -> int:
    """Return the exit code for what a command failed with."""
    match error:
        case errors.BoardException():
            return BOARD_RAISED
        case errors.BelaydError(reason="READ_ONLY"):
            return REFUSED
        case errors.BelaydError(reason="QUEUE_FULL"):
            return BUSY
        case errors.BoardLeased() | errors.LeaseLost() | errors.BoardUnavailable():
            return BUSY
        case errors.ConnectionLost() | errors.TransportLost() | errors.RunTimeout() | errors.RunCancelled():
            return TIMEOUT
        case errors.ConnectionFailed():
            return NO_CONNECTION
        case _:
            return REFUSED
