"""FileService: single files on boards, read and changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from belayd import files
from belayd.blobs import Blobs
from belayd.errors import RequestInvalid
from belayd.files import Filesystem, Found, Wanted
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs, pump, settle
from belayd.run import Feed, Job, Transcript
from belayd.session import Emit, Session
from belayd.v1 import files_pb2, files_pb2_grpc

T = TypeVar("T")

LIST_TIMEOUT = 120.0
CONTENT_TIMEOUT = 600.0
CHANGE_TIMEOUT = 60.0
DELETE_TIMEOUT = 120.0
MOST_FILES = 500
"""In one message of a listing: at most a megabyte or so of names."""


class Files(files_pb2_grpc.FileServiceServicer):
    """Queues each call as one job of its board; what is written passes through `blobs`."""

    def __init__(self, jobs: Jobs, blobs: Blobs) -> None:
        self._jobs = jobs
        self._blobs = blobs

    async def ListFiles(self, request: files_pb2.ListFilesRequest, context: Any) -> None:
        """See the proto."""
        path = files.check_path(request.path)

        async def job(session: Session, emit: Emit) -> list[Found]:
            return await files.list_files(session, path, request.recursive, request.sha256)

        found = await self._settle(request, context, "list_files", job, LIST_TIMEOUT)
        for first in range(0, len(found), MOST_FILES):
            messages = [_file(file) for file in found[first : first + MOST_FILES]]
            await context.write(files_pb2.ListFilesResponse(files=messages))

    async def ReadFile(self, request: files_pb2.ReadFileRequest, context: Any) -> None:
        """See the proto."""
        path = files.check_below_root(request.path)
        feed, size = Feed(), 0
        told = False

        async def begin(announced: int) -> None:
            nonlocal size
            size = announced

        async def job(session: Session, emit: Emit) -> bytes:
            return await files.read_file(session, path, feed.write, begin)

        async def tell(data: bytes) -> None:
            nonlocal told
            if not told:
                told = True
                await context.write(files_pb2.ReadFileResponse(size=size))
            if data:
                await context.write(files_pb2.ReadFileResponse(chunk=data))

        board, run = self._jobs.submit(
            request,
            context,
            "read_file",
            job,
            Transcript().write,
            name=convert.board_name(request.board),
            default_timeout=CONTENT_TIMEOUT,
        )
        sha256 = await pump(board, run, feed, queued=_silently, started=_silently, output=tell)
        await tell(b"")
        await context.write(files_pb2.ReadFileResponse(sha256=sha256))

    async def WriteFile(
        self, requests: AsyncIterator[files_pb2.WriteFileRequest], context: Any
    ) -> files_pb2.WriteFileResponse:
        """See the proto."""
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("start"):
            raise RequestInvalid("start: the first message must bring one", field="start")
        start = first.start
        path = files.check_below_root(start.path)
        if start.create_only:
            return await self._touch(start, path, context)
        wanted = Wanted(path, start.size, start.sha256, start.parents)
        owner = auth.principal(context).name
        await self._take(owner, wanted, requests)

        async def contents(sha256: bytes) -> bytes:
            return await self._blobs.read(owner, sha256)

        async def job(session: Session, emit: Emit) -> tuple[bool, int]:
            before = _wire_bytes(session)
            changed = await files.write_file(session, wanted, contents)
            return changed, _wire_bytes(session) - before

        with self._blobs.pinned(owner, [wanted.sha256]):
            changed, wire_bytes = await self._settle(start, context, "write_file", job, CONTENT_TIMEOUT)
        return files_pb2.WriteFileResponse(changed=changed, wire_bytes=wire_bytes)

    async def MoveFile(self, request: files_pb2.MoveFileRequest, context: Any) -> files_pb2.MoveFileResponse:
        """See the proto."""
        path, to = files.check_below_root(request.path), files.check_below_root(request.to, "to")

        async def job(session: Session, emit: Emit) -> None:
            await files.move(session, path, to, request.replace)

        await self._settle(request, context, "change_file", job, CHANGE_TIMEOUT)
        return files_pb2.MoveFileResponse()

    async def DeleteFile(
        self, request: files_pb2.DeleteFileRequest, context: Any
    ) -> files_pb2.DeleteFileResponse:
        """See the proto."""
        path = files.check_below_root(request.path)

        async def job(session: Session, emit: Emit) -> int:
            return await files.delete(session, path, request.recursive, request.missing_ok)

        count = await self._settle(request, context, "change_file", job, DELETE_TIMEOUT)
        return files_pb2.DeleteFileResponse(count=count)

    async def MakeDirectory(
        self, request: files_pb2.MakeDirectoryRequest, context: Any
    ) -> files_pb2.MakeDirectoryResponse:
        """See the proto."""
        path = files.check_below_root(request.path)

        async def job(session: Session, emit: Emit) -> int:
            return await files.make_folder(session, path, request.parents)

        await self._settle(request, context, "change_file", job, CHANGE_TIMEOUT)
        return files_pb2.MakeDirectoryResponse()

    async def GetUsage(self, request: files_pb2.GetUsageRequest, context: Any) -> files_pb2.GetUsageResponse:
        """See the proto."""

        async def job(session: Session, emit: Emit) -> list[Filesystem]:
            return await files.usage(session)

        found = await self._settle(request, context, "list_files", job, CHANGE_TIMEOUT)
        return files_pb2.GetUsageResponse(filesystems=map(_filesystem, found))

    async def _settle(self, request: Any, context: Any, operation: str, job: Job[T], most: float) -> T:
        _, run = self._jobs.submit(
            request,
            context,
            operation,
            job,
            Transcript().write,
            name=convert.board_name(request.board),
            default_timeout=most,
        )
        return await settle(run)

    async def _touch(
        self, start: files_pb2.WriteFileStart, path: str, context: Any
    ) -> files_pb2.WriteFileResponse:
        async def job(session: Session, emit: Emit) -> tuple[bool, int]:
            before = _wire_bytes(session)
            made = await files.touch(session, path, start.parents)
            return made, _wire_bytes(session) - before

        made, wire_bytes = await self._settle(start, context, "change_file", job, CHANGE_TIMEOUT)
        return files_pb2.WriteFileResponse(changed=made, wire_bytes=wire_bytes)

    async def _take(
        self, owner: str, wanted: Wanted, requests: AsyncIterator[files_pb2.WriteFileRequest]
    ) -> None:
        async with self._blobs.writer(owner, wanted.sha256, wanted.size, passing=True) as writer:
            while writer.missing_bytes:
                request = await anext(aiter(requests), None)
                if request is None or not request.chunk:
                    raise RequestInvalid(
                        "chunk: not all of the content that was announced came", field="chunk"
                    )
                await writer.write(request.chunk)


async def _silently(*told: object) -> None:
    """Tell nobody."""


def _wire_bytes(session: Session) -> int:
    return session.traffic.sent_bytes + session.traffic.received_bytes


def _file(found: Found) -> files_pb2.BoardFile:
    return files_pb2.BoardFile(
        path=found.path,
        folder=found.folder,
        size=found.size,
        sha256=found.sha256 or b"",
        errno=found.errno or 0,
        mount=found.mount,
    )


def _filesystem(found: Filesystem) -> files_pb2.Filesystem:
    return files_pb2.Filesystem(
        path=found.path,
        total_bytes=found.total_bytes,
        free_bytes=found.free_bytes,
        block_bytes=found.block_bytes,
        read_only=found.read_only,
    )
