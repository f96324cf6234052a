"""All rollouts of one daemon: begun, paused, resumed, aborted, carried on after a restart.

A rollout's contents are kept in an archive of its own until it has ended, since its
creator's client has left by then. Whatever is told to a caller is on record before.

Leaves to others: who may ask, and which boards they see (`rpc`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from belayd.access import Principal, Role
from belayd.archive import Archive
from belayd.audit import Trail
from belayd.errors import BelaydError, Draining, QuotaExceeded, RequestInvalid, RolloutNotFound, StoreFailed
from belayd.events import Events
from belayd.fleet import Fleet
from belayd.leasing import Leasing
from belayd.records import Records
from belayd.rollout.course import Pace, State, Step, waves
from belayd.rollout.delivery import Delivery
from belayd.rollout.hold import House
from belayd.rollout.intent import Intent, Unreadable
from belayd.rollout.live import LiveRollout, Means, Rights
from belayd.selector import Selector
from belayd.store import RolloutBoardRecord, RolloutRecord, Store

log = logging.getLogger(__name__)

MOST_PER_PRINCIPAL = 8
MOST = 32
"""Rollouts that have not ended; each keeps its manifests in memory, up to some 5 MB, and its contents on disk."""
MOST_BYTES_PER_PRINCIPAL = 128 * 1024 * 1024
"""Of contents in those; half of what the archive takes, so that one user leaves room for another."""
MOST_BOARDS = 1000
LOOK = 1.0
"""Seconds between two looks whether the principals of rollouts may still do what they began."""
PATIENCE = timedelta(days=14)
"""Until one that nobody resumes is aborted, so that its contents do not stay for ever."""
RETRY = 1.0
"""Seconds between two attempts to put on record that one has ended, while the store fails."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rollout that somebody wants, over `boards` in their order.

    Attributes:
        contents: Reads one of its contents as the principal brought it.
    """

    principal: Principal
    reason: str
    boards: Sequence[str]
    pace: Pace
    intent: Intent
    contents: Callable[[bytes], Awaitable[bytes]]


class Conductor:
    """The rollouts; `open` once the boards are there, `close` before they go."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._live: dict[str, LiveRollout] = {}
        self._coming: dict[str, Wanted] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Go on with what had not ended when the last daemon did.

        Raises:
            StoreFailed: What that is cannot be read.
        """
        for record in await self._means.store.unended():
            try:
                principal = Principal(record.principal, Role(record.role), Selector.parse(record.selector))
                live = self._take(record, Intent.from_bytes(record.intent), principal)
            except (Unreadable, RequestInvalid, ValueError) as error:
                log.error("rollout %s of an earlier daemon cannot be carried on: %s", record.name, error)
                why = f"the daemon that was started since cannot read it: {error}"
                self._means.store.change(record.name, State.ABORTED.value, why, datetime.now(UTC))
                continue
            log.info("rollout %s goes on: %s", live.name, live.state.value)
            live.advance()
        await self._sweep()

    async def watch(self) -> None:
        """Pause those whose principals may not go on, and abort those that nobody resumes, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            for live in list(self._live.values()):
                self._look(live)

    async def close(self) -> None:
        """Begin nothing more, and interrupt what is under way; the next daemon goes on with it."""
        self._closing = True
        await asyncio.gather(*(live.close() for live in self._live.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def live(self, name: str) -> LiveRollout | None:
        """Return a rollout; None if there is none, or it has ended."""
        return self._live.get(name)

    async def get(self, name: str) -> RolloutRecord:
        """Return a rollout as it is now.

        Raises:
            RolloutNotFound: There is none, or no more.
            StoreFailed: It cannot be read.
        """
        live = self._live.get(name)
        record = live.record() if live else await self._means.store.get(name)
        if record is None:
            raise RolloutNotFound(
                f"there is no rollout {name!r}, or it is kept no more; `belayctl rollouts` lists them",
                rollout=name,
            )
        return record

    async def list(self, limit: int, page: int | None) -> tuple[list[RolloutRecord], int | None]:
        """Return rollouts, newest first, and the `page` of those before them; raises as `get`."""
        records, before = await self._means.store.list(limit, page)
        return [live.record() if (live := self._live.get(each.name)) else each for each in records], before

    async def create(self, wanted: Wanted) -> RolloutRecord:
        """Begin a rollout and return it once it is on record; cancelled before that, it does not begin.

        Raises:
            QuotaExceeded: The principal has too many, or there is no room for the contents.
            RequestInvalid: Boards or trees are wrong, or contents are not there.
            Draining: The daemon stops.
            StoreFailed: It cannot be put on record; nothing was done.
        """
        if self._closing:
            raise Draining("the daemon is stopping; begin the rollout when it is back")
        _refuse_unfit(wanted)
        self._refuse_greed(wanted)
        name = secrets.token_hex(8)
        self._coming[name] = wanted
        live: LiveRollout | None = None
        begun = False
        try:
            await self._keep(wanted)
            record = _record(name, wanted, await asyncio.to_thread(wanted.intent.to_bytes))
            self._means.store.create(record)
            live = self._take(record, wanted.intent, wanted.principal)
            await self._means.store.settled()
            begun = True
        finally:
            del self._coming[name]
            if live is not None and not begun:
                live.abort("it could not be put on record, or its creator left before it was")
            elif live is None:
                self._follow(self._sweep(), f"sweep after {name}")
        log.info("rollout %s of %s begins: %d boards", name, wanted.principal.name, len(wanted.boards))
        live.advance()
        return live.record()

    async def pause(self, name: str, why: str) -> RolloutRecord:
        """Begin with no further board of a rollout; raises as `Course.pause` and `get`."""
        return await self._change(name, lambda live: live.pause(why))

    async def resume(self, name: str) -> RolloutRecord:
        """Go on with a rollout; raises as `Course.resume` and `get`."""
        return await self._change(name, lambda live: live.resume())

    async def abort(self, name: str, why: str) -> RolloutRecord:
        """End a rollout for good; raises as `Course.abort` and `get`."""
        if name not in self._live and (record := await self.get(name)).state == State.ABORTED.value:
            return record
        return await self._change(name, lambda live: live.abort(why))

    async def _change(self, name: str, change: Callable[[LiveRollout], None]) -> RolloutRecord:
        record = await self.get(name)
        live = self._live.get(name)
        if live is None:
            raise RequestInvalid(f"rollout {name!r} has ended, {record.state}; begin another", field="name")
        change(live)
        record = live.record()
        await self._means.store.settled()
        return record

    def _take(self, record: RolloutRecord, intent: Intent, principal: Principal) -> LiveRollout:
        name = record.name
        ended = lambda: self._follow(self._forget(name), f"end of rollout {name}")  # noqa: E731
        live = self._live[name] = LiveRollout(
            replace(record, intent=b""), intent, principal, self._means, ended
        )
        return live

    def _look(self, live: LiveRollout) -> None:
        if live.state is State.RUNNING:
            try:
                live.rights()
            except BelaydError as error:
                live.pause(error.message)
        elif live.state in (State.PAUSED, State.STOPPED):
            record = live.record()
            if datetime.now(UTC) - record.created > PATIENCE:
                live.abort(f"nobody resumed it within {PATIENCE.days} days: {record.state_reason}")

    async def _keep(self, wanted: Wanted) -> None:
        archive = self._means.archive
        for file in wanted.intent.contents():
            if not archive.holds(file.sha256):
                await archive.keep(file.sha256, await wanted.contents(file.sha256))

    async def _forget(self, name: str) -> None:
        """Let a rollout go that has ended, once that is on record."""
        while True:
            try:
                await self._means.store.settled()
                break
            except StoreFailed:
                await asyncio.sleep(RETRY)
        self._live.pop(name, None)
        await self._sweep()

    async def _sweep(self) -> None:
        """Forget the contents that no rollout needs any more."""
        intents = [
            *(live.intent for live in self._live.values()),
            *(each.intent for each in self._coming.values()),
        ]
        await self._means.archive.retain({file.sha256 for intent in intents for file in intent.contents()})

    def _follow(self, body: Awaitable[None], name: str) -> None:
        async def follow() -> None:
            with contextlib.suppress(OSError):
                await body

        task = asyncio.create_task(follow(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse_greed(self, wanted: Wanted) -> None:
        name = wanted.principal.name
        others: list[LiveRollout | Wanted] = [*self._live.values(), *self._coming.values()]
        mine = [other.intent for other in others if other.principal.name == name]
        if len(mine) >= MOST_PER_PRINCIPAL:
            raise QuotaExceeded(
                f"{name!r} has {len(mine)} rollouts that have not ended, and may have {MOST_PER_PRINCIPAL}; "
                "abort those that are not wanted any more",
                limit=MOST_PER_PRINCIPAL,
            )
        sizes = {file.sha256: file.size for intent in (*mine, wanted.intent) for file in intent.contents()}
        if sum(sizes.values()) > MOST_BYTES_PER_PRINCIPAL:
            raise QuotaExceeded(
                f"the contents of {name!r}'s rollouts that have not ended would take {sum(sizes.values())} bytes "
                f"of the {MOST_BYTES_PER_PRINCIPAL} they may; abort those that are not wanted any more",
                limit=MOST_BYTES_PER_PRINCIPAL,
            )
        if len(self._live) + len(self._coming) >= MOST:
            raise QuotaExceeded(f"{MOST} rollouts have not ended; there may be no more now", limit=MOST)


def conductor_of(
    fleet: Fleet,
    leasing: Leasing,
    events: Events,
    records: Records,
    folder: Path,
    store: Store,
    trail: Trail,
    rights: Rights,
) -> Conductor:
    """Return the conductor of a daemon whose other parts these are; `folder` is for its archive alone."""
    archive = Archive(folder)
    house = House(fleet, leasing, events)
    delivery = Delivery(records, archive, events)
    return Conductor(Means(house, delivery, archive, store.rollouts, trail, rights))


def _refuse_unfit(wanted: Wanted) -> None:
    if not 0 < len(wanted.boards) <= MOST_BOARDS:
        raise RequestInvalid(f"boards: 1 to {MOST_BOARDS}, not {len(wanted.boards)}", field="boards")
    if len(set(wanted.boards)) < len(wanted.boards):
        raise RequestInvalid("boards: each once", field="boards")
    wanted.intent.refuse_unfit(wanted.boards)


def _record(name: str, wanted: Wanted, intent: bytes) -> RolloutRecord:
    placed = zip(wanted.boards, waves(wanted.pace, len(wanted.boards)), strict=True)
    boards = tuple(RolloutBoardRecord(board, wave, Step.PENDING.value) for board, wave in placed)
    return RolloutRecord(
        name=name,
        principal=wanted.principal.name,
        role=int(wanted.principal.role),
        selector=str(wanted.principal.selector),
        reason=wanted.reason,
        created=datetime.now(UTC),
        canary=wanted.pace.canary,
        wave=wanted.pace.wave,
        parallel=wanted.pace.parallel,
        max_failures=wanted.pace.max_failures,
        state=State.RUNNING.value,
        state_reason="",
        ended=None,
        boards=boards,
        intent=intent,
    )
