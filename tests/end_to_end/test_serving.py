"""The daemon as a server: what it offers, how it is measured, how it starts, stops and keeps connections."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import BelaydError, BoardException, BoardUnavailable, ConnectionFailed, RunTimeout

SERVICES = [
    "BoardService",
    "ConsoleService",
    "DaemonService",
    "DeploymentService",
    "FileService",
    "LeaseService",
    "TaskService",
]
FOREVER = "print('begun')\nwhile True: pass\n"
MISTAKES = """\
version: 1
boards:
  Pico_1: {simulated: {}}
  sim-1:
    simulted: {}
  sim-2:
    serial: {port: /dev/ttyACM0, baudrate: fast}
"""
DEAF = """\
print('begun')
while True:
    try:
        while True: pass
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim, "sim-3": sim})


@pytest.fixture(scope="module", autouse=True)
def silent_run(lab) -> Iterator[Future[tasks_pb2.RunTaskResponse]]:
    """The last message of a run that says nothing for 17 s, begun before this module's first test."""
    channel = lab.channel(
        ("grpc.keepalive_time_ms", 5_100),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    )
    request = tasks_pb2.RunTaskRequest(board="boards/sim-3", source="import time\ntime.sleep(17)\n")
    stub = tasks_pb2_grpc.TaskServiceStub(channel)
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: list(stub.RunTask(request, timeout=60))[-1])


def test_reflection_lists_the_services_and_describes_them(lab) -> None:
    reflected = ProtoReflectionDescriptorDatabase(lab.channel())

    services = reflected.get_services()
    file = reflected.FindFileContainingSymbol("belayd.v1.TaskService")
    told = [method.name for method in file.service[0].method]

    assert sorted(services) == [
        *(f"belayd.v1.{name}" for name in SERVICES),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert told == [method.name for method in tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods]


@pytest.mark.parametrize("service", ["", *(f"belayd.v1.{name}" for name in SERVICES)])
def test_health_says_serving(lab, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(lab.channel())

    answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_promtool_finds_no_fault_in_a_busy_daemons_metrics(lab, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    lab.client.deploy("sim-1", tmp_path)
    with lab.client.acquire("sim-1", ttl=30) as lease:
        lab.client.evaluate("sim-1", "1", lease=lease)
        with pytest.raises(BelaydError):
            lab.client.evaluate("sim-1", "1")
    with pytest.raises(BoardException):
        lab.client.run("sim-2", "1/0")
    with pytest.raises(BelaydError):
        lab.client.run("sim-9", "1")
    with pytest.raises(RunTimeout):
        lab.client.run("sim-2", FOREVER, timeout=0.2)
    lab.client.reset("sim-2")

    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lab.client.run, "sim-1", FOREVER, timeout=1, output=lambda data: begun.set())
        assert begun.wait(30)
        text = lab.scrape()
        busy = lab.metric("belayd_board_state", board="sim-1", state="busy")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert busy == 1


def test_a_second_daemon_on_the_same_port_says_so(lab, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "belayd", "serve", "--inventory", lab.folder / "lab.yaml"]
    words += ["--listen", lab.address, "--metrics", "localhost:0", "--state", tmp_path / "state"]

    second = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert second.returncode == 2
    assert second.stdout == ""
    assert f"cannot listen on {lab.address}" in second.stderr
    assert "another belayd" in second.stderr
    assert lab.client.evaluate("sim-1", "6 * 7") == 42


def test_a_second_daemon_on_the_same_metrics_port_says_so(lab, tmp_path: Path) -> None:
    taken = lab.metrics.removeprefix("http://").removesuffix("/metrics")
    words = [sys.executable, "-m", "belayd", "serve", "--inventory", lab.folder / "lab.yaml"]
    words += ["--listen", "localhost:0", "--metrics", taken, "--state", tmp_path / "state"]

    second = subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert second.returncode == 2
    assert f"cannot serve metrics on {taken}" in second.stderr


def test_an_inventory_with_three_mistakes_is_refused_in_three_lines(tmp_path: Path) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(MISTAKES)

    for words in (["check", inventory], ["serve", "--inventory", inventory, "--state", tmp_path / "state"]):
        done = subprocess.run(
            [sys.executable, "-m", "belayd", *words], capture_output=True, text=True, timeout=60
        )

        told = (done.stdout + done.stderr).splitlines()
        assert done.returncode == 2
        assert [line.split(": ")[0] for line in told[:3]] == [f"{inventory}:{line}" for line in (3, 5, 7)]


def test_sigterm_ends_an_idle_daemon_and_its_boards(daemon, sim, until: Callable[..., None]) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})
    processes = lab.processes()
    lab.client.evaluate("sim-1", "1")

    code = lab.stop()

    assert code == 0, lab.log
    assert len(processes) == 4
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    with pytest.raises(ConnectionFailed):
        lab.client.boards()


@pytest.mark.parametrize("source", [FOREVER, DEAF], ids=["plain", "deaf"])
def test_sigterm_ends_a_daemon_amid_a_run_and_tells_its_caller(
    daemon, sim, until: Callable[..., None], source: str
) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})
    processes = lab.processes()
    begun = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(lab.client.run, "sim-1", source, output=lambda data: begun.set())
        assert begun.wait(30)
        queued = pool.submit(lab.client.evaluate, "sim-1", "1")
        until(lambda: lab.client.board("sim-1").queue_length == 1)
        code = lab.stop()
        failures = [running.exception(30), queued.exception(30)]

    assert code == 0, lab.log
    assert [type(failure) for failure in failures] == [BoardUnavailable] * 2, failures
    assert {failure.reason for failure in failures} == {"DRAINING"}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_sigterm_ends_a_daemon_whose_watchers_and_acquirers_wait(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    lab.client.acquire("sim-1", ttl=60)
    waiting = lab.start_belayctl("acquire", "sim-1", "--wait", "60s", XDG_STATE_HOME=str(lab.folder))
    watching = lab.start_belayctl("boards", "--watch")
    assert "place 1 " in waiting.stderr.readline()
    assert watching.stdout.readline()

    code = lab.stop()

    assert code == 0, lab.log
    assert waiting.wait(30) == 5
    assert "the daemon is stopping" in waiting.stderr.read()
    assert watching.wait(30) != 0


def test_a_killed_daemon_leaves_no_board_process(daemon, sim, until: Callable[..., None]) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})
    processes = lab.processes()

    lab.process.kill()

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_a_silent_run_outlives_a_clients_keepalive_pings(
    silent_run: Future[tasks_pb2.RunTaskResponse],
) -> None:
    # A server that finds pings too frequent ends the connection at the third: GOAWAY too_many_pings.
    assert silent_run.result(60).result.HasField("value")
