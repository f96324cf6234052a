"""Detached runs as RPCs: bounds of what is asked, kept and told."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from belayd.errors import LeaseBroken, RunCancelled
from belayd.outcome import BoardException, Raised, Returned
from belayd.rpc.runs import MOST_OUTCOME, outcome_bytes
from belayd.v1 import tasks_pb2, tasks_pb2_grpc

BOARD = "boards/sim-1"


@pytest.fixture
def stub(lab) -> Any:
    return tasks_pb2_grpc.TaskServiceStub(lab.channel)


def test_an_outcome_is_kept_as_it_was() -> None:
    kept = [
        tasks_pb2.RunOutcome.FromString(outcome_bytes(outcome, 0.5, 2.0))
        for outcome in (
            Returned([1, "two"]),
            Raised(BoardException("ValueError", "no", "Traceback\nValueError: no\n")),
            LeaseBroken("your lease was broken", board="sim-1", cause="broken"),
        )
    ]

    assert kept[0].result.value.list.items[1].str == "two"
    assert (kept[0].result.queued.nanos, kept[0].result.ran.seconds) == (500_000_000, 2)
    assert kept[1].result.exception.traceback == "Traceback\nValueError: no\n"
    assert kept[2].error.reason == "LEASE_BROKEN"
    assert kept[2].error.fields == {"board": "sim-1", "cause": "broken"}


def test_an_outcome_that_is_too_long_to_be_kept_says_so_instead() -> None:
    spelled = outcome_bytes(Returned("x" * (MOST_OUTCOME + 1)), 0.0, 0.0)

    kept = tasks_pb2.RunOutcome.FromString(spelled)
    assert kept.error.reason == "QUOTA_EXCEEDED"
    assert int(kept.error.fields["size"]) > MOST_OUTCOME > len(spelled)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListRuns", tasks_pb2.ListRunsRequest(page_size=-1), "page_size"),
        ("ListRuns", tasks_pb2.ListRunsRequest(page_size=101), "page_size"),
        ("ListRuns", tasks_pb2.ListRunsRequest(page_token="-1"), "page_token"),
        ("ListRuns", tasks_pb2.ListRunsRequest(page_token="9" * 19), "page_token"),
        ("ListRuns", tasks_pb2.ListRunsRequest(page_token="\u0661"), "page_token"),
        ("ListRuns", tasks_pb2.ListRunsRequest(board="sim-1"), "board"),
        ("GetRun", tasks_pb2.GetRunRequest(name="boards/x"), "name"),
        ("CancelRun", tasks_pb2.CancelRunRequest(name="runs/"), "name"),
        ("StartRun", tasks_pb2.StartRunRequest(board=BOARD), "source"),
        ("StartRun", tasks_pb2.StartRunRequest(board=BOARD, source="#" * (1 << 20) + "#"), "source"),
        ("StartRun", tasks_pb2.StartRunRequest(board=BOARD, source="1", release_lease=True), "release_lease"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40].strip(),
)
async def test_what_is_out_of_bounds_is_refused(stub: Any, method: str, request_: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(stub, method)(request_)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in refused.value.details()


async def test_a_page_token_goes_on_where_the_page_ended_though_more_were_begun(lab, stub: Any) -> None:
    begin = tasks_pb2.StartRunRequest(board=BOARD, source="pass")
    names = [(await stub.StartRun(begin)).run.name for _ in range(5)]

    first = await stub.ListRuns(tasks_pb2.ListRunsRequest(page_size=2))
    await stub.StartRun(begin)
    token = first.next_page_token
    second = await stub.ListRuns(tasks_pb2.ListRunsRequest(page_size=3, page_token=token))

    assert [run.name for run in (*first.runs, *second.runs)] == names[::-1]
    assert second.next_page_token == ""


async def test_a_list_leaves_outcomes_out_and_tells_the_state(lab, stub: Any) -> None:
    begun = await stub.StartRun(tasks_pb2.StartRunRequest(board=BOARD, expression="1 / 0"))
    watch = stub.WatchRun(tasks_pb2.WatchRunRequest(name=begun.run.name))
    steps = [step async for step in watch]

    [listed] = (await stub.ListRuns(tasks_pb2.ListRunsRequest(board=BOARD))).runs

    assert (listed.state, listed.state_reason) == (tasks_pb2.RUN_STATE_RAISED, "ZeroDivisionError")
    assert not listed.HasField("outcome") and steps[-1].ended.HasField("outcome")


async def test_a_run_outlasts_the_deadline_of_the_rpc_that_began_it(lab, stub: Any) -> None:
    busy = await lab.occupy()
    begin = tasks_pb2.StartRunRequest(board=BOARD, expression="6 * 7")
    begun = await stub.StartRun(begin, timeout=1.0)
    assert begun.run.state == tasks_pb2.RUN_STATE_QUEUED

    await asyncio.sleep(1.0)  # the deadline itself is what is waited for
    busy.stop(RunCancelled("enough"))

    watch = stub.WatchRun(tasks_pb2.WatchRunRequest(name=begun.run.name))
    *_, last = [step async for step in watch]
    assert last.ended.outcome.result.value.int == 42


async def test_a_watcher_that_stops_reading_holds_up_neither_the_run_nor_others(lab, stub: Any) -> None:
    source = "for n in range(30000): print('%060d' % n)"
    begun = await stub.StartRun(tasks_pb2.StartRunRequest(board=BOARD, source=source))
    request = tasks_pb2.WatchRunRequest(name=begun.run.name)
    stalled = stub.WatchRun(request)
    await stalled.read()

    *_, last = [step async for step in stub.WatchRun(request)]

    assert last.ended.state == tasks_pb2.RUN_STATE_SUCCEEDED
    stalled.cancel()
