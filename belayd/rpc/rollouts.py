"""DeploymentService's rollouts: begun, looked at, watched, paused, resumed and aborted.

Whoever sees all its boards may look at a rollout; its creator, and an operator who
sees them, may change its course.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from belayd import access
from belayd.access import Role
from belayd.allowance import Allowance
from belayd.blobs import Blobs
from belayd.deployment.paths import check_destination
from belayd.deployment.plan import ManifestFile, check_manifest
from belayd.errors import BoardNotFound, Draining, PermissionDenied, RequestInvalid
from belayd.rollout.conductor import MOST_BOARDS, Conductor, Wanted
from belayd.rollout.course import MOST_AT_ONCE, Pace, State, Step
from belayd.rollout.intent import BOARD_TIMEOUT, CHECK_TIMEOUT, Check, Intent, Tree
from belayd.rpc import auth, convert
from belayd.rpc.sight import Sight
from belayd.selector import Selector
from belayd.store import RolloutBoardRecord, RolloutRecord
from belayd.v1 import deployments_pb2, deployments_pb2_grpc

MOST_FILES = 10_000
"""Of each tree; all of them together may have twice as many."""
MOST_PARALLEL = 256
MOST_REASON = 256
MOST_CODE = 64 * 1024
MOST_PATTERNS = 1000
MOST_AN_HOUR = 3600
"""Boards in the rollouts of one principal in any hour: deployments wear boards and their flash."""
PAGE_SIZE = 50
COALESCE = 0.1
"""Seconds within which changes are sent as one."""
_MOST_NUMBER = 1 << 62  # SQLite counts in 64 bits, signed


class Rollouts(deployments_pb2_grpc.DeploymentServiceServicer):
    """The part of DeploymentService that concerns many boards."""

    def __init__(self, sight: Sight, conductor: Conductor, blobs: Blobs) -> None:
        self._sight = sight
        self._conductor = conductor
        self._blobs = blobs
        self._allowance = Allowance("boards in rollouts", MOST_AN_HOUR)

    async def CreateRollout(
        self, request: deployments_pb2.CreateRolloutRequest, context: Any
    ) -> deployments_pb2.CreateRolloutResponse:
        """See the proto."""
        principal = auth.principal(context)
        boards = self._boards(request)
        intent = _intent(request)
        intent.refuse_unfit(boards)
        self._refuse_unsent(principal.name, intent)
        for _ in boards:
            self._allowance.take(principal.name)
        wanted = Wanted(
            principal=principal,
            reason=convert.text(request.reason, "reason", MOST_REASON),
            boards=boards,
            pace=_pace(request),
            intent=intent,
            contents=lambda sha256: self._blobs.read(principal.name, sha256),
        )
        with self._blobs.pinned(principal.name, [file.sha256 for file in intent.contents()]):
            record = await self._conductor.create(wanted)
        return deployments_pb2.CreateRolloutResponse(rollout=_rollout(record))

    async def GetRollout(
        self, request: deployments_pb2.GetRolloutRequest, context: Any
    ) -> deployments_pb2.GetRolloutResponse:
        """See the proto."""
        return deployments_pb2.GetRolloutResponse(rollout=_rollout(await self._seen(request.name)))

    async def ListRollouts(
        self, request: deployments_pb2.ListRolloutsRequest, context: Any
    ) -> deployments_pb2.ListRolloutsResponse:
        """See the proto."""
        if not 0 <= request.page_size <= PAGE_SIZE:
            raise RequestInvalid(f"page_size: 0 to {PAGE_SIZE}", field="page_size")
        records, before = await self._conductor.list(
            request.page_size or PAGE_SIZE, _page(request.page_token)
        )
        return deployments_pb2.ListRolloutsResponse(
            rollouts=[_rollout(record) for record in records if self._shows(record)],
            next_page_token="" if before is None else str(before),
        )

    async def WatchRollout(self, request: deployments_pb2.WatchRolloutRequest, context: Any) -> None:
        """See the proto."""
        while True:
            # Asked for before reading: what comes meanwhile is not missed.
            live = self._conductor.live(convert.rollout_name(request.name))
            news = live.news() if live else None
            record = await self._seen(request.name)
            await context.write(deployments_pb2.WatchRolloutResponse(rollout=_rollout(record)))
            if record.ended is not None or news is None:
                return
            await news.wait()
            if live is not None and live.closing:
                raise Draining(
                    "the daemon is stopping; the rollout goes on, and can be watched, when it is back"
                )
            await asyncio.sleep(COALESCE)

    async def PauseRollout(
        self, request: deployments_pb2.PauseRolloutRequest, context: Any
    ) -> deployments_pb2.PauseRolloutResponse:
        """See the proto."""
        why = convert.text(request.reason, "reason", MOST_REASON)
        record = await self._own(request.name)
        paused = await self._conductor.pause(record.name, _by("paused by", context, why))
        return deployments_pb2.PauseRolloutResponse(rollout=_rollout(paused))

    async def ResumeRollout(
        self, request: deployments_pb2.ResumeRolloutRequest, context: Any
    ) -> deployments_pb2.ResumeRolloutResponse:
        """See the proto."""
        record = await self._own(request.name)
        resumed = await self._conductor.resume(record.name)
        return deployments_pb2.ResumeRolloutResponse(rollout=_rollout(resumed))

    async def AbortRollout(
        self, request: deployments_pb2.AbortRolloutRequest, context: Any
    ) -> deployments_pb2.AbortRolloutResponse:
        """See the proto."""
        why = convert.text(request.reason, "reason", MOST_REASON)
        record = await self._own(request.name)
        aborted = await self._conductor.abort(record.name, _by("aborted by", context, why))
        return deployments_pb2.AbortRolloutResponse(rollout=_rollout(aborted))

    def _boards(self, request: deployments_pb2.CreateRolloutRequest) -> list[str]:
        if len(request.boards) > MOST_BOARDS:
            raise RequestInvalid(f"boards: at most {MOST_BOARDS}", field="boards")
        if request.boards:
            named = [convert.board_name(name, "boards") for name in request.boards]
            return [self._sight.board(name).name for name in named]
        if not request.selector.strip():
            raise RequestInvalid("boards or selector: say which boards are meant", field="boards")
        boards = self._sight.select(Selector.parse(request.selector))
        if not boards:
            raise BoardNotFound(
                f"no board matches {request.selector!r}; belayctl boards shows their labels",
                selector=request.selector,
            )
        return [board.name for board in boards]

    def _refuse_unsent(self, owner: str, intent: Intent) -> None:
        for tree in intent.trees:
            for file in tree.files:
                size = self._blobs.size(owner, file.sha256)
                if size == file.size:
                    continue
                problem = "its content was not sent, or went unused for too long; send it again"
                if size is not None:
                    problem = f"its content has {size} bytes, not {file.size} bytes"
                raise RequestInvalid(f"path {file.path!r}: {problem}", field="trees", path=file.path)

    async def _seen(self, resource: str) -> RolloutRecord:
        """Return a rollout if the caller may see it."""
        record = await self._conductor.get(convert.rollout_name(resource))
        if not self._shows(record):
            raise PermissionDenied(
                f"rollout {record.name!r} has boards that are not among those of {auth.current().name!r}",
                rollout=record.name,
            )
        return record

    async def _own(self, resource: str) -> RolloutRecord:
        """Return a rollout if the caller may change its course."""
        record = await self._seen(resource)
        if record.principal != auth.current().name:
            access.require_role(auth.current(), Role.OPERATOR, f"a rollout of {record.principal!r}")
        return record

    def _shows(self, record: RolloutRecord) -> bool:
        mine = record.principal == auth.current().name
        return mine or all(self._sight.shows(board.board) for board in record.boards)


def _by(verb: str, context: Any, why: str) -> str:
    by = f"{verb} {auth.principal(context).name}"
    return f"{by}: {why}" if why else by


def _pace(request: deployments_pb2.CreateRolloutRequest) -> Pace:
    if request.parallel > MOST_PARALLEL:
        raise RequestInvalid(f"parallel: at most {MOST_PARALLEL}; 0 for {MOST_AT_ONCE}", field="parallel")
    bounded = [min(number, MOST_BOARDS) for number in (request.canary, request.wave, request.max_failures)]
    return Pace(bounded[0], bounded[1], request.parallel, bounded[2])


def _intent(request: deployments_pb2.CreateRolloutRequest) -> Intent:
    if sum(len(tree.files) for tree in request.trees) > 2 * MOST_FILES:
        raise RequestInvalid(f"trees: at most {2 * MOST_FILES} files in all", field="trees")
    if not request.trees:
        raise RequestInvalid("trees: there is none", field="trees")
    if len(request.keep) > MOST_PATTERNS:
        raise RequestInvalid(f"keep: at most {MOST_PATTERNS} patterns", field="keep")
    return Intent(
        trees=tuple(_tree(tree) for tree in request.trees),
        destination=check_destination(request.destination or "/"),
        prune=request.prune,
        keep=tuple(request.keep),
        prune_also=tuple(request.prune_also),
        in_place=request.in_place,
        check=_check(request.check) if request.HasField("check") else None,
        keep_failed=request.keep_failed,
        timeout=convert.seconds(request, "timeout", least=1.0) or BOARD_TIMEOUT,
    )


def _tree(message: deployments_pb2.RolloutTree) -> Tree:
    if len(message.files) > MOST_FILES:
        raise RequestInvalid(f"trees: at most {MOST_FILES} files in one", field="trees")
    files: Sequence[ManifestFile] = [
        ManifestFile(file.path, file.sha256, file.size) for file in message.files
    ]
    check_manifest(files)
    return Tree(tuple(convert.board_name(board, "trees") for board in message.boards), tuple(files))


def _check(message: deployments_pb2.HealthCheck) -> Check:
    kind = message.WhichOneof("code")
    if kind is None:
        raise RequestInvalid("check: expression or source must be given", field="check")
    code: str = getattr(message, kind)
    if not code.strip() or len(code.encode()) > MOST_CODE:
        raise RequestInvalid(f"check: code of 1 to {MOST_CODE} bytes", field="check")
    timeout = convert.seconds(message, "timeout", least=0.1, most=3600.0) or CHECK_TIMEOUT
    return Check(code, expression=kind == "expression", timeout=timeout)


def _rollout(record: RolloutRecord) -> deployments_pb2.Rollout:
    message = deployments_pb2.Rollout(
        name=f"rollouts/{record.name}",
        state=_STATES[State(record.state)],
        state_reason=record.state_reason,
        principal=record.principal,
        reason=record.reason,
        create_time=convert.timestamp(record.created),
        boards=[_board(board) for board in record.boards],
        canary=record.canary,
        wave=record.wave,
        parallel=record.parallel,
        max_failures=record.max_failures,
    )
    if record.ended is not None:
        message.end_time.CopyFrom(convert.timestamp(record.ended))
    return message


def _board(record: RolloutBoardRecord) -> deployments_pb2.RolloutBoard:
    return deployments_pb2.RolloutBoard(
        board=f"boards/{record.board}",
        wave=record.wave,
        step=_STEPS[Step(record.step)],
        message=record.message,
        written_bytes=record.written_bytes,
        total_bytes=record.total_bytes,
        wire_bytes=record.wire_bytes,
        ran=convert.duration(record.ran),
    )


_STATES = {
    State.RUNNING: deployments_pb2.ROLLOUT_STATE_RUNNING,
    State.PAUSED: deployments_pb2.ROLLOUT_STATE_PAUSED,
    State.STOPPED: deployments_pb2.ROLLOUT_STATE_STOPPED,
    State.DONE: deployments_pb2.ROLLOUT_STATE_DONE,
    State.ABORTED: deployments_pb2.ROLLOUT_STATE_ABORTED,
}
_STEPS = {
    Step.PENDING: deployments_pb2.ROLLOUT_STEP_PENDING,
    Step.WAITING: deployments_pb2.ROLLOUT_STEP_WAITING,
    Step.DEPLOYING: deployments_pb2.ROLLOUT_STEP_DEPLOYING,
    Step.CHECKING: deployments_pb2.ROLLOUT_STEP_CHECKING,
    Step.ROLLING_BACK: deployments_pb2.ROLLOUT_STEP_ROLLING_BACK,
    Step.DONE: deployments_pb2.ROLLOUT_STEP_DONE,
    Step.FAILED: deployments_pb2.ROLLOUT_STEP_FAILED,
}


def _page(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdecimal() and len(token) < 20 and int(token) <= _MOST_NUMBER):
        raise RequestInvalid("page_token: not one that this daemon gave", field="page_token")
    return int(token)
