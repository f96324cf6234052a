"""The daemon itself as a process, and what a tester needs around it: clients, belayctl, /metrics, /proc."""

from __future__ import annotations

import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import Client, ConnectionFailed

PATIENCE = 30.0  # seconds; how fast things are is for benchmarks
LOOK = 0.02  # seconds between two looks at what tells of itself to nobody
READY = re.compile(r"belayd ready: gRPC (\S+) metrics (\S+)")
SYSTEM = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")
SIM: dict[str, Any] = {"simulated": {}, "labels": {"chip": "sim"}}


def wait_until(claim: Callable[[], object], what: str = "") -> None:
    """Look again and again until `claim()` is true; fail after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, f"never came true: {what or claim}"
        time.sleep(LOOK)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """`wait_until`, for tests."""
    return wait_until


@dataclass
class Daemon:
    """A running `belayd serve`; everything handed out here ends with it.

    Attributes:
        started_in: Seconds from its start until it said that it is ready.
    """

    address: str
    metrics: str
    process: subprocess.Popen[str]
    folder: Path
    stack: ExitStack
    started_in: float = 0.0
    _client: list[Client] = field(default_factory=list)

    @property
    def client(self) -> Client:
        """A client for whatever needs no other name or connection."""
        if not self._client:
            self._client.append(self.connect())
        return self._client[0]

    @property
    def log(self) -> str:
        """What the daemon logged so far."""
        return (self.folder / "log").read_text()

    def connect(self, holder: str = "ann@desk") -> Client:
        """Return a client with a connection of its own."""
        return self.stack.enter_context(Client(self.address, holder=holder))

    def channel(self, *options: tuple[str, int]) -> grpc.Channel:
        """Return a bare channel, for what the client would not do."""
        return self.stack.enter_context(grpc.insecure_channel(self.address, options))

    def scrape(self) -> str:
        """Return /metrics."""
        opener = build_opener(ProxyHandler({}))
        with opener.open(self.metrics, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the series of one name that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.scrape())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def rss(self) -> int:
        """Return the bytes of memory that the daemon has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def wrapper(self, board: str) -> int:
        """Return the process number of a simulated board."""
        [found] = [
            pid
            for pid in children(self.process.pid)
            if f"/{board}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return found

    def interpreter(self, board: str) -> int:
        """Return the process number of the MicroPython in a simulated board."""
        [found] = children(self.wrapper(board))
        return found

    def processes(self) -> list[int]:
        """Return the process numbers of all simulated boards and their interpreters."""
        wrappers = children(self.process.pid)
        return [*wrappers, *(pid for wrapper in wrappers for pid in children(wrapper))]

    def start_belayctl(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start belayctl; it is killed with the daemon at the latest."""
        process = self.stack.enter_context(
            subprocess.Popen(
                [Path(sys.executable).with_name("belayctl"), *words],
                env=self._environment(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self.stack.callback(process.kill)
        return process

    def belayctl(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run belayctl to its end."""
        return subprocess.run(
            [Path(sys.executable).with_name("belayctl"), *words],
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )

    def kill(self) -> None:
        """End the daemon as kill -9 does, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def again(self) -> Daemon:
        """Start another daemon where this one was, with its inventory, its state and its address.

        Returns when it answers clients of this process: they share connections, and with them the
        pause after one that failed.
        """
        daemon = launch(self.stack, self.folder, self.address)
        wait_until(daemon.answers, "the daemon answers again")
        return daemon

    def answers(self) -> bool:
        """Tell whether a client reaches it now."""
        try:
            self.client.leases()
        except ConnectionFailed:
            return False
        return True

    def stop(self) -> int:
        """Ask the daemon to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return {
            **system(),
            "BELAYD_ADDRESS": self.address,
            "XDG_STATE_HOME": str(self.folder / "home"),
            **more,
        }


def system() -> dict[str, str]:
    """Return an environment without anything of belayd's."""
    return {name: os.environ[name] for name in SYSTEM if name in os.environ}


def children(parent: int) -> list[int]:
    """Return the process numbers of a process' children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(words[1]) == parent and words[0] != "Z":
            found.append(int(status.parent.name))
    return found


def start(
    stack: ExitStack,
    folder: Path,
    boards: dict[str, Any],
    ready: bool,
    server: dict[str, Any] | None = None,
    listen: str = "localhost:0",
    prepare: Callable[[Path], object] = lambda folder: None,
    options: tuple[str, ...] = (),
) -> Daemon:
    """Start a daemon with these boards, and wait until all are READY if so wanted.

    `prepare` is given the folder before: of what `server` names, and of "state".
    """
    prepare(folder)
    # JSON is YAML.
    (folder / "lab.yaml").write_text(json.dumps({"version": 1, "server": server or {}, "boards": boards}))
    daemon = launch(stack, folder, listen, options)
    if ready:
        wait_until(
            lambda: all(board.state.value == "ready" for board in daemon.client.boards()), "all boards ready"
        )
    return daemon


def launch(stack: ExitStack, folder: Path, listen: str, options: tuple[str, ...] = ()) -> Daemon:
    """Start a daemon on the inventory and the state that a folder has."""
    words = [sys.executable, "-m", "belayd", "serve", "--inventory", folder / "lab.yaml"]
    words += ["--listen", listen, "--metrics", "localhost:0", "--state", folder / "state", *options]
    log = stack.enter_context((folder / "log").open("a"))
    began = time.monotonic()
    process = stack.enter_context(
        subprocess.Popen(words, env=system(), stdout=subprocess.PIPE, stderr=log, text=True)
    )
    stack.callback(end, process)
    told, _, _ = select.select([process.stdout], [], [], PATIENCE)
    line = READY.match(process.stdout.readline() if told else "")
    assert line, (folder / "log").read_text()
    return Daemon(line[1], line[2], process, folder, stack, time.monotonic() - began)


def end(process: subprocess.Popen[str]) -> None:
    """End a daemon and wait for it."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """A factory of daemons that end with the test; takes boards as the inventory has them."""
    with ExitStack() as stack:
        yield lambda boards, ready=True, **more: start(
            stack, tmp_path_factory.mktemp("lab"), boards, ready, **more
        )


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """As `daemon`, for a module."""
    with ExitStack() as stack:
        yield lambda boards, ready=True, **more: start(
            stack, tmp_path_factory.mktemp("lab"), boards, ready, **more
        )


@pytest.fixture(scope="session")
def sim() -> dict[str, Any]:
    """A simulated board as the inventory has it."""
    return SIM


class Bystander:
    """Somebody who evaluates numbers on boards all the while and compares every answer."""

    def __init__(self, client: Client, boards: tuple[str, ...]) -> None:
        self.answers = 0
        self._client = client
        self._boards = boards
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._asking = self._pool.submit(self._ask)

    def leave(self) -> None:
        """Stop asking; raise what went wrong meanwhile."""
        self._enough.set()
        self._pool.shutdown()
        self._asking.result()

    def _ask(self) -> None:
        # Without the pause it would take a core; once on each board in any case.
        while not self._enough.wait(0.02) or self.answers < len(self._boards):
            self.answers += 1
            board = self._boards[self.answers % len(self._boards)]
            answer = self._client.evaluate(board, f"{self.answers} * 3 + 1", timeout=PATIENCE)
            assert answer == self.answers * 3 + 1, board


@pytest.fixture(scope="session")
def bystander() -> Callable[..., Bystander]:
    """The class, for fixtures of modules."""
    return Bystander


class Stream:
    """A bare Converse stream, for what the client would not do."""

    def __init__(self, channel: grpc.Channel, board: str, token: str = "") -> None:
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._first = tasks_pb2.ConverseRequest(board=f"boards/{board}", lease_token=token)
        self.call = tasks_pb2_grpc.TaskServiceStub(channel).Converse(
            iter(self._requests.get, None), timeout=PATIENCE
        )

    def send(self, *steps: tasks_pb2.ConverseStep) -> None:
        request, self._first = self._first, tasks_pb2.ConverseRequest()
        request.steps.extend(steps)
        self._requests.put(request)

    def finish(self) -> None:
        self._requests.put(None)

    def events(self, ends: int) -> list[tasks_pb2.ConverseEvent]:
        """Return the events up to the one that ends that many steps."""
        events: list[tasks_pb2.ConverseEvent] = []
        while sum(event.WhichOneof("event") in ("result", "error") for event in events) < ends:
            events.extend(next(self.call).events)
        return events


@pytest.fixture(scope="session")
def converse() -> Callable[..., Stream]:
    """The class, for tests."""
    return Stream
