"""Contents that outlast the daemon: whole or not there, its own alone, and never more than may be."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from belayd.archive import DIGEST_BYTES, Archive
from belayd.errors import InternalError, QuotaExceeded, StoreFailed

KIB = 1024
LIMIT = 40 * KIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def archive(folder: Path) -> Archive:
    return Archive(folder, LIMIT)


@pytest.fixture(autouse=True)
async def one_thread() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def loosen(*paths: Path) -> None:
    for path in paths:
        path.chmod(0o755)


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


async def keep(archive: Archive, *contents: bytes) -> None:
    for data in contents:
        await archive.keep(sha(data), data)


async def files_when_quiet(folder: Path) -> list[Path]:
    """The files after every thread's work, and what follows from it, is done."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        await loop.run_in_executor(None, lambda: None)
    return files(folder)


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 64], ids=["empty", "one byte", "16 KiB"])
async def test_a_content_is_read_as_it_was_kept_also_by_the_next_daemon(
    archive: Archive, folder: Path, data: bytes
) -> None:
    await keep(archive, data)

    after = Archive(folder, LIMIT)

    assert await archive.read(sha(data)) == data
    assert await after.read(sha(data)) == data
    assert after.holds(sha(data))
    assert after.size(sha(data)) == len(data)
    assert after.used_bytes == archive.used_bytes


async def test_a_content_is_kept_once(archive: Archive, folder: Path) -> None:
    await keep(archive, b"twice", b"twice")
    await asyncio.gather(keep(archive, b"at once"), keep(archive, b"at once"))

    assert len(await files_when_quiet(folder)) == 2
    assert archive.used_bytes == 2 * 4096


async def test_only_the_daemon_can_read_the_files(archive: Archive, folder: Path) -> None:
    await keep(archive, b"secret")

    assert mode(folder) == 0o700
    assert [mode(path) for path in files(folder)] == [0o600]


async def test_rights_that_were_loosened_are_mended_at_the_start(archive: Archive, folder: Path) -> None:
    await keep(archive, b"secret")
    [path] = files(folder)
    loosen(folder, path)

    Archive(folder, LIMIT)

    assert (mode(folder), mode(path)) == (0o700, 0o600)


async def test_what_is_not_wanted_any_more_goes(archive: Archive, folder: Path) -> None:
    await keep(archive, b"wanted", b"not wanted")

    forgotten = await archive.retain({sha(b"wanted"), sha(b"never kept")})

    assert forgotten == 1
    assert archive.holds(sha(b"wanted"))
    assert not archive.holds(sha(b"not wanted"))
    assert len(await files_when_quiet(folder)) == 1
    assert archive.used_bytes == 4096


async def test_a_content_that_is_forgotten_and_kept_again_at_once_is_there(
    archive: Archive, folder: Path
) -> None:
    await keep(archive, b"again")

    await asyncio.gather(archive.retain(()), keep(archive, b"again"), keep(archive, b"again"))
    await keep(archive, b"again")

    assert await archive.read(sha(b"again")) == b"again"
    assert await Archive(folder, LIMIT).read(sha(b"again")) == b"again"


async def test_more_than_the_limit_is_refused_and_changes_nothing(archive: Archive, folder: Path) -> None:
    await keep(archive, b"a" * 30 * KIB)

    with pytest.raises(QuotaExceeded, match="snapshots") as refused:
        await keep(archive, b"b" * 11 * KIB)

    assert refused.value.fields["needed_bytes"] == str(11 * KIB)
    assert archive.used_bytes == 30 * KIB
    assert len(await files_when_quiet(folder)) == 1
    await keep(archive, b"c" * 10 * KIB)


async def test_many_small_contents_count_as_what_they_take(archive: Archive) -> None:
    await keep(archive, *(b"%d" % number for number in range(10)))

    with pytest.raises(QuotaExceeded):
        await keep(archive, b"one more")


async def test_a_content_whose_hash_comes_last_is_kept_under_it(archive: Archive) -> None:
    async with archive.writer(10) as writer:
        await writer.write(b"from")
        await writer.write(b" far")

    assert writer.sha256 == sha(b"from far")
    assert await archive.read(sha(b"from far")) == b"from far"
    assert archive.size(writer.sha256) == 8


@pytest.mark.parametrize(("announced", "data"), [(3, b"four"), (100, b"another hash")])
async def test_what_is_not_what_was_announced_is_not_kept(
    archive: Archive, folder: Path, announced: int, data: bytes
) -> None:
    async def write() -> None:
        async with archive.writer(announced) as writer:
            await writer.write(data)
            raise InternalError("as a reader does that finds another hash")

    with pytest.raises(InternalError):
        await write()
    with pytest.raises(InternalError, match="another SHA-256"):
        await archive.keep(sha(b"something else"), data)

    assert await files_when_quiet(folder) == []
    assert archive.used_bytes == 0


async def test_a_cancelled_writing_leaves_nothing(archive: Archive, folder: Path) -> None:
    writing = asyncio.Event()

    async def write() -> None:
        async with archive.writer(20 * KIB) as writer:
            await writer.write(b"x" * 10 * KIB)
            writing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await writing.wait()
    task.cancel()
    await asyncio.wait([task])

    assert await files_when_quiet(folder) == []
    assert archive.used_bytes == 0


async def test_what_a_killed_daemon_left_unfinished_goes(archive: Archive, folder: Path) -> None:
    await keep(archive, b"whole")
    (folder / "17.new").write_bytes(b"half")
    (folder / "README").write_bytes(b"an operator's own")
    twice = folder / f"{sha(b'whole').hex()}.99"
    twice.write_bytes(b"whole")

    after = Archive(folder, LIMIT)
    await keep(after, b"another")

    assert await after.read(sha(b"whole")) == b"whole"
    assert after.used_bytes == 2 * 4096
    assert {path.suffix for path in files(folder)} == {".1", "", ".100"}


async def test_a_content_that_was_damaged_on_disk_is_told_and_not_given(
    archive: Archive, folder: Path
) -> None:
    await keep(archive, b"whole", b"gone")
    for path in files(folder):
        path.write_bytes(b"other")

    for data in (b"whole", b"gone", b"never kept"):
        with pytest.raises(StoreFailed, match="deploy it again"):
            await archive.read(sha(data))

    assert not archive.holds(sha(b"whole"))
    assert archive.used_bytes == 0


async def test_a_disk_that_takes_nothing_is_told(archive: Archive, folder: Path) -> None:
    move_away(folder)

    with pytest.raises(StoreFailed, match="cannot keep"):
        await keep(archive, b"nowhere to go")

    assert archive.used_bytes == 0


async def test_files_of_the_daemons_own_are_kept_without_being_copied(
    archive: Archive, folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"brought by a client")
    large = tmp_path / "large"
    large.write_bytes(b"l" * 2 * LIMIT)
    files = [
        (sha(b"brought by a client"), 19, source),
        (sha(b"gone meanwhile"), 14, tmp_path / "gone"),
        (sha(large.read_bytes()), 2 * LIMIT, large),
    ]

    await archive.adopt(files)
    await archive.adopt(files)
    linked = source.stat().st_nlink
    source.unlink()

    assert linked == 2
    assert await archive.read(sha(b"brought by a client")) == b"brought by a client"
    assert [archive.holds(sha256) for sha256, _, _ in files] == [True, False, False]
    assert archive.used_bytes == 4096
    assert len(await files_when_quiet(folder)) == 1


async def test_a_content_is_found_by_how_its_hash_begins_and_its_size(archive: Archive) -> None:
    await keep(archive, b"found")
    whole = sha(b"found")

    assert archive.match(whole[:DIGEST_BYTES], 5) == whole
    assert archive.match(whole, 5) == whole
    assert archive.match(whole[:DIGEST_BYTES], 6) is None
    assert archive.match(whole[:DIGEST_BYTES] + bytes(16), 5) is None
    assert archive.match(b"?", 5) is None
    await archive.retain(())
    assert archive.match(whole, 5) is None
