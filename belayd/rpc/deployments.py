"""DeploymentService: contents brought in, and boards' files made equal to a manifest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from belayd.blobs import Blobs
from belayd.deployment.plan import ManifestFile, Plan, check_manifest
from belayd.deployment.transfer import Options, Progress, Summary, deploy
from belayd.errors import BelaydError, RequestInvalid
from belayd.events import DeploymentEnded, Events
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs, left, settle
from belayd.run import Run, RunState, Transcript
from belayd.session import Emit, Session
from belayd.v1 import deployments_pb2, deployments_pb2_grpc

DEPLOY_TIMEOUT = 600.0
MOST_FILES = 10_000
FILE_BYTES = 250
"""Of memory that a manifest's file takes beside its path."""
_step = deployments_pb2.DeployResponse


class Deployments(deployments_pb2_grpc.DeploymentServiceServicer):
    """Takes contents and deploys them."""

    def __init__(self, jobs: Jobs, blobs: Blobs, events: Events) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._events = events

    async def PutBlobs(self, requests: AsyncIterator[deployments_pb2.PutBlobsRequest], context: Any) -> None:
        """See the proto."""
        owner = auth.principal(context).name
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("offer"):
            raise RequestInvalid("offer: the first message must bring one", field="offer")
        offered = {blob.sha256: blob.size for blob in first.offer.blobs}
        wanted = self._blobs.missing(owner, list(offered.items()))
        await context.write(
            deployments_pb2.PutBlobsResponse(wanted=deployments_pb2.BlobWanted(sha256=wanted))
        )
        for sha256 in wanted:
            await self._take(owner, sha256, offered[sha256], requests)
        stored = deployments_pb2.BlobsStored(count=len(wanted))
        await context.write(deployments_pb2.PutBlobsResponse(stored=stored))

    async def Deploy(self, request: deployments_pb2.DeployRequest, context: Any) -> None:
        """See the proto."""
        owner = auth.principal(context).name
        manifest = _manifest(request)
        if not request.dry_run:
            self._refuse_missing(owner, manifest)
        options = Options(
            destination=request.destination or "/",
            prune=request.prune,
            keep=tuple(request.keep),
            prune_also=tuple(request.prune_also),
            dry_run=request.dry_run,
        )

        async def contents(sha256: bytes) -> bytes:
            return await self._blobs.read(owner, sha256)

        steps = _Steps()

        async def job(session: Session, emit: Emit) -> Summary:
            return await deploy(session, manifest, contents, options, steps.report)

        board, run = self._jobs.submit(
            request,
            context,
            "deploy",
            job,
            Transcript().write,
            name=convert.board_name(request.board),
            default_timeout=DEPLOY_TIMEOUT,
            held_bytes=sum(FILE_BYTES + len(file.path) for file in manifest),
        )
        run.watch(steps.changed.set)
        try:
            with self._blobs.pinned(owner, [file.sha256 for file in manifest]):
                await _tell(steps, run, context)
                summary = await settle(run)
        except BelaydError as error:
            self._events.publish(DeploymentEnded(board.name, error.reason.lower(), 0, 0, 0, run.ran))
            raise
        if not request.dry_run:
            self._events.publish(
                DeploymentEnded(
                    board.name,
                    "ok",
                    summary.payload_bytes,
                    summary.wire_bytes,
                    summary.skipped_bytes,
                    run.ran,
                )
            )
        await context.write(_step(summary=_summary(summary, run.ran)))

    def _refuse_missing(self, owner: str, manifest: Iterable[ManifestFile]) -> None:
        # Before the job is queued, and so before anything is touched: half a deployment helps nobody.
        for file in manifest:
            size = self._blobs.size(owner, file.sha256)
            if size is None:
                problem = "its content was not sent, or went unused for too long; send it again"
            elif size != file.size:
                problem = f"its content has {size} bytes, not {file.size} bytes"
            else:
                continue
            raise RequestInvalid(f"path {file.path!r}: {problem}", field="files", path=file.path)

    async def _take(
        self, owner: str, sha256: bytes, size: int, requests: AsyncIterator[deployments_pb2.PutBlobsRequest]
    ) -> None:
        async with self._blobs.writer(owner, sha256, size) as writer:
            while writer.missing_bytes:
                request = await anext(aiter(requests), None)
                if request is None or not request.chunk:
                    raise RequestInvalid("chunk: contents that were offered did not come", field="chunk")
                await writer.write(request.chunk)


class _Steps:
    """What a deployment reports, kept for a reader that may be slower: the plan, the latest progress.

    The board never waits for the reader.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._plan: Plan | None = None
        self._progress: Progress | None = None

    async def report(self, step: Plan | Progress) -> None:
        if isinstance(step, Plan):
            self._plan = step
        else:
            self._progress = step
        self.changed.set()

    def take(self) -> list[Plan | Progress]:
        self.changed.clear()
        steps = [step for step in (self._plan, self._progress) if step is not None]
        self._plan = self._progress = None
        return steps


async def _tell(steps: _Steps, run: Run[Any], context: Any) -> None:
    """Pass on what is reported until the run has ended; a caller that leaves stops it."""
    try:
        while True:
            ended = run.state is RunState.ENDED
            for step in steps.take():
                await context.write(_reported(step))
            if ended:
                return
            await steps.changed.wait()
    except asyncio.CancelledError:
        run.stop(left())
        raise


def _manifest(request: deployments_pb2.DeployRequest) -> list[ManifestFile]:
    if len(request.files) > MOST_FILES:
        raise RequestInvalid(f"files: at most {MOST_FILES} in a deployment", field="files")
    manifest = [ManifestFile(file.path, file.sha256, file.size) for file in request.files]
    check_manifest(manifest)
    return manifest


def _reported(step: Plan | Progress) -> deployments_pb2.DeployResponse:
    if isinstance(step, Progress):
        progress = deployments_pb2.DeploymentProgress(
            path=step.path, written_bytes=step.written_bytes, total_bytes=step.total_bytes
        )
        return _step(progress=progress)
    plan = deployments_pb2.DeploymentPlan(
        write=[write.path for write in step.write],
        same=list(step.same),
        delete=list(step.delete),
        keep=list(step.keep),
        payload_bytes=step.payload_bytes,
    )
    return _step(plan=plan)


def _summary(summary: Summary, ran: float) -> deployments_pb2.DeploymentSummary:
    return deployments_pb2.DeploymentSummary(
        files_written=summary.files_written,
        files_same=summary.files_same,
        files_deleted=summary.files_deleted,
        payload_bytes=summary.payload_bytes,
        wire_bytes=summary.wire_bytes,
        ran=convert.duration(ran),
    )
