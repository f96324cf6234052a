"""What was deployed to boards: listed, rolled back, and compared with what they have now."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client.board import resource
from belayd_client.boards import READ_TIMEOUT
from belayd_client.deployment import GRACE, DeploymentPlan, DeploymentProgress, DeploymentSummary, follow
from belayd_client.errors import ConnectionLost
from belayd_client.lease import Lease, token_of
from belayd_client.link import Link
from belayd_client.times import to_datetime, to_duration


class DeploymentOutcome(enum.Enum):
    """What became of a deployment; MIXED has some files of each tree."""

    UNKNOWN = "unknown"
    OPEN = "open"
    DONE = "done"
    UNDONE = "undone"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment that a board had.

    Attributes:
        name: Bare, such as "3f9a0c11d2e4b587".
        principal: Who asked for it.
        reversible: Whether what it replaced is kept, so that it can be rolled back.
        rolls_back: The bare name of the deployment that it rolled back; "" if it is no rollback.
    """

    name: str
    board: str
    principal: str
    created: datetime
    dst: str
    outcome: DeploymentOutcome
    files_written: int
    files_deleted: int
    payload_bytes: int
    reversible: bool
    rolls_back: str


@dataclass(frozen=True, slots=True)
class Drift:
    """How a board differs from what was last deployed to it; paths are absolute, and files'.

    Attributes:
        deployment: What it is compared with; None if it had none.
        changed: Files of it whose contents are others now.
        missing: Files of it that are gone.
        extra: Others below its destination, and boot.py, main.py and webrepl_cfg.py of the root.
    """

    board: str
    deployment: Deployment | None
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.extra)


class RollBacks:
    """The part of Client that looks back."""

    _link: Link

    def roll_back(
        self,
        board: str,
        deployment: str = "",
        *,
        dry_run: bool = False,
        in_place: bool = False,
        on_plan: Callable[[DeploymentPlan], None] | None = None,
        progress: Callable[[DeploymentProgress], None] | None = None,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> DeploymentSummary:
        """Bring back what a board had before its last deployment; doing so again goes forward.

        Args:
            board: The board's name.
            deployment: Go back to before this one, and undo those after it; "" is the last.
            dry_run: As in `deploy`, and all others.

        Raises:
            NotFound: The board had no such deployment, or it is kept no more.
            RequestInvalid: What it replaced was not kept.
            Refused: It is somebody else's.
        """
        request = deployments_pb2.RollBackRequest(
            board=resource(board),
            lease_token=token_of(lease),
            deployment=f"deployments/{bare(deployment)}" if deployment else "",
            dry_run=dry_run,
            in_place=in_place,
            timeout=to_duration(timeout),
        )
        with self._link.calling():
            call = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub).RollBack(
                request, timeout=None if timeout is None else timeout + GRACE, metadata=self._link.metadata
            )
            try:
                if (summary := follow(board, call, on_plan, progress)) is not None:
                    return summary
            finally:
                call.cancel()
        raise ConnectionLost(
            f"belayd at {self._link.address} ended the rollback without a summary; effects unknown"
        )

    def deployments(self, board: str) -> Iterator[Deployment]:
        """Yield what was deployed to a board, the latest first, as far as it is kept."""
        stub = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub)
        request = deployments_pb2.ListDeploymentsRequest(board=resource(board))
        while True:
            with self._link.calling():
                page = stub.ListDeployments(request, timeout=READ_TIMEOUT, metadata=self._link.metadata)
            yield from map(_deployment, page.deployments)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def drift(self, board: str, *, lease: Lease | str | None = None, timeout: float | None = None) -> Drift:
        """Compare a board's files with what its last deployment left there; changes nothing.

        `lease` and `timeout` are as in `run`; None is the daemon's two minutes.
        """
        request = deployments_pb2.GetDriftRequest(
            board=resource(board), lease_token=token_of(lease), timeout=to_duration(timeout)
        )
        with self._link.calling():
            found = self._link.stub(deployments_pb2_grpc.DeploymentServiceStub).GetDrift(
                request, timeout=None if timeout is None else timeout + GRACE, metadata=self._link.metadata
            )
        return Drift(
            board=board,
            deployment=_deployment(found.deployment) if found.HasField("deployment") else None,
            changed=tuple(found.changed),
            missing=tuple(found.missing),
            extra=tuple(found.extra),
        )


def bare(name: str) -> str:
    """Return NAME of "deployments/NAME" or of itself."""
    return name.removeprefix("deployments/")


def _deployment(message: deployments_pb2.Deployment) -> Deployment:
    return Deployment(
        name=bare(message.name),
        board=message.board.removeprefix("boards/"),
        principal=message.principal,
        created=to_datetime(message.create_time),
        dst=message.destination,
        outcome=_outcome(message.outcome),
        files_written=message.files_written,
        files_deleted=message.files_deleted,
        payload_bytes=message.payload_bytes,
        reversible=message.reversible,
        rolls_back=bare(message.rolls_back),
    )


def _outcome(number: deployments_pb2.DeploymentOutcome.ValueType) -> DeploymentOutcome:
    match number:
        case deployments_pb2.DEPLOYMENT_OUTCOME_OPEN:
            return DeploymentOutcome.OPEN
        case deployments_pb2.DEPLOYMENT_OUTCOME_DONE:
            return DeploymentOutcome.DONE
        case deployments_pb2.DEPLOYMENT_OUTCOME_UNDONE:
            return DeploymentOutcome.UNDONE
        case deployments_pb2.DEPLOYMENT_OUTCOME_MIXED:
            return DeploymentOutcome.MIXED
        case _:
            return DeploymentOutcome.UNKNOWN
