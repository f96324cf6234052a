"""One rollout that has not ended: its course, and a task for each board under way.

Each step of a board and each state of the rollout goes on record as it comes about.
The task of a board that only waits ends when the rollout halts; one that works on
its board is let end by itself, but for the daemon's own end.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from belayd.access import Principal, Role, require_role
from belayd.archive import Archive
from belayd.audit import Deed, Trail
from belayd.deployment.plan import ManifestFile
from belayd.errors import BelaydError
from belayd.rollout.course import Course, Pace, State, Step
from belayd.rollout.delivery import Delivery
from belayd.rollout.hold import House
from belayd.rollout.intent import Intent
from belayd.rollout.shelf import Shelf
from belayd.rollout.visit import Errand, Failed, Visit
from belayd.store import RolloutBoardRecord, RolloutRecord, Rollouts

log = logging.getLogger(__name__)

Rights = Callable[[Principal], Principal]
"""Returns what a principal may do now; raises Unauthenticated for one who may not come in any more."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a rollout is carried out with.

    Attributes:
        archive: Has its contents.
        store: Where it is on record already.
    """

    house: House
    delivery: Delivery
    archive: Archive
    store: Rollouts
    trail: Trail
    rights: Rights


class LiveRollout:
    """One rollout from when it is on record to its end.

    Attributes:
        intent: What it is for.
        principal: Who began it.
    """

    def __init__(
        self,
        record: RolloutRecord,
        intent: Intent,
        principal: Principal,
        means: Means,
        ended: Callable[[], None],
    ) -> None:
        """`ended` is called once, when nothing will happen any more."""
        self.intent = intent
        self.principal = principal
        self._record = record
        self._means = means
        self._tell_ended = ended
        pace = Pace(record.canary, record.wave, record.parallel, record.max_failures)
        self._course = Course(pace, [board.board for board in record.boards])
        self._course.restore(
            State(record.state),
            record.state_reason,
            [Step(board.step) for board in record.boards],
            [board.message for board in record.boards],
        )
        self._desks = [_Desk(self, at, board) for at, board in enumerate(record.boards)]
        self._kept = [Step(board.step) for board in record.boards]
        self._shelf = Shelf(means.archive)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._closing = False

    @property
    def name(self) -> str:
        """Its name, without "rollouts/"."""
        return self._record.name

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._course.state

    @property
    def closing(self) -> bool:
        """Whether the daemon stops, and another goes on with it."""
        return self._closing

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self._record.ended is not None

    def record(self) -> RolloutRecord:
        """Return how it is now."""
        boards = tuple(self._board(at) for at in range(len(self._desks)))
        return replace(self._record, boards=boards)

    def news(self) -> asyncio.Event:
        """Return what is set when anything of it next changes."""
        return self._news

    def advance(self) -> None:
        """Begin with the boards whose turn it is; called once at first."""
        if self._closing or self.ended:
            return
        for at in self._course.begin():
            task = asyncio.create_task(
                self._visit(at), name=f"rollout {self.name}: {self._course.boards[at]}"
            )
            self._tasks[at] = task
            task.add_done_callback(functools.partial(self._visited, at))
        self._settle()

    def pause(self, why: str) -> None:
        """Begin with no further board; raises as `Course.pause`."""
        self._course.pause(why)
        self._settle()

    def resume(self) -> None:
        """Go on; raises as `Course.resume`."""
        self._course.resume()
        self.advance()

    def abort(self, why: str) -> None:
        """End for good; raises as `Course.abort`."""
        self._course.abort(why)
        self._settle()

    async def close(self) -> None:
        """Leave everything as it is, for the next daemon to go on with; every lease is given back."""
        self._closing = True
        self.changed()
        tasks = [*self._tasks.values(), *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def rights(self) -> Principal:
        """Return what its principal may do now.

        Raises:
            Unauthenticated, PermissionDenied: It may not go on.
        """
        principal = self._means.rights(self.principal)
        require_role(principal, Role.USER, "a rollout")
        return principal

    def changed(self, at: int | None = None) -> None:
        """Tell all who watch; put the board at a position on record. For its desks."""
        if at is not None:
            self._means.store.change_board(self.name, at, self._board(at))
        news, self._news = self._news, asyncio.Event()
        news.set()

    def moved(self, at: int, step: Step, message: str) -> None:
        """Note how far a board is; for its desk."""
        self._course.move(at, step, message)
        self._settle()

    async def _visit(self, at: int) -> None:
        desk, record = self._desks[at], self._record
        began = asyncio.get_running_loop().time()
        files = self.intent.files(desk.kept.board)
        try:
            principal = self.rights()
        except BelaydError as error:
            self.pause(error.message)  # which ends this visit as well
            return
        deed = Deed("rollout/deployed", desk.kept.board, what=_hash(files), detail=f"rollouts/{self.name}")
        try:
            errand = Errand(
                rollout=self.name,
                board=desk.kept.board,
                principal=principal,
                reason=record.reason or "rollout",
                intent=self.intent,
                contents=self._shelf.read,
                since=desk.kept.since,
                lease=desk.kept.lease,
            )
            desk.begin()
            await Visit(errand, self._means.house, self._means.delivery, desk).make()
        except Failed as error:
            # Not why: that may quote what users' code raised.
            log.warning("rollout %s: board %s failed", self.name, desk.kept.board)
            deed = replace(deed, outcome="board_error")
            self._course.fail(at, str(error))
        else:
            log.info("rollout %s: board %s is done", self.name, desk.kept.board)
            self._course.succeed(at)
        lasted = asyncio.get_running_loop().time() - began
        self._means.trail.happened(deed, self.principal.name, lasted)

    def _visited(self, at: int, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if self._tasks.get(at) is task:
            del self._tasks[at]
        if self._closing:
            return
        if not task.cancelled():
            if (error := task.exception()) is not None:
                log.critical("%s: belayd failed", task.get_name(), exc_info=error)
                self._course.fail(at, "belayd failed; its log has the trace")
            self.advance()

    def _settle(self) -> None:
        """End the tasks of boards that wait no longer, and put on record what changed."""
        for at, step in enumerate(self._course.steps):
            if step is Step.PENDING and (task := self._tasks.pop(at, None)) is not None:
                self._leaving.add(task)
                task.cancel()
            if step is not self._kept[at]:
                self._kept[at] = step
                self._means.store.change_board(self.name, at, self._board(at))
        state, why = self._course.state.value, self._course.why
        over = self._course.ended and not self.ended
        if over or (state, why) != (self._record.state, self._record.state_reason):
            log.info("rollout %s is %s", self.name, state)
            now = datetime.now(UTC) if over else None
            self._record = replace(self._record, state=state, state_reason=why, ended=now)
            self._means.store.change(self.name, state, why, now)
        self.changed()
        if over:
            self._tell_ended()

    def _board(self, at: int) -> RolloutBoardRecord:
        course = self._course
        return replace(self._desks[at].kept, step=course.steps[at].value, message=course.messages[at])


class _Desk:
    """Where one board's visits tell how far they are."""

    def __init__(self, live: LiveRollout, at: int, kept: RolloutBoardRecord) -> None:
        self.kept = kept
        self._live = live
        self._at = at

    def begin(self) -> None:
        """Forget what an earlier visit measured."""
        self.kept = replace(self.kept, written_bytes=0, total_bytes=0, wire_bytes=0, ran=0.0)

    def move(self, step: Step, message: str = "") -> None:
        self._live.moved(self._at, step, message)

    def measure(self, written_bytes: int, total_bytes: int) -> None:
        self.kept = replace(self.kept, written_bytes=written_bytes, total_bytes=total_bytes)
        self._live.changed()

    def spend(self, wire_bytes: int, ran: float) -> None:
        self.kept = replace(self.kept, wire_bytes=wire_bytes, ran=ran)
        self._live.changed()

    def ask(self, lease: str) -> None:
        self.kept = replace(self.kept, lease=lease)
        self._live.changed(self._at)

    def mark(self, since: str) -> None:
        self.kept = replace(self.kept, since=since)
        self._live.changed(self._at)


def _hash(files: Sequence[ManifestFile]) -> bytes:
    """Return the hash of a manifest as sha256sum would print it, by path; as that of a deployment by itself."""
    lines = sorted((file.path, file.sha256.hex()) for file in files)
    return hashlib.sha256("".join(f"{sha256}  {path}\n" for path, sha256 in lines).encode()).digest()
