"""The recovery ladder: from a board that may be anywhere to a proven prompt.

Interrupt, reenter the raw REPL, soft reset; beyond that the port is opened anew by
the board's task. Each step taken is an event.
"""

from __future__ import annotations

import logging

from belayd.errors import BelaydError, TransportLost
from belayd.events import Events, RecoveryStepTaken
from belayd.session import Emit, Session

log = logging.getLogger(__name__)


async def recover(board: str, session: Session, events: Events, emit: Emit) -> None:
    """Climb the ladder until the prompt is proven; `emit` gets what the board printed meanwhile.

    Raises:
        TransportLost: The link went away, or nothing helped and it must be opened anew.
    """
    for step in session.recovery(emit):
        events.publish(RecoveryStepTaken(board, step.name))
        try:
            await step.action()
        except TransportLost:
            raise
        except BelaydError as error:
            log.warning("board %s: recovery by %s failed: %s", board, step.name, error.message)
        else:
            return
    events.publish(RecoveryStepTaken(board, "reopen"))
    raise TransportLost(f"board {board!r} answers nothing; its port is opened anew", board=board)
