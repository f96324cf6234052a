"""A folder on its way to boards: contents to the daemon, then one job per board.

Contents go to the daemon once, whatever the number of boards; a daemon that
has them already asks for none of them.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client.board import resource
from belayd_client.errors import ConnectionLost, InternalError, PreparationFailed
from belayd_client.link import Link
from belayd_client.project import Project
from belayd_client.times import to_duration, to_seconds

# The daemon's own limit on the job comes first, so that its message arrives.
GRACE = 10.0


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What a deployment does: absolute paths on the board; `delete` deepest first."""

    write: tuple[str, ...]
    same: tuple[str, ...]
    delete: tuple[str, ...]
    keep: tuple[str, ...]
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class DeploymentProgress:
    """How far a deployment is: the file being written, and bytes of all files."""

    path: str
    written_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DeploymentSummary:
    """How a deployment ended. `ran` is in seconds; a dry run wrote nothing, see `plan`."""

    board: str
    plan: DeploymentPlan
    files_written: int
    files_same: int
    files_deleted: int
    payload_bytes: int
    wire_bytes: int
    ran: float


@dataclass(frozen=True, slots=True)
class DeploymentOptions:
    """How a folder is put on a board; see Client.deploy."""

    dst: str = "/"
    prune: bool = False
    keep: Sequence[str] = ()
    prune_also: Sequence[str] = ()
    dry_run: bool = False


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
    request = deployments_pb2.DeployRequest(
        board=resource(board),
        lease_token=token,
        files=[
            deployments_pb2.ManifestFile(path=file.path, sha256=file.sha256, size=file.size)
            for file in project.files
        ],
        destination=options.dst,
        prune=options.prune,
        keep=options.keep,
        prune_also=options.prune_also,
        dry_run=options.dry_run,
        timeout=to_duration(timeout),
    )
    plan = DeploymentPlan((), (), (), (), 0)
    with link.calling():
        call = link.stub(deployments_pb2_grpc.DeploymentServiceStub).Deploy(
            request, timeout=None if timeout is None else timeout + GRACE, metadata=link.metadata
        )
        try:
            for response in call:
                step = response.WhichOneof("step")
                if step == "plan":
                    plan = _plan(response.plan)
                    if on_plan:
                        on_plan(plan)
                elif step == "progress" and progress:
                    progress(_progress(response.progress))
                elif step == "summary":
                    return _summary(board, plan, response.summary)
        finally:
            call.cancel()
    raise ConnectionLost(f"belayd at {link.address} ended the deployment without a summary; effects unknown")


def _plan(message: deployments_pb2.DeploymentPlan) -> DeploymentPlan:
    return DeploymentPlan(
        write=tuple(message.write),
        same=tuple(message.same),
        delete=tuple(message.delete),
        keep=tuple(message.keep),
        payload_bytes=message.payload_bytes,
    )


def _progress(message: deployments_pb2.DeploymentProgress) -> DeploymentProgress:
    return DeploymentProgress(message.path, message.written_bytes, message.total_bytes)


def _summary(
    board: str, plan: DeploymentPlan, message: deployments_pb2.DeploymentSummary
) -> DeploymentSummary:
    return DeploymentSummary(
        board=board,
        plan=plan,
        files_written=message.files_written,
        files_same=message.files_same,
        files_deleted=message.files_deleted,
        payload_bytes=message.payload_bytes,
        wire_bytes=message.wire_bytes,
        ran=to_seconds(message.ran),
    )
