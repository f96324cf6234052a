"""The audit trail as operators read it: theirs alone, in pages, through belayctl, whatever the noise."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from belayd.v1 import daemon_pb2, daemon_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from belayd_client import Client, NotFound, Refused

PATIENCE = 30.0


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim, "sim-2": sim})


def own(lab: Any) -> str:
    """Return the address of the daemon's own user."""
    return f"unix:{lab.folder / 'state' / 'belayd.sock'}"


@pytest.fixture(scope="module")
def operator(lab) -> Client:
    client: Client = lab.stack.enter_context(Client(own(lab)))
    return client


def token(lab: Any, name: str, role: str = "user", *more: str) -> str:
    """Return a new token."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "belayd", "token", "create", name),
            *("--role", role, "--state", str(lab.folder / "state"), *more),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1].split()[-1]


def test_who_is_bounded_to_some_boards_reads_of_those_alone(daemon, sim) -> None:
    lab = daemon({"sim-1": sim, "other-1": {"simulated": {}, "labels": {"chip": "other"}}})
    lab.client.evaluate("sim-1", "1")
    lab.client.evaluate("other-1", "1")
    own_token = token(lab, "ann", "operator", "--selector", "chip=sim")

    with Client(lab.address, token=own_token) as ann:
        seen = {event.board for event in ann.audit()}
        happened = {event.board for event in ann.events(recent=1000, follow=False)}
        with pytest.raises(Refused, match="not among those"):
            list(ann.events("other-1", follow=False))

    assert seen == {"sim-1"}
    assert happened == {"sim-1"}


def test_only_operators_read_the_trail(lab) -> None:
    with pytest.raises(Refused, match="needs operator"):
        list(lab.client.audit())
    with pytest.raises(Refused, match="needs operator"):
        lab.client.verify_audit()

    done = lab.belayctl("audit")

    assert done.returncode == 3


def test_ten_thousand_refused_calls_leave_everybody_elses_records(lab, operator: Client) -> None:
    began = datetime.now(UTC)
    operator.reset("sim-2")
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    request = tasks_pb2.CallTaskRequest(board="boards/nowhere", function="f")
    under_way: list[Any] = []
    for _ in range(100):
        under_way = [stub.CallTask.future(request, timeout=PATIENCE) for _ in range(100)]
        assert {call.code() for call in under_way} == {grpc.StatusCode.NOT_FOUND}

    noise = list(operator.audit("nowhere", since=began))
    verdict = operator.verify_audit()

    assert len(noise) == 10_000
    assert {event.reason for event in noise} == {"BOARD_NOT_FOUND"}
    assert [event.action for event in operator.audit("sim-2", since=began)] == ["BoardService/ResetBoard"]
    assert verdict.intact
    assert verdict.lost == 0


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (daemon_pb2.ListAuditEventsRequest(page_size=1001), "page_size"),
        (daemon_pb2.ListAuditEventsRequest(page_token="first"), "page_token"),
        (daemon_pb2.ListAuditEventsRequest(page_token="9" * 30), "page_token"),
        (daemon_pb2.ListAuditEventsRequest(board="sim-1"), "board"),
        (daemon_pb2.ListAuditEventsRequest(since=Timestamp(seconds=1 << 40)), "since"),
    ],
    ids=["too many", "no token", "too far", "no name of a board", "no time"],
)
def test_a_query_that_cannot_be_is_refused(lab, request_: Any, field: str) -> None:
    with grpc.insecure_channel(own(lab)) as channel, pytest.raises(grpc.RpcError) as caught:
        daemon_pb2_grpc.DaemonServiceStub(channel).ListAuditEvents(request_, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in caught.value.details()


def test_pages_of_records_hold_all_of_them_once(lab, operator: Client) -> None:
    began = datetime.now(UTC)
    for _ in range(7):
        lab.client.evaluate("sim-1", "1")
    stub = daemon_pb2_grpc.DaemonServiceStub(lab.stack.enter_context(grpc.insecure_channel(own(lab))))
    since = Timestamp()
    since.FromDatetime(began)
    request = daemon_pb2.ListAuditEventsRequest(page_size=3, board="boards/sim-1", since=since)

    pages = [stub.ListAuditEvents(request, timeout=PATIENCE)]
    while pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token
        pages.append(stub.ListAuditEvents(request, timeout=PATIENCE))

    numbers = [event.number for page in pages for event in page.audit_events]
    assert [len(page.audit_events) for page in pages] == [3, 3, 1]
    assert numbers == sorted(set(numbers), reverse=True)


def test_belayctl_tells_who_had_a_board_and_what_happened(lab, operator: Client) -> None:
    with lab.connect("ann@desk").acquire("sim-1", ttl=60, wait=PATIENCE, reason="radio test") as lease:
        lab.client.run("sim-1", "x = 1", lease=lease)
    with pytest.raises(NotFound):
        lab.client.run("\x1b[2J", "x = 1")

    table = lab.belayctl("audit", "sim-1", "--since", "1h", BELAYD_ADDRESS=own(lab))
    listed = lab.belayctl("audit", "sim-1", "--json", "--principal", "local", BELAYD_ADDRESS=own(lab))
    whole = lab.belayctl("audit", "--verify", "--json", BELAYD_ADDRESS=own(lab))
    nobody = lab.belayctl("audit", "--principal", "nobody", BELAYD_ADDRESS=own(lab))
    hostile = lab.belayctl("audit", BELAYD_ADDRESS=own(lab))
    events = lab.belayctl("events", "sim-1")

    assert table.returncode == 0, table.stderr
    heading, *rows = table.stdout.splitlines()
    assert heading.split()[:4] == ["TIME", "WHO", "DID", "BOARD"]
    assert [row.split()[2] for row in rows[-3:]] == ["AcquireLease", "RunTask", "lease/released"]
    assert "ann@desk: radio test" in rows[-3]
    assert f"sha256:{hashlib.sha256(b'x = 1').hexdigest()[:12]}" in rows[-2]
    assert json.loads(listed.stdout)[-1]["lease"] == lease.name.removeprefix("leases/")
    assert json.loads(whole.stdout)["intact"] is True
    assert (nobody.returncode, nobody.stdout) == (0, "")
    assert "lease started" in events.stdout
    assert "lease stopped" in events.stdout
    assert "\\x1b[2J" in hostile.stdout
    assert "\x1b" not in hostile.stdout
