from __future__ import annotations

from typing import Any

import grpc
import pytest

from belayd.chronicle import MOST_BEHIND
from belayd.events import Booted, DeploymentSettled, LeaseWarned, Reconnected, RecoveryStepTaken, Tenure
from belayd.v1 import boards_pb2, daemon_pb2, daemon_pb2_grpc, events_pb2, tasks_pb2, tasks_pb2_grpc


def watch(lab: Any, **request: Any) -> Any:
    stub = daemon_pb2_grpc.DaemonServiceStub(lab.channel)
    return stub.WatchEvents(daemon_pb2.WatchEventsRequest(**request))


async def began(lab: Any, **request: Any) -> Any:
    """Return a watch that misses nothing from now on."""
    call = watch(lab, **request)
    assert not (await lab.within(call.read())).events
    return call


async def read(lab: Any, call: Any, least: int) -> list[events_pb2.Event]:
    """Return at least so many events."""
    events: list[events_pb2.Event] = []
    while len(events) < least:
        response = await lab.within(call.read())
        assert response.dropped == 0
        events.extend(response.events)
    return events


async def test_every_kind_of_event_is_told_with_what_it_says(lab: Any) -> None:
    call = await began(lab)
    tenure = Tenure("l1", "ann", "ann@desk", "will be broken by ops: closing")

    for event in (
        Booted("sim-1", "power"),
        RecoveryStepTaken("sim-1", "soft_reset"),
        Reconnected("sim-1"),
        LeaseWarned("sim-1", tenure),
        DeploymentSettled("sim-1", "undone"),
    ):
        lab.events.publish(event)
    told = await read(lab, call, 5)

    assert [event.WhichOneof("kind") for event in told] == [
        "board_booted",
        "recovery_taken",
        "board_reconnected",
        "lease_warned",
        "deployment_settled",
    ]
    assert {event.board for event in told} == {"boards/sim-1"}
    assert told[0].board_booted.cause == "power"
    assert told[1].recovery_taken.step == "soft_reset"
    assert told[3].lease_warned.lease == "leases/l1"
    assert told[3].lease_warned.note == "will be broken by ops: closing"
    assert told[4].deployment_settled.outcome == "undone"
    call.cancel()


async def test_a_lease_is_told_from_its_beginning_to_its_end(lab: Any) -> None:
    calls = [await began(lab) for _ in range(3)]

    ticket = lab.leasing.request(["sim-1"], "ann", holder="ann@desk", reason="radio", ttl=60.0)
    lab.leasing.release(ticket.granted.token, "ann")

    for call in calls:
        started, stopped = (await read(lab, call, 2))[:2]
        assert started.lease_started.holder == "ann@desk"
        assert started.lease_started.principal == "ann"
        assert started.lease_started.reason == "radio"
        assert stopped.lease_stopped.lease == started.lease_started.lease
        assert stopped.lease_stopped.cause == "released"
        call.cancel()


async def test_operations_are_told_to_who_asks_for_them(lab: Any) -> None:
    call = await began(lab, operations=True)

    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    await lab.within(
        stub.CallTask(tasks_pb2.CallTaskRequest(board="boards/sim-1", function="nothing_called_so"))
    )
    told = await read(lab, call, 3)

    kinds = [event.WhichOneof("kind") for event in told]
    assert kinds == ["state_changed", "operations_ended", "state_changed"]
    assert told[0].state_changed.previous == boards_pb2.BOARD_STATE_READY
    assert told[0].state_changed.state == boards_pb2.BOARD_STATE_BUSY
    assert told[1].operations_ended.operation == "call"
    [count] = told[1].operations_ended.outcomes
    assert (count.outcome, count.count) == ("board_error", 1)
    call.cancel()


async def test_a_slow_watcher_loses_the_oldest_and_is_told_how_many(lab: Any) -> None:
    slow = await began(lab)
    lost = 4000

    # All before the watcher's RPC has its next turn.
    for number in range(MOST_BEHIND + lost):
        lab.events.publish(RecoveryStepTaken("sim-1", str(number)))
    first = await lab.within(slow.read())
    told = [*first.events, *await read(lab, slow, MOST_BEHIND - len(first.events))]

    assert first.dropped == lost
    assert [event.recovery_taken.step for event in told] == [
        str(number) for number in range(lost, lost + MOST_BEHIND)
    ]
    slow.cancel()


async def test_the_last_events_come_first_and_may_be_all(lab: Any) -> None:
    lab.events.publish(Reconnected("sim-1"))
    lab.events.publish(Booted("sim-1", "power"))

    call = watch(lab, recent=2, recent_only=True)
    responses = [response async for response in call]

    kinds = [event.WhichOneof("kind") for response in responses for event in response.events]
    assert kinds == ["board_reconnected", "board_booted"]


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (daemon_pb2.WatchEventsRequest(recent=1001), grpc.StatusCode.INVALID_ARGUMENT, "recent"),
        (daemon_pb2.WatchEventsRequest(board="sim-1"), grpc.StatusCode.INVALID_ARGUMENT, "board"),
        (daemon_pb2.WatchEventsRequest(board="boards/none"), grpc.StatusCode.NOT_FOUND, "none"),
    ],
    ids=["too many", "no name of a board", "no such board"],
)
async def test_a_watch_that_cannot_be_is_refused(lab: Any, request_: Any, code: Any, field: str) -> None:
    call: Any = daemon_pb2_grpc.DaemonServiceStub(lab.channel).WatchEvents(request_)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lab.within(call.read())

    assert caught.value.code() is code
    assert field in (caught.value.details() or "")
