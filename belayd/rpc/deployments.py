"""DeploymentService: contents brought in, and boards' files made equal to a manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

from belayd.blobs import Blobs
from belayd.deployment.plan import ManifestFile, check_manifest
from belayd.deployment.transfer import Options
from belayd.errors import RequestInvalid
from belayd.events import Events
from belayd.records import Asked, Deployed, Records
from belayd.rollout.conductor import Conductor
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs
from belayd.rpc.rollback import DEPLOY_TIMEOUT, RollBacks
from belayd.rpc.rollouts import Rollouts
from belayd.rpc.sight import Sight
from belayd.rpc.steps import Steps
from belayd.run import Transcript
from belayd.session import Emit, Session
from belayd.v1 import deployments_pb2

MOST_FILES = 10_000
FILE_BYTES = 250
"""Of memory that a manifest's file takes beside its path."""


class Deployments(RollBacks, Rollouts):
    """Takes contents and deploys them."""

    def __init__(
        self,
        jobs: Jobs,
        sight: Sight,
        blobs: Blobs,
        records: Records,
        events: Events,
        conductor: Conductor,
    ) -> None:
        RollBacks.__init__(self, jobs, sight, records, events)
        Rollouts.__init__(self, sight, conductor, blobs)
        self._blobs = blobs

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
            in_place=request.in_place,
        )
        asked = Asked(convert.board_name(request.board), owner, request.without_rollback)
        steps = Steps()

        async def contents(sha256: bytes) -> bytes:
            return await self._blobs.read(owner, sha256)

        async def job(session: Session, emit: Emit) -> Deployed:
            locate = partial(self._blobs.path, owner)
            return await self._records.deploy(
                session, asked, manifest, contents, options, steps.report, locate
            )

        board, run = self._jobs.submit(
            request,
            context,
            "deploy",
            job,
            Transcript().write,
            name=asked.board,
            default_timeout=DEPLOY_TIMEOUT,
            held_bytes=sum(FILE_BYTES + len(file.path) for file in manifest),
        )
        with self._blobs.pinned(owner, [file.sha256 for file in manifest]):
            await self.follow(
                run, steps, board.name, context, deployments_pb2.DeployResponse, request.dry_run
            )

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


def _manifest(request: deployments_pb2.DeployRequest) -> list[ManifestFile]:
    if len(request.files) > MOST_FILES:
        raise RequestInvalid(f"files: at most {MOST_FILES} in a deployment", field="files")
    manifest = [ManifestFile(file.path, file.sha256, file.size) for file in request.files]
    check_manifest(manifest)
    return manifest
