"""The writer: order, company, and what becomes of writes that fail."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from belayd.errors import StoreFailed
from belayd.store.writer import MOST_BYTES, Writer

PATIENCE = 30.0


class Desk:
    """A writer on a database with one table, and what the database was told."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE t (x)")
        self.told: list[str] = []
        self.connection.set_trace_callback(self.told.append)
        self.other = sqlite3.connect(path, isolation_level=None)
        self.thread = ThreadPoolExecutor(1)
        self.writer = Writer(self.connection, self.thread, "the book")
        self.task = asyncio.create_task(self.writer.run())

    def put(self, x: object, *, key: object = None, urgent: bool = True, cost: int = 0) -> None:
        self.writer.put(
            lambda connection: connection.execute("INSERT INTO t VALUES (?)", (x,)) and None,
            key=key,
            urgent=urgent,
            cost=cost,
        )

    @property
    def rows(self) -> list[object]:
        return [x for (x,) in self.other.execute("SELECT x FROM t ORDER BY rowid")]

    @property
    def commits(self) -> int:
        return self.told.count("COMMIT")

    def fill(self) -> None:
        """Let the disk have no room left."""
        self.limit(1)

    def limit(self, pages: int) -> None:
        self.thread.submit(self.connection.execute, f"PRAGMA max_page_count = {pages}").result(PATIENCE)

    async def close(self) -> None:
        self.writer.close()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self.task])
        self.thread.shutdown()
        self.connection.close()
        self.other.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "db")
    yield desk
    await desk.close()


async def test_what_is_settled_is_there_in_the_order_of_its_queueing(desk, within) -> None:
    for x in range(100):
        desk.put(x, urgent=x % 3 == 0)

    await within(desk.writer.settled())

    assert desk.rows == list(range(100))
    assert desk.commits == 1


async def test_those_who_wait_together_share_commits(desk, within) -> None:
    async def write(x: int) -> None:
        desk.put(x)
        await desk.writer.settled()
        assert x in desk.rows

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for x in range(200):
            group.create_task(write(x))

    assert desk.commits == 1


async def test_a_write_during_a_commit_is_in_the_next(desk, within) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result(PATIENCE)

    desk.writer.put(slow, urgent=True)
    first = asyncio.ensure_future(desk.writer.settled())
    await within(entered.wait())
    also_first = asyncio.ensure_future(desk.writer.settled())
    desk.put("next")
    second = asyncio.ensure_future(desk.writer.settled())
    await asyncio.sleep(0)
    leave.set()

    await within(first)
    await within(also_first)
    await within(second)
    assert desk.commits == 2


async def test_only_urgent_writes_wait_for_the_disk(desk, within) -> None:
    desk.put("lazy", urgent=False)
    await within(desk.writer.written())
    desk.put("urgent")
    await within(desk.writer.settled())

    syncs = [line for line in desk.told if "synchronous" in line]
    assert syncs == ["PRAGMA synchronous = NORMAL", "PRAGMA synchronous = FULL"]


async def test_a_lazy_write_is_committed_by_itself(desk, within) -> None:
    committed = asyncio.Event()
    loop = asyncio.get_running_loop()

    desk.put("lazy", urgent=False)
    desk.writer.put(lambda connection: loop.call_soon_threadsafe(committed.set) and None)

    await within(committed.wait())
    await within(desk.writer.written())
    assert desk.rows == ["lazy"]


async def test_nothing_to_settle_settles_at_once(desk, within) -> None:
    await within(desk.writer.settled())
    await within(desk.writer.written())

    assert desk.commits == 0


async def test_a_later_write_of_a_key_replaces_an_earlier_one(desk, within) -> None:
    for x in "abc":
        desk.put(x, key="one")
    desk.put("other", key="two")
    desk.put("gone", key="three")
    desk.writer.withdraw("three")
    desk.writer.withdraw("never there")

    await within(desk.writer.settled())

    assert desk.rows == ["c", "other"]


async def test_on_a_full_disk_whoever_waits_is_told_and_it_is_written_when_there_is_room(
    desk, within
) -> None:
    desk.fill()
    desk.put("x" * 10_000)
    with pytest.raises(StoreFailed, match="the book cannot be written: database or disk is full") as told:
        await within(desk.writer.settled())
    assert told.value.fields == {"cause": "database or disk is full"}
    desk.put("later", urgent=False)
    with pytest.raises(StoreFailed):
        await within(desk.writer.settled())
    await within(desk.writer.written())
    assert desk.rows == []

    desk.limit(1000)

    await within(desk.writer.settled())
    assert desk.rows == ["x" * 10_000, "later"]


async def test_what_failed_is_tried_again_by_itself(desk, within) -> None:
    written = asyncio.Event()
    loop = asyncio.get_running_loop()
    desk.fill()
    desk.put("x" * 10_000)
    with pytest.raises(StoreFailed):
        await within(desk.writer.settled())
    desk.limit(1000)

    desk.writer.put(lambda connection: loop.call_soon_threadsafe(written.set) and None, key="last")
    await within(written.wait())
    await within(desk.writer.written())

    assert desk.rows == ["x" * 10_000]


async def test_a_failed_write_of_a_key_gives_way_to_a_later_one(desk, within) -> None:
    desk.fill()
    desk.put("old" * 10_000, key="one", cost=30_000)
    with pytest.raises(StoreFailed):
        await within(desk.writer.settled())
    desk.limit(1000)
    desk.put("new", key="one")

    await within(desk.writer.settled())

    assert desk.rows == ["new"]


async def test_the_queue_has_a_bound_but_keys_are_never_refused(desk, within) -> None:
    desk.fill()
    desk.put("x" * 10_000, cost=MOST_BYTES - 10)
    with pytest.raises(StoreFailed):
        await within(desk.writer.settled())

    with pytest.raises(StoreFailed, match="too much waits"):
        desk.put("more", cost=11)
    desk.put("keyed", key="a", cost=11)
    desk.limit(1000)
    await within(desk.writer.settled())

    desk.put("more", cost=11)
    await within(desk.writer.settled())
    assert desk.rows == ["x" * 10_000, "keyed", "more"]


async def test_whoever_leaves_while_waiting_disturbs_nobody(desk, within) -> None:
    desk.put("x")
    waiting = [asyncio.ensure_future(desk.writer.settled()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()

    await within(waiting[0])
    await within(waiting[2])

    assert desk.rows == ["x"]


async def test_closing_writes_what_is_queued(desk) -> None:
    desk.put("last", urgent=False)

    desk.writer.close()
    async with asyncio.timeout(PATIENCE):
        await desk.task

    assert desk.rows == ["last"]
    with pytest.raises(StoreFailed, match="closed"):
        await desk.writer.settled()
    with pytest.raises(StoreFailed):
        desk.put("too late")
    await desk.writer.written()


async def test_closing_on_a_full_disk_ends_too_and_says_what_is_lost(desk, within, caplog) -> None:
    desk.fill()
    desk.put("x" * 10_000)
    with pytest.raises(StoreFailed):
        await within(desk.writer.settled())

    desk.writer.close()
    async with asyncio.timeout(PATIENCE):
        await desk.task

    assert "1 records are lost" in caplog.text


async def test_a_fault_of_belayd_ends_the_writer_and_whoever_waits_hears_of_it(desk, within) -> None:
    desk.writer.put(
        lambda connection: connection.execute("INSERT INTO t VALUES (?, ?)", (1,)) and None, urgent=True
    )

    with pytest.raises(StoreFailed, match="its writer ended"):
        await within(desk.writer.settled())

    with pytest.raises(sqlite3.OperationalError):
        await desk.task
