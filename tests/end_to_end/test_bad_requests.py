"""Requests that cannot be meant: each is refused with its reason, and nothing reaches a board."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from belayd.v1 import (
    boards_pb2,
    boards_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    values_pb2,
)
from belayd_client import NotFound, RequestInvalid

MIB = 1024 * 1024
Refusal = tuple[grpc.StatusCode, str, str]


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "pico-lamp": sim})


@pytest.fixture(autouse=True)
def nothing_reached_the_boards(lab, until: Callable[..., None]):
    def said() -> float:
        return lab.metric("belayd_transport_bytes_total", direction="sent")

    before = said()
    yield
    assert said() == before
    assert lab.client.evaluate("sim-1", "6 * 7") == 42


def refusal(call: Callable[[], object]) -> Refusal:
    """Return the status, the reason and the field or message that a request is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    trailing = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info, violation = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert [detail.Unpack(info) for detail in status.details].count(True) == 1
    any(detail.Unpack(violation) for detail in status.details)
    assert info.domain == "belayd"
    assert status.message == caught.value.details()
    fields = [each.field for each in violation.field_violations]
    return caught.value.code(), info.reason, (fields or [status.message])[0]


def invalid(field: str) -> Refusal:
    return grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID", field


def run(**request: object) -> Callable[[grpc.Channel], object]:
    message = tasks_pb2.RunTaskRequest(**{"board": "boards/sim-1", **request})
    return lambda channel: list(tasks_pb2_grpc.TaskServiceStub(channel).RunTask(message, timeout=30))


def call(**request: object) -> Callable[[grpc.Channel], object]:
    message = tasks_pb2.CallTaskRequest(**{"board": "boards/sim-1", "function": "len", **request})
    return lambda channel: tasks_pb2_grpc.TaskServiceStub(channel).CallTask(message, timeout=30)


def boards(**request: object) -> Callable[[grpc.Channel], object]:
    message = boards_pb2.ListBoardsRequest(**request)
    return lambda channel: boards_pb2_grpc.BoardServiceStub(channel).ListBoards(message, timeout=30)


def leases(**request: object) -> Callable[[grpc.Channel], object]:
    message = leases_pb2.ListLeasesRequest(**request)
    return lambda channel: leases_pb2_grpc.LeaseServiceStub(channel).ListLeases(message, timeout=30)


def acquire(**request: object) -> Callable[[grpc.Channel], object]:
    message = leases_pb2.AcquireLeaseRequest(**request)
    return lambda channel: list(leases_pb2_grpc.LeaseServiceStub(channel).AcquireLease(message, timeout=30))


def reset(**request: object) -> Callable[[grpc.Channel], object]:
    message = boards_pb2.ResetBoardRequest(**{"name": "boards/sim-1", **request})
    return lambda channel: boards_pb2_grpc.BoardServiceStub(channel).ResetBoard(message, timeout=30)


def deploy(**request: object) -> Callable[[grpc.Channel], object]:
    message = deployments_pb2.DeployRequest(**{"board": "boards/sim-1", **request})
    return lambda channel: list(
        deployments_pb2_grpc.DeploymentServiceStub(channel).Deploy(message, timeout=30)
    )


def nested(depth: int) -> values_pb2.Value:
    value = values_pb2.Value(int=1)
    for _ in range(depth):
        value = values_pb2.Value(list=values_pb2.Sequence(items=[value]))
    return value


NOTHING = values_pb2.Value()
UNTYPED = values_pb2.Value(repr=values_pb2.Repr(type_name="Pin", text="Pin(1)"))
UNHASHABLE = values_pb2.Value(
    dict=values_pb2.Mapping(items=[values_pb2.MappingItem(key=nested(1), value=nested(0))])
)
CODE_AS_DIGITS = values_pb2.Value(bigint="__import__('os')")

REQUESTS = {
    "a board without its collection": (run(board="sim-1", source="1"), "board"),
    "a board of another collection": (run(board="leases/sim-1", source="1"), "board"),
    "a board without a name": (run(board="boards/", source="1"), "board"),
    "no board": (run(board="", source="1"), "board"),
    "no code": (run(), "source"),
    "an empty expression": (run(expression=""), "expression"),
    "a blank expression": (run(expression=" \n\t"), "expression"),
    "source over 1 MiB": (run(source="#" * (MIB + 1)), "source"),
    "source over 1 MiB in UTF-8": (run(source="é" * (MIB // 2 + 1)), "source"),
    "an expression over 64 KiB": (run(expression="1" * (64 * 1024 + 1)), "expression"),
    "a negative timeout": (run(source="1", timeout=Duration(seconds=-1)), "timeout"),
    "a timeout of centuries": (run(source="1", timeout=Duration(seconds=10**11)), "timeout"),
    "a timeout of mixed signs": (run(source="1", timeout=Duration(seconds=1, nanos=-5)), "timeout"),
    "a timeout of too many nanoseconds": (run(source="1", timeout=Duration(nanos=2**31 - 1)), "timeout"),
    "no function": (call(function=""), "function"),
    "code for a function": (call(function="f(1) or g"), "function"),
    "a function with a line end": (call(function="len\n"), "function"),
    "a function that begins with a digit": (call(function="1st"), "function"),
    "a function with an empty part": (call(function="a..b"), "function"),
    "a keyword for a function": (call(function="not"), "function"),
    "a keyword within a function": (call(function="a.def"), "function"),
    "a very long function": (call(function="f" * 300), "function"),
    "code for a keyword": (call(keywords={"x=1,y": nested(0)}), "keywords"),
    "a keyword for a keyword": (call(keywords={"if": nested(0)}), "keywords"),
    "an argument of no kind": (call(arguments=[nested(0), NOTHING]), "arguments[1]"),
    "an argument of no type": (call(arguments=[UNTYPED]), "arguments[0]"),
    "a keyword argument of no type": (call(keywords={"x": UNTYPED}), "keywords['x']"),
    "an argument with an unhashable key": (call(arguments=[UNHASHABLE]), "arguments[0]"),
    "an argument nested too deep": (call(arguments=[nested(45)]), "arguments[0]"),
    "code for a big integer": (call(arguments=[CODE_AS_DIGITS]), "arguments[0]"),
    "a negative page": (boards(page_size=-1), "page_size"),
    "a page too large": (boards(page_size=1001), "page_size"),
    "a negative page of leases": (leases(page_size=-1), "page_size"),
    "a selector that is none": (boards(selector="chip=="), "selector"),
    "a selector of an acquirer that is none": (acquire(selector="=x"), "selector"),
    "a lease on nothing": (acquire(), "board"),
    "a lease too short": (acquire(board="boards/sim-1", ttl=Duration(nanos=5)), "ttl"),
    "a lease of no time": (acquire(board="boards/sim-1", ttl=Duration()), "ttl"),
    "a lease too long": (acquire(board="boards/sim-1", ttl=Duration(seconds=86401)), "ttl"),
    "a negative wait": (acquire(board="boards/sim-1", wait=Duration(seconds=-1)), "wait"),
    "a holder with a line end": (acquire(board="boards/sim-1", holder="a\nb"), "holder"),
    "a holder too long": (acquire(board="boards/sim-1", holder="a" * 129), "holder"),
    "a reason with an escape": (acquire(board="boards/sim-1", reason="\x1b[2J"), "reason"),
    "a reset of another collection": (reset(name="sim-1"), "name"),
    "a reset of negative time": (reset(timeout=Duration(seconds=-1)), "timeout"),
    "a deployment of negative time": (deploy(timeout=Duration(seconds=-1)), "timeout"),
}


@pytest.mark.parametrize(("send", "field"), REQUESTS.values(), ids=REQUESTS.keys())
def test_what_cannot_be_meant_is_refused(lab, send: Callable[[grpc.Channel], object], field: str) -> None:
    assert refusal(lambda: send(lab.channel())) == invalid(field)


@pytest.mark.parametrize(
    ("name", "meant"), [("pico-lanp", "pico-lamp"), ("sim-2", "sim-1"), ("PICO-LAMP", "pico-lamp")]
)
def test_an_unknown_board_is_refused_with_what_was_meant(lab, name: str, meant: str) -> None:
    for send in (
        run(board=f"boards/{name}", source="1"),
        call(board=f"boards/{name}"),
        acquire(board=f"boards/{name}"),
        reset(name=f"boards/{name}"),
        deploy(board=f"boards/{name}"),
    ):
        code, reason, message = refusal(lambda send=send: send(lab.channel()))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "BOARD_NOT_FOUND")
        assert f"did you mean '{meant}'?" in message


def test_belayctl_says_what_was_meant(lab) -> None:
    done = lab.belayctl("exec", "pico-lanp", "print(1)")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "belayctl: there is no board 'pico-lanp'; did you mean 'pico-lamp'?\n"


def test_a_selector_that_matches_nothing_is_not_found(lab) -> None:
    with pytest.raises(NotFound, match="chip=none"):
        lab.client.acquire(selector="chip=none")


def test_the_client_refuses_what_the_daemon_would(lab) -> None:
    with pytest.raises(RequestInvalid):
        lab.client.acquire()
    with pytest.raises(TypeError, match="argument 1"):
        lab.client.call("sim-1", "len", object())


def test_a_token_that_never_was_is_no_lease(lab) -> None:
    for send in (run(source="1", lease_token="bl_x"), reset(lease_token="\ud7ff" * 9)):
        code, reason, _ = refusal(lambda send=send: send(lab.channel()))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND")
