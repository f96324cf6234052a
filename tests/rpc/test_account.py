from __future__ import annotations

import hashlib
from typing import Any

import pytest

from belayd.access import PERMISSIONS
from belayd.audit import Deed
from belayd.errors import BoardLeased, LeaseBroken, LeaseExpired, LeaseNotFound, PermissionDenied, RunTimeout
from belayd.rpc.account import QUIET, READINGS, open_account
from belayd.v1 import (
    boards_pb2,
    consoles_pb2,
    daemon_pb2,
    deployments_pb2,
    leases_pb2,
    tasks_pb2,
    values_pb2,
)

SECRET = "hunter2"
RUN = "belayd.v1.TaskService/RunTask"
CONVERSE = "belayd.v1.TaskService/Converse"
RESULT = tasks_pb2.TaskResult(value=values_pb2.Value(int=1))
RAISED = tasks_pb2.TaskResult(exception=values_pb2.BoardException(type_name="OSError", message=SECRET))


def account(method: str) -> Any:
    return open_account(method, lambda board: f"lease-of-{board}")


def deed(
    method: str, *messages: Any, error: Any = None, finished: bool = True, told: Any = ()
) -> Deed | None:
    """Return what becomes of an RPC with these messages from and to the client."""
    one = account(method)
    for message in messages:
        one.heard(message)
    for message in told:
        one.told(message)
    found: Deed | None = one.deed(error, finished)
    return found


def run_task(**more: Any) -> tasks_pb2.RunTaskRequest:
    return tasks_pb2.RunTaskRequest(board="boards/a", source=f"key = '{SECRET}'", **more)


def test_source_is_recorded_by_its_hash_and_never_itself() -> None:
    done = deed(
        RUN, run_task(lease_token=f"bl_{SECRET}"), told=[tasks_pb2.RunTaskResponse(output=b"hunter2")]
    )

    what = hashlib.sha256(b"key = 'hunter2'").digest()
    assert done == Deed("TaskService/RunTask", "a", "lease-of-a", what)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(RESULT, "ok"), (RAISED, "board_error")],
    ids=["value", "exception"],
)
def test_what_the_code_raised_is_an_outcome_and_not_recorded_itself(answer: Any, outcome: str) -> None:
    done = deed(RUN, run_task(), told=[tasks_pb2.RunTaskResponse(result=answer)])

    assert done is not None
    assert (done.outcome, done.reason, done.detail) == (outcome, "", "")


def test_arguments_are_not_recorded() -> None:
    argument = values_pb2.Value(str=SECRET)
    request = tasks_pb2.CallTaskRequest(board="boards/a", function="wifi.join", arguments=[argument])

    done = deed("belayd.v1.TaskService/CallTask", request, told=[tasks_pb2.CallTaskResponse(result=RESULT)])

    assert done == Deed("TaskService/CallTask", "a", detail="wifi.join")


def test_what_is_no_name_of_a_function_is_not_recorded() -> None:
    request = tasks_pb2.CallTaskRequest(board="boards/a", function=f"join('{SECRET}')")

    done = deed("belayd.v1.TaskService/CallTask", request)

    assert done == Deed("TaskService/CallTask", "a")


@pytest.mark.parametrize(
    ("error", "outcome", "lease"),
    [
        (BoardLeased("taken", board="a"), "rejected", ""),
        (LeaseNotFound("none", lease=""), "rejected", ""),
        (LeaseExpired("over", board="a", lease="mine"), "cancelled", "mine"),
        (LeaseBroken("broken", board="a", lease="mine"), "cancelled", "mine"),
        (RunTimeout("late", board="a"), "timeout", "lease-of-a"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_refusal_is_recorded_with_its_reason_and_under_nobody_elses_lease(
    error: Any, outcome: str, lease: str
) -> None:
    done = deed(RUN, run_task(lease_token="bl_x"), error=error, finished=False)

    assert done is not None
    assert (done.outcome, done.reason, done.lease) == (outcome, error.reason, lease)


def test_a_client_that_vanished_is_recorded_as_cancelled() -> None:
    done = deed(RUN, run_task(), finished=False)

    assert done is not None
    assert done.outcome == "cancelled"


def steps(*ids: int, **more: Any) -> tasks_pb2.ConverseRequest:
    call = tasks_pb2.FunctionCall(function="f")
    return tasks_pb2.ConverseRequest(steps=[tasks_pb2.ConverseStep(id=one, call=call) for one in ids], **more)


def events(*events: tasks_pb2.ConverseEvent) -> tasks_pb2.ConverseResponse:
    return tasks_pb2.ConverseResponse(events=events)


def test_a_conversation_is_one_record_with_the_ends_of_its_steps() -> None:
    expressions = [
        tasks_pb2.ConverseStep(id=9, expression="1"),
        tasks_pb2.ConverseStep(id=10, expression="2"),
    ]
    cancel = tasks_pb2.ConverseStep(id=2, cancel=tasks_pb2.CancelStep())
    cancelled = tasks_pb2.ConverseError(reason="RUN_CANCELLED")

    done = deed(
        CONVERSE,
        steps(1, 2, 3, board="boards/a", lease_token="bl_x"),
        tasks_pb2.ConverseRequest(steps=[*expressions, cancel]),
        told=[
            events(
                tasks_pb2.ConverseEvent(id=1, output=b"hunter2"), tasks_pb2.ConverseEvent(id=1, result=RESULT)
            ),
            events(tasks_pb2.ConverseEvent(id=2, error=cancelled)),
            events(*(tasks_pb2.ConverseEvent(id=one, result=RAISED) for one in (3, 9, 10))),
        ],
    )

    what = hashlib.sha256(b"1\n2\n").digest()
    ends = "5 steps: 3 board_error, 1 cancelled, 1 ok"
    assert done == Deed("TaskService/Converse", "a", "lease-of-a", what, detail=ends)


@pytest.mark.parametrize(
    ("answered", "outcome", "detail"),
    [((1, 2), "ok", "2 steps: 2 ok"), ((1,), "cancelled", "2 steps: 1 cancelled, 1 ok")],
    ids=["nothing under way", "a step under way"],
)
def test_a_client_that_leaves_a_conversation_cancels_only_what_is_under_way(
    answered: tuple[int, ...], outcome: str, detail: str
) -> None:
    answers = [events(tasks_pb2.ConverseEvent(id=one, result=RESULT)) for one in answered]

    done = deed(CONVERSE, steps(1, 2, board="boards/a"), told=answers, finished=False)

    assert done == Deed("TaskService/Converse", "a", outcome=outcome, detail=detail)


def test_a_grant_is_recorded_with_its_board_and_holder_and_without_its_token() -> None:
    request = leases_pb2.AcquireLeaseRequest(selector="chip=rp2", holder="ann@desk", reason="radio")
    lease = leases_pb2.Lease(name="leases/l1", board="boards/a")
    granted = leases_pb2.LeaseGranted(lease=lease, token=SECRET)

    done = deed(
        "belayd.v1.LeaseService/AcquireLease",
        request,
        told=[
            leases_pb2.AcquireLeaseResponse(queued=leases_pb2.LeaseQueued(position=1)),
            leases_pb2.AcquireLeaseResponse(granted=granted),
        ],
    )

    assert done == Deed("LeaseService/AcquireLease", "a", "l1", detail="ann@desk: radio")


def test_a_break_is_recorded_with_whose_lease_it_was_and_why() -> None:
    lease = leases_pb2.Lease(name="leases/l1", board="boards/a", holder="ann@desk")

    done = deed(
        "belayd.v1.LeaseService/BreakLease",
        leases_pb2.BreakLeaseRequest(board="boards/a", reason="the lab closes"),
        told=[leases_pb2.BreakLeaseResponse(lease=lease)],
    )

    assert done == Deed("LeaseService/BreakLease", "a", "l1", detail="of ann@desk: the lab closes")


def test_a_deployment_is_recorded_by_its_manifest_as_sha256sum_prints_it() -> None:
    files = [
        deployments_pb2.ManifestFile(path=path, sha256=hashlib.sha256(path.encode()).digest(), size=1)
        for path in ("main.py", "lib/a.py")
    ]

    done = deed(
        "belayd.v1.DeploymentService/Deploy",
        deployments_pb2.DeployRequest(board="boards/a", files=files, dry_run=True),
    )

    sums = "".join(
        f"{hashlib.sha256(path.encode()).hexdigest()}  {path}\n" for path in ("lib/a.py", "main.py")
    )
    what = hashlib.sha256(sums.encode()).digest()
    assert done == Deed("DeploymentService/Deploy", "a", what=what, detail="2 files to /, dry run")


@pytest.mark.parametrize(
    ("start", "detail"),
    [
        (consoles_pb2.AttachStart(board="boards/a", observe=True), "watched"),
        (consoles_pb2.AttachStart(board="boards/a"), "typed 7 bytes"),
    ],
    ids=["observer", "holder"],
)
def test_a_console_is_recorded_with_who_only_watched(start: Any, detail: str) -> None:
    typed = [consoles_pb2.AttachRequest(start=start)]
    typed += [consoles_pb2.AttachRequest(input=SECRET.encode())] * (not start.observe)

    done = deed("belayd.v1.ConsoleService/Attach", *typed, finished=False)

    assert done == Deed("ConsoleService/Attach", "a", detail=detail)


def test_a_reset_says_which_kind_it_was() -> None:
    request = boards_pb2.ResetBoardRequest(name="boards/a", hard=True)

    assert deed("belayd.v1.BoardService/ResetBoard", request) == Deed(
        "BoardService/ResetBoard", "a", detail="hard"
    )


@pytest.mark.parametrize("method", sorted(method for method in PERMISSIONS if method.startswith("belayd.")))
def test_every_rpc_is_recorded_unless_it_only_reads(method: str) -> None:
    name = method.partition("/")[2]
    expected = not name.startswith(READINGS) and name not in QUIET

    recorded = account(method).deed(None, True)

    assert (recorded is not None) is expected


@pytest.mark.parametrize("method", sorted(method for method in PERMISSIONS if method.startswith("belayd.")))
def test_whoever_is_refused_for_lack_of_rights_is_recorded_whatever_it_was(method: str) -> None:
    recorded = account(method).deed(PermissionDenied("no", role="viewer", needed="user"), False)

    assert recorded is not None
    assert (recorded.outcome, recorded.reason) == ("rejected", "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "method", ["belayd.v1.LeaseService/RenewLease", "belayd.v1.LeaseService/ReleaseLease"]
)
def test_the_noise_of_leases_is_recorded_only_when_refused(method: str) -> None:
    refused = account(method).deed(LeaseNotFound("none", lease=""), False)

    assert refused is not None
    assert account(method).deed(None, False) is None


def test_a_client_that_leaves_with_its_result_cancels_nothing() -> None:
    done = deed(RUN, run_task(), told=[tasks_pb2.RunTaskResponse(result=RAISED)], finished=False)

    assert done is not None
    assert done.outcome == "board_error"


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (daemon_pb2.DrainRequest(reason="new release"), "new release"),
        (daemon_pb2.DrainRequest(off=True), "off"),
    ],
    ids=["begun", "ended"],
)
def test_a_draining_goes_on_without_whoever_asked_for_it(request_: Any, detail: str) -> None:
    told = [daemon_pb2.DrainResponse()]

    done = deed("belayd.v1.DaemonService/Drain", request_, told=told, finished=False)

    assert done == Deed("DaemonService/Drain", detail=detail)


def test_a_reload_that_only_tells_says_so() -> None:
    done = deed("belayd.v1.DaemonService/ReloadInventory", daemon_pb2.ReloadInventoryRequest(dry_run=True))

    assert done == Deed("DaemonService/ReloadInventory", detail="dry run")


def test_disabling_a_board_is_recorded_with_why() -> None:
    request = boards_pb2.DisableBoardRequest(name="boards/a", reason="its cable is loose")

    done = deed("belayd.v1.BoardService/DisableBoard", request)

    assert done == Deed("BoardService/DisableBoard", "a", detail="its cable is loose")


def test_a_detached_run_is_recorded_by_its_name_and_the_hash_of_its_source() -> None:
    run = tasks_pb2.Run(name="runs/r1", board="boards/a")
    request = tasks_pb2.StartRunRequest(board="boards/a", source="x = 1", lease_token="bl_x")

    begun = deed("belayd.v1.TaskService/StartRun", request, told=[tasks_pb2.StartRunResponse(run=run)])
    cancelled = deed(
        "belayd.v1.TaskService/CancelRun",
        tasks_pb2.CancelRunRequest(name="runs/r1"),
        told=[tasks_pb2.CancelRunResponse(run=run)],
    )

    what = hashlib.sha256(b"x = 1").digest()
    assert begun == Deed("TaskService/StartRun", "a", "lease-of-a", what, detail="runs/r1")
    assert cancelled == Deed("TaskService/CancelRun", "a", detail="runs/r1")
