"""Steps of a conversation that are cancelled: each ends as what happened, and the others run once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from belayd import wire
from belayd.v1 import tasks_pb2

PATIENCE = 30.0
SOURCE = "def add(a, b):\n return a + b\ndef say(x):\n print('said', x)\n return x\ndef stuck():\n while True: pass\n"


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable, sim: dict):
    return shared_daemon({"sim-1": sim})


@pytest.fixture
def leased(lab, converse: Callable) -> Iterator[tuple[str, Any]]:
    with lab.client.acquire("sim-1", wait=PATIENCE) as lease:
        lab.client.run("sim-1", SOURCE, lease=lease)
        yield lease.token, converse(lab.channel(), "sim-1", lease.token)


def step(number: int, expression: str) -> tasks_pb2.ConverseStep:
    return tasks_pb2.ConverseStep(id=number, expression=expression)


def call(number: int, function: str, *arguments: object) -> tasks_pb2.ConverseStep:
    made = tasks_pb2.ConverseStep(id=number)
    made.call.function = function
    made.call.arguments.extend(map(wire.to_value, arguments))
    return made


def value(event: tasks_pb2.ConverseEvent) -> object:
    return wire.from_value(event.result.value)


def cancel(*numbers: int) -> list[tasks_pb2.ConverseStep]:
    return [tasks_pb2.ConverseStep(id=number, cancel=tasks_pb2.CancelStep()) for number in numbers]


def outcomes(events: list[tasks_pb2.ConverseEvent]) -> dict[int, str]:
    """Return the reason that each step ended with, "" for a result."""
    return {event.id: event.error.reason for event in events if event.WhichOneof("event") != "output"}


def test_after_a_cancelled_step_what_waited_behind_it_runs_once_and_in_order(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    stream.send(call(2, "stuck"), *(step(number, f"ran.append({number})") for number in range(3, 43)))
    stream.send(*cancel(2))
    events = stream.events(41)
    assert outcomes(events) == {2: "RUN_CANCELLED"} | dict.fromkeys(range(3, 43), "")
    assert [event.id for event in events] == list(range(2, 43))
    assert lab.client.evaluate("sim-1", "ran", lease=token) == list(range(3, 43))


def test_what_a_cancelled_step_printed_stays_its_own(leased) -> None:
    _, stream = leased
    stream.send(step(1, "exec('print(1)\\nwhile 1: pass')"), call(2, "say", "b"))
    printed = list(next(stream.call).events)
    stream.send(*cancel(1))
    events = printed + stream.events(2)
    said = {number: b"".join(event.output for event in events if event.id == number) for number in (1, 2)}
    assert [said[1].strip(), said[2].strip()] == [b"1", b"said b"]


def test_a_step_cancelled_before_it_was_sent_to_the_board_never_runs(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    steps = (step(number, f"ran.append({number})") for number in range(3, 103))
    stream.send(call(2, "stuck"), *steps)
    stream.send(*cancel(*range(60, 103)))
    stream.send(*cancel(2))
    events = stream.events(101)
    assert outcomes(events) == (
        dict.fromkeys(range(3, 60), "") | dict.fromkeys((2, *range(60, 103)), "RUN_CANCELLED")
    )
    assert lab.client.evaluate("sim-1", "ran", lease=token) == list(range(3, 60))


def test_a_cancelled_step_that_was_on_its_way_behind_another_tells_what_happened(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    stream.send(step(2, "__import__('time').sleep(0.5)"), step(3, "ran.append(3)"), step(4, "ran.append(4)"))
    stream.send(*cancel(3))
    ended = outcomes(stream.events(3))
    assert ended[2] == ended[4] == ""
    ran = lab.client.evaluate("sim-1", "ran", lease=token)
    assert ran == ([3, 4] if ended[3] == "" else [4])


def test_steps_cancelled_all_at_once_leave_the_board_free(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    stream.send(call(2, "stuck"), *(step(number, f"ran.append({number})") for number in range(3, 33)))
    stream.send(*cancel(*range(2, 33)))
    assert set(outcomes(stream.events(31)).values()) == {"RUN_CANCELLED"}
    assert lab.client.evaluate("sim-1", "ran", lease=token) == []


def test_a_cancel_in_the_message_of_its_step_lets_it_never_run(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    stream.send(step(2, "ran.append(2)"), *cancel(2), step(3, "ran.append(3)"))
    assert outcomes(stream.events(2)) == {2: "RUN_CANCELLED", 3: ""}
    assert lab.client.evaluate("sim-1", "ran", lease=token) == [3]


def test_a_step_of_a_message_that_waits_is_cancelled_alone(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    stream.send(call(2, "stuck"))
    stream.send(*(step(number, f"ran.append({number})") for number in range(3, 6)))
    stream.send(*cancel(3))
    assert outcomes(stream.events(1)) == {3: "RUN_CANCELLED"}
    stream.send(*cancel(2))
    assert outcomes(stream.events(3)) == {2: "RUN_CANCELLED", 4: "", 5: ""}
    assert lab.client.evaluate("sim-1", "ran", lease=token) == [4, 5]


def test_a_step_that_swallows_its_interrupt_tells_what_it_did(lab, leased) -> None:
    token, stream = leased
    source = """
def stubborn():
    try:
        while True: pass
    except KeyboardInterrupt:
        return 'went on'
"""
    lab.client.run("sim-1", source, lease=token)
    stream.send(call(1, "stubborn"), call(2, "add", 1, 2))
    stream.send(*cancel(1))
    events = {event.id: event for event in stream.events(2)}
    assert (value(events[1]), value(events[2])) == ("went on", 3)


def test_cancels_at_any_moment_run_nothing_twice_and_lose_nothing(lab, leased) -> None:
    token, stream = leased
    stream.send(step(1, "globals().update(ran=[])"))
    stream.events(1)
    number, unclear = 1, []
    for _ in range(30):
        first, number = number + 1, number + 40
        steps = range(first, number + 1)
        stream.send(*(step(each, f"ran.append({each})") for each in steps))
        stream.send(*cancel(first + 5), *cancel(first + 20))
        ended = outcomes(stream.events(len(steps)))
        assert set(ended) == set(steps)
        unclear += [each for each in steps if ended[each]]
    ran = lab.client.evaluate("sim-1", "ran", lease=token)
    assert ran == sorted(set(ran))
    assert set(range(2, number + 1)) - set(ran) <= set(unclear)


def test_a_timeout_of_the_running_step_leaves_those_behind_it_to_run(leased) -> None:
    _, stream = leased
    stuck = call(1, "stuck")
    stuck.timeout.FromMilliseconds(300)
    stream.send(stuck, call(2, "add", 1, 2), call(3, "add", 2, 2))
    events = {event.id: event for event in stream.events(3)}
    assert events[1].error.reason == "RUN_TIMEOUT"
    assert (value(events[2]), value(events[3])) == (3, 4)


def test_a_step_that_is_cancelled_alone_ends_as_what_happened(lab, leased) -> None:
    token, stream = leased
    lab.client.run("sim-1", "import time\nran = []\ndef note(n):\n ran.append(n)\n return n", lease=token)
    told: dict[int, tasks_pb2.ConverseEvent] = {}
    for number in range(1, 61):
        stream.send(call(number, "note", number))
        time.sleep(number / 20_000)  # the moment of the cancel: from at once to well after the answer
        stream.send(*cancel(number))
        told |= {event.id: event for event in stream.events(1)}
    ran = lab.client.evaluate("sim-1", "ran", lease=token)
    done = [number for number, event in told.items() if event.HasField("result")]
    never = [number for number, event in told.items() if event.error.message.endswith("it never ran")]
    assert list(told) == list(range(1, 61))
    assert ran == sorted(set(ran))
    assert set(done) <= set(ran)
    assert not set(never) & set(ran)
