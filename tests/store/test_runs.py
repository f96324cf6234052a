"""Detached runs: their life, their output by position, and what is kept of whom."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from belayd.store import Output, RunLimits, RunState, Store
from belayd.store.runs import PIECE_BYTES

SOURCE = bytes(range(32))


def create(store: Store, name: str = "r1", principal: str = "ann", board: str = "pico-1") -> None:
    store.runs.create(name, board, principal, "7f3a", SOURCE)


async def test_a_run_is_kept_from_its_beginning_to_its_end(place) -> None:
    store = await place.open()
    create(store)
    await store.runs.settled()
    queued = await store.runs.get("r1")
    place.wall.go(seconds=1)
    store.runs.start("r1")
    running = await store.runs.get("r1")
    place.wall.go(seconds=2)
    assert store.runs.append("r1", b"hello ") == 6
    assert store.runs.append("r1", b"world\n") == 12
    store.runs.end("r1", b"\x00outcome")
    await store.runs.settled()

    ended = await store.runs.get("r1")
    noon = place.wall() - timedelta(seconds=3)
    assert (queued.state, queued.created, queued.started) == (RunState.QUEUED, noon, None)
    assert (queued.board, queued.principal, queued.lease, queued.what) == ("pico-1", "ann", "7f3a", SOURCE)
    assert (running.state, running.started, running.ended) == (
        RunState.RUNNING,
        noon + timedelta(seconds=1),
        None,
    )
    assert (ended.state, ended.ended, ended.outcome) == (RunState.ENDED, place.wall(), b"\x00outcome")
    assert (ended.output_end, ended.output_kept, ended.dropped) == (12, 12, 0)
    assert await store.runs.read("r1") == Output(0, b"hello world\n")
    assert await store.runs.get("r2") is None


async def test_output_is_read_on_from_any_position(place) -> None:
    store = await place.open()
    create(store)
    printed = b"".join(b"line %d\n" % number for number in range(20_000))
    for begin in range(0, len(printed), 777):
        store.runs.append("r1", printed[begin : begin + 777])

    position, read = 0, b""
    while (piece := await store.runs.read("r1", position, most=10_000)).data:
        assert (piece.position, len(piece.data) <= 10_000) == (position, True)
        read += piece.data
        position += len(piece.data)

    assert read == printed
    assert await store.runs.read("r1", 12_345, most=10) == Output(12_345, printed[12_345:12_355])
    assert await store.runs.read("r1", len(printed)) == Output(len(printed), b"")
    assert await store.runs.read("nobody") == Output(0, b"")


async def test_many_small_pieces_are_stored_together(place) -> None:
    store = await place.open()
    create(store)
    for _ in range(1000):
        store.runs.append("r1", b"x" * 100)

    count = await store.runs._reader.read(
        lambda connection: connection.execute("SELECT count(*), max(length(data)) FROM run_output").fetchone()
    )

    assert count[0] <= 100_000 // PIECE_BYTES + 2
    assert count[1] <= PIECE_BYTES


async def test_of_much_output_the_latest_is_kept_and_the_rest_counted(place) -> None:
    store = await place.open(runs=RunLimits(output=100_000))
    create(store)
    printed = b"".join(b"%08d\n" % number for number in range(100_000))
    store.runs.append("r1", printed)

    run = await store.runs.get("r1")
    first = await store.runs.read("r1", 0)

    assert run.output_end == len(printed)
    assert 100_000 - PIECE_BYTES <= run.output_kept <= 100_000
    assert run.dropped == len(printed) - run.output_kept == first.position
    assert first.data == printed[first.position :]


async def test_what_ran_when_the_daemon_ended_is_lost_with_its_output_kept(place) -> None:
    store = await place.open()
    for name in ("queued", "running", "ended"):
        create(store, name)
    store.runs.start("running")
    store.runs.append("running", b"so far")
    store.runs.end("ended", b"done")
    await store.close()
    place.wall.go(hours=1)

    store = await place.open()

    runs, _ = await store.runs.list()
    assert {run.name: run.state for run in runs} == {
        "queued": RunState.LOST,
        "running": RunState.LOST,
        "ended": RunState.ENDED,
    }
    lost = await store.runs.get("running")
    assert (lost.ended, lost.outcome, lost.output_end) == (place.wall(), None, 6)
    assert await store.runs.read("running") == Output(0, b"so far")


async def test_output_is_on_disk_soon_after_it_was_printed(place, tmp_path: Path) -> None:
    store = await place.open()
    create(store)
    store.runs.append("r1", b"printed before the kill")
    await store.runs.get("r1")
    killed = tmp_path / "killed"
    killed.mkdir()
    for path in place.folder.glob("belayd.sqlite*"):
        shutil.copy(path, killed)

    survivor = await Store.open(killed)
    try:
        assert (await survivor.runs.read("r1")).data == b"printed before the kill"
        assert (await survivor.runs.get("r1")).state is RunState.LOST
    finally:
        await survivor.close()


async def test_runs_are_listed_newest_first_page_by_page(place) -> None:
    store = await place.open()
    for number in range(10):
        create(store, f"r{number}", ("ann", "bob")[number % 2], f"b-{number % 3}")

    first, page = await store.runs.list(limit=4)
    second, page = await store.runs.list(limit=4, page=page)
    third, end = await store.runs.list(limit=4, page=page)

    assert [run.name for run in (*first, *second, *third)] == [f"r{number}" for number in range(9, -1, -1)]
    assert end is None
    assert [run.name for run in (await store.runs.list(principal="bob", board="b-0"))[0]] == ["r9", "r3"]


async def test_ones_runs_push_out_ones_own_only_and_never_one_that_runs(place) -> None:
    store = await place.open(runs=RunLimits(runs=5))
    create(store, "quiet", "bob")
    store.runs.end("quiet", b"")
    create(store, "still running")
    for number in range(20):
        create(store, f"r{number}")
        store.runs.append(f"r{number}", b"output")
        store.runs.end(f"r{number}", b"")

    names = [run.name for run in (await store.runs.list())[0]]

    assert names == ["r19", "r18", "r17", "r16", "r15", "still running", "quiet"]
    assert (await store.runs.read("r3")).data == b""


async def test_ones_runs_are_bounded_by_their_bytes(place) -> None:
    store = await place.open(runs=RunLimits(bytes=50_000))
    for number in range(10):
        create(store, f"r{number}")
        store.runs.append(f"r{number}", bytes(15_000))
        store.runs.end(f"r{number}", bytes(1000))

    assert [run.name for run in (await store.runs.list())[0]] == ["r9", "r8", "r7"]


async def test_what_is_too_old_goes(place) -> None:
    store = await place.open(runs=RunLimits(age=timedelta(days=3)))
    for name in ("old", "running"):
        create(store, name)
    store.runs.end("old", b"")
    place.wall.go(days=2)
    create(store, "new")
    store.runs.end("new", b"")
    place.wall.go(days=2)

    store.runs.expire()

    assert [run.name for run in (await store.runs.list())[0]] == ["new", "running"]


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_any_length_comes_back(place, length: int) -> None:
    store = await place.open()
    create(store)

    assert store.runs.append("r1", b"." * length) == length

    assert await store.runs.read("r1") == Output(0, b"." * length)
