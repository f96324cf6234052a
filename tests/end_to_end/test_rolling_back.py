"""What was deployed: rolled back with belayctl, by whom it may be, and found out after the daemon was killed."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from belayd.access import Role
from belayd.tokens import Tokens, Wanted
from belayd_client import BelaydError, Client, DeploymentOutcome, Refused

BOARD = "sim-1"
BOARDS = {BOARD: {"simulated": {}}, "sim-2": {"simulated": {}}}
OLD = {"main.py": b"print('old')\n", "lib/a.py": b"A = 1\n"}
PEOPLE = {"ann": Role.USER, "ben": Role.USER, "olga": Role.OPERATOR}
SECRET = b"KEY = 'correct horse battery staple'\n"
LARGE = random.Random(5).randbytes(1_500_000)
"""Takes a simulated board long enough to be caught at it."""


class Bench:
    """A daemon's simulated boards, whose files lie in folders of the host."""

    def __init__(self, daemon: Any, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder

    def root(self, board: str = BOARD) -> Path:
        return Path(self.daemon.folder) / "state" / "boards" / board

    def files(self, board: str = BOARD) -> dict[str, bytes]:
        root = self.root(board)
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def tree(self, name: str, files: dict[str, bytes]) -> Path:
        for path, data in files.items():
            (self.folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name / path).write_bytes(data)
        return self.folder / name

    def outcomes(self) -> list[DeploymentOutcome]:
        return [each.outcome for each in self.daemon.client.deployments(BOARD)]

    def stored(self) -> list[str]:
        """What is on record, while no daemon runs."""
        with closing(sqlite3.connect(Path(self.daemon.folder) / "state" / "belayd.sqlite")) as store:
            return [outcome for (outcome,) in store.execute("SELECT outcome FROM deployments ORDER BY seq")]


def with_tokens(folder: Path) -> None:
    (folder / "state").mkdir(0o700)
    tokens = Tokens(folder / "state" / "access.sqlite")
    wanted = [Wanted(name, role) for name, role in PEOPLE.items()]
    for name, text in zip(PEOPLE, tokens.create(wanted, datetime.now(UTC)), strict=True):
        (folder / f"{name}.token").touch(0o600)
        (folder / f"{name}.token").write_text(text)


@pytest.fixture
def bench(daemon, tmp_path: Path) -> Bench:
    return Bench(daemon(BOARDS, prepare=with_tokens), tmp_path)


@pytest.fixture
def person(bench: Bench) -> Iterator[Callable[[str], Client]]:
    """A client for one of PEOPLE."""
    clients = []

    def connect(name: str) -> Client:
        client = Client(bench.daemon.address, token_file=bench.daemon.folder / f"{name}.token")
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def test_belayctl_rolls_back_and_forward_and_tells_of_drift(bench: Bench) -> None:
    new = {"main.py": b"print('new')\n", "lib/b.py": b"B = 1\n"}
    first, second = bench.tree("old", OLD), bench.tree("new", new)
    assert bench.daemon.belayctl("deploy", BOARD, first).returncode == 0
    assert bench.daemon.belayctl("deploy", BOARD, second, "--prune", "--prune-also", "lib").returncode == 0

    dry = bench.daemon.belayctl("deploy", BOARD, "--rollback", "--dry-run")
    back = bench.daemon.belayctl("deploy", BOARD, "--rollback")
    rolled_back = bench.files()
    forward = bench.daemon.belayctl("deploy", BOARD, "--rollback", "--json")
    clean = bench.daemon.belayctl("drift", BOARD)
    (bench.root() / "boot.py").write_bytes(b"left behind\n")
    (bench.root() / "main.py").write_bytes(b"edited\n")
    drift = bench.daemon.belayctl("drift", "-l", "", "--json")
    told = bench.daemon.belayctl("drift", BOARD)
    history = bench.daemon.belayctl("drift", BOARD, "--history")

    assert "write  /main.py" in dry.stdout
    assert "delete /lib/b.py" in dry.stdout
    assert (back.returncode, back.stderr) == (0, "")
    assert "2 written" in back.stdout
    assert rolled_back == OLD
    assert json.loads(forward.stdout)["files_deleted"] == 1
    assert (clean.returncode, clean.stdout.count("\n")) == (0, 1)
    assert "is as left by" in clean.stdout
    assert [each["extra"] for each in json.loads(drift.stdout)] == [["/boot.py"], []]
    assert told.stdout.splitlines()[:2] == [f"{BOARD}: changed /main.py", f"{BOARD}: extra   /boot.py"]
    assert history.stdout.count("done") == 4
    assert history.stdout.count("rolled back") == 2


def test_belayctl_goes_back_to_before_a_named_deployment(bench: Bench) -> None:
    trees = [bench.tree(str(number), {"main.py": b"%d\n" % number}) for number in range(3)]
    for tree in trees:
        bench.daemon.belayctl("deploy", BOARD, tree)
    names = [each.name for each in bench.daemon.client.deployments(BOARD)]

    back = bench.daemon.belayctl("deploy", BOARD, "--rollback", "--deployment", names[1])
    unknown = bench.daemon.belayctl("deploy", BOARD, "--rollback", "--deployment", "0123456789abcdef")

    assert back.returncode == 0
    assert bench.files() == {"main.py": b"0\n"}
    assert unknown.returncode == 3
    assert "had no deployment" in unknown.stderr


def test_a_user_cannot_roll_back_anothers_deployment_and_an_operator_can(
    bench: Bench, person: Callable[[str], Client]
) -> None:
    (bench.root() / "wifi.py").write_bytes(SECRET)
    person("ann").deploy(BOARD, bench.tree("anns", {"wifi.py": b"KEY = None\n"}))
    by_ann = bench.files()

    with pytest.raises(Refused, match="'ann'") as refused:
        person("ben").roll_back(BOARD)
    with pytest.raises(Refused):
        person("ben").roll_back(BOARD, dry_run=True)
    person("ben").deploy(BOARD, bench.tree("bens", {"bens.py": b"B\n"}))
    [*_, anns] = person("ben").deployments(BOARD)
    with pytest.raises(Refused):  # hers lies below his
        person("ben").roll_back(BOARD, anns.name)
    after_ben = bench.files()
    person("ben").roll_back(BOARD)
    person("olga").roll_back(BOARD, anns.name)

    assert refused.value.reason == "PERMISSION_DENIED"
    assert by_ann == {"wifi.py": b"KEY = None\n"}
    assert after_ben == {**by_ann, "bens.py": b"B\n"}
    assert bench.files() == {"wifi.py": SECRET}


def test_snapshots_outlast_the_daemon_and_are_its_own(bench: Bench) -> None:
    (bench.root() / "wifi.py").write_bytes(SECRET)
    bench.daemon.client.deploy(BOARD, bench.tree("new", {"wifi.py": b"KEY = None\n"}))
    snapshots = Path(bench.daemon.folder) / "state" / "snapshots"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in snapshots.iterdir()}
    bench.daemon.kill()

    again = bench.daemon.again()
    again.client.roll_back(BOARD)

    assert stat.S_IMODE(snapshots.stat().st_mode) == 0o700
    assert modes == {0o600}
    assert bench.files() == {"wifi.py": SECRET}
    assert b"horse" not in (Path(again.folder) / "log").read_bytes()


@pytest.mark.parametrize("staged", ["0", "journal"], ids=["while files come", "when all are there"])
def test_after_a_kill_a_broken_deployment_is_done_or_undone_on_record_as_on_the_board(
    bench: Bench, until: Callable[..., None], staged: str
) -> None:
    daemon = bench.daemon
    daemon.client.deploy(BOARD, bench.tree("old", OLD))
    new = {"large.bin": LARGE, **{f"x/{number}.py": b"%d\n" % number for number in range(40)}}
    worker = threading.Thread(target=deploy_until_it_breaks, args=(daemon.address, bench.tree("new", new)))
    worker.start()
    until(lambda: (bench.root() / ".belayd" / staged).exists(), "it is in the middle")
    daemon.kill()
    worker.join(60)
    stored = bench.stored()

    again = daemon.again()
    until(lambda: DeploymentOutcome.OPEN not in [each.outcome for each in again.client.deployments(BOARD)])
    latest = next(again.client.deployments(BOARD))
    files = bench.files()
    drift = again.client.drift(BOARD)

    assert stored == ["done", "open"]
    assert latest.outcome in (DeploymentOutcome.DONE, DeploymentOutcome.UNDONE)
    assert files == ({**OLD, **new} if latest.outcome is DeploymentOutcome.DONE else OLD)
    assert not drift.changed
    assert not drift.missing


def test_a_deployment_in_place_that_broke_off_is_mixed_and_rolled_back_whole(
    bench: Bench, until: Callable[..., None]
) -> None:
    daemon = bench.daemon
    daemon.client.deploy(BOARD, bench.tree("old", {**OLD, "a.py": b"old\n"}))
    new = {"a.py": b"new\n", "large.bin": LARGE}
    arguments = (daemon.address, bench.tree("new", new), {"in_place": True})
    worker = threading.Thread(target=deploy_until_it_breaks, args=arguments)
    worker.start()
    until(lambda: (bench.root() / "a.py").read_bytes() == b"new\n", "one file is new")
    daemon.kill()
    worker.join(60)

    again = daemon.again()
    until(lambda: DeploymentOutcome.OPEN not in [each.outcome for each in again.client.deployments(BOARD)])
    latest = next(again.client.deployments(BOARD))
    mixed = bench.files()
    again.client.roll_back(BOARD)

    assert latest.outcome is DeploymentOutcome.MIXED
    assert mixed["a.py"] == b"new\n"
    assert "large.bin" not in mixed
    assert bench.files() == {**OLD, "a.py": b"old\n"}


def test_a_deployment_whose_caller_leaves_is_undone_on_record(
    bench: Bench, until: Callable[..., None]
) -> None:
    bench.daemon.client.deploy(BOARD, bench.tree("old", OLD))
    caller = Client(bench.daemon.address)
    arguments = (caller, bench.tree("new", {"main.py": b"print('new')\n", "large.bin": LARGE}))
    worker = threading.Thread(target=ignore_failure, args=arguments)
    worker.start()
    until(lambda: (bench.root() / ".belayd" / "0").exists(), "it is in the middle")

    caller.close()
    worker.join(60)
    until(lambda: DeploymentOutcome.OPEN not in bench.outcomes())

    assert bench.outcomes() == [DeploymentOutcome.UNDONE, DeploymentOutcome.DONE]
    assert bench.files() == OLD


def deploy_until_it_breaks(address: str, folder: Path, how: dict[str, Any] | None = None) -> None:
    with Client(address) as client:
        ignore_failure(client, folder, how)


def ignore_failure(client: Client, folder: Path, how: dict[str, Any] | None = None) -> None:
    with suppress(BelaydError):
        client.deploy(BOARD, folder, **(how or {}))


@pytest.mark.parametrize("words", [["new"], ["--rollback"]], ids=["deploy", "rollback"])
def test_ctrl_c_says_where_it_is_told_what_became_of_it(bench: Bench, words: list[str]) -> None:
    tree = bench.tree("new", {"main.py": b"print('new')\n"})
    assert bench.daemon.belayctl("deploy", BOARD, tree).returncode == 0
    client: Client = bench.daemon.client
    busy = bench.daemon.start_belayctl("exec", BOARD, "print('begun')\nwhile True: pass")
    assert busy.stdout.readline() == "begun\n"
    stopped = bench.daemon.start_belayctl(
        "deploy", BOARD, *(tree if word == "new" else word for word in words)
    )
    while not client.board(BOARD).queue_length:
        assert stopped.poll() is None

    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=30)
    busy.send_signal(signal.SIGINT)
    busy.communicate(timeout=30)

    assert stopped.returncode == 130
    assert f"`belayctl drift {BOARD} --history` tells" in said
    assert bench.outcomes() == [DeploymentOutcome.DONE]
