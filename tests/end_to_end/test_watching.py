"""Watchers of boards: all once, then what changes; and one that does not read costs the daemon nothing."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from belayd.v1 import boards_pb2, boards_pb2_grpc

MIB = 1024 * 1024
# A message of some 60 kB: the buffers between daemon and client hold few.
LARGE = {f"label-{number:03}-{'n' * 50}": "v" * 63 for number in range(500)}


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    large = {"simulated": {}, "labels": LARGE}
    return shared_daemon({"sim-1": sim, "sim-2": sim, "large-1": large})


def watch(lab, selector: str = "") -> grpc.Call:
    stub = boards_pb2_grpc.BoardServiceStub(lab.channel())
    return stub.WatchBoards(boards_pb2.WatchBoardsRequest(selector=selector))


def test_a_watcher_is_sent_every_board_once_and_then_what_changes(lab) -> None:
    stream = watch(lab)

    first = next(stream)
    with lab.client.acquire("sim-2", ttl=60, reason="test"):
        second = next(stream)
    third = next(stream)
    stream.cancel()

    assert [board.name for board in first.boards] == ["boards/large-1", "boards/sim-1", "boards/sim-2"]
    assert {board.state for board in first.boards} == {boards_pb2.BOARD_STATE_READY}
    assert [(board.name, board.lease.reason) for board in second.boards] == [("boards/sim-2", "test")]
    assert [(board.name, board.HasField("lease")) for board in third.boards] == [("boards/sim-2", False)]


def test_a_watcher_hears_of_the_boards_it_selects_alone(lab) -> None:
    stream = watch(lab, "name=sim-2")
    first = next(stream)

    lab.client.evaluate("sim-1", "1")
    with lab.client.acquire("sim-2", ttl=60):
        second = next(stream)
    stream.cancel()

    assert [board.name for board in (*first.boards, *second.boards)] == ["boards/sim-2"] * 2


def test_a_jobs_begin_and_end_are_seen(lab) -> None:
    stream = watch(lab, "name=sim-1")
    ready = next(stream).boards[0]

    lab.client.run("sim-1", "import time; time.sleep(0.3)")
    busy, again = next(stream).boards[0], next(stream).boards[0]
    stream.cancel()

    assert [board.state for board in (ready, busy, again)] == [
        boards_pb2.BOARD_STATE_READY,
        boards_pb2.BOARD_STATE_BUSY,
        boards_pb2.BOARD_STATE_READY,
    ]
    assert ready.version < busy.version < again.version


def test_watchers_that_do_not_read_cost_little_and_get_the_latest_state_when_they_do(
    lab, until: Callable[..., None]
) -> None:
    def changes() -> float:
        return lab.metric("belayd_board_state_changes_total", board="large-1")

    streams = [watch(lab, "name=large-1") for _ in range(10)]
    for stream in streams:
        next(stream)
    before, rss = changes(), lab.rss()

    # Each call changes the board's state twice; a backlog of all would be some 120 MB for each watcher.
    for number in range(1000):
        assert lab.client.evaluate("large-1", str(number)) == number
    changed, grown = changes() - before, lab.rss() - rss
    with lab.client.acquire("large-1", ttl=60, reason="the latest"):
        seen = []
        while not seen or not seen[-1].HasField("lease"):
            seen.append(next(streams[0]).boards[0])
    for stream in streams:
        stream.cancel()

    assert changed >= 2000
    assert grown < 48 * MIB
    assert seen[-1].lease.reason == "the latest"
    assert len(seen) < 100
    assert [board.version for board in seen] == sorted(board.version for board in seen)


def test_watchers_that_leave_are_forgotten(lab, until: Callable[..., None]) -> None:
    def watching() -> float:
        started = lab.metric("grpc_server_started_total", grpc_method="WatchBoards")
        return started - lab.metric("grpc_server_handled_total", grpc_method="WatchBoards")

    until(lambda: watching() == 0)

    streams = [watch(lab) for _ in range(20)]
    for stream in streams:
        next(stream)
    while_there = watching()
    for stream in streams:
        stream.cancel()

    assert while_there == 20
    until(lambda: watching() == 0)
