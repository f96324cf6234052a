"""What is done with a board's session in a rollout: its files written, and given back.

The one place that knows how deployments are carried out and put on record, so that a
rollout's are as any other's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from belayd.archive import Archive
from belayd.deployment.plan import ManifestFile, Plan
from belayd.deployment.transfer import Contents, Options, Progress, Report
from belayd.errors import BelaydError, PermissionDenied
from belayd.events import DeploymentEnded, Events
from belayd.records import Asked, Deployed, Records
from belayd.session import Session
from belayd.store import DeploymentOutcome, DeploymentRecord

NONE = "-"
"""Of a board that had no deployment."""
_MOST_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Parcel:
    """One deployment to one board, for `principal`."""

    board: str
    principal: str
    manifest: Sequence[ManifestFile]
    contents: Contents
    options: Options
    report: Report


class Delivery:
    """Carries out deployments and rolls them back, as jobs of their boards."""

    def __init__(self, records: Records, archive: Archive, events: Events) -> None:
        self._records = records
        self._archive = archive
        self._events = events

    async def last(self, board: str) -> str:
        """Return the name of a board's last deployment; NONE if it had none."""
        found, _ = await self._records.of_board(board, 1)
        return found[0].name if found else NONE

    async def deploy(self, session: Session, parcel: Parcel) -> None:
        """Make the board's files equal to the parcel's; raises as `Records.deploy`."""
        deployment = self._records.deploy(
            session,
            Asked(parcel.board, parcel.principal),
            parcel.manifest,
            parcel.contents,
            parcel.options,
            parcel.report,
            self._archive.path,
        )
        await self._told(parcel.board, deployment)

    async def roll_back(self, session: Session, board: str, principal: str, since: str) -> bool:
        """Bring back what was replaced since the deployment called `since`; return whether that was anything.

        Raises:
            RequestInvalid: It cannot be brought back; the message says why.
            PermissionDenied: Somebody else has deployed to the board since.
            BelaydError: As `Records.deploy`.
        """
        await self._records.look(session, board)
        found, _ = await self._records.of_board(board, _MOST_LOOKED_AT)
        changed = [
            record for record in takewhile(lambda record: record.name != since, found) if _counts(record)
        ]
        if not changed:
            return False

        def allow(record: DeploymentRecord) -> None:
            if record.principal != principal:
                raise PermissionDenied(f"{record.principal!r} has deployed to it meanwhile", board=board)

        asked = Asked(board, principal)
        await self._told(
            board, self._records.roll_back(session, asked, changed[-1].name, _nobody, allow=allow)
        )
        return True

    async def _told(self, board: str, deployment: Awaitable[Deployed]) -> None:
        """Await a deployment, and publish how it ended."""
        now = asyncio.get_running_loop().time
        began = now()
        try:
            deployed = await deployment
        except BelaydError as error:
            self._tell(board, error.reason.lower(), None, now() - began)
            raise
        self._tell(board, "ok", deployed, now() - began)

    def _tell(self, board: str, outcome: str, deployed: Deployed | None, ran: float) -> None:
        payload, wire, skipped = 0, 0, 0
        if deployed is not None:
            summary = deployed.summary
            payload, wire, skipped = summary.payload_bytes, summary.wire_bytes, summary.skipped_bytes
        self._events.publish(DeploymentEnded(board, outcome, payload, wire, skipped, ran))


def _counts(record: DeploymentRecord) -> bool:
    return record.changed and record.outcome is not DeploymentOutcome.UNDONE


async def _nobody(step: Plan | Progress) -> None:
    """Hear nothing of how far it is."""
