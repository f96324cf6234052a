"""Code that never ends: whoever wanted it lets go in some way, and the board serves the next."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import grpc
import pytest

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import BoardException, RunCancelled, RunTimeout

FOREVER = "print('begun')\nwhile True: pass\n"
STUBBORN = """\
print('begun')
tries = 0
while tries < 2:
    try:
        while True: pass
    except KeyboardInterrupt:
        tries += 1
while True: pass
"""


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture(autouse=True)
def everybody_else(lab, bystander):
    """On the same board and on another, somebody gets right answers all the while."""
    other = bystander(lab.connect(), ("sim-1", "sim-2"))
    yield
    other.leave()
    assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42


@pytest.fixture
def tasks(lab) -> tasks_pb2_grpc.TaskServiceStub:
    return tasks_pb2_grpc.TaskServiceStub(lab.channel())


def begin(tasks: tasks_pb2_grpc.TaskServiceStub, source: str, **options: object) -> grpc.Call:
    """Start code on sim-1 and return the stream once the code runs."""
    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source=source)
    stream = tasks.RunTask(request, **options)
    output = b""
    while b"begun" not in output:
        output += next(stream).output
    return stream


@pytest.mark.parametrize("source", [FOREVER, STUBBORN], ids=["plain", "stubborn"])
def test_an_endless_loop_ends_at_its_timeout(lab, source: str) -> None:
    with pytest.raises(RunTimeout) as caught:
        lab.client.run("sim-1", source, timeout=1)

    assert caught.value.reason == "RUN_TIMEOUT"
    assert "the board was interrupted" in caught.value.message


def test_an_endless_loop_ends_at_the_rpcs_own_deadline(tasks) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(begin(tasks, FOREVER, timeout=1))

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_that_never_returns_ends_at_its_timeout(lab) -> None:
    lab.client.run("sim-1", "def spin():\n    while True: pass\n")

    with pytest.raises(RunTimeout):
        lab.client.call("sim-1", "spin", timeout=1)

    lab.client.evaluate("sim-1", "spin")  # what was defined is still there


def test_a_job_still_queued_at_its_deadline_never_runs(lab, tasks) -> None:
    stream = begin(tasks, FOREVER)

    with pytest.raises(RunTimeout) as caught:
        lab.client.run("sim-1", "late = 1", timeout=0.3)
    stream.cancel()

    assert "still queued" in caught.value.message
    with pytest.raises(BoardException, match="late"):
        lab.client.evaluate("sim-1", "late")


def test_an_endless_loop_ends_when_its_rpc_is_cancelled(tasks) -> None:
    stream = begin(tasks, FOREVER)

    stream.cancel()

    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_an_endless_loop_ends_when_its_client_is_closed(lab) -> None:
    client = lab.connect()
    begun = threading.Event()
    ended: list[Exception] = []

    def work() -> None:
        try:
            client.run("sim-1", FOREVER, output=lambda data: begun.set())
        except RunCancelled as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    client.close()
    thread.join(30)

    assert len(ended) == 1


def test_a_clients_calls_go_on_after_its_own_ctrl_c(lab) -> None:
    client = lab.connect()
    before = [client.call("sim-1", "len", "x" * n) for n in range(6)]  # enough to share a stream

    def leave(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run("sim-1", FOREVER, output=leave)

    assert [*before, client.call("sim-1", "len", "x" * 6, timeout=30)] == list(range(7))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["killed", "ctrl-c"]
)
def test_an_endless_loop_ends_with_its_belayctl(lab, number: signal.Signals, code: int) -> None:
    process = lab.start_belayctl("exec", "sim-1", FOREVER)
    assert process.stdout.readline() == "begun\n"

    process.send_signal(number)

    assert process.wait(30) == code


def test_every_way_out_is_counted(lab, until: Callable[..., None], tasks) -> None:
    timeouts, cancels, interrupts = (
        lab.metric("belayd_operations_total", board="sim-1", outcome="timeout"),
        lab.metric("belayd_operations_total", board="sim-1", outcome="cancelled"),
        lab.metric("belayd_recoveries_total", board="sim-1", step="interrupt"),
    )

    with pytest.raises(RunTimeout):
        lab.client.run("sim-1", FOREVER, timeout=0.3)
    begin(tasks, FOREVER).cancel()

    until(lambda: lab.metric("belayd_operations_total", outcome="cancelled") == cancels + 1)
    assert lab.metric("belayd_operations_total", board="sim-1", outcome="timeout") == timeouts + 1
    until(lambda: lab.metric("belayd_recoveries_total", step="interrupt") == interrupts + 2)
