"""Runs whose client left: on record, watched by whoever comes later, and ended only as they should be."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from belayd_client import (
    BoardException,
    BoardLeased,
    BoardUnavailable,
    Client,
    LeaseLost,
    NotFound,
    Refused,
    RequestInvalid,
    RunCancelled,
    RunState,
    RunTimeout,
    TransportLost,
)

PATIENCE = 30.0
# A simulated board's files are a folder of this host: what a test writes there, the run sees.
GATE = """\
import os, time
def gate(name):
    while name not in os.listdir(): time.sleep_ms(5)
"""
FOREVER = "print('begun')\nwhile True: pass\n"
# A client that takes the board's lease, begins a run under it, and then only stays there.
LEAVER = """\
import sys
from belayd_client import Client
address, source = sys.argv[1:]
client = Client(address, holder="ann@desk")
lease = client.acquire("sim-1", ttl=3)
print(client.start_run("sim-1", source, lease=lease).name, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim})


@pytest.fixture
def gate(lab):
    """Open a gate on the board by its name; all are closed again at the end."""
    folder = lab.folder / "state" / "boards" / "sim-1"
    yield lambda name: (folder / name).touch()
    for path in folder.glob("gate-*"):
        path.unlink()


@pytest.fixture(autouse=True)
def nothing_goes_on(request: pytest.FixtureRequest):
    """No run goes on and the board answers at the end of each test with the shared daemon."""
    yield
    if "lab" in request.fixturenames:
        lab = request.getfixturevalue("lab")
        for run in lab.client.runs():
            if run.ended is None:
                lab.client.cancel_run(run.name)
        assert lab.client.evaluate("sim-1", "6 * 7", timeout=PATIENCE) == 42


def output_of(client: Client, run: str, offset: int = 0) -> bytes:
    """Return what a run printed, however it ended."""
    printed = bytearray()
    with contextlib.suppress(
        BoardException, RunCancelled, LeaseLost, TransportLost, BoardUnavailable, RunTimeout
    ):
        client.watch_run(run, offset=offset, output=printed.extend)
    return bytes(printed)


def began(client: Client, run: str) -> None:
    """Return when a run has printed something."""

    class Enough(Exception):
        pass

    def leave(data: bytes) -> None:
        raise Enough

    with pytest.raises(Enough):
        client.watch_run(run, output=leave)


def test_a_run_goes_on_and_keeps_its_lease_when_its_client_is_killed(lab, gate, until) -> None:
    source = f"{GATE}print('a' * 1000)\ngate('gate-1')\nprint('b' * 1000)\n"
    words = [sys.executable, "-c", LEAVER, lab.address, source]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        name = client.stdout.readline().strip()
        began(lab.client, name)
        client.kill()
    [before] = lab.client.leases()
    # It is renewed when nobody is there any more.
    until(lambda: lab.client.leases()[0].expires > before.expires)
    with pytest.raises(BoardLeased):
        lab.client.evaluate("sim-1", "1")
    gate("gate-1")

    whole = output_of(lab.client, name)

    expected = b"a" * 1000 + b"\r\n" + b"b" * 1000 + b"\r\n"
    assert whole.replace(b"\r\n", b"\n") == expected.replace(b"\r\n", b"\n")
    for offset in (1, 700, 1000, 1500, len(whole) - 1):
        assert output_of(lab.client, name, offset) == whole[offset:]
    run = lab.client.get_run(name)
    assert (run.state, run.output_bytes, run.dropped_bytes) == (RunState.SUCCEEDED, len(whole), 0)
    until(lambda: not lab.client.leases())  # nobody renews it after the run


def test_a_run_is_told_with_its_times_its_code_and_its_value(lab) -> None:
    run = lab.client.start_run("sim-1", "[n * n for n in range(4)]", expression=True)

    assert lab.client.watch_run(run.name) == [0, 1, 4, 9]

    ended = lab.client.get_run(run.name)
    assert (ended.board, ended.principal, ended.lease) == ("sim-1", "local", "")
    assert (ended.state, ended.value, ended.error) == (RunState.SUCCEEDED, [0, 1, 4, 9], None)
    assert ended.created <= ended.started <= ended.ended
    assert len(ended.code_sha256) == 64
    assert lab.client.watch_run(f"runs/{run.name}") == [0, 1, 4, 9]  # any number of times


def test_what_the_code_raised_is_the_runs_result(lab) -> None:
    run = lab.client.start_run("sim-1", "print('before')\n1 / 0")

    with pytest.raises(BoardException, match="ZeroDivisionError"):
        lab.client.watch_run(run.name)

    ended = lab.client.get_run(run.name)
    assert (ended.state, ended.state_reason) == (RunState.RAISED, "ZeroDivisionError")
    assert output_of(lab.client, run.name).strip() == b"before"


def test_two_watchers_and_one_who_came_late_see_the_same(lab, gate) -> None:
    source = f"{GATE}for n in range(3):\n    print('part', n)\n    gate('gate-%d' % n)\n"
    run = lab.client.start_run("sim-1", source)
    heard: list[list[bytes]] = [[], []]
    parts = threading.Semaphore(0)

    def watch(own: list[bytes]) -> object:
        def note(data: bytes) -> None:
            own.append(data)
            parts.release()

        return lab.connect().watch_run(run.name, output=note)

    with ThreadPoolExecutor() as pool:
        watchers = [pool.submit(watch, own) for own in heard]
        for number in range(3):
            assert parts.acquire(timeout=PATIENCE) and parts.acquire(timeout=PATIENCE)
            gate(f"gate-{number}")
        assert [watcher.result(PATIENCE) for watcher in watchers] == [None, None]

    late = output_of(lab.client, run.name)
    assert b"".join(heard[0]) == b"".join(heard[1]) == late
    assert late.split() == b"part 0 part 1 part 2".split()


def test_a_watcher_that_leaves_changes_nothing(lab, gate) -> None:
    run = lab.client.start_run("sim-1", f"{GATE}print('begun')\ngate('gate-1')\nprint('done')")
    process = lab.start_belayctl("runs", "watch", run.name)
    assert process.stdout.readline() == "begun\n"

    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    gate("gate-1")

    assert output_of(lab.client, run.name).split() == [b"begun", b"done"]
    assert lab.client.get_run(run.name).state is RunState.SUCCEEDED


def test_an_offset_beyond_the_end_waits_for_that_much_or_for_the_end(lab, gate) -> None:
    run = lab.client.start_run("sim-1", f"{GATE}print('0123456789', end='')\ngate('gate-1')\nprint('abc')")
    began(lab.client, run.name)
    with ThreadPoolExecutor() as pool:
        ahead = pool.submit(output_of, lab.connect(), run.name, 11)
        gate("gate-1")
        assert ahead.result(PATIENCE).strip() == b"bc"

    assert output_of(lab.client, run.name, 1000) == b""
    assert output_of(lab.client, run.name, 2**64 - 1) == b""


def test_a_running_run_is_cancelled_and_the_board_serves_the_next(lab) -> None:
    run = lab.client.start_run("sim-1", FOREVER)
    began(lab.client, run.name)

    cancelled = lab.client.cancel_run(run.name)

    assert (cancelled.state, cancelled.state_reason) == (RunState.FAILED, "RUN_CANCELLED")
    assert lab.client.evaluate("sim-1", "6 * 7", timeout=PATIENCE) == 42
    assert lab.client.cancel_run(run.name).ended == cancelled.ended  # it stays as it is
    with pytest.raises(RunCancelled, match="local cancelled"):
        lab.client.watch_run(run.name)


def test_a_queued_run_is_cancelled_and_never_runs(lab) -> None:
    first = lab.client.start_run("sim-1", FOREVER)
    began(lab.client, first.name)
    queued = lab.client.start_run("sim-1", "trace = 'it ran'")
    assert lab.client.get_run(queued.name).state is RunState.QUEUED

    cancelled = lab.client.cancel_run(queued.name)
    lab.client.cancel_run(first.name)

    assert (cancelled.state_reason, cancelled.started) == ("RUN_CANCELLED", None)
    with pytest.raises(BoardException, match="NameError"):
        lab.client.evaluate("sim-1", "trace", timeout=PATIENCE)


def test_a_run_has_its_own_time_limit(lab) -> None:
    run = lab.client.start_run("sim-1", FOREVER, timeout=0.5)

    with pytest.raises(RunTimeout):
        lab.client.watch_run(run.name)

    assert lab.client.get_run(run.name).state_reason == "RUN_TIMEOUT"


def test_the_release_of_its_lease_ends_a_run_and_the_outcome_says_so(lab) -> None:
    with lab.client.acquire("sim-1") as lease:
        run = lab.client.start_run("sim-1", FOREVER, lease=lease)
        began(lab.client, run.name)

    with pytest.raises(LeaseLost, match="was released"):
        lab.client.watch_run(run.name)

    ended = lab.client.get_run(run.name)
    assert (ended.state, ended.state_reason) == (RunState.FAILED, "LEASE_EXPIRED")
    assert ended.lease == lease.name.removeprefix("leases/")


def test_a_run_whose_lease_ended_while_it_was_queued_never_starts(lab) -> None:
    with lab.client.acquire("sim-1") as lease:
        lab.client.run("sim-1", "import os\nos.mkdir('proof')", lease=lease)
        first = lab.client.start_run("sim-1", FOREVER, lease=lease)
        began(lab.client, first.name)
        queued = lab.client.start_run("sim-1", "os.rmdir('proof')", lease=lease)

    with pytest.raises(LeaseLost):
        lab.client.watch_run(queued.name)

    assert lab.client.get_run(queued.name).started is None
    lab.client.run("sim-1", "import os\nos.rmdir('proof')", timeout=PATIENCE)  # it is still there


def test_a_run_may_give_its_lease_back_at_its_end(lab, until) -> None:
    lease = lab.client.acquire("sim-1", ttl=600)
    run = lab.client.start_run("sim-1", "6 * 7", expression=True, lease=lease, release=True)

    assert lab.client.watch_run(run.name) == 42

    until(lambda: not lab.client.leases())


def test_a_run_without_a_lease_makes_way_for_a_holder(lab) -> None:
    run = lab.client.start_run("sim-1", FOREVER)
    began(lab.client, run.name)

    with lab.client.acquire("sim-1") as lease:
        assert lab.client.evaluate("sim-1", "6 * 7", lease=lease, timeout=PATIENCE) == 42

    assert lab.client.get_run(run.name).state_reason == "BOARD_LEASED"


def test_of_long_output_the_latest_is_kept_and_the_rest_counted(lab) -> None:
    lines = 40_000
    run = lab.client.start_run("sim-1", f"for n in range({lines}): print('%060d' % n)")
    lab.client.watch_run(run.name)
    missing: list[int] = []
    printed = bytearray()

    lab.client.watch_run(run.name, output=printed.extend, on_dropped=missing.append)

    ended = lab.client.get_run(run.name)
    assert missing == [ended.dropped_bytes]
    assert ended.dropped_bytes + len(printed) == ended.output_bytes >= lines * 61
    assert len(printed) <= 1024 * 1024
    last = bytes(printed).split()[-1000:]
    assert [int(line) for line in last] == list(range(lines - 1000, lines))
    middle = ended.output_bytes - 50
    assert output_of(lab.client, run.name, middle) == bytes(printed)[-50:]


def test_bad_requests_are_refused_with_what_to_do(lab) -> None:
    with pytest.raises(NotFound, match="belayctl runs") as caught:
        lab.client.get_run("0123456789abcdef")
    assert caught.value.reason == "RUN_NOT_FOUND"
    with pytest.raises(NotFound):
        lab.client.watch_run("nothing")
    with pytest.raises(NotFound):
        lab.client.cancel_run("nothing")
    with pytest.raises(NotFound):
        lab.client.start_run("sim-9", "pass")
    with pytest.raises(RequestInvalid):
        lab.client.start_run("sim-1", " ", expression=True)
    with pytest.raises(RequestInvalid, match="release_lease"):
        lab.client.start_run("sim-1", "pass", release=True)
    with pytest.raises(NotFound):
        lab.client.start_run("sim-1", "pass", lease="bl_wrong")


def test_runs_are_listed_newest_first_on_any_number_of_pages(daemon, sim) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})
    names = [lab.client.start_run(f"sim-{1 + n % 2}", "pass").name for n in range(120)]

    assert [run.name for run in lab.client.runs()] == names[::-1]
    assert [run.name for run in lab.client.runs(limit=60)] == names[:-61:-1]
    assert [run.name for run in lab.client.runs("sim-2")] == names[::-2]


def test_a_run_is_its_owners_and_an_operators(daemon, sim) -> None:
    def prepare(state: Path, name: str, role: str, *more: str) -> str:
        words = [sys.executable, "-m", "belayd", "token", "create", name, "--role", role, *more]
        made = subprocess.run([*words, "--state", state], capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    lab = daemon({"sim-1": sim, "sim-2": {**sim, "labels": {"rack": "2"}}})
    state = lab.folder / "state"
    who = {
        name: lab.stack.enter_context(Client(lab.address, token=prepare(state, name, role, *more)))
        for name, role, *more in (
            ("ann", "user"),
            ("bob", "user"),
            ("olga", "operator"),
            ("rita", "operator", "--selector", "rack=2"),
            ("vera", "viewer"),
        )
    }
    run = who["ann"].start_run("sim-1", FOREVER)
    began(who["ann"], run.name)

    for other in ("bob", "rita", "vera"):
        assert who[other].runs() == []
        for act in ("get_run", "watch_run", "cancel_run"):
            with pytest.raises(Refused):
                getattr(who[other], act)(run.name)
    with pytest.raises(Refused, match="needs user"):
        who["vera"].start_run("sim-1", "pass")
    assert [one.name for one in who["ann"].runs()] == [one.name for one in who["olga"].runs()] == [run.name]
    assert who["olga"].cancel_run(run.name).state_reason == "RUN_CANCELLED"
    with pytest.raises(RunCancelled, match="olga cancelled"):
        who["ann"].watch_run(run.name)


def test_a_run_ends_with_the_token_that_began_it(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    token = [sys.executable, "-m", "belayd", "token"]
    state = ["--state", lab.folder / "state"]
    made = subprocess.run([*token, "create", "ann", "--role", "user", *state], capture_output=True, text=True)
    olga = subprocess.run(
        [*token, "create", "olga", "--role", "operator", *state], capture_output=True, text=True
    )
    operator = lab.stack.enter_context(Client(lab.address, token=olga.stdout.strip()))
    with Client(lab.address, token=made.stdout.strip()) as ann:
        lease = ann.acquire("sim-1", ttl=600)
        run = ann.start_run("sim-1", FOREVER, lease=lease)
        began(ann, run.name)

    assert subprocess.run([*token, "revoke", "ann", *state], capture_output=True).returncode == 0

    with pytest.raises(Refused):
        operator.watch_run(run.name)
    assert operator.get_run(run.name).state_reason == "UNAUTHENTICATED"


def test_what_ran_when_the_daemon_was_killed_is_lost_with_what_it_had_printed(
    daemon, simulated_pty: Callable, until
) -> None:
    board = simulated_pty("far")
    lab = daemon({"far": {"serial": {"port": str(board.path)}}})
    done = lab.client.start_run("far", "print('early')\n")
    lab.client.watch_run(done.name)
    lease = lab.client.acquire("far", ttl=5)
    running = lab.client.start_run("far", "print('x' * 500)\nleft = 1\nwhile True: pass", lease=lease)
    queued = lab.client.start_run("far", "left = 2", lease=lease)
    began(lab.client, running.name)
    seen = lab.client.get_run(running.name)

    lab.kill()
    back = lab.again()

    assert back.client.get_run(done.name).state is RunState.SUCCEEDED
    assert output_of(back.client, done.name).strip() == b"early"
    assert [back.client.get_run(run.name).state for run in (running, queued)] == [RunState.LOST] * 2
    assert output_of(back.client, running.name).strip() == b"x" * 500
    assert back.client.get_run(running.name).output_bytes == seen.output_bytes
    with pytest.raises(TransportLost, match="was lost"):
        back.client.watch_run(running.name)
    assert back.client.cancel_run(running.name).state is RunState.LOST
    # Nobody renews its lease any more; whoever comes next finds nothing of it.
    with back.connect("bob@bench").acquire("far", wait=PATIENCE) as next_lease:
        with pytest.raises(BoardException, match="NameError"):
            back.client.evaluate("far", "left", lease=next_lease, timeout=PATIENCE)
        assert back.client.evaluate("far", "6 * 7", lease=next_lease, timeout=PATIENCE) == 42


def test_a_daemon_that_is_stopped_ends_its_runs_and_says_so_to_who_watches_and_later(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    running = lab.client.start_run("sim-1", FOREVER)
    queued = lab.client.start_run("sim-1", "pass")
    began(lab.client, running.name)
    watcher = lab.connect()
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(watcher.watch_run, running.name)

        assert lab.stop() == 0

        with pytest.raises(BoardUnavailable) as told:
            watching.result(PATIENCE)
    back = lab.again()
    assert told.value.reason == "DRAINING"
    for run in (running, queued):
        ended = back.client.get_run(run.name)
        assert (ended.state, ended.state_reason) == (RunState.FAILED, "DRAINING")
    assert output_of(back.client, running.name).strip() == b"begun"


def test_the_longest_hold_ends_a_run_though_its_lease_is_renewed(daemon, sim) -> None:
    lab = daemon({"sim-1": sim}, server={"limits": {"max_hold": "6s"}})
    lease = lab.client.acquire("sim-1", ttl=2)
    run = lab.client.start_run("sim-1", FOREVER, lease=lease)

    with pytest.raises(LeaseLost, match="longest hold"):
        lab.client.watch_run(run.name)

    ended = lab.client.get_run(run.name)
    assert (ended.ended - ended.started).total_seconds() > 2  # so it was renewed


def test_belayctl_begins_lists_shows_watches_and_cancels(lab, tmp_path: Path) -> None:
    file = tmp_path / "soak.py"
    file.write_text("print('from a file')\n")
    begun = lab.belayctl("run", "sim-1", file, "--detach")
    name = begun.stdout.strip()
    watched = lab.belayctl("runs", "watch", name)
    assert (begun.returncode, watched.returncode, watched.stdout) == (0, 0, "from a file\n")
    assert f"runs watch {name}" in begun.stderr
    assert lab.belayctl("runs", "watch", name, "--offset", "5").stdout == "a file\n"
    lines = lab.belayctl("runs", "watch", name, "--json").stdout.splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["output", "name"]

    shown = lab.belayctl("runs", "show", name)
    told = json.loads(lab.belayctl("runs", "show", name, "--json").stdout)
    assert "succeeded" in shown.stdout and "sim-1" in shown.stdout
    assert (told["name"], told["state"], told["value"]) == (name, "succeeded", "None")

    other = lab.belayctl("exec", "sim-1", FOREVER, "--detach").stdout.strip()
    listed = lab.belayctl("runs").stdout
    assert listed.index(other) < listed.index(name)
    as_json = json.loads(lab.belayctl("runs", "--json", "-n", "2", "--board", "sim-1").stdout)
    assert [run["name"] for run in as_json] == [other, name]
    began(lab.client, other)
    cancelled = lab.belayctl("runs", "cancel", other)
    assert (cancelled.returncode, "RUN_CANCELLED" in cancelled.stderr) == (0, True)
    again = lab.belayctl("runs", "watch", other)
    assert (again.returncode, again.stdout) == (6, "begun\n")


def test_belayctl_ends_as_the_run_did_and_refuses_slips(lab) -> None:
    raising = lab.belayctl("exec", "sim-1", "1 / 0", "--detach").stdout.strip()
    watched = lab.belayctl("runs", "watch", raising)
    assert (watched.returncode, "ZeroDivisionError" in watched.stderr) == (1, True)
    assert "ZeroDivisionError" in lab.belayctl("runs", "show", raising).stdout

    assert lab.belayctl("runs", "show", "nothing").returncode == 3
    assert lab.belayctl("runs", "stop", raising).returncode == 2
    assert lab.belayctl("runs", "show").returncode == 2
    assert lab.belayctl("runs", "watch", raising, "--offset", "-1").returncode == 2


def test_belayctl_waits_for_a_holder_and_gives_the_board_back_after_the_run(lab, gate, until) -> None:
    holder = lab.client.acquire("sim-1")
    refused = lab.belayctl("exec", "sim-1", "pass", "--detach")
    waiting = lab.start_belayctl("exec", "sim-1", f"{GATE}gate('gate-1')", "--detach", "--wait", "30s")
    until(lambda: lab.client.board("sim-1").lease_queue_length == 1)
    holder.release()
    name = waiting.stdout.readline().strip()
    assert (refused.returncode, waiting.wait(PATIENCE)) == (5, 0)

    [lease] = lab.client.leases()
    gate("gate-1")

    assert lab.client.watch_run(name) is None
    assert lab.client.get_run(name).lease == lease.name.removeprefix("leases/")
    until(lambda: not lab.client.leases())


def test_belayctl_detaches_on_many_boards_at_once(daemon, sim) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})

    begun = lab.belayctl("exec", "-l", "chip=sim", "print(6 * 7)", "--detach")

    names = dict(line.split() for line in begun.stdout.splitlines())
    assert (begun.returncode, sorted(names)) == (0, ["sim-1", "sim-2"])
    assert {output_of(lab.client, name).strip() for name in names.values()} == {b"42"}
