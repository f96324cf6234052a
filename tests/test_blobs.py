"""File contents: who sees them, how much there can be, and what is left of a broken upload."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from belayd.blobs import BlobLimits, Blobs
from belayd.errors import InternalError, QuotaExceeded, RequestInvalid

KIB = 1024
MIB = 1024 * KIB
SMALL = BlobLimits(total=40 * KIB, per_owner=20 * KIB, per_blob=16 * KIB, keep=100.0)


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(folder: Path, clock: HandClock) -> Blobs:
    return Blobs(folder, SMALL, clock)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def put(blobs: Blobs, owner: str, *contents: bytes) -> None:
    for data in contents:
        async with blobs.writer(owner, sha(data), len(data)) as writer:
            await writer.write(data)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def files_when_quiet(folder: Path) -> list[Path]:
    """The files after every thread's work, and what follows from it, is done."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        await loop.run_in_executor(None, lambda: None)
    return files(folder)


@pytest.fixture(autouse=True)
async def one_thread() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 64], ids=["empty", "one byte", "16 KiB"])
async def test_a_content_is_read_as_it_was_sent(blobs: Blobs, data: bytes) -> None:
    assert blobs.missing("ann", [(sha(data), len(data))]) == [sha(data)]

    async with blobs.writer("ann", sha(data), len(data)) as writer:
        for start in range(0, len(data), 1000):
            await writer.write(data[start : start + 1000])
        assert writer.missing_bytes == 0

    assert await blobs.read("ann", sha(data)) == data
    assert blobs.missing("ann", [(sha(data), len(data))]) == []


async def test_a_big_content_goes_to_disk_in_parts(folder: Path) -> None:
    data = bytes(range(256)) * (3 * MIB // 256) + b"end"
    blobs = Blobs(folder)

    async with blobs.writer("ann", sha(data), len(data)) as writer:
        await writer.write(data[: MIB + 1])
        assert [len(path.read_bytes()) for path in files(folder)] == [MIB + 1]
        await writer.write(data[MIB + 1 :])

    assert await blobs.read("ann", sha(data)) == data


async def test_what_is_missing_comes_once_and_in_order(blobs: Blobs) -> None:
    await put(blobs, "ann", b"b")

    wanted = blobs.missing("ann", [(sha(b"c"), 1), (sha(b"b"), 1), (sha(b"a"), 1), (sha(b"c"), 1)])

    assert wanted == [sha(b"c"), sha(b"a")]


async def test_nobody_sees_what_others_have_sent_although_it_is_stored_once(
    blobs: Blobs, folder: Path
) -> None:
    await put(blobs, "ann", b"secret")

    assert blobs.missing("bob", [(sha(b"secret"), 6)]) == [sha(b"secret")]
    with pytest.raises(RequestInvalid, match="was not sent"):
        await blobs.read("bob", sha(b"secret"))

    await put(blobs, "bob", b"secret")
    assert await blobs.read("bob", sha(b"secret")) == b"secret"
    assert len(await files_when_quiet(folder)) == 1


async def test_only_the_daemon_can_read_the_files(blobs: Blobs, folder: Path) -> None:
    await put(blobs, "ann", b"secret")

    assert mode(folder) == 0o700
    assert [mode(path) for path in files(folder)] == [0o600]


@pytest.mark.parametrize(
    ("announced", "sent", "size", "message"),
    [
        (b"announced", b"different", 9, "has the SHA-256"),
        (b"announced", b"announce", 9, "lacks 1 of its 9 bytes"),
        (b"announced", b"announced!", 9, "longer than the 9 bytes"),
        (b"announced", b"", 9, "lacks 9"),
        (b"announced", b"announced", 10, "lacks 1"),
    ],
    ids=["other bytes", "too short", "too long", "nothing", "other size"],
)
async def test_what_is_not_as_announced_is_refused_and_leaves_nothing(
    blobs: Blobs, folder: Path, announced: bytes, sent: bytes, size: int, message: str
) -> None:
    with pytest.raises(RequestInvalid, match=message):
        async with blobs.writer("ann", sha(announced), size) as writer:
            await writer.write(sent)

    assert await files_when_quiet(folder) == []
    assert blobs.missing("ann", [(sha(announced), 9)]) == [sha(announced)]
    for number in range(5):  # the room that was set aside is free again: all of the quota
        await put(blobs, "ann", bytes([number]) * 4 * KIB)


class HeldThreads(ThreadPoolExecutor):
    """Threads of which the first waits to be let go."""

    def __init__(self) -> None:
        super().__init__(4)
        self.begun = asyncio.Event()
        self.let_go = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._first = True

    def submit(self, work: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        first, self._first = self._first, False
        return super().submit(self._hold if first else work, *([work, *args] if first else args), **keywords)

    def _hold(self, work: Callable[..., Any], *args: Any) -> Any:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.let_go.wait(60)
        return work(*args)


async def test_an_upload_cancelled_while_a_thread_writes_leaves_nothing(folder: Path) -> None:
    blobs, data = Blobs(folder), bytes(4 * MIB)
    threads = HeldThreads()
    asyncio.get_running_loop().set_default_executor(threads)

    async def upload() -> None:
        async with blobs.writer("ann", sha(data), len(data)) as writer:
            await writer.write(data[: 2 * MIB])

    task = asyncio.create_task(upload())
    await threads.begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    before = await files_when_quiet(folder)
    threads.let_go.set()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.to_thread(threads.shutdown)

    assert task.cancelled()
    assert before == []
    assert await files_when_quiet(folder) == []


async def test_two_uploads_of_one_content_at_once_leave_one_file(blobs: Blobs, folder: Path) -> None:
    data = b"same"
    async with blobs.writer("ann", sha(data), 4) as first, blobs.writer("ann", sha(data), 4) as second:
        await first.write(b"sa")
        await second.write(b"same")
        await first.write(b"me")

    assert await blobs.read("ann", sha(data)) == data
    assert len(await files_when_quiet(folder)) == 1
    for number in range(4):
        await put(blobs, "ann", bytes([number]) * 4 * KIB)


async def test_an_owner_keeps_no_more_than_its_quota(blobs: Blobs) -> None:
    await put(blobs, "ann", *(bytes([number]) * 4 * KIB for number in range(5)))

    with pytest.raises(QuotaExceeded, match="ann keeps 20480 of 20480 bytes"):
        blobs.missing("ann", [(sha(b"more"), 4)])
    with pytest.raises(QuotaExceeded):
        await put(blobs, "ann", b"more")
    await put(blobs, "bob", b"more")


async def test_a_small_file_counts_as_what_it_takes_on_disk(blobs: Blobs) -> None:
    await put(blobs, "ann", b"1", b"2", b"3", b"4", b"5")

    with pytest.raises(QuotaExceeded):
        await put(blobs, "ann", b"6")


async def test_what_is_under_way_counts_already(blobs: Blobs) -> None:
    async with blobs.writer("ann", sha(bytes(16 * KIB)), 16 * KIB) as writer:
        with pytest.raises(QuotaExceeded):
            await put(blobs, "ann", b"a" * 8 * KIB)
        await writer.write(bytes(16 * KIB))


async def test_all_owners_together_keep_no_more_than_the_total(blobs: Blobs) -> None:
    await put(blobs, "ann", bytes(16 * KIB))
    await put(blobs, "bob", b"b" * 16 * KIB)
    await put(blobs, "eve", bytes(8 * KIB))

    with pytest.raises(QuotaExceeded, match="the daemon keeps 40960 of 40960 bytes"):
        await put(blobs, "eve", b"more")


async def test_a_shared_content_counts_once_in_all_and_once_per_owner(blobs: Blobs) -> None:
    for owner in ("ann", "bob", "eve"):
        await put(blobs, owner, bytes(16 * KIB))

    await put(blobs, "kim", b"k" * 16 * KIB)
    with pytest.raises(QuotaExceeded, match="ann keeps"):
        await put(blobs, "ann", bytes(8 * KIB))


async def test_what_nobody_used_for_an_hour_goes(blobs: Blobs, folder: Path, clock: HandClock) -> None:
    await put(blobs, "ann", b"old", b"read", b"offered", b"shared")
    clock.now = 60.0
    await blobs.read("ann", sha(b"read"))
    blobs.missing("ann", [(sha(b"offered"), 7)])
    await put(blobs, "bob", b"shared")

    clock.now = 100.0
    assert await blobs.expire() == 1

    wanted = blobs.missing(
        "ann", [(sha(data), len(data)) for data in (b"old", b"read", b"offered", b"shared")]
    )
    assert wanted == [sha(b"old"), sha(b"shared")]
    assert await blobs.read("bob", sha(b"shared")) == b"shared"
    assert len(files(folder)) == 3
    assert await blobs.expire(now=1000.0) == 3
    assert files(folder) == []


async def test_a_pinned_content_stays_and_lives_on_for_its_hour_after(blobs: Blobs, clock: HandClock) -> None:
    await put(blobs, "ann", b"pinned")

    with blobs.pinned("ann", [sha(b"pinned"), sha(b"unknown")]):
        clock.now = 500.0
        assert await blobs.expire() == 0
    clock.now = 599.0
    assert await blobs.expire() == 0
    clock.now = 600.0
    assert await blobs.expire() == 1


async def test_a_full_quota_makes_room_of_what_has_expired(
    blobs: Blobs, folder: Path, clock: HandClock
) -> None:
    await put(blobs, "ann", *(bytes([number]) * 4 * KIB for number in range(5)))

    clock.now = 100.0
    await put(blobs, "ann", b"new")

    assert len(await files_when_quiet(folder)) == 1


async def test_a_file_that_was_changed_on_disk_is_asked_for_again(blobs: Blobs, folder: Path) -> None:
    await put(blobs, "ann", b"right")
    [path] = files(folder)
    path.write_bytes(b"wrong")

    with pytest.raises(RequestInvalid, match="send it again"):
        await blobs.read("ann", sha(b"right"))

    assert blobs.missing("ann", [(sha(b"right"), 5)]) == [sha(b"right")]


async def test_a_disk_that_takes_nothing_is_a_fault_of_the_daemon(blobs: Blobs, folder: Path) -> None:
    shutil.rmtree(folder)

    with pytest.raises(InternalError, match="cannot store contents"):
        await put(blobs, "ann", b"data")


async def test_a_new_daemon_removes_what_the_last_one_left_and_nothing_else(
    blobs: Blobs, folder: Path
) -> None:
    await put(blobs, "ann", b"left")
    (folder / "notes.txt").write_text("mine")

    again = Blobs(folder)

    assert [path.name for path in files(folder)] == ["notes.txt"]
    assert again.missing("ann", [(sha(b"left"), 4)]) == [sha(b"left")]


@pytest.mark.parametrize(
    ("sha256", "size"),
    [(b"", 1), (bytes(31), 1), (bytes(33), 1), (bytes(32), -1), (bytes(32), 16 * KIB + 1)],
)
async def test_what_cannot_be_a_content_is_refused(blobs: Blobs, sha256: bytes, size: int) -> None:
    with pytest.raises(RequestInvalid):
        blobs.missing("ann", [(sha256, size)])
    with pytest.raises(RequestInvalid):
        async with blobs.writer("ann", sha256, size):
            pytest.fail("entered")


async def test_a_known_content_with_another_size_is_refused(blobs: Blobs) -> None:
    await put(blobs, "ann", b"data")

    with pytest.raises(RequestInvalid, match="has 4 bytes"):
        blobs.missing("ann", [(sha(b"data"), 5)])


async def test_an_offer_is_bounded(blobs: Blobs) -> None:
    with pytest.raises(RequestInvalid, match="at most 10000"):
        blobs.missing("ann", [(bytes(32), 0)] * 10_001)


async def pass_through(blobs: Blobs, owner: str, data: bytes) -> None:
    async with blobs.writer(owner, sha(data), len(data), passing=True) as writer:
        await writer.write(data)


async def test_what_only_passes_goes_with_its_last_pin_and_frees_its_room(blobs: Blobs, folder: Path) -> None:
    for number in range(5):  # together more than an owner may keep
        data = bytes([number]) * 10 * KIB
        await pass_through(blobs, "ann", data)
        await pass_through(blobs, "ann", data)
        with blobs.pinned("ann", [sha(data)]):
            with blobs.pinned("ann", [sha(data)]):
                pass
            assert await blobs.read("ann", sha(data)) == data
        assert blobs.size("ann", sha(data)) is None

    assert await files_when_quiet(folder) == []


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("offered", [True, False])
async def test_what_passes_stays_if_its_owner_wants_it_otherwise_too(
    blobs: Blobs, before: bool, offered: bool
) -> None:
    if before:
        await put(blobs, "ann", b"a")
    await pass_through(blobs, "ann", b"a")
    await pass_through(blobs, "bob", b"a")
    with blobs.pinned("ann", [sha(b"a")]), blobs.pinned("bob", [sha(b"a")]):
        if offered:
            assert blobs.missing("ann", [(sha(b"a"), 1)]) == []
        elif not before:
            await put(blobs, "ann", b"a")

    assert await blobs.read("ann", sha(b"a")) == b"a"
    assert blobs.size("bob", sha(b"a")) is None
