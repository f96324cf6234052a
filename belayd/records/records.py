"""The deployments of one daemon's boards: put on record, rolled back, compared with what boards have.

Nothing of a deployment touches a board before what it replaces is kept and the
deployment is on record as open. What becomes of one that breaks off is told by
whoever settles it on the board (an event), else by a look at the board as soon as
it serves again, or when something is next asked of its deployments.

Leaves to others: who may ask (`rpc`), how files get there (`deployment`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from belayd.archive import Archive
from belayd.deployment import transfer
from belayd.deployment.plan import ManifestFile, Plan
from belayd.deployment.transfer import Contents, Options, Progress, Report, Summary
from belayd.errors import BelaydError, StoreFailed
from belayd.events import Event
from belayd.records import looking
from belayd.records.changes import Drift, tree_of
from belayd.records.keeping import Keeping, ReadFile
from belayd.records.recording import SETTLED, Asked, Recording
from belayd.records.rolling import Targets, targets
from belayd.records.unsettled import Unsettled
from belayd.session import Session
from belayd.store import Change, DeploymentOutcome, DeploymentRecord, Deployments

log = logging.getLogger(__name__)

SWEEP = 3600.0
"""Seconds between two looks for what is too old to be kept."""
Locate = Callable[[bytes], Path | None]
"""Returns the file of a content, if there is one."""
Allow = Callable[[DeploymentRecord], None]
"""Raises what refuses somebody to roll a deployment back."""


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """What is kept: of each board so many deployments that changed something, none longer than `age`."""

    deployments: int = 5
    age: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Deployed:
    """How a deployment ended.

    Attributes:
        name: Under which it can be rolled back; "" if it cannot.
        refusal: Why it cannot although it changed something; "" else.
    """

    summary: Summary
    name: str = ""
    refusal: str = ""


def _nowhere(sha256: bytes) -> Path | None:
    return None


def _anybody(record: DeploymentRecord) -> None:
    """Let roll back."""


class Records:
    """What was deployed to the boards, from `start` on.

    Args:
        archive: Its own alone.
        read_file: Reads what nobody holds.
    """

    def __init__(
        self,
        stored: Deployments,
        archive: Archive,
        read_file: ReadFile,
        limits: RecordLimits | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stored = stored
        self._archive = archive
        self._keeping = Keeping(archive, stored, read_file)
        self._unsettled = Unsettled(stored)
        self._limits = limits or RecordLimits()
        self._wall = wall

    async def start(self) -> None:
        """Learn which deployments broke off with an earlier daemon.

        Raises:
            StoreFailed: They cannot be read.
        """
        await self._unsettled.start()

    def hear(self, event: Event) -> None:
        """Take note of what became of a deployment, and when a board serves again that one broke off on."""
        self._unsettled.hear(event)

    async def watch(self, visit: Callable[[str], Awaitable[None]]) -> None:
        """Look after what broke off, and after what is kept for too long, until cancelled.

        `visit` runs `look` on a board as a job of its own.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP):
                    await self._unsettled.news.wait()
            for board in self._unsettled.due():
                try:
                    await visit(board)
                except BelaydError as error:
                    log.info("board %s: what became of its last deployment: %s", board, error.message)
            try:
                await self.sweep()
            except StoreFailed as error:
                log.warning("deployments: %s", error.message)

    async def sweep(self) -> None:
        """Forget what is too old, and contents that nothing names any more.

        Raises:
            StoreFailed: What is kept cannot be told.
        """
        self._stored.expire(self._wall() - self._limits.age, self._limits.deployments)
        await self._keeping.sweep()

    # Jobs, in the board's own task

    async def deploy(
        self,
        session: Session,
        asked: Asked,
        manifest: Sequence[ManifestFile],
        contents: Contents,
        options: Options,
        report: Report,
        locate: Locate = _nowhere,
    ) -> Deployed:
        """Deploy, and put it on record; as `transfer.deploy`.

        `locate` tells of contents that are files already, so that they can be kept at no cost.

        Raises:
            StoreFailed: It cannot be put on record; nothing was touched.
            And as `transfer.deploy`: then what became of it is found out later.
        """
        if options.dry_run:
            report = self._hears(asked.board, report)
            return Deployed(await transfer.deploy(session, manifest, contents, options, report))
        return await self._carry_out(session, asked, manifest, contents, options, report, locate)

    async def roll_back(
        self,
        session: Session,
        asked: Asked,
        name: str,
        report: Report,
        *,
        allow: Allow = _anybody,
        dry_run: bool = False,
        in_place: bool = False,
    ) -> Deployed:
        """Bring a board back to what it had before a deployment; "" names its last that changed something.

        In place too if one that is undone was. `allow` is asked for each deployment that is undone by that.

        Raises:
            DeploymentNotFound, RequestInvalid: There is none, or it cannot be.
            And as `deploy`.
        """
        await self.look(session, asked.board)
        chosen = await self.choose(asked.board, name, allow)
        way = chosen.way
        sizes = [entry.size for changes in chosen.changes for entry in tree_of(changes).values()]
        options = Options(
            destination=way.destination,
            dry_run=dry_run,
            only=way.only,
            folders=way.folders,
            hashed_bytes=max(sizes, default=-1),
            in_place=in_place or any(record.in_place for record in chosen.records),
        )
        contents = self._archive.read
        if dry_run:
            report = self._hears(asked.board, report)
            return Deployed(await transfer.deploy(session, way.manifest, contents, options, report))
        return await self._carry_out(
            session, asked, way.manifest, contents, options, report, _nowhere, chosen
        )

    async def look(self, session: Session, board: str) -> None:
        """Find out from what a board has what became of deployments that broke off.

        Raises:
            Unsupported, InternalError: The board does not tell.
            TransportLost, BoardUnresponsive, ...: It went away.
        """
        await self._unsettled.look(session, board)

    async def drift(self, session: Session, board: str) -> tuple[DeploymentRecord, Drift] | None:
        """Compare what a board has with what its last deployment left; None if it had none.

        Raises:
            Unsupported, InternalError: The board does not tell.
            TransportLost, BoardUnresponsive, ...: It went away.
        """
        await self.look(session, board)
        last = await self._last(board)
        if last is None:
            return None
        return last[0], await looking.drift_of(session, *last)

    # For whoever asks

    async def choose(self, board: str, name: str, allow: Allow) -> Targets:
        """Return what rolling back would undo; as `roll_back`, without touching the board."""
        chosen = await targets(self._stored, self._archive, board, name)
        for record in chosen.records:
            allow(record)
        return chosen

    async def of_board(
        self, board: str, limit: int, page: int | None = None
    ) -> tuple[list[DeploymentRecord], int | None]:
        """Return a board's deployments, newest first, and what asks for those before them.

        Raises:
            StoreFailed: They cannot be read.
        """
        return await self._stored.of_board(board, limit, page)

    async def _carry_out(
        self,
        session: Session,
        asked: Asked,
        manifest: Sequence[ManifestFile],
        contents: Contents,
        options: Options,
        report: Report,
        locate: Locate,
        undoes: Targets | None = None,
    ) -> Deployed:
        await self.look(session, asked.board)
        last = await self._last(asked.board)
        sizes = [entry.size for entry in tree_of(last[1]).values()] if last else []
        options = replace(options, hashed_bytes=max((options.hashed_bytes, *sizes)))
        recording = Recording(
            self._unsettled, self._keeping, session, asked, self._wall(), manifest, options, last, undoes
        )
        report = recording.reports(self._hears(asked.board, report))
        try:
            summary = await transfer.deploy(
                session, manifest, contents, options, report, recording.remember, recording.told
            )
            await recording.finish()
            files = [(file.sha256, file.size, locate(file.sha256)) for file in manifest]
            located = [(sha256, size, path) for sha256, size, path in files if path is not None]
            recording.needed.update(sha256 for sha256, _, _ in located)
            await self._archive.adopt(located)
        finally:
            recording.leave()
            self._unsettled.news.set()  # what is not needed any more goes
        record = recording.record
        if not record.changed:
            return Deployed(summary)
        return Deployed(summary, "" if record.refusal else record.name, record.refusal)

    def _hears(self, board: str, report: Report) -> Report:
        """Return `report`, with a note taken of what was found broken off and settled."""

        async def hear(step: Plan | Progress) -> None:
            if isinstance(step, Plan) and step.settled is not None:
                self._unsettled.settle(board, SETTLED[step.settled])
            await report(step)

        return hear

    async def _last(self, board: str) -> tuple[DeploymentRecord, list[Change]] | None:
        found, _ = await self._stored.of_board(board, 100)
        for record in found:
            if record.outcome is not DeploymentOutcome.UNDONE:
                return record, await self._stored.changes(record.name)
        return None
