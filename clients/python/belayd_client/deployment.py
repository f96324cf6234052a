"""A folder on its way to boards: contents to the daemon, then one job per board.

Contents go to the daemon once, whatever the number of boards; a daemon that
has them already asks for none of them.
"""

from __future__ import annotations

import enum
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import grpc

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client.board import resource
from belayd_client.errors import ConnectionLost, InternalError, PreparationFailed
from belayd_client.link import Link
from belayd_client.preparation.replacing import replacing
from belayd_client.project import Project
from belayd_client.times import to_duration, to_seconds

# The daemon's own limit on the job comes first, so that its message arrives.
GRACE = 10.0


class Settlement(enum.Enum):
    """What became of an earlier deployment to the board that had broken off."""

    NONE = "none"
    COMPLETED = "completed"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What a deployment does: absolute paths on the board; `delete` deepest first.

    Attributes:
        payload_bytes: Of the files to write.
        same_bytes: Of those that are equal already.
        wire_bytes: About how many bytes will go to the board; 0 where the daemon
            lacks contents to tell.
        settled: What was found of an earlier deployment.
    """

    write: tuple[str, ...]
    same: tuple[str, ...]
    delete: tuple[str, ...]
    keep: tuple[str, ...]
    payload_bytes: int
    same_bytes: int = 0
    wire_bytes: int = 0
    settled: Settlement = Settlement.NONE


@dataclass(frozen=True, slots=True)
class DeploymentProgress:
    """How far a deployment is: the file being written, and bytes of all files."""

    path: str
    written_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DeploymentSummary:
    """How a deployment ended; a dry run wrote nothing, see `plan`.

    Attributes:
        wire_bytes: Sent to the board and received from it, for all of it.
        ran: Seconds.
        skipped_bytes: Of the files that were equal already.
        round_trips: Times that belayd waited for the board.
        deployment: The name to roll it back by; empty where nothing was changed or kept.
        rollback_refusal: Why it cannot be rolled back although something was changed; else empty.
    """

    board: str
    plan: DeploymentPlan
    files_written: int
    files_same: int
    files_deleted: int
    payload_bytes: int
    wire_bytes: int
    ran: float
    skipped_bytes: int = 0
    round_trips: int = 0
    deployment: str = ""
    rollback_refusal: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentOptions:
    """How a folder is put on a board; see Client.deploy."""

    dst: str = "/"
    prune: bool = False
    keep: Sequence[str] = ()
    prune_also: Sequence[str] = ()
    dry_run: bool = False
    in_place: bool = False
    without_rollback: bool = False


def upload(link: Link, project: Project) -> int:
    """Give the daemon those contents that it lacks; return how many those were.

    Raises:
        PreparationFailed: A file changed since the project was read.
        BelaydError: As the daemon says.
    """
    contents = project.contents()
    wanted: queue.SimpleQueue[Sequence[bytes]] = queue.SimpleQueue()
    failure: list[PreparationFailed] = []

    def requests() -> Iterator[deployments_pb2.PutBlobsRequest]:
        blobs = [deployments_pb2.Blob(sha256=sha, size=file.size) for sha, file in contents.items()]
        yield deployments_pb2.PutBlobsRequest(offer=deployments_pb2.BlobOffer(blobs=blobs))
        try:
            for sha256 in wanted.get():
                for chunk in contents[sha256].chunks():
                    yield deployments_pb2.PutBlobsRequest(chunk=chunk)
        except PreparationFailed as error:
            # Runs on a gRPC thread: tell the caller's, and let no content look complete.
            failure.append(error)
            call.cancel()

    with link.calling():
        call = link.stub(deployments_pb2_grpc.DeploymentServiceStub).PutBlobs(
            requests(), metadata=link.metadata
        )
        try:
            for response in call:
                step = response.WhichOneof("step")
                if step == "wanted":
                    unknown = [sha for sha in response.wanted.sha256 if sha not in contents]
                    if unknown:
                        raise InternalError(f"belayd at {link.address} wants contents that were not offered")
                    wanted.put(response.wanted.sha256)
                elif step == "stored":
                    return response.stored.count
        except grpc.RpcError:
            if failure:
                raise failure[0] from None
            raise
        finally:
            wanted.put(())
            call.cancel()
    raise ConnectionLost(f"belayd at {link.address} ended the upload without a result")


def deploy(
    link: Link,
    board: str,
    project: Project,
    options: DeploymentOptions,
    *,
    token: str,
    timeout: float | None,
    on_plan: Callable[[DeploymentPlan], None] | None,
    progress: Callable[[DeploymentProgress], None] | None,
) -> DeploymentSummary:
    """Make a board's files equal to a project whose contents were uploaded."""
    options = replacing(options, [project])
    request = deployments_pb2.DeployRequest(
        board=resource(board),
        lease_token=token,
        files=manifest(project),
        destination=options.dst,
        prune=options.prune,
        keep=options.keep,
        prune_also=options.prune_also,
        dry_run=options.dry_run,
        in_place=options.in_place,
        without_rollback=options.without_rollback,
        timeout=to_duration(timeout),
    )
    with link.calling():
        call = link.stub(deployments_pb2_grpc.DeploymentServiceStub).Deploy(
            request, timeout=None if timeout is None else timeout + GRACE, metadata=link.metadata
        )
        try:
            if (summary := follow(board, call, on_plan, progress)) is not None:
                return summary
        finally:
            call.cancel()
    raise ConnectionLost(f"belayd at {link.address} ended the deployment without a summary; effects unknown")


def manifest(project: Project) -> list[deployments_pb2.ManifestFile]:
    """Return a project as requests carry it."""
    return [
        deployments_pb2.ManifestFile(path=file.path, sha256=file.sha256, size=file.size)
        for file in project.files
    ]


def follow(
    board: str,
    steps: Iterable[deployments_pb2.DeployResponse | deployments_pb2.RollBackResponse],
    on_plan: Callable[[DeploymentPlan], None] | None,
    progress: Callable[[DeploymentProgress], None] | None,
) -> DeploymentSummary | None:
    """Pass on the steps of a deployment to one board; return its summary, None if the steps ended without."""
    plan = DeploymentPlan((), (), (), (), 0)
    for response in steps:
        step = response.WhichOneof("step")
        if step == "plan":
            plan = to_plan(response.plan)
            if on_plan:
                on_plan(plan)
        elif step == "progress" and progress:
            progress(_progress(response.progress))
        elif step == "summary":
            return to_summary(board, plan, response.summary)
    return None


def to_plan(message: deployments_pb2.DeploymentPlan) -> DeploymentPlan:
    """Return what a message tells."""
    return DeploymentPlan(
        write=tuple(message.write),
        same=tuple(message.same),
        delete=tuple(message.delete),
        keep=tuple(message.keep),
        payload_bytes=message.payload_bytes,
        same_bytes=message.same_bytes,
        wire_bytes=message.wire_bytes,
        settled=_settlement(message.settled),
    )


def _settlement(number: deployments_pb2.Settlement.ValueType) -> Settlement:
    match number:
        case deployments_pb2.SETTLEMENT_COMPLETED:
            return Settlement.COMPLETED
        case deployments_pb2.SETTLEMENT_UNDONE:
            return Settlement.UNDONE
        case _:
            return Settlement.NONE


def _progress(message: deployments_pb2.DeploymentProgress) -> DeploymentProgress:
    return DeploymentProgress(message.path, message.written_bytes, message.total_bytes)


def to_summary(
    board: str, plan: DeploymentPlan, message: deployments_pb2.DeploymentSummary
) -> DeploymentSummary:
    """Return what a message tells."""
    return DeploymentSummary(
        board=board,
        plan=plan,
        files_written=message.files_written,
        files_same=message.files_same,
        files_deleted=message.files_deleted,
        payload_bytes=message.payload_bytes,
        wire_bytes=message.wire_bytes,
        ran=to_seconds(message.ran),
        skipped_bytes=message.skipped_bytes,
        round_trips=message.round_trips,
        deployment=message.deployment,
        rollback_refusal=message.rollback_refusal,
    )
