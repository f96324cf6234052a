"""Which deployments are to be undone together, and whether they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from belayd.archive import Archive
from belayd.errors import DeploymentNotFound, RequestInvalid
from belayd.records.changes import WayBack, overlap, touched, way_back
from belayd.store import Change, DeploymentOutcome, DeploymentRecord, Deployments


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be undone, newest first; the last is what was asked for.

    Attributes:
        changes: Of each.
    """

    records: Sequence[DeploymentRecord]
    changes: Sequence[Sequence[Change]]

    @property
    def aim(self) -> DeploymentRecord:
        """The deployment before which the board is brought back."""
        return self.records[-1]

    @property
    def way(self) -> WayBack:
        """The way back."""
        return way_back(self.aim.destination, self.changes)

    @property
    def untouched(self) -> list[Change]:
        """What the board had already when the one asked for was made, and is to have."""
        changed = {change.path for changes in self.changes for change in touched(changes)}
        return [change for change in self.changes[-1] if change.path not in changed]


async def targets(stored: Deployments, archive: Archive, board: str, name: str) -> Targets:
    """Return what is to be undone so that a board has what it had before a deployment.

    That is the deployment called `name`, or with "" the last that changed
    something, and those after it to the same destination or the same paths.

    Raises:
        DeploymentNotFound: There is none, or it is kept no more.
        RequestInvalid: One of them cannot be rolled back.
        StoreFailed: They cannot be read.
    """
    found, _ = await stored.of_board(board, 100)
    alive = [record for record in found if record.changed and record.outcome is not DeploymentOutcome.UNDONE]
    places = [place for place, record in enumerate(alive) if name in ("", record.name)]
    if not places:
        raise _missing(board, name)
    aim = alive[places[0]]
    aimed = await stored.changes(aim.name)
    records, changes = [], []
    for record in alive[: places[0]]:
        later = await stored.changes(record.name)
        if record.destination == aim.destination or overlap(later, aimed):
            records.append(record)
            changes.append(later)
    chosen = Targets((*records, aim), (*changes, aimed))
    for record in chosen.records:
        if not record.reversible:
            raise _refused(record, record.refusal)
    if any(not archive.holds(entry.digest) for entry in chosen.way.contents.values()):
        raise _refused(aim, "what it replaced is kept no more")
    return chosen


def _missing(board: str, name: str) -> DeploymentNotFound:
    if name:
        return DeploymentNotFound(
            f"board {board!r} had no deployment {name!r} that changed anything, or it is kept no more; "
            f"`belayctl drift {board}` tells what it had last",
            board=board,
            deployment=name,
        )
    return DeploymentNotFound(
        f"there is nothing to roll back: no deployment to board {board!r} that changed anything is on record",
        board=board,
    )


def _refused(record: DeploymentRecord, why: str) -> RequestInvalid:
    return RequestInvalid(
        f"deployment {record.name!r} of board {record.board!r} cannot be rolled back: {why}; deploy what the "
        "board shall have from its source",
        field="deployment",
        deployment=record.name,
    )
