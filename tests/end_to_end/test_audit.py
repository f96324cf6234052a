"""Who did what: recorded through a real daemon, kept over its death, whole or found out."""

from __future__ import annotations

import hashlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import BoardException, BoardLeased, Client, LeaseLost, NotFound, Refused

PATIENCE = 30.0
SECRET = "correct-horse-battery-staple"
LOOP = "print('begun')\nwhile True: pass"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim, "sim-2": sim})


def own(lab: Any) -> str:
    """Return the address of the daemon's own user."""
    return f"unix:{lab.folder / 'state' / 'belayd.sock'}"


def as_operator(lab: Any) -> Client:
    client: Client = lab.stack.enter_context(Client(own(lab), holder="ops@desk"))
    return client


@pytest.fixture(scope="module")
def operator(lab) -> Client:
    return as_operator(lab)


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


def known(operator: Client, since: datetime, **more: Any) -> list[tuple[str, str]]:
    """Return what was done since then, oldest first: actions and outcomes."""
    found = [
        (event.action.rpartition("/")[2], event.outcome) for event in operator.audit(since=since, **more)
    ]
    return found[::-1]


def test_who_had_a_board_when(lab, operator: Client) -> None:
    began = datetime.now(UTC)
    with lab.connect("ann@desk").acquire("sim-1", ttl=60, reason="radio test") as lease:
        lab.client.run("sim-1", "x = 1", lease=lease)
        with pytest.raises(BoardException):
            lab.client.run("sim-1", "1/0", lease=lease)
        with pytest.raises(BoardLeased):
            lab.connect("bob@desk").run("sim-1", "x = 2")
    between = datetime.now(UTC)
    with lab.connect("bob@desk").acquire("sim-1", ttl=60, wait=PATIENCE):
        pass
    lab.client.evaluate("sim-2", "1")

    events = list(operator.audit("sim-1", since=began, until=between))[::-1]
    later = known(operator, between, board="sim-1")
    others = known(operator, began, board="sim-2")

    assert [(event.action, event.outcome, event.reason) for event in events] == [
        ("LeaseService/AcquireLease", "ok", ""),
        ("TaskService/RunTask", "ok", ""),
        ("TaskService/RunTask", "board_error", ""),
        ("TaskService/RunTask", "rejected", "BOARD_LEASED"),
        ("lease/released", "ok", ""),
    ]
    taken, ran, _, refused, ended = events
    assert taken.detail == "ann@desk: radio test"
    assert {event.lease for event in (taken, ran, ended)} == {lease.name.removeprefix("leases/")}
    assert refused.lease == ""
    assert ran.content_sha256 == hashlib.sha256(b"x = 1").hexdigest()
    assert (ran.principal, ran.role, ran.peer) == ("local", "user", "loopback")
    assert ended.detail == "ann@desk: was released"
    assert taken.time <= ran.time <= ended.time
    assert ended.took >= (ran.time - taken.time).total_seconds()
    assert later == [("AcquireLease", "ok"), ("released", "ok")]
    assert others == [("RunTask", "ok")]


def test_every_way_to_use_a_board_leaves_a_record(lab, operator: Client, tmp_path: Path) -> None:
    began = datetime.now(UTC)
    (tmp_path / "station.py").write_text("x = 1\n")

    lab.client.run("sim-1", "def twice(x):\n    return 2 * x")
    lab.client.call("sim-1", "twice", 3)
    lab.client.deploy("sim-1", tmp_path, dst="/app")
    lab.client.reset("sim-1")
    with pytest.raises(NotFound):
        lab.client.evaluate("sim-9", "1")
    with pytest.raises(LeaseLost):
        lab.client.lease("bl_of_nobody")
    with pytest.raises(Refused):
        lab.client.break_lease("sim-1", "because")
    lease = lab.client.acquire("sim-1", ttl=60, wait=PATIENCE)
    with lab.client.attach("sim-1", lease) as console:
        console.write(b"20 + 3\r")
        assert any(b"23" in output for output in console)  # the board has taken what was typed
    with lab.connect() as other, other.acquire("sim-2", ttl=60) as held:
        list(other.function("sim-2", "len", lease=held).map(["a", "bc", "def"]))
    operator.break_lease("sim-1", "the lab closes")
    lab.client.boards()

    assert sorted(known(operator, began)) == sorted(
        [
            ("RunTask", "ok"),
            ("CallTask", "ok"),
            ("Deploy", "ok"),
            ("ResetBoard", "ok"),
            ("RunTask", "rejected"),
            ("RenewLease", "rejected"),
            ("BreakLease", "rejected"),
            ("AcquireLease", "ok"),
            ("Attach", "ok"),
            ("AcquireLease", "ok"),
            ("Converse", "ok"),
            ("released", "ok"),
            ("BreakLease", "ok"),
            ("broken", "ok"),
        ]
    )
    by = {event.action.rpartition("/")[2]: event for event in [*operator.audit(since=began)][::-1]}
    content = hashlib.sha256(b"x = 1\n").hexdigest()
    manifest = f"{content}  station.py\n".encode()
    assert by["Deploy"].content_sha256 == hashlib.sha256(manifest).hexdigest()
    assert by["Deploy"].detail == "1 file to /app"
    assert by["Attach"].detail == "typed 7 bytes"
    assert by["Converse"].detail == "3 steps: 3 ok"
    assert by["BreakLease"].principal.startswith("unix:")
    assert by["BreakLease"].detail.endswith(": the lab closes")
    assert by["broken"].principal == "local"


def test_a_caller_that_vanishes_is_recorded_as_cancelled(
    lab, operator: Client, converse: Callable[..., Any], until: Callable[..., None]
) -> None:
    began = datetime.now(UTC)
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    running = stub.RunTask(tasks_pb2.RunTaskRequest(board="boards/sim-1", source=LOOP), timeout=PATIENCE)
    assert any(step.output for step in running)
    running.cancel()
    stream = converse(lab.channel(), "sim-2")
    stream.send(tasks_pb2.ConverseStep(id=1, expression="6 * 7"))
    stream.events(1)
    stream.send(
        tasks_pb2.ConverseStep(id=2, expression=f"exec({LOOP!r})"),
        tasks_pb2.ConverseStep(id=3, expression="3"),
    )
    assert next(stream.call).events[0].output
    stream.call.cancel()

    until(lambda: len(known(operator, began)) == 2)
    conversation, task = operator.audit(since=began)
    if conversation.action != "TaskService/Converse":
        conversation, task = task, conversation

    assert (task.action, task.outcome) == ("TaskService/RunTask", "cancelled")
    assert (conversation.outcome, conversation.detail) == ("cancelled", "3 steps: 2 cancelled, 1 ok")


def test_a_lease_that_nobody_renewed_is_recorded_as_expired(
    lab, operator: Client, until: Callable[..., None]
) -> None:
    began = datetime.now(UTC)
    lease = lab.connect("ann@desk").acquire("sim-1", ttl=1, wait=PATIENCE)

    until(lambda: ("expired", "ok") in known(operator, began))

    [event] = [event for event in operator.audit("sim-1", since=began) if event.action == "lease/expired"]
    assert event.lease == lease.name.removeprefix("leases/")
    assert event.detail == "ann@desk: expired, as it was not renewed in time"
    assert event.took >= 1


def test_a_quarantine_is_recorded(daemon, simulated_pty, until: Callable[..., None]) -> None:
    stranger = simulated_pty("stranger", "--unique-id", "ffffffffffffffff")
    lab = daemon({"pico-1": {"serial": {"port": str(stranger.path)}, "unique_id": "00" * 8}}, ready=False)
    until(lambda: lab.client.board("pico-1").state.value == "quarantined")

    [event] = as_operator(lab).audit("pico-1")

    assert (event.principal, event.action) == ("(belayd)", "board/quarantined")
    assert "answers with unique_id ffffffffffffffff" in event.detail


@pytest.mark.parametrize(
    ("inventory", "outcome", "reason"),
    [('{"version": 1, "boards": {}}', "ok", ""), ("no inventory", "rejected", "REQUEST_INVALID")],
    ids=["good", "broken"],
)
def test_a_reload_by_signal_is_recorded(
    daemon, sim, until: Callable[..., None], inventory: str, outcome: str, reason: str
) -> None:
    lab = daemon({"sim-1": sim}, ready=False)
    operator = as_operator(lab)
    (lab.folder / "lab.yaml").write_text(inventory)

    lab.process.send_signal(signal.SIGHUP)
    until(lambda: list(operator.audit()))
    [event] = operator.audit()

    assert (event.principal, event.action, event.detail) == ("(belayd)", "inventory/reloaded", "SIGHUP")
    assert (event.outcome, event.reason) == (outcome, reason)


def test_callers_that_are_turned_away_make_one_record(daemon, sim) -> None:
    lab = daemon({"sim-1": sim}, ready=False)
    bad = lab.stack.enter_context(Client(lab.address, token="bt_" + "x" * 40))
    for _ in range(6):
        with pytest.raises(Refused):
            bad.boards()
    now = [(event.action, event.principal, event.detail) for event in as_operator(lab).audit()]

    lab.stop()
    later = [(event.action, event.detail) for event in as_operator(lab.again()).audit()]

    assert now == [("entrance", "(nobody)", "unknown, once")]
    assert later == [("entrance", "unknown, 5 times"), ("entrance", "unknown, once")]


def test_neither_source_nor_tokens_nor_arguments_nor_output_are_kept(daemon, sim, tmp_path: Path) -> None:
    lab = daemon({"sim-1": sim})
    secret_token = token(lab, "ann", "operator")
    with Client(lab.address, token=secret_token) as ann, ann.acquire("sim-1", ttl=60) as lease:
        ann.run(
            "sim-1", f"key = {SECRET!r}\nprint(key)\ndef show(x):\n    print(x)\n    return x", lease=lease
        )
        ann.call("sim-1", "show", SECRET, lease=lease)
        ann.evaluate("sim-1", f"show({SECRET!r})", lease=lease)
        list(ann.function("sim-1", "show", lease=lease).map([SECRET, SECRET]))
        with pytest.raises(BoardException):
            ann.run("sim-1", f"raise ValueError({SECRET!r})", lease=lease)
        secrets = [SECRET, secret_token, lease.token]
        told = [json.dumps([repr(event) for event in ann.audit()])]

    lab.stop()
    told += [file.read_bytes().decode("latin-1") for file in (lab.folder / "state").glob("belayd*")]
    told.append(lab.log)

    assert "RunTask" in told[0]
    assert any("TaskService/RunTask" in text for text in told[1:])
    assert not [text for text in told for secret in secrets if secret in text]


def test_records_outlast_kill_9_and_are_whole(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    for number in range(20):
        lab.client.run("sim-1", f"x = {number}")
    before = list(as_operator(lab).audit())
    verdict = as_operator(lab).verify_audit()
    lab.kill()

    operator = as_operator(lab.again())
    after = list(operator.audit())

    assert len(before) == 20
    assert [event.number for event in before] == list(range(20, 0, -1))
    assert (verdict.intact, verdict.last_number, verdict.pruned, verdict.lost) == (True, 20, 0, 0)
    assert after == before
    assert operator.verify_audit() == verdict


@pytest.mark.parametrize(
    ("tampering", "holds"),
    [
        ("UPDATE audit SET principal = 'eve' WHERE seq = 7", 6),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", 0),
        ("UPDATE audit SET detail = 'nothing' WHERE seq = 12", 11),
        ("DELETE FROM audit WHERE seq = 5", 4),
        ("DELETE FROM audit WHERE seq = 12", 11),
        ("UPDATE audit SET seq = 99 WHERE seq = 3", 2),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 9", 8),
    ],
    ids=["who", "when", "detail", "one out", "the last out", "moved", "its hash"],
)
def test_whoever_touches_the_records_is_found_out(daemon, sim, tampering: str, holds: int) -> None:
    lab = daemon({"sim-1": sim}, ready=False)
    for _ in range(12):
        with pytest.raises(NotFound):
            lab.client.run("nowhere", "x = 1")
    lab.stop()
    [database] = [path for path in (lab.folder / "state").iterdir() if is_audited(path)]
    connection = sqlite3.connect(database)
    with connection:
        assert connection.execute(tampering).rowcount == 1
    connection.close()

    again = lab.again()
    verdict = as_operator(again).verify_audit()
    done = again.belayctl("audit", "--verify", BELAYD_ADDRESS=own(again))

    assert (verdict.intact, verdict.last_number) == (False, holds)
    assert done.returncode == 1
    assert f"broken at record {holds + 1}" in done.stderr


def is_audited(path: Path) -> bool:
    """Return whether a file is a database with audit records."""
    if not path.is_file() or not path.read_bytes().startswith(b"SQLite format 3"):
        return False
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'audit'").fetchall())
    finally:
        connection.close()
