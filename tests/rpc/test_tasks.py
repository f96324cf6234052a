"""Tasks as RPCs: how much may wait, and refusals that stay short."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from belayd.errors import RunCancelled
from belayd.v1 import tasks_pb2, tasks_pb2_grpc, values_pb2

BOARD = "boards/sim-1"
MIB = 1 << 20


@pytest.fixture
def stub(lab) -> Any:
    return tasks_pb2_grpc.TaskServiceStub(lab.channel)


@pytest.mark.parametrize("kind", ["run", "call"])
async def test_code_that_waits_is_bounded_in_bytes_and_goes_when_there_is_room(
    lab, stub: Any, kind: str
) -> None:
    busy = await lab.occupy()
    text = "#" * (MIB - 100)
    send = {
        "run": lambda: stub.RunTask(tasks_pb2.RunTaskRequest(board=BOARD, source=text)),
        "call": lambda: stub.CallTask(
            tasks_pb2.CallTaskRequest(
                board=BOARD, function="print", arguments=[values_pb2.Value(str=text[:-999])]
            )
        ),
    }[kind]

    calls = [send() for _ in range(16)]
    await lab.queued(lambda length: length == len(calls) - sum(call.done() for call in calls))
    refused = [call for call in calls if call.done()]
    waiting = [call for call in calls if not call.done()]
    for call in waiting:
        call.cancel()
    await lab.until(lambda: lab.board.snapshot().queue_length == 0)
    small = stub.RunTask(tasks_pb2.RunTaskRequest(board=BOARD, expression="6 * 7"))
    busy.stop(RunCancelled("enough"))
    steps = [step async for step in small]

    # Each has its request, which gRPC keeps, and what is to be sent of it.
    assert 4 <= len(waiting) <= 8
    assert {await call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert steps[-1].result.value.int == 42


async def test_a_call_that_is_too_long_in_all_is_refused(stub: Any) -> None:
    arguments = [values_pb2.Value(str="\x00" * 100_000)] * 3

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CallTask(tasks_pb2.CallTaskRequest(board=BOARD, function="f", arguments=arguments))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "arguments: together longer than 1048576 bytes" in caught.value.details()


@pytest.mark.parametrize("value", [values_pb2.Value(int=1), values_pb2.Value()], ids=["a value", "no value"])
async def test_a_refusal_of_a_long_name_is_short(stub: Any, value: values_pb2.Value) -> None:
    keywords = {"x" * MIB: value}

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CallTask(tasks_pb2.CallTaskRequest(board=BOARD, function="f", keywords=keywords))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "keywords" in caught.value.details()
    assert len(caught.value.details()) < 400
