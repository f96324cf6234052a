"""Calls over one stream: right answers, each step's own fate, and nothing left running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from belayd import wire
from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client.board import BoardState
from belayd_client.errors import BoardException, RunTimeout

PATIENCE = 30.0
SOURCE = "def add(a, b):\n return a + b\ndef say(x):\n print('said', x)\n return x\ndef stuck():\n while True: pass\n"


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable, sim: dict):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


def step(number: int, expression: str = "", **fields: object) -> tasks_pb2.ConverseStep:
    if expression:
        fields["expression"] = expression
    return tasks_pb2.ConverseStep(id=number, **fields)


def call(number: int, function: str, *arguments: object) -> tasks_pb2.ConverseStep:
    made = tasks_pb2.ConverseStep(id=number)
    made.call.function = function
    made.call.arguments.extend(map(wire.to_value, arguments))
    return made


def value(event: tasks_pb2.ConverseEvent) -> object:
    return wire.from_value(event.result.value)


@pytest.fixture
def leased(lab, converse: Callable) -> Iterator[tuple[str, Any]]:
    with lab.client.acquire("sim-1", wait=PATIENCE) as lease:
        lab.client.run("sim-1", SOURCE, lease=lease)
        yield lease.token, converse(lab.channel(), "sim-1", lease.token)


def test_a_client_that_calls_often_gets_every_answer(lab) -> None:
    lab.client.run("sim-1", SOURCE)
    assert [lab.client.call("sim-1", "add", number, 1) for number in range(200)] == list(range(1, 201))


def test_threads_share_a_stream_and_get_their_own_answers(lab) -> None:
    lab.client.run("sim-1", SOURCE)

    def work(thread: int) -> list[object]:
        return [lab.client.call("sim-1", "add", thread * 1000, number) for number in range(100)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [[thread * 1000 + number for number in range(100)] for thread in range(8)]


def test_what_a_call_prints_is_its_own(lab) -> None:
    lab.client.run("sim-1", SOURCE)
    printed: list[bytes] = []
    for number in range(5):
        assert lab.client.call("sim-1", "say", number, output=printed.append) == number
    assert b"".join(printed).replace(b"\r", b"") == b"".join(b"said %d\n" % number for number in range(5))


def test_exceptions_and_timeouts_are_each_steps_own(lab) -> None:
    lab.client.run("sim-2", SOURCE)
    for _ in range(4):
        assert lab.client.call("sim-2", "add", 1, 2) == 3
    with pytest.raises(BoardException, match="TypeError"):
        lab.client.call("sim-2", "add", 1)
    with pytest.raises(RunTimeout):
        lab.client.call("sim-2", "stuck", timeout=0.4)
    assert lab.client.call("sim-2", "add", 20, 22) == 42


def test_a_message_of_many_steps_is_answered_in_order(leased) -> None:
    _, stream = leased
    stream.send(*(call(number, "add", number, number) for number in range(1, 501)))
    events = stream.events(500)
    assert [event.id for event in events] == list(range(1, 501))
    assert [value(event) for event in events] == [2 * number for number in range(1, 501)]


def test_output_stands_before_its_steps_result(leased) -> None:
    _, stream = leased
    stream.send(call(1, "say", "a"), call(2, "say", "b"))
    events = stream.events(2)
    assert [(event.id, event.WhichOneof("event")) for event in events if event.id == 1][-1] == (1, "result")
    said = {number: b"".join(event.output for event in events if event.id == number) for number in (1, 2)}
    assert [said[1].strip(), said[2].strip()] == [b"said a", b"said b"]


def test_each_step_is_an_operation_of_its_own_in_the_metrics(lab, leased) -> None:
    _, stream = leased
    before = {
        outcome: lab.metric("belayd_operations_total", board="sim-1", outcome=outcome)
        for outcome in ("ok", "board_error", "cancelled")
    }
    stream.send(call(1, "stuck"), call(2, "add", 1), *(call(number, "add", 1, 2) for number in range(3, 9)))
    stream.send(step(1, cancel=tasks_pb2.CancelStep()))
    stream.events(8)
    stream.send(call(9, "add", 1, 2))
    stream.events(1)
    after = {
        outcome: lab.metric("belayd_operations_total", board="sim-1", outcome=outcome) for outcome in before
    }
    assert {outcome: after[outcome] - before[outcome] for outcome in before} == {
        "ok": 7,
        "board_error": 1,
        "cancelled": 1,
    }


def test_a_result_says_how_long_its_step_ran(leased) -> None:
    _, stream = leased
    stream.send(step(1, "1"), step(2, "__import__('time').sleep(1)"), step(3, "1"))
    ran = {event.id: event.result.ran.ToTimedelta().total_seconds() for event in stream.events(3)}
    # From when the answer before was read, which may be a little after the step began.
    assert ran[2] > 0.5 > max(ran[1], ran[3])


def test_an_exit_ends_the_steps_behind_it_and_the_board_serves_on(leased) -> None:
    _, stream = leased
    stream.send(step(1, "__import__('sys').exit(3)"), step(2, "1 + 1"))
    first, second = stream.events(2)
    assert first.result.exception.type_name == "SystemExit"
    assert second.error.reason == "RUN_CANCELLED"
    stream.send(step(3, "6 * 7"))
    assert value(stream.events(1)[0]) == 42


def test_a_lease_that_ends_takes_its_steps_along(lab, until, converse) -> None:
    lease = lab.client.acquire("sim-1", wait=PATIENCE)
    lab.client.run("sim-1", SOURCE, lease=lease)
    stream = converse(lab.channel(), "sim-1", lease.token)
    stream.send(call(1, "stuck"), call(2, "add", 1, 2))
    until(lambda: lab.client.board("sim-1").state is BoardState.BUSY)
    lease.release()
    assert [event.error.reason for event in stream.events(2)] == ["LEASE_EXPIRED"] * 2
    stream.send(call(3, "add", 1, 2))
    assert stream.events(1)[0].error.reason == "LEASE_EXPIRED"


def test_a_stream_that_is_cut_interrupts_the_board(lab, until, converse) -> None:
    lab.client.run("sim-2", SOURCE)
    stream = converse(lab.channel(), "sim-2")
    stream.send(call(1, "stuck"))
    until(lambda: lab.client.board("sim-2").state is BoardState.BUSY)
    stream.call.cancel()
    assert lab.client.evaluate("sim-2", "6 * 7", timeout=PATIENCE) == 42


def test_a_stream_ends_when_the_client_has_said_all(leased) -> None:
    _, stream = leased
    stream.send(call(1, "add", 1, 2))
    stream.finish()
    assert [value(event) for response in stream.call for event in response.events] == [3]
    assert stream.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (step(7), "REQUEST_INVALID"),
        (step(7, " "), "REQUEST_INVALID"),
        (call(7, "add b"), "REQUEST_INVALID"),
        (call(7, "print"), ""),
    ],
    ids=["nothing", "empty", "no name", "a builtin is fine"],
)
def test_a_bad_step_fails_alone(leased, bad: tasks_pb2.ConverseStep, reason: str) -> None:
    _, stream = leased
    stream.send(bad, call(8, "add", 1, 2))
    events = {event.id: event for event in stream.events(2) if event.WhichOneof("event") != "output"}
    assert events[7].error.reason == reason
    assert value(events[8]) == 3


GENERATORS = """
closed = []
def count(n):
    try:
        for i in range(n):
            yield i
    finally:
        closed.append(n)
def echo():
    got = None
    while True:
        got = yield got
"""


def iterate(number: int, function: str, *arguments: object, credit: int) -> tasks_pb2.ConverseStep:
    made = tasks_pb2.ConverseStep(id=number)
    made.iterate.call.function = function
    made.iterate.call.arguments.extend(map(wire.to_value, arguments))
    made.iterate.credit = credit
    return made


def order(number: int, **what: object) -> tasks_pb2.ConverseStep:
    return tasks_pb2.ConverseStep(id=number, order=tasks_pb2.IterationOrder(**what))


def items(events: list[tasks_pb2.ConverseEvent]) -> list[object]:
    return [wire.from_value(event.item) for event in events if event.WhichOneof("event") == "item"]


@pytest.fixture
def generators(lab, converse: Callable) -> Iterator[tuple[str, Any]]:
    with lab.client.acquire("sim-1", wait=PATIENCE) as lease:
        lab.client.run("sim-1", GENERATORS, lease=lease)
        yield lease.token, converse(lab.channel(), "sim-1", lease.token)


def received(stream: Any, count: int) -> list[tasks_pb2.ConverseEvent]:
    events: list[tasks_pb2.ConverseEvent] = []
    while len(events) < count:
        events.extend(next(stream.call).events)
    return events


def test_items_come_in_order_to_the_end(generators) -> None:
    _, stream = generators
    stream.send(iterate(1, "count", 1000, credit=5000))
    events = stream.events(1)
    assert items(events) == list(range(1000))
    assert wire.from_value(events[-1].result.value) is None


def test_no_more_items_come_than_were_allowed_and_a_close_runs_finally(lab, generators) -> None:
    token, stream = generators
    stream.send(iterate(1, "count", 1000, credit=3))
    assert items(received(stream, 3)) == [0, 1, 2]
    stream.send(order(1, credit=2))
    assert items(received(stream, 2)) == [3, 4]
    stream.send(order(1, close=tasks_pb2.CloseIteration()))
    assert items(stream.events(1)) == []
    assert lab.client.evaluate("sim-1", "closed", lease=token) == [1000]


def test_values_are_sent_into_a_generator_in_step(generators) -> None:
    _, stream = generators
    stream.send(iterate(1, "echo", credit=1))
    assert items(received(stream, 1)) == [None]
    for value_sent in ("a", 2, [3.5, None]):
        stream.send(order(1, send=wire.to_value(value_sent)))
        assert items(received(stream, 1)) == [value_sent]


def test_a_generator_that_is_left_alone_is_closed_and_the_board_serves_on(lab, generators) -> None:
    token, stream = generators
    stream.send(iterate(1, "count", 10, credit=1))
    assert items(received(stream, 1)) == [0]
    stream.call.cancel()
    assert lab.client.evaluate("sim-1", "closed", lease=token, timeout=PATIENCE) == [10]


def test_an_order_that_cannot_be_ends_its_iteration_and_frees_the_board(lab, generators) -> None:
    token, stream = generators
    stream.send(iterate(1, "count", 10, credit=1))
    assert items(received(stream, 1)) == [0]
    stream.send(order(1, credit=1_000_000))
    assert stream.events(1)[0].error.reason == "REQUEST_INVALID"
    assert lab.client.evaluate("sim-1", "closed", lease=token, timeout=PATIENCE) == [10]


def test_an_iteration_whose_client_can_order_no_more_is_closed(lab, generators) -> None:
    token, stream = generators
    stream.send(iterate(1, "count", 10, credit=2))
    assert items(received(stream, 2)) == [0, 1]
    stream.finish()
    assert [event.id for response in stream.call for event in response.events] == [1]
    assert lab.client.evaluate("sim-1", "closed", lease=token, timeout=PATIENCE) == [10]


def test_an_id_used_twice_ends_the_stream_and_interrupts_the_board(lab, leased) -> None:
    token, stream = leased
    stream.send(call(1, "stuck"))
    stream.send(call(1, "add", 1, 2))
    with pytest.raises(grpc.RpcError) as refused:
        stream.events(1)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert lab.client.evaluate("sim-1", "6 * 7", lease=token, timeout=PATIENCE) == 42


def test_a_stream_without_a_board_is_refused(lab) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.Converse(iter([tasks_pb2.ConverseRequest(steps=[step(1, "1")])]), timeout=PATIENCE))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
