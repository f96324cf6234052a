"""FileService over a real channel: its streams, what it refuses, and what a caller that leaves leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from belayd.blobs import BlobLimits
from belayd.rpc.files import MOST_FILES
from belayd.v1 import files_pb2, files_pb2_grpc

BOARD = "boards/sim-1"
EVERY_BYTE = bytes(range(256))


@pytest.fixture
def stub(lab) -> Any:
    return files_pb2_grpc.FileServiceStub(lab.channel)


@pytest.fixture
def root(lab, tmp_path: Path) -> Path:
    """The folder that is the board's root."""
    return tmp_path / "boards" / "sim-1"


def writing(
    path: str, data: bytes, chunks: Iterable[bytes] | None = None, **more: Any
) -> Iterator[files_pb2.WriteFileRequest]:
    start = {"board": BOARD, "path": path, "size": len(data), "sha256": sha256(data).digest(), **more}
    yield files_pb2.WriteFileRequest(start=files_pb2.WriteFileStart(**start))
    for chunk in [data] if chunks is None else chunks:
        yield files_pb2.WriteFileRequest(chunk=chunk)


async def test_reading_tells_the_size_then_the_bytes_then_their_hash(stub: Any) -> None:
    data = EVERY_BYTE * 4096
    for content in (data, b""):
        await stub.WriteFile(writing("/a", content, [content[:1000], content[1000:]] if content else []))
        call = stub.ReadFile(files_pb2.ReadFileRequest(board=BOARD, path="/a"))
        first, *chunks, last = [response async for response in call]

        assert first == files_pb2.ReadFileResponse(size=len(content))
        assert b"".join(chunk.chunk for chunk in chunks) == content
        assert all(chunk.chunk for chunk in chunks)
        assert last.sha256 == sha256(content).digest()


async def test_a_long_listing_comes_in_parts(stub: Any, root: Path) -> None:
    for name in range(MOST_FILES + 1):
        (root / f"{name:04}").touch()

    call = stub.ListFiles(files_pb2.ListFilesRequest(board=BOARD))
    sizes = [len(response.files) async for response in call]

    assert sizes == [MOST_FILES, 1]


@pytest.mark.parametrize(
    ("requests", "complaint"),
    [
        ([], "start"),
        ([files_pb2.WriteFileRequest(chunk=b"1")], "start"),
        (writing("/a", b"12", [b"1"]), "not all of the content"),
        (writing("/a", b"12", [b"1", b""]), "not all of the content"),
        (writing("/a", b"12", [b"123"]), "longer"),
        (writing("/a", b"12", [b"21"]), "SHA-256"),
        (writing("/a", b"12", sha256=b"1"), "32 bytes"),
        (writing("a", b"12"), "relative"),
        (writing("/", b"12"), "it stays"),
        (writing("/a/../b", b"12"), "not allowed"),
        (writing("/a", b"12", size=1 << 40), "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_written_is_refused_before_the_board_is_asked(
    lab, stub: Any, requests: Iterable[files_pb2.WriteFileRequest], complaint: str
) -> None:
    busy = await lab.occupy()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WriteFile(iter(requests))

    assert not busy.outcome.done()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in caught.value.details()


async def test_touching_makes_a_file_only_if_there_is_none(stub: Any) -> None:
    start = files_pb2.WriteFileStart(board=BOARD, path="/lib/a", create_only=True, parents=True)

    first = await stub.WriteFile(iter([files_pb2.WriteFileRequest(start=start)]))
    again = await stub.WriteFile(iter([files_pb2.WriteFileRequest(start=start)]))

    assert (first.changed, again.changed) == (True, False)


@pytest.mark.parametrize(
    "path", ["relative", "/a/../b", "/a//b", "/a\0", "/.belayd/0", "/.belayd-0123456789ab", "/"]
)
async def test_paths_that_lead_elsewhere_are_refused(lab, stub: Any, path: str) -> None:
    busy = await lab.occupy()
    calls = [
        stub.DeleteFile(files_pb2.DeleteFileRequest(board=BOARD, path=path, recursive=True)),
        stub.MoveFile(files_pb2.MoveFileRequest(board=BOARD, path=path, to="/x")),
        stub.MoveFile(files_pb2.MoveFileRequest(board=BOARD, path="/x", to=path)),
        stub.MakeDirectory(files_pb2.MakeDirectoryRequest(board=BOARD, path=path)),
    ]

    codes = [await call.code() for call in calls]

    assert not busy.outcome.done()
    assert set(codes) == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_what_is_not_there_is_not_found(stub: Any) -> None:
    listing = stub.ListFiles(files_pb2.ListFilesRequest(board=BOARD, path="/x"))
    reading = stub.ReadFile(files_pb2.ReadFileRequest(board=BOARD, path="/x"))
    deleting = stub.DeleteFile(files_pb2.DeleteFileRequest(board=BOARD, path="/x"))

    codes = [await call.code() for call in (listing, reading, deleting)]

    assert codes == 3 * [grpc.StatusCode.NOT_FOUND]


async def test_a_reader_that_stalls_loses_its_file_at_its_deadline_and_the_board_serves_on(
    lab, stub: Any, root: Path
) -> None:
    (root / "a").write_bytes(bytes(8 << 20))
    request = files_pb2.ReadFileRequest(board=BOARD, path="/a", timeout=Duration(seconds=1))

    call = stub.ReadFile(request)
    first = await call.read()
    await lab.until(lambda: not lab.board.snapshot().queue_length and lab.board.state.value == "ready")
    after = await stub.GetUsage(files_pb2.GetUsageRequest(board=BOARD))

    assert first.size == 8 << 20
    assert [filesystem.path for filesystem in after.filesystems] == ["/"]
    call.cancel()


async def test_a_reader_that_leaves_takes_its_job_along(lab, stub: Any, root: Path) -> None:
    (root / "a").write_bytes(bytes(8 << 20))

    call = stub.ReadFile(files_pb2.ReadFileRequest(board=BOARD, path="/a"))
    await call.read()
    call.cancel()
    after = await lab.within(stub.GetUsage(files_pb2.GetUsageRequest(board=BOARD)))

    assert after.filesystems


async def test_calls_take_turns(stub: Any) -> None:
    contents = [bytes([number]) * 10_000 for number in range(5)]

    written = await asyncio.gather(
        *(stub.WriteFile(writing(f"/{number}", data)) for number, data in enumerate(contents))
    )
    moved = await stub.MoveFile(files_pb2.MoveFileRequest(board=BOARD, path="/0", to="/5"))
    deleted = await stub.DeleteFile(files_pb2.DeleteFileRequest(board=BOARD, path="/1"))

    assert all(response.changed for response in written)
    assert (moved, deleted.count) == (files_pb2.MoveFileResponse(), 1)


async def test_what_was_written_is_nobodys_content_any_more(lab, stub: Any) -> None:
    lab.blobs.limits = BlobLimits(per_owner=100_000)
    written = [bytes([number]) * 60_000 for number in range(3)]

    for data in written:
        await stub.WriteFile(writing("/a", data))
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.WriteFile(writing("/none/a", written[0]))

    assert [lab.blobs.size("local", sha256(data).digest()) for data in written] == [None] * 3
    assert (await stub.WriteFile(writing("/a", written[1]))).changed
