"""Carries changes out on a board by the best way it can take: binary blocks, else source.

Each file is read back and hashed by the board. In place, it is written under a
temporary name and renamed over the old one then: whatever breaks, a file on the board
is the old or the new one, and the next listing tells which.
Leaves to others: what to do (`plan`, `journal`), the two ways (`stream`, `steps`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from belayd.deployment import carrying, steps, stream
from belayd.deployment.paths import temporary_beside
from belayd.deployment.plan import Plan
from belayd.deployment.writing import (
    NO_SPACE as NO_SPACE,
)
from belayd.deployment.writing import (
    NOT_WRITABLE as NOT_WRITABLE,
)
from belayd.deployment.writing import Change, Put
from belayd.deployment.writing import Contents as Contents
from belayd.deployment.writing import Conversation as Conversation
from belayd.deployment.writing import Progress as Progress
from belayd.deployment.writing import Report as Report
from belayd.errors import OutOfMemory

log = logging.getLogger(__name__)


class Sender:
    """Carries out one plan in place, or changes as they are, once."""

    def __init__(
        self, board: Conversation, changes: Plan | Sequence[Change], contents: Contents, report: Report
    ) -> None:
        wanted = in_place(changes) if isinstance(changes, Plan) else changes
        self._steps = steps.StepSender(board, wanted, contents, report)
        self._stream = (
            stream.StreamSender(board, wanted, contents, report) if carrying.carries(board) else None
        )

    async def send(self) -> None:
        """Make every change.

        After an error some files are written and others not, and no temporary file is
        left if the board still answers. After a cancellation one may be.

        Raises:
            BoardFull, ReadOnly, OutOfMemory: The board cannot take it.
            RequestInvalid: Its filesystem refuses a name, or a size in the manifest is wrong.
            InternalError: A file came out wrong twice, or the board failed otherwise.
            TransportLost, BoardUnresponsive: As `Session.command`; lost bytes were sent again before.
        """
        if self._stream is not None:
            try:
                await self._stream.send()
                return
            except (OutOfMemory, stream.LinkUnfit) as error:
                # As source a text is compiled while it comes, and takes less; and raw paste has its own flow.
                log.info("going on by steps: %s", error)
        await self._steps.send()


async def estimate(board: Conversation, changes: Sequence[Change], contents: Contents) -> int:
    """Return about how many bytes would go over the link for `changes`; sends nothing."""
    way = stream.estimate if carrying.carries(board) else steps.estimate
    return await way(board, changes, contents)


def in_place(plan: Plan) -> list[Change]:
    """Return the changes of `plan` so that each file takes its place as soon as it is verified."""
    return [
        *plan.clear,
        *plan.make_folders,
        *(
            Put(write.path, temporary_beside(write.path), write.sha256, write.size, moves=True)
            for write in plan.write
        ),
        *plan.prune,
    ]
