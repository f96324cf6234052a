"""One deployment on record, from before anything is touched to its end.

What it replaces is kept, then it is put on record as open, then the board is
touched; that it is done is on record before the board forgets that it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from belayd.deployment.journal import Settled
from belayd.deployment.listing import Listing
from belayd.deployment.paths import check_destination
from belayd.deployment.plan import ManifestFile, Plan
from belayd.deployment.transfer import Options, Progress, Report
from belayd.records.changes import changes_of, touched, tree_of
from belayd.records.keeping import Keeping
from belayd.records.rolling import Targets
from belayd.records.unsettled import Unsettled
from belayd.session import Session
from belayd.store import Change, DeploymentOutcome, DeploymentRecord

Last = tuple[DeploymentRecord, Sequence[Change]]
"""A board's last deployment, and what it did."""
SETTLED = {Settled.COMPLETED: DeploymentOutcome.DONE, Settled.UNDONE: DeploymentOutcome.UNDONE}
_NOTHING = Listing(
    exists=False,
    is_file=False,
    files={},
    folders=frozenset(),
    leftovers={},
    unreadable_folders={},
    mounts=frozenset(),
    filesystems=(),
    usage=None,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who deploys to which board; `without_rollback` keeps nothing of what is replaced."""

    board: str
    principal: str
    without_rollback: bool = False


class Recording:
    """Puts one deployment on record; its methods are what `transfer.deploy` calls.

    Attributes:
        record: As far as it is known.
        needed: Hashes of contents to be kept for it.
    """

    def __init__(
        self,
        unsettled: Unsettled,
        keeping: Keeping,
        session: Session,
        asked: Asked,
        began: datetime,
        manifest: Sequence[ManifestFile],
        options: Options,
        last: Last | None,
        undoes: Targets | None,
    ) -> None:
        self.record = DeploymentRecord(
            name=secrets.token_hex(8),
            board=asked.board,
            principal=asked.principal,
            created=began,
            destination=check_destination(options.destination),
            in_place=options.in_place,
            changed=False,
            rolls_back=undoes.aim.name if undoes else "",
        )
        self.needed = keeping.begin(self.record.name)
        self._unsettled = unsettled
        self._keeping = keeping
        self._session = session
        self._asked = asked
        self._manifest = manifest
        self._last = last
        self._untouched = undoes.untouched if undoes else []
        self._own = {file.sha256 for file in manifest} | _hashes(undoes.changes if undoes else ())
        if last and last[0].principal == asked.principal:
            self._own |= _hashes([last[1]])
        if undoes:  # the deployment that it undoes may be dropped meanwhile
            self.needed.update(file.sha256 for file in manifest)
        self._plan: Plan | None = None
        self._begun = False

    def reports(self, report: Report) -> Report:
        """Return `report` as it is to be called: the plan is seen here too."""

        async def see(step: Plan | Progress) -> None:
            if isinstance(step, Plan):
                self._plan = step
            await report(step)

        return see

    async def remember(self, plan: Plan, found: Listing) -> None:
        """Keep what a plan will replace, and put the deployment on record.

        Raises:
            StoreFailed: It cannot be put on record.
            TransportLost, BoardUnresponsive, ...: The board went away meanwhile.
        """
        self._begun = True
        changes = changes_of(plan, found, self._manifest)
        if touched(changes):
            refusal = "nothing was kept of what it replaced, as was asked for"
            if not self._asked.without_rollback:
                changes, refusal = await self._keeping.keep(self._session, changes, self.needed, self._own)
            self.record = replace(
                self.record,
                changed=True,
                files_written=len(plan.write),
                files_deleted=len(plan.delete),
                payload_bytes=plan.payload_bytes,
                refusal=refusal,
            )
        else:
            self.record = replace(self.record, outcome=DeploymentOutcome.DONE)
        changes = _with(changes, self._untouched)
        if self.record.changed or not self._repeats(changes):
            await self._unsettled.begin(self.record, changes)

    async def told(self) -> None:
        """Put on record that the board has the new tree."""
        await self._unsettled.done(self.record.name)

    async def finish(self) -> None:
        """Put on record how it ended, as far as nobody did: well."""
        if self._begun:
            await self.told()
        elif self._plan is not None:  # nothing to do: but what the board shall have may be new
            await self.remember(self._plan, _NOTHING)

    def leave(self) -> None:
        """Say that it does not run any more, however it ended."""
        self._unsettled.leave(self.record.name)
        self._keeping.end(self.record.name)

    def _repeats(self, changes: Sequence[Change]) -> bool:
        if self._last is None:
            return False
        record, before = self._last
        return record.destination == self.record.destination and tree_of(before) == tree_of(changes)


def _hashes(deployments: Iterable[Iterable[Change]]) -> set[bytes]:
    return {
        entry.digest
        for changes in deployments
        for change in changes
        for entry in (change.before, change.after)
        if entry is not None
    }


def _with(changes: Sequence[Change], others: Iterable[Change]) -> list[Change]:
    paths = {change.path for change in changes}
    return [*changes, *(other for other in others if other.path not in paths)]
