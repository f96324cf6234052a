"""Generators that wait on a board while it does other work: calls, code, and other generators."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from belayd.v1 import tasks_pb2
from belayd_client import Device
from belayd_client.errors import BoardException, LeaseLost, RunCancelled, TransportLost

PATIENCE = 30.0
SOURCE = """
closed = []
def count(n):
    try:
        for i in range(n):
            yield i
    finally:
        closed.append(n)
def mirror():
    got = None
    try:
        while True:
            got = yield got
    finally:
        closed.append('mirror')
def resists():
    try:
        yield 1
        yield 2
    finally:
        while True: pass
"""


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable, sim: dict):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture
def device(lab) -> Iterator[Device]:
    with Device(f"{lab.address}/sim-1", wait=PATIENCE) as device:
        device(SOURCE)
        yield device


@pytest.fixture
def gen(device: Device) -> Callable[[int], Iterator[int]]:
    @device.task
    def gen(n: int) -> Iterator[int]:
        yield from range(n)

    return gen


@pytest.fixture
def add(device: Device) -> Callable[[int, int], int]:
    @device.task
    def add(a: int, b: int) -> int:
        return a + b

    return add


@pytest.fixture
def echo(device: Device) -> Callable[[], Generator[object, object, None]]:
    @device.task
    def echo() -> Generator[object, object, None]:
        got = None
        while True:
            got = yield got

    return echo


# What Belay can, and hung here before the generators had a place of their own on the board.


def test_a_call_in_the_body_of_a_loop_over_a_generator(device, gen, add) -> None:
    assert [add(x, 1) for x in gen(500)] == list(range(1, 501))


def test_two_generators_go_side_by_side(device, gen) -> None:
    assert list(zip(gen(500), gen(500), strict=True)) == [(n, n) for n in range(500)]


def test_a_call_between_two_values_that_are_sent(device, echo, add) -> None:
    mirror = echo()
    assert next(mirror) is None
    for number in range(20):
        assert mirror.send(number) == number
        assert add(number, 1) == number + 1


def test_generators_within_each_other(device, gen) -> None:
    assert [(a, b, c) for a in gen(3) for b in gen(100) for c in gen(2)] == [
        (a, b, c) for a in range(3) for b in range(100) for c in range(2)
    ]


def test_three_generators_interleaved_in_any_order(device, gen, echo, add) -> None:
    left, right, mirror = gen(300), gen(200), echo()
    next(mirror)
    for number in range(150):
        assert next(left) == number
        assert mirror.send(("n", number)) == ("n", number)
        if number % 3 == 0:
            assert next(right) == number // 3
    assert list(right) == list(range(50, 200))
    assert list(left) == list(range(150, 300))
    assert mirror.send("still there") == "still there"


def test_a_generator_interleaved_with_code(device, gen) -> None:
    device("seen = []")
    for number in gen(200):
        device(f"seen.append({number})")
    assert device("seen") == list(range(200))


def test_a_generator_survives_what_raises_beside_it(device, gen, add) -> None:
    items = gen(200)
    assert next(items) == 0
    with pytest.raises(BoardException, match="ZeroDivisionError"):
        device("1 / 0")
    with pytest.raises(BoardException, match="TypeError"):
        add(1, "a")
    device("del _L, _B")
    device("6 * 7")
    with pytest.raises(TransportLost, match="start over"):  # gone with _L
        list(items)
    assert list(gen(3)) == [0, 1, 2]


def test_a_generator_that_sleeps_goes_on_when_another_call_is_cancelled(lab, device) -> None:
    device("import time\ndef stuck():\n while True: pass")
    device("def lazy(n):\n for i in range(n):\n  time.sleep(0.01)\n  yield i")
    items = lab.client.iterate("sim-1", "lazy", [60], window=20, lease=device.lease)
    stuck = lab.client.function("sim-1", "stuck", lease=device.lease)
    taken = [next(items)]
    for _ in range(3):
        future = stuck.submit()
        taken += [next(items) for _ in range(5)]
        future.cancel()
        with pytest.raises(RunCancelled):
            future.result(PATIENCE)
    taken += items
    assert taken == list(range(60))


def test_many_futures_have_their_turn_while_a_long_generator_runs(lab, device, add) -> None:
    items = lab.client.iterate("sim-1", "count", [20_000], window=20_000, lease=device.lease)
    assert next(items) == 0
    began = [add.submit(n, 1) for n in range(100)]
    assert [future.result(PATIENCE) for future in began] == list(range(1, 101))
    assert device("closed") == []  # the generator had not ended
    assert list(items) == list(range(1, 20_000))


def test_prints_of_generators_and_calls_come_in_their_order(device, capsys) -> None:
    @device.task
    def loud(n: int) -> Generator[object, object, None]:
        for i in range(n):
            print("item", i)
            got = yield i  # noqa: F841

    @device.task
    def say(x: int) -> None:
        print("call", x)

    for number in loud(3):
        say(number)
    expected = [word for n in range(3) for word in (f"item {n}", f"call {n}")]
    assert capsys.readouterr().out.split("\n")[:-1] == expected


# Ends


def test_a_generator_that_is_closed_while_it_waits_runs_its_finally_at_once(lab, device) -> None:
    items = [lab.client.iterate("sim-1", "count", [n], window=1, lease=device.lease) for n in (5, 6, 7)]
    assert [next(each) for each in items] == [0, 0, 0]
    for each in (1, 0, 2):
        items[each].close()
    assert device("closed") == [6, 5, 7]


def test_a_generator_that_is_dropped_while_it_waits_is_closed(lab, device) -> None:
    items = lab.client.iterate("sim-1", "count", [5], window=1, lease=device.lease)
    assert next(items) == 0
    del items
    gc.collect()
    assert device("closed") == [5]


@pytest.mark.parametrize("leased", [True, False], ids=["leased", "without a lease"])
def test_a_client_that_leaves_while_its_generators_wait_has_them_closed(lab, until, leased: bool) -> None:
    token = lab.client.acquire("sim-2", wait=PATIENCE).token if leased else None
    lab.client.run("sim-2", SOURCE, lease=token)
    other = lab.connect("bob@desk")
    items = [other.iterate("sim-2", "count", [n], window=1, lease=token) for n in (5, 6)]
    assert [next(each) for each in items] == [0, 0]
    assert lab.client.evaluate("sim-2", "closed", lease=token) == []
    other.close()
    until(lambda: lab.client.evaluate("sim-2", "closed", lease=token) == [5, 6])
    if leased:
        lab.client.release(token)


def test_a_generator_that_resists_its_closing_does_not_keep_the_board(lab) -> None:
    lab.client.run("sim-2", SOURCE)
    other = lab.connect("bob@desk")
    items = other.iterate("sim-2", "resists", window=1)
    assert next(items) == 1
    other.close()
    assert lab.client.evaluate("sim-2", "6 * 7", timeout=PATIENCE) == 42


def test_a_restart_between_two_items_ends_the_generator_for_good(lab, device, gen) -> None:
    items = gen(500)
    assert next(items) == 0
    lab.client.reset("sim-1", lease=device.lease)
    with pytest.raises(TransportLost, match="start over"):
        list(items)
    assert device("6 * 7") == 42
    assert lab.client.board("sim-1").state.value == "ready"


def test_an_exit_between_two_items_ends_the_generator_for_good(device, gen) -> None:
    items = gen(500)
    assert next(items) == 0
    with pytest.raises(BoardException, match="SystemExit"):
        device("__import__('sys').exit(3)")
    with pytest.raises(TransportLost):
        list(items)
    assert device("6 * 7") == 42


def test_a_lease_that_ends_takes_its_waiting_generators_along(lab, gen, device) -> None:
    items = gen(500)
    assert next(items) == 0
    device.lease.release()
    with pytest.raises(LeaseLost):
        list(items)
    lab.client.run("sim-1", "n = 1", timeout=PATIENCE)


def test_a_generator_that_others_made_cannot_be_ordered_about(lab, converse) -> None:
    lab.client.run("sim-2", SOURCE)
    ours, theirs = lab.connect("ann@desk"), lab.connect("bob@desk")
    mine = ours.iterate("sim-2", "count", [9], window=1)
    assert next(mine) == 0
    stream = converse(lab.channel(), "sim-2")
    stream.send(
        tasks_pb2.ConverseStep(id=1, order=tasks_pb2.IterationOrder(close=tasks_pb2.CloseIteration()))
    )
    other = theirs.iterate("sim-2", "count", [7], window=1)
    assert [next(other), next(mine), next(other)] == [0, 1, 1]
    assert [list(mine), list(other)] == [list(range(2, 9)), list(range(2, 7))]


# What a bare stream sees


def iterate(number: int, function: str, *arguments: int, credit: int, timeout: float | None = None) -> Any:
    made = tasks_pb2.ConverseStep(id=number)
    made.iterate.call.function = function
    for argument in arguments:
        made.iterate.call.arguments.add().int = argument
    made.iterate.credit = credit
    if timeout is not None:
        made.timeout.FromNanoseconds(int(timeout * 1e9))
    return made


def order(number: int, **what: Any) -> Any:
    return tasks_pb2.ConverseStep(id=number, order=tasks_pb2.IterationOrder(**what))


def items_of(stream: Any, count: int) -> int:
    found = 0
    while found < count:
        events = next(stream.call).events
        assert {event.WhichOneof("event") for event in events} <= {"item", "output"}
        found += sum(event.WhichOneof("event") == "item" for event in events)
    return found


def test_the_time_limit_stands_still_while_a_generator_waits(lab, device, converse) -> None:
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    stream.send(iterate(1, "count", 10, credit=1, timeout=1.0))
    items_of(stream, 1)
    time.sleep(1.2)  # the limit itself
    stream.send(order(1, credit=20))
    last = stream.events(1)[-1]
    assert last.result.HasField("value")
    assert last.result.ran.ToTimedelta().total_seconds() < 1.0


def test_the_time_limit_is_of_all_its_turns_together(lab, device, converse) -> None:
    device("import time\ndef slow():\n while True:\n  time.sleep(0.2)\n  yield 1")
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    stream.send(iterate(1, "slow", credit=1, timeout=1.0))
    turns = 0
    while (event := next(stream.call).events[-1]).WhichOneof("event") == "item":
        stream.send(order(1, credit=1))
        turns += 1
    assert event.error.reason == "RUN_TIMEOUT"
    assert turns < 5


def test_iterations_without_number_are_refused(lab, device, converse) -> None:
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    for first in (1, 501):
        stream.send(*(iterate(number, "count", 5, credit=0) for number in range(first, first + 500)))
    stream.send(iterate(1001, "count", 5, credit=9))
    [refused] = stream.events(1)
    assert (refused.id, refused.error.reason) == (1001, "QUOTA_EXCEEDED")
    stream.send(order(7, credit=9))
    assert [event.item.int for event in stream.events(1)[:-1]] == [0, 1, 2, 3, 4]
    stream.send(iterate(1001, "count", 5, credit=9))
    assert stream.events(1)[-1].result.HasField("value")


def test_a_cancelled_generator_that_waits_is_closed(lab, device, converse) -> None:
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    stream.send(iterate(1, "count", 10, credit=1))
    items_of(stream, 1)
    stream.send(tasks_pb2.ConverseStep(id=1, cancel=tasks_pb2.CancelStep()))
    assert stream.events(1)[0].error.reason == "RUN_CANCELLED"
    assert device("closed") == [10]


def test_an_order_that_cannot_be_closes_a_generator_that_waits(lab, device, converse) -> None:
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    stream.send(iterate(1, "count", 10, credit=1))
    items_of(stream, 1)
    stream.send(order(1, credit=1_000_000))
    assert stream.events(1)[0].error.reason == "REQUEST_INVALID"
    assert device("closed") == [10]


def test_values_sent_before_the_generator_began_come_in_their_order(lab, device, converse) -> None:
    stream = converse(lab.channel(), "sim-1", device.lease.token)
    stream.send(
        iterate(1, "mirror", credit=1),
        order(1, send={"int": 7}),
        order(1, send={"int": 8}),
        order(1, close=tasks_pb2.CloseIteration()),
    )
    events = stream.events(1)
    assert [event.item.int for event in events if event.WhichOneof("event") == "item"][1:] == [7, 8]
    assert device("closed") == ["mirror"]


def test_an_iteration_is_one_operation_in_the_metrics_however_often_it_waits(lab, device, converse) -> None:
    def counted() -> list[float]:
        named = {"board": "sim-1"}
        return [
            *(
                lab.metric("belayd_operations_total", outcome=outcome, **named)
                for outcome in ("ok", "cancelled")
            ),
            lab.metric("belayd_operation_duration_seconds_count", operation="call"),
            lab.metric("belayd_queue_wait_seconds_count", operation="call"),
        ]

    stream = converse(lab.channel(), "sim-1", device.lease.token)
    before = counted()
    stream.send(iterate(1, "count", 5, credit=1))
    for _ in range(4):
        items_of(stream, 1)
        stream.send(order(1, credit=1))
    items_of(stream, 1)
    stream.send(order(1, credit=1))
    stream.events(1)
    stream.send(iterate(2, "count", 5, credit=1))
    items_of(stream, 1)
    stream.send(tasks_pb2.ConverseStep(id=2, cancel=tasks_pb2.CancelStep()))
    stream.events(1)
    assert device("closed") == [5, 5]
    after = counted()
    # One more ran meanwhile, and not as a call: what looked at `closed`.
    assert [late - early for early, late in zip(before, after, strict=True)] == [2, 1, 2, 2]
