"""Bytes by the megabyte from a client to a board and back, and what is refused of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import grpc
import pytest

from belayd import wire
from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client.errors import Exhausted, RequestInvalid

PATIENCE = 60.0
MEGABYTE = random.Random(5).randbytes(1 << 20)
SOURCE = (
    "def echo(value):\n return value\ndef size(*values):\n return [len(value) for value in values]\n"
    "def each(*values):\n yield from values\n"
)


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable):
    """A daemon with a board that has memory for megabytes and one that has not."""
    daemon = shared_daemon({"roomy": {"simulated": {"heap": 16384}}, "small": {"simulated": {}}})
    for board in ("roomy", "small"):
        daemon.client.run(board, SOURCE)
    return daemon


def call(number: int, function: str, *arguments: object) -> tasks_pb2.ConverseStep:
    step = tasks_pb2.ConverseStep(id=number)
    step.call.function = function
    step.call.arguments.extend(map(wire.to_value, arguments))
    return step


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_megabyte_goes_through_grpc_and_back(lab, kind: type) -> None:
    lab.client.run("roomy", SOURCE)
    answer = lab.client.call("roomy", "echo", kind(MEGABYTE), timeout=PATIENCE)
    assert type(answer) is kind
    assert answer == MEGABYTE


def test_a_call_may_bring_megabytes_but_not_without_end(lab) -> None:
    lab.client.run("roomy", SOURCE)
    two = MEGABYTE * 2
    assert lab.client.call("roomy", "size", two, two[:9], timeout=PATIENCE) == [2 << 20, 9]
    with pytest.raises(RequestInvalid, match="in several calls"):
        lab.client.call("roomy", "size", *[two] * 4, b"x" * 1000, timeout=PATIENCE)


def test_a_megabyte_goes_through_a_conversation_many_times(lab) -> None:
    with lab.client.acquire("roomy", wait=PATIENCE) as lease:
        lab.client.run("roomy", SOURCE, lease=lease)
        for length in (9, 1 << 20, 300, 50_000, 129, 7):
            sent = [MEGABYTE[:length], {"a": bytearray(MEGABYTE[:1000])}]
            assert lab.client.call("roomy", "echo", sent, lease=lease) == sent
        items = list(lab.client.iterate("roomy", "each", (MEGABYTE[:70_000], bytearray(99)), lease=lease))
    assert items == [MEGABYTE[:70_000], bytearray(99)]


def test_a_board_without_room_says_so_and_serves_on(lab) -> None:
    lab.client.run("small", SOURCE)
    with pytest.raises(Exhausted) as caught:
        lab.client.call("small", "echo", MEGABYTE, timeout=PATIENCE)
    assert caught.value.reason == "OUT_OF_MEMORY"
    assert lab.client.call("small", "echo", MEGABYTE[:9000], timeout=PATIENCE) == MEGABYTE[:9000]


def test_a_step_without_room_fails_alone(lab) -> None:
    with lab.client.acquire("small", wait=PATIENCE) as lease:
        lab.client.run("small", SOURCE, lease=lease)
        steps = [
            call(1, "size", b""),
            call(2, "size", MEGABYTE),
            call(3, "size", MEGABYTE[:500]),
            call(4, "size"),
        ]
        request = tasks_pb2.ConverseRequest(board="boards/small", lease_token=lease.token, steps=steps)
        stream = tasks_pb2_grpc.TaskServiceStub(lab.channel()).Converse(iter([request]), timeout=PATIENCE)
        events = {event.id: event for answer in stream for event in answer.events}
    assert events[2].error.reason == "OUT_OF_MEMORY"
    assert [wire.from_value(events[number].result.value) for number in (1, 3, 4)] == [[0], [500], []]


def test_bytes_that_wait_for_a_board_count_against_its_queue(lab) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    busy = stub.RunTask(tasks_pb2.RunTaskRequest(board="boards/small", source="while True: pass"))
    next(step for step in busy if step.HasField("started"))
    request = tasks_pb2.CallTaskRequest(board="boards/small", function="size")
    request.arguments.append(wire.to_value(MEGABYTE * 4))  # kept as a message and as bytes: 8 MiB

    waiting = stub.CallTask.future(request, timeout=PATIENCE)
    lab_full = None
    while lab_full is None:
        more = stub.CallTask.future(request, timeout=PATIENCE)
        with pytest.raises(grpc.RpcError) as refused:
            more.result(timeout=PATIENCE)
        lab_full = refused.value
    assert lab_full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "wait for board" in lab_full.details()

    busy.cancel()
    with pytest.raises(grpc.RpcError) as no_room:
        waiting.result(timeout=PATIENCE)
    assert "too little memory" in no_room.value.details()
