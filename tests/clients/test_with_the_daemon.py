"""The client and belayctl against the daemon itself, with real MicroPython on simulated boards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from belayd_client import (
    BoardLeased,
    Client,
    ConnectionFailed,
    Device,
    LeaseLost,
    NotFound,
    PyboardException,
    RequestInvalid,
    RunTimeout,
)
from belayd_client.board import BoardState

INVENTORY = """\
version: 1
boards:
  sim-1: {simulated: {}, labels: {chip: sim, rack: "1"}}
  sim-2: {simulated: {}, labels: {chip: sim, rack: "2"}}
  sim-3: {simulated: {}, labels: {chip: other}}
"""
READY = re.compile(r"belayd ready: gRPC (\S+) metrics (\S+)")
SYSTEM = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a daemon with three simulated boards, ready to be called; yield its address and process."""
    (folder / "lab.yaml").write_text(INVENTORY)
    words = [sys.executable, "-m", "belayd", "serve", "--inventory", folder / "lab.yaml"]
    words += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--state", folder / "state"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            words,
            env={name: os.environ[name] for name in SYSTEM if name in os.environ},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            ready = READY.match(process.stdout.readline())
            assert ready, (folder / "log").read_text()
            wait_until_ready(ready[1])
            yield ready[1], process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon for all tests that do it no harm."""
    with serving(tmp_path_factory.mktemp("daemon")) as (address, _):
        yield address


def wait_until_ready(address: str) -> None:
    with Client(address) as client:
        states: dict[str, BoardState] = {}
        for change in client.watch_boards():
            states.update({board.name: board.state for board in change.boards})
            if len(states) == 3 and set(states.values()) == {BoardState.READY}:
                return


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, holder="ann@desk") as client:
        yield client


@pytest.fixture
def belayctl(address: str, tmp_path: Path):
    """Run belayctl to its end as a user of the daemon."""
    environment = {name: os.environ[name] for name in SYSTEM if name in os.environ}
    environment |= {"BELAYD_ADDRESS": address, "XDG_STATE_HOME": str(tmp_path / "state")}

    def belayctl(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "belayd_client.cli", *words],
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=90,
        )

    return belayctl


def test_the_boards_tell_what_they_are(client: Client) -> None:
    boards = client.boards("chip=sim")

    assert [board.name for board in boards] == ["sim-1", "sim-2"]
    assert {board.transport for board in boards} == {"simulated"}
    facts = client.board("sim-1").facts
    assert facts is not None
    assert facts.implementation == "micropython"


def test_the_daemon_tells_of_itself(client: Client) -> None:
    daemon = client.daemon()

    assert (daemon.boards, daemon.role) == (3, "user")


def test_code_prints_and_values_are_typed(client: Client) -> None:
    printed: list[bytes] = []

    client.run("sim-1", "x = 41\nprint('é', end='')", output=printed.append)

    assert b"".join(printed) == "é".encode()
    assert client.evaluate("sim-1", "x + 1") == 42
    assert client.evaluate("sim-1", "[None, True, 2**70, 0.5, 'a', b'\\x04', (1,), {2: {3}}]") == [
        None,
        True,
        2**70,
        0.5,
        "a",
        b"\x04",
        (1,),
        {2: {3}},
    ]


def test_a_function_is_called_with_typed_arguments(client: Client) -> None:
    client.run("sim-1", "def echo(*a, **k):\n    return [a, k]\n")
    value = {"text": "'\"\\\n\x04é", "data": bytes(range(256)), "deep": [[(None,)], -(2**80)]}

    assert client.call("sim-1", "echo", value, key=value) == [(value,), {"key": value}]


def test_an_unknown_board_and_a_bad_name_are_refused(client: Client) -> None:
    with pytest.raises(NotFound, match="sim-9"):
        client.run("sim-9", "x = 1")
    with pytest.raises((NotFound, RequestInvalid)):
        client.call("sim-1", "no such function")


def test_what_the_board_raises_arrives(client: Client) -> None:
    with pytest.raises(PyboardException) as caught:
        client.run("sim-1", "def f():\n    raise ValueError('no')\nf()\n")

    assert (caught.value.type_name, caught.value.message) == ("ValueError", "no")
    assert "line 2, in f" in caught.value.traceback


def test_an_endless_loop_ends_at_its_timeout_and_the_board_serves_the_next(client: Client) -> None:
    with pytest.raises(RunTimeout):
        client.run("sim-1", "while True: pass", timeout=1)

    assert client.evaluate("sim-1", "6 * 7", timeout=30) == 42


def test_a_cancelled_run_frees_the_board_for_the_next(client: Client) -> None:
    def leave(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run("sim-1", "print('begun')\nwhile True: pass", output=leave)

    assert client.evaluate("sim-1", "6 * 7", timeout=30) == 42


def test_eight_clients_on_one_board_each_get_their_own_answers(address: str) -> None:
    with Client(address) as client:
        client.run("sim-2", "def square(x):\n    return x * x\n")

    def work(number: int) -> bool:
        with Client(address) as client:
            return all(
                client.call("sim-2", "square", x) == x * x for x in range(number * 1000, number * 1000 + 50)
            )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_lease_shuts_others_out_and_is_waited_for(client: Client) -> None:
    lease = client.acquire("sim-1", ttl=30, reason="test")
    with pytest.raises(BoardLeased) as caught:
        client.evaluate("sim-1", "1")
    with pytest.raises(BoardLeased):
        client.acquire("sim-1", wait=0)

    next_one = client.acquire("sim-1", wait=60, on_queued=lambda position: lease.release())

    assert caught.value.holder == "ann@desk"
    assert caught.value.expires is not None
    with pytest.raises(LeaseLost):
        client.evaluate("sim-1", "1", lease=lease.token)
    assert client.evaluate("sim-1", "1", lease=next_one) == 1
    next_one.release()


def test_a_kept_lease_outlives_its_ttl(client: Client) -> None:
    with client.acquire("sim-1", ttl=1.5).keep() as lease:
        first = lease.expires
        client.run("sim-1", "import time; time.sleep(4)", lease=lease)

        assert lease.expires > first
        assert not lease.lost


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    (root / "lib").mkdir(parents=True)
    (root / "lib" / "greeting.py").write_text("def greet():\n    return 'hello from a file'\n")
    (root / "odd name 'é'.bin").write_bytes(bytes(range(256)) * 40)
    (root / "empty.txt").touch()
    return root


def test_a_folder_is_deployed_used_and_not_sent_twice(client: Client, folder: Path) -> None:
    steps = []

    first = client.deploy("sim-3", folder, dst="/app", progress=steps.append)
    again = client.deploy("sim-3", folder, dst="/app")
    client.run("sim-3", "import sys\nsys.path.append('/app/lib')\nimport greeting\n")

    assert (first.files_written, again.files_written, again.files_same) == (3, 0, 3)
    assert steps[-1].written_bytes == steps[-1].total_bytes == first.payload_bytes
    assert client.call("sim-3", "greeting.greet") == "hello from a file"


def test_a_dry_run_changes_nothing_and_prune_deletes(client: Client, folder: Path) -> None:
    client.deploy("sim-3", folder, dst="/app2")
    (folder / "empty.txt").unlink()

    planned = client.deploy("sim-3", folder, dst="/app2", prune=True, dry_run=True)
    kept = client.deploy("sim-3", folder, dst="/app2")
    pruned = client.deploy("sim-3", folder, dst="/app2", prune=True)

    assert planned.plan.delete == ("/app2/empty.txt",)
    assert (planned.files_deleted, kept.files_deleted, pruned.files_deleted) == (0, 0, 1)


def test_a_destination_that_climbs_is_refused(client: Client, folder: Path) -> None:
    with pytest.raises(RequestInvalid):
        client.deploy("sim-3", folder, dst="/app/../..")


def test_a_soft_reset_clears_the_boards_names(client: Client) -> None:
    client.run("sim-1", "left_over = 1")

    client.reset("sim-1")

    with pytest.raises(PyboardException, match="NameError"):
        client.evaluate("sim-1", "left_over")


def test_generator_tasks_yield_in_order_take_values_and_are_closed(address: str) -> None:
    with Device(f"{address}/sim-1") as device:
        device("closed = []")

        @device.task
        def count(n):
            i = 0
            try:
                while i < n:
                    yield i
                    i += 1
            finally:
                closed.append(n)  # noqa: F821

        @device.task
        def total():
            got = 0
            while True:
                got += yield got

        assert list(count(500)) == list(range(500))
        early = count(10_000)
        assert [next(early) for _ in range(3)] == [0, 1, 2]
        early.close()
        assert device("closed") == [500, 10_000]
        running = total()
        assert [next(running), running.send(20), running.send(22)] == [0, 20, 42]
        running.close()
        with pytest.raises(StopIteration):
            next(count(0))
        assert device("6 * 7") == 42


def test_a_generator_task_that_raises_raises_after_its_items(address: str) -> None:
    with Device(f"{address}/sim-1") as device:

        @device.task
        def fails():
            yield 1
            raise ValueError("no more")

        items = fails()
        assert next(items) == 1
        with pytest.raises(PyboardException, match="no more"):
            next(items)


def test_a_device_program_runs_on_the_board(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Device(f"{address}/label:rack=2") as device:

        @device.task
        def mean(values, scale=1):
            print("computing")
            return sum(values) / len(values) * scale

        @device.task
        def fail():
            raise OSError(5)

        device("import sys")
        assert device("sys.implementation.name") == "micropython"
        assert mean([1, 2, 6], scale=2) == 6.0
        with pytest.raises(PyboardException, match="OSError"):
            fail()
        assert mean([2]) == 2.0

    assert capsys.readouterr().out == "computing\ncomputing\n"


def test_belayctl_reads(belayctl) -> None:
    assert [board["name"] for board in json.loads(belayctl("boards", "--json").stdout)] == [
        "sim-1",
        "sim-2",
        "sim-3",
    ]
    assert "micropython" in belayctl("info", "sim-1").stdout
    assert belayctl("leases", "--json").stdout == "[]\n"


def test_belayctl_runs_code(belayctl, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('from a file')\n")

    assert belayctl("exec", "sim-1", "print('a'); print('b', end='')").stdout == "a\nb"
    assert belayctl("eval", "sim-1", "[1, 'x']").stdout == "[1, 'x']\n"
    assert belayctl("run", "sim-1", str(tmp_path / "a.py")).stdout == "from a file\n"
    assert sorted(belayctl("exec", "-l", "chip=sim", "print(1)").stdout.splitlines()) == [
        "sim-1 | 1",
        "sim-2 | 1",
    ]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["exec", "sim-1", "1/0"], 1),
        (["exec", "sim-1", "x =="], 1),
        (["exec", "sim-9", "1"], 3),
        (["exec", "sim-1", "while True: pass", "--timeout", "500ms"], 6),
        (["exec", "sim-1", "import sys; sys.exit()", "--timeout", "30s"], 0),
    ],
    ids=["raises", "syntax", "unknown", "timeout", "exit"],
)
def test_belayctl_exit_codes(belayctl, words: list[str], code: int) -> None:
    done = belayctl(*words)

    assert done.returncode == code, done.stderr
    assert belayctl("eval", "sim-1", "1").stdout == "1\n"


def test_belayctl_acquires_uses_renews_and_releases(belayctl) -> None:
    acquired = belayctl("acquire", "sim-1", "--ttl", "1m", "--json")
    stranger = belayctl("exec", "sim-1", "print(1)", XDG_STATE_HOME="/nonexistent")
    holder = belayctl("exec", "sim-1", "print(1)")
    renewed, released = belayctl("renew", "sim-1", "--ttl", "2m", "--json"), belayctl("release", "sim-1")

    assert json.loads(acquired.stdout)["board"] == "sim-1"
    assert (stranger.returncode, holder.stdout) == (5, "1\n")
    assert json.loads(renewed.stdout)["ttl"] == 120
    assert released.returncode == 0
    assert belayctl("acquire", "sim-1").returncode == 0
    assert belayctl("release", "sim-1").returncode == 0


def test_belayctl_holds_for_a_program(belayctl) -> None:
    script = 'echo "$BELAYD_BOARD"; exec "$0" -m belayd_client.cli eval "$BELAYD_BOARD" 6*7'

    done = belayctl("hold", "-l", "chip=sim", "--wait", "30s", "--", "sh", "-c", script, sys.executable)

    assert done.stdout.splitlines()[1] == "42"
    assert done.returncode == 0


def test_belayctl_deploys(belayctl, folder: Path) -> None:
    done = belayctl("deploy", "-l", "chip=sim", str(folder), "--dst", "/cli")

    assert [line.partition(";")[0] for line in done.stdout.splitlines()] == [
        "sim-1: 3 written, 0 same, 0 deleted",
        "sim-2: 3 written, 0 same, 0 deleted",
    ], done.stderr


def test_belayctl_resets_and_measures(belayctl) -> None:
    assert belayctl("reset", "sim-1").returncode == 0
    assert json.loads(belayctl("latency", "sim-1", "-n", "50", "--json").stdout)["calls"] == 50


def test_a_program_that_is_interrupted_frees_the_board(address: str, client: Client) -> None:
    words = [sys.executable, "-m", "belayd_client.cli", "--address", address, "exec", "sim-2"]
    with subprocess.Popen([*words, "print('begun')\nwhile True: pass"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
    assert client.evaluate("sim-2", "1", timeout=30) == 1


def test_watchers_see_a_lease_come_and_go(client: Client) -> None:
    changes = client.watch_boards("name=sim-3")
    assert next(changes).boards[0].lease is None

    with client.acquire("sim-3", ttl=30):
        lease = next(board.lease for change in changes for board in change.boards if board.lease)

        assert lease.holder == "ann@desk"
    changes.close()


def test_a_daemon_that_is_killed_during_a_run_is_exit_code_6(tmp_path: Path) -> None:
    with serving(tmp_path) as (address, daemon):
        words = [sys.executable, "-m", "belayd_client.cli", "--address", address, "exec", "sim-1"]
        with subprocess.Popen(
            [*words, "print('begun')\nwhile True: pass"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            daemon.kill()
            _, err = process.communicate(timeout=60)

    assert process.returncode == 6
    assert err.startswith(f"belayctl: the connection to belayd at {address} broke")
    assert len(err.splitlines()) == 1


def test_a_device_whose_daemon_stopped_says_so(tmp_path: Path) -> None:
    with serving(tmp_path) as (address, _):
        device = Device(f"{address}/sim-1", ttl=30)
        assert device("1 + 1") == 2

    with pytest.raises((LeaseLost, ConnectionFailed)):
        device("1 + 1")
    with pytest.raises(ConnectionFailed):
        device.close()
