"""Boards as RPCs: what watchers are told."""

from __future__ import annotations

from belayd.v1 import boards_pb2, boards_pb2_grpc


async def test_a_watcher_sees_how_many_wait_for_a_lease(lab) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(lab.channel)
    stream = stub.WatchBoards(boards_pb2.WatchBoardsRequest())
    lengths = [(await lab.within(stream.read())).boards[0].lease_queue_length]
    holder = lab.leasing.request(["sim-1"], "ann")
    await lab.within(stream.read())

    waiting = lab.leasing.request(["sim-1"], "bob")
    lengths.append((await lab.within(stream.read())).boards[0].lease_queue_length)
    waiting.withdraw()
    lengths.append((await lab.within(stream.read())).boards[0].lease_queue_length)

    assert holder.granted is not None
    assert lengths == [0, 1, 0]
    stream.cancel()
