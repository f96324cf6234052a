"""Rollouts: one deployment over many boards, which the daemon carries on without its client."""

from __future__ import annotations

import enum
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client import deployment, project
from belayd_client.board import bare, resource
from belayd_client.deployment import DeploymentOptions
from belayd_client.errors import RequestInvalid
from belayd_client.link import Link
from belayd_client.preparation.replacing import replacing
from belayd_client.project import Project
from belayd_client.times import to_datetime, to_duration, to_seconds

_RPC_TIMEOUT = 30.0
_CREATE_TIMEOUT = 600.0
"""Seconds; creating waits until the daemon has kept every content on its disk."""
_DEFAULTS = DeploymentOptions()


class RolloutState(enum.Enum):
    """What a rollout is doing."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    ABORTED = "aborted"


class RolloutStep(enum.Enum):
    """How far a board of a rollout is."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    WAITING = "waiting"
    DEPLOYING = "deploying"
    CHECKING = "checking"
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RolloutBoard:
    """One board of a rollout.

    Attributes:
        wave: 0 for the canaries.
        message: What it waits for, or why it failed and what it has; else empty.
        ran: Seconds that it was worked on.
    """

    board: str
    wave: int
    step: RolloutStep
    message: str
    written_bytes: int
    total_bytes: int
    wire_bytes: int
    ran: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it was a moment ago; `ended` is None if it has not.

    Attributes:
        name: Bare, such as "3f9a0c11d2e4b587".
        state_reason: Why it is STOPPED, PAUSED or ABORTED; else empty.
        principal: Who began it, and `reason` why.
        canary, wave, parallel, max_failures: As they were asked for.
    """

    name: str
    state: RolloutState
    state_reason: str
    principal: str
    reason: str
    created: datetime
    ended: datetime | None
    boards: tuple[RolloutBoard, ...]
    canary: int
    wave: int
    parallel: int
    max_failures: int

    @property
    def halted(self) -> bool:
        """Whether nothing goes on and nothing will, unless somebody resumes it."""
        stays = (RolloutStep.PENDING, RolloutStep.DONE, RolloutStep.FAILED)
        return self.state is not RolloutState.RUNNING and all(board.step in stays for board in self.boards)


@dataclass(frozen=True, slots=True)
class RolloutTree:
    """What some boards shall have; no `boards` are those that no other tree names."""

    project: Project
    boards: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What shows that a board works after a soft reset: exactly one of an expression and statements.

    Attributes:
        expression: Healthy if it is true.
        source: Healthy if it ends without an exception.
        timeout: Seconds; None is the daemon's 30.
    """

    expression: str = ""
    source: str = ""
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class RolloutPace:
    """How a rollout goes; 0 is for all at once, of which 32 go at a time.

    Attributes:
        canary: Boards that go first and must all succeed.
        wave: Boards of each wave after that.
        parallel: Boards at once.
        max_failures: Boards that may fail; one more stops the rollout.
    """

    canary: int = 0
    wave: int = 0
    parallel: int = 0
    max_failures: int = 0


_EVEN = RolloutPace()


class Rollouts:
    """What a client does with rollouts."""

    _link: Link

    def create_rollout(
        self,
        folder: str | os.PathLike[str] | Project | Sequence[RolloutTree],
        boards: Sequence[str] = (),
        *,
        selector: str | None = None,
        pace: RolloutPace = _EVEN,
        check: HealthCheck | None = None,
        keep_failed: bool = False,
        options: DeploymentOptions = _DEFAULTS,
        ignore: Sequence[str] = (),
        timeout: float | None = None,
        reason: str = "",
    ) -> Rollout:
        """Begin a rollout that goes on when this program ends, and return it once it is on record.

        Args:
            folder: What the boards shall have: a folder, what `project.read` made of it, or
                several trees, each with its boards.
            boards: In the order in which they are taken; none for those of `selector`, by name.
            selector: Such as "chip=rp2".
            pace: How many boards go when.
            check: What is asked of each board with its new files; one that fails gets its
                old ones back. None asks nothing.
            keep_failed: Leave a board that fails its check with its new files.
            options: How each board is deployed to; a rollout has no dry run.
            ignore: gitignore patterns of what is not deployed, relative to `folder`.
            timeout: Seconds that one board may take, a lease of somebody else's not
                counted; None is the daemon's ten minutes.
            reason: Why, for others to read.

        Raises:
            PreparationFailed: Something in the folder cannot go on a board; nothing was sent.
        """
        if bool(boards) == (selector is not None):
            raise RequestInvalid("a rollout takes boards' names or a selector, and exactly one of them")
        trees = _trees(folder, ignore)
        options = replacing(options, (tree.project for tree in trees))
        for tree in trees:
            deployment.upload(self._link, tree.project)
        request = deployments_pb2.CreateRolloutRequest(
            trees=[
                deployments_pb2.RolloutTree(
                    boards=map(resource, tree.boards), files=deployment.manifest(tree.project)
                )
                for tree in trees
            ],
            boards=map(resource, boards),
            selector=selector or "",
            destination=options.dst,
            prune=options.prune,
            keep=options.keep,
            prune_also=options.prune_also,
            in_place=options.in_place,
            canary=pace.canary,
            wave=pace.wave,
            parallel=pace.parallel,
            max_failures=pace.max_failures,
            check=_check(check),
            keep_failed=keep_failed,
            timeout=to_duration(timeout),
            reason=reason,
        )
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            response = stub.CreateRollout(request, timeout=_CREATE_TIMEOUT, metadata=self._link.metadata)
            return _rollout(response.rollout)

    def get_rollout(self, name: str) -> Rollout:
        """Return a rollout.

        Raises:
            NotFound: There is none of this name, or it is kept no more.
            Refused: It has boards that are not among the caller's.
        """
        request = deployments_pb2.GetRolloutRequest(name=_resource(name))
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            return _rollout(
                stub.GetRollout(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata).rollout
            )

    def rollouts(self, limit: int | None = None) -> list[Rollout]:
        """Return the rollouts over boards that the caller sees, newest first, at most `limit`; None for all."""
        found: list[Rollout] = []
        request = deployments_pb2.ListRolloutsRequest()
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            while True:
                page = stub.ListRollouts(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata)
                found += map(_rollout, page.rollouts)
                if not page.next_page_token or (limit is not None and len(found) >= limit):
                    return found[:limit]
                request.page_token = page.next_page_token

    def watch_rollout(self, name: str) -> Generator[Rollout, None, None]:
        """Yield a rollout as it is, then as it becomes, until it has ended; leaving early changes nothing.

        One that is paused or stopped has not ended: see `Rollout.halted`.
        """
        request = deployments_pb2.WatchRolloutRequest(name=_resource(name))
        with self._link.calling():
            call = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub).WatchRollout(
                request, metadata=self._link.metadata
            )
            try:
                for response in call:
                    yield _rollout(response.rollout)
            finally:
                call.cancel()

    def pause_rollout(self, name: str, reason: str = "") -> Rollout:
        """Begin with no further board; those under way are brought to their end."""
        request = deployments_pb2.PauseRolloutRequest(name=_resource(name), reason=reason)
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            return _rollout(
                stub.PauseRollout(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata).rollout
            )

    def resume_rollout(self, name: str) -> Rollout:
        """Go on with a rollout that was paused or stopped; what failed before it stopped is tried again."""
        request = deployments_pb2.ResumeRolloutRequest(name=_resource(name))
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            return _rollout(
                stub.ResumeRollout(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata).rollout
            )

    def abort_rollout(self, name: str, reason: str = "") -> Rollout:
        """End a rollout for good; boards under way are brought to their end, the others stay as they are."""
        request = deployments_pb2.AbortRolloutRequest(name=_resource(name), reason=reason)
        with self._link.calling():
            stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
            return _rollout(
                stub.AbortRollout(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata).rollout
            )


def _trees(
    folder: str | os.PathLike[str] | Project | Sequence[RolloutTree], ignore: Sequence[str]
) -> Sequence[RolloutTree]:
    if isinstance(folder, Project):
        return [RolloutTree(folder)]
    if isinstance(folder, str | os.PathLike):
        return [RolloutTree(project.read(folder, ignore))]
    return folder


def _check(check: HealthCheck | None) -> deployments_pb2.HealthCheck | None:
    if check is None:
        return None
    if bool(check.expression) == bool(check.source):
        raise RequestInvalid("a check has an expression or a source, and exactly one of them")
    message = deployments_pb2.HealthCheck(timeout=to_duration(check.timeout))
    if check.expression:
        message.expression = check.expression
    else:
        message.source = check.source
    return message


def _rollout(message: deployments_pb2.Rollout) -> Rollout:
    return Rollout(
        name=_bare(message.name),
        state=_STATES.get(message.state, RolloutState.UNKNOWN),
        state_reason=message.state_reason,
        principal=message.principal,
        reason=message.reason,
        created=to_datetime(message.create_time),
        ended=to_datetime(message.end_time) if message.HasField("end_time") else None,
        boards=tuple(map(_board, message.boards)),
        canary=message.canary,
        wave=message.wave,
        parallel=message.parallel,
        max_failures=message.max_failures,
    )


def _board(message: deployments_pb2.RolloutBoard) -> RolloutBoard:
    return RolloutBoard(
        board=bare(message.board),
        wave=message.wave,
        step=_STEPS.get(message.step, RolloutStep.UNKNOWN),
        message=message.message,
        written_bytes=message.written_bytes,
        total_bytes=message.total_bytes,
        wire_bytes=message.wire_bytes,
        ran=to_seconds(message.ran),
    )


_STATES = {
    deployments_pb2.ROLLOUT_STATE_RUNNING: RolloutState.RUNNING,
    deployments_pb2.ROLLOUT_STATE_PAUSED: RolloutState.PAUSED,
    deployments_pb2.ROLLOUT_STATE_STOPPED: RolloutState.STOPPED,
    deployments_pb2.ROLLOUT_STATE_DONE: RolloutState.DONE,
    deployments_pb2.ROLLOUT_STATE_ABORTED: RolloutState.ABORTED,
}
_STEPS = {
    deployments_pb2.ROLLOUT_STEP_PENDING: RolloutStep.PENDING,
    deployments_pb2.ROLLOUT_STEP_WAITING: RolloutStep.WAITING,
    deployments_pb2.ROLLOUT_STEP_DEPLOYING: RolloutStep.DEPLOYING,
    deployments_pb2.ROLLOUT_STEP_CHECKING: RolloutStep.CHECKING,
    deployments_pb2.ROLLOUT_STEP_ROLLING_BACK: RolloutStep.ROLLING_BACK,
    deployments_pb2.ROLLOUT_STEP_DONE: RolloutStep.DONE,
    deployments_pb2.ROLLOUT_STEP_FAILED: RolloutStep.FAILED,
}


def _bare(name: str) -> str:
    return name.removeprefix("rollouts/")


def _resource(name: str) -> str:
    return f"rollouts/{_bare(name)}"
