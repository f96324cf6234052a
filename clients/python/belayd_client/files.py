"""Single files on boards: listed, read, written, renamed, deleted.

Paths on boards are absolute and '/'-separated. Names come from boards: whoever makes
files of them here does it through `landing`, which lets none lead elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc

from belayd.v1 import files_pb2, files_pb2_grpc
from belayd_client.board import resource
from belayd_client.errors import InternalError, PreparationFailed
from belayd_client.lease import Lease, token_of
from belayd_client.link import Link
from belayd_client.times import to_duration

CHUNK_BYTES = 64 * 1024
_GRACE = 10.0  # the daemon's own limit comes first, so that its message arrives
_DEFAULT = 120.0  # the longest that the daemon gives to what moves no content


@dataclass(frozen=True, slots=True)
class BoardFile:
    """A file or folder on a board.

    Attributes:
        path: Absolute.
        size: Of a file, in bytes.
        sha256: In hexadecimal; "" where it was not asked for or the board cannot make it.
        errno: Why it cannot be read, as the board's; 0 if it can.
        mount: Another filesystem is mounted there.
    """

    path: str
    folder: bool = False
    size: int = 0
    sha256: str = ""
    errno: int = 0
    mount: bool = False


@dataclass(frozen=True, slots=True)
class Filesystem:
    """How full one of a board's filesystems is; `read_only` for the board's own code."""

    path: str
    total_bytes: int
    free_bytes: int
    block_bytes: int
    read_only: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a file did.

    Attributes:
        changed: False if the board had it already, byte for byte.
        wire_bytes: Sent to and received from the board.
    """

    changed: bool
    wire_bytes: int


class Files:
    """What a client does with single files; `lease` and `timeout` are as Client.run has them."""

    _link: Link

    def list_files(
        self,
        board: str,
        path: str = "/",
        *,
        recursive: bool = False,
        sha256: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> list[BoardFile]:
        """Return what lies in a folder, each folder before what it holds, by name; or the one file.

        Raises:
            NotFound: There is nothing.
        """
        request = files_pb2.ListFilesRequest(
            board=resource(board),
            lease_token=token_of(lease),
            path=path,
            recursive=recursive,
            sha256=sha256,
            timeout=to_duration(timeout),
        )
        found: list[BoardFile] = []
        with self._link.calling():
            call = self._stub.ListFiles(request, timeout=_deadline(timeout), metadata=self._link.metadata)
            for response in call:
                found += map(_board_file, response.files)
        return found

    def read_file(
        self, board: str, path: str, *, lease: Lease | str | None = None, timeout: float | None = None
    ) -> bytes:
        """Return a file's content, compared with the SHA-256 that the board made of it.

        Raises:
            NotFound: There is no such file.
        """
        return b"".join(self.stream_file(board, path, lease=lease, timeout=timeout))

    def stream_file(
        self, board: str, path: str, *, lease: Lease | str | None = None, timeout: float | None = None
    ) -> Generator[bytes, None, None]:
        """Yield a file's content as it comes; the board waits for whoever takes it.

        Raises:
            NotFound: There is no such file; nothing was yielded.
            InternalError: What was yielded is not what the board has.
        """
        request = files_pb2.ReadFileRequest(
            board=resource(board), lease_token=token_of(lease), path=path, timeout=to_duration(timeout)
        )
        digest, size, came, ended = hashlib.sha256(), 0, 0, False
        with self._link.calling():
            call = self._stub.ReadFile(
                request, timeout=None if timeout is None else timeout + _GRACE, metadata=self._link.metadata
            )
            try:
                for response in call:
                    step = response.WhichOneof("step")
                    if step == "size":
                        size = response.size
                    elif step == "chunk":
                        came += len(response.chunk)
                        digest.update(response.chunk)
                        yield response.chunk
                    elif step == "sha256":
                        ended = response.sha256 in (b"", digest.digest())
            finally:
                call.cancel()
        if not ended or came != size:
            raise InternalError(f"what came of {path!r} is not what {board} has; read it again")

    def write_file(
        self,
        board: str,
        path: str,
        content: bytes | os.PathLike[str] | IO[bytes],
        *,
        parents: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Write a file, which then is the new one, or on any failure the old one.

        Args:
            board: The board's name.
            path: Of the file there.
            content: Bytes, a file's name here, or an open one that can be read twice.
            parents: Make the folders that lead to it; else its folder must be there.
            lease: As in Client.run.
            timeout: As in Client.run; None is the daemon's ten minutes.

        Raises:
            PreparationFailed: The file here cannot be read, or changed meanwhile.
            Exhausted: It does not fit; nothing was touched.
        """
        with _opened(content) as source:
            sha256, size = _hash(source)
            start = files_pb2.WriteFileStart(
                board=resource(board),
                lease_token=token_of(lease),
                path=path,
                size=size,
                sha256=sha256,
                parents=parents,
                timeout=to_duration(timeout),
            )
            return self._write(start, source)

    def touch_file(
        self,
        board: str,
        path: str,
        *,
        parents: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Make an empty file unless there is one; return whether it was made."""
        start = files_pb2.WriteFileStart(
            board=resource(board),
            lease_token=token_of(lease),
            path=path,
            create_only=True,
            parents=parents,
            timeout=to_duration(timeout),
        )
        return self._write(start, io.BytesIO()).changed

    def move_file(
        self,
        board: str,
        path: str,
        to: str,
        *,
        replace: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Rename a file or folder on one filesystem; with `replace` a file that is called so gives way."""
        request = files_pb2.MoveFileRequest(
            board=resource(board),
            lease_token=token_of(lease),
            path=path,
            to=to,
            replace=replace,
            timeout=to_duration(timeout),
        )
        with self._link.calling():
            self._stub.MoveFile(request, timeout=_deadline(timeout), metadata=self._link.metadata)

    def delete_file(
        self,
        board: str,
        path: str,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete a file or folder, with `recursive` all in it; return how many of both went."""
        request = files_pb2.DeleteFileRequest(
            board=resource(board),
            lease_token=token_of(lease),
            path=path,
            recursive=recursive,
            missing_ok=missing_ok,
            timeout=to_duration(timeout),
        )
        with self._link.calling():
            response = self._stub.DeleteFile(
                request, timeout=_deadline(timeout), metadata=self._link.metadata
            )
        return response.count

    def make_directory(
        self,
        board: str,
        path: str,
        *,
        parents: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Make a folder; with `parents` those that lead to it, and it may be there already."""
        request = files_pb2.MakeDirectoryRequest(
            board=resource(board),
            lease_token=token_of(lease),
            path=path,
            parents=parents,
            timeout=to_duration(timeout),
        )
        with self._link.calling():
            self._stub.MakeDirectory(request, timeout=_deadline(timeout), metadata=self._link.metadata)

    def filesystems(
        self, board: str, *, lease: Lease | str | None = None, timeout: float | None = None
    ) -> list[Filesystem]:
        """Return how full a board's filesystems are, by where they are mounted."""
        request = files_pb2.GetUsageRequest(
            board=resource(board), lease_token=token_of(lease), timeout=to_duration(timeout)
        )
        with self._link.calling():
            response = self._stub.GetUsage(request, timeout=_deadline(timeout), metadata=self._link.metadata)
        return [
            Filesystem(found.path, found.total_bytes, found.free_bytes, found.block_bytes, found.read_only)
            for found in response.filesystems
        ]

    @property
    def _stub(self) -> files_pb2_grpc.FileServiceStub:
        return self._link.stub(files_pb2_grpc.FileServiceStub)

    def _write(self, start: files_pb2.WriteFileStart, source: IO[bytes]) -> Written:
        failure: list[PreparationFailed] = []

        def requests() -> Iterator[files_pb2.WriteFileRequest]:
            yield files_pb2.WriteFileRequest(start=start)
            try:
                for chunk in _chunks(source, start.size):
                    yield files_pb2.WriteFileRequest(chunk=chunk)
            except PreparationFailed as error:
                # Runs on a gRPC thread: tell the caller's, and let nothing look complete.
                failure.append(error)
                call.cancel()

        timeout = start.timeout.ToSeconds() + _GRACE if start.HasField("timeout") else None
        with self._link.calling():
            call = self._stub.WriteFile.future(requests(), timeout=timeout, metadata=self._link.metadata)
            try:
                response = call.result()
            except (grpc.RpcError, grpc.FutureCancelledError):
                if failure:
                    raise failure[0] from None
                raise
            finally:
                call.cancel()
        return Written(response.changed, response.wire_bytes)


def _opened(content: bytes | os.PathLike[str] | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    if isinstance(content, os.PathLike):
        try:
            return Path(content).open("rb")
        except OSError as error:
            raise PreparationFailed(f"cannot read {os.fspath(content)}: {error.strerror}") from None
    return nullcontext(content)


def _hash(source: IO[bytes]) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    try:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        source.seek(0)
    except OSError as error:
        raise PreparationFailed(f"cannot read what is to be written: {error.strerror}") from None
    return digest.digest(), size


def _chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes; the daemon compares their hash."""
    try:
        while size and (chunk := source.read(min(CHUNK_BYTES, size))):
            size -= len(chunk)
            yield chunk
    except (OSError, ValueError) as error:
        raise PreparationFailed(f"cannot read what is to be written: {error}") from None
    if size:
        raise PreparationFailed("what is to be written became shorter meanwhile; write it again")


def _deadline(timeout: float | None) -> float:
    return (_DEFAULT if timeout is None else timeout) + _GRACE


def _board_file(message: files_pb2.BoardFile) -> BoardFile:
    return BoardFile(
        path=message.path,
        folder=message.folder,
        size=message.size,
        sha256=message.sha256.hex(),
        errno=message.errno,
        mount=message.mount,
    )
