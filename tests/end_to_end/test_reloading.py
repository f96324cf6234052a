"""The inventory of a running daemon changes: under load, with mistakes, with leases on what goes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from belayd.access import Role
from belayd.selector import Selector
from belayd.tokens import Tokens, Wanted
from belayd_client import Client, LeaseLost, NotFound, Refused, RequestInvalid
from belayd_client.upkeep import ChangeKind

PATIENCE = 30.0


class Lab:
    """A daemon, its inventory file to be changed, and its operator."""

    def __init__(self, daemon: Any, boards: dict[str, Any]) -> None:
        self.daemon = daemon
        self.boards = boards
        self.operator: Client = daemon.stack.enter_context(
            Client(f"unix:{daemon.folder / 'state' / 'belayd.sock'}")
        )

    def write(self, boards: dict[str, Any], server: dict[str, Any] | None = None) -> None:
        text = json.dumps({"version": 1, "server": server or {}, "boards": boards}, indent=1)
        (self.daemon.folder / "lab.yaml").write_text(text)

    def state(self, board: str) -> str:
        value: str = self.daemon.client.board(board).state.value
        return value

    def reloads(self, outcome: str) -> float:
        count: float = self.daemon.metric("belayd_inventory_reloads_total", outcome=outcome)
        return count


@pytest.fixture
def lab(daemon: Callable, sim: dict) -> Iterator[Lab]:
    boards = {name: {"simulated": {}, "labels": {"chip": "sim"}} for name in ("sim-1", "sim-2", "sim-3")}
    yield Lab(daemon(boards), boards)


def kinds(changes: Any) -> dict[str, ChangeKind]:
    return {change.key: change.kind for change in changes}


def test_a_dry_run_tells_everything_and_changes_nothing(lab: Lab) -> None:
    lab.daemon.client.acquire("sim-2", ttl=60)
    lab.write(
        {
            "sim-1": {"simulated": {}, "labels": {"chip": "sim", "rack": "2"}},
            "sim-3": {"simulated": {"heap": 256}, "labels": {"chip": "sim"}},
            "sim-4": {"simulated": {}},
        },
        {"limits": {"idle": "10m"}, "listen": "localhost:50999"},
    )

    told = lab.operator.reload(dry_run=True).changes

    assert kinds(told) == {
        "boards.sim-1": ChangeKind.CHANGED,
        "boards.sim-2": ChangeKind.REMOVED,
        "boards.sim-3": ChangeKind.REPLACED,
        "boards.sim-4": ChangeKind.ADDED,
        "server.limits.idle": ChangeKind.CHANGED,
        "server.listen": ChangeKind.NEEDS_RESTART,
    }
    details = {change.key: change.details for change in told}
    assert details["boards.sim-1"] == ("labels.rack: none -> 2",)
    assert details["boards.sim-3"] == ("simulated.heap_kib: 512 -> 256",)
    assert details["server.limits.idle"] == ("1800 s -> 600 s",)
    assert [change.holder for change in told if change.key == "boards.sim-2"] == ["ann@desk"]
    assert [board.name for board in lab.daemon.client.boards()] == ["sim-1", "sim-2", "sim-3"]
    assert lab.reloads("ok") == 0


def test_what_does_not_differ_notices_nothing_of_a_reload(lab: Lab, until: Callable) -> None:
    client = lab.daemon.client
    lease = client.acquire("sim-1", ttl=60)
    client.run("sim-1", "here = 42", lease=lease)
    lab.write({**lab.boards, "sim-1": {"simulated": {}, "labels": {"chip": "sim", "rack": "2"}}})
    with ThreadPoolExecutor(1) as pool, lab.daemon.connect() as other:
        source = "import time\nprint('begun')\ntime.sleep(2)\nprint('done')\n"
        seen: list[bytes] = []
        running = pool.submit(other.run, "sim-2", source, output=seen.append)
        until(lambda: b"begun" in b"".join(seen))
        lab.operator.reload()
        running.result(PATIENCE)

    assert b"done" in b"".join(seen)
    assert client.evaluate("sim-1", "here", lease=lease) == 42
    assert client.board("sim-1").labels["rack"] == "2"
    assert [board.name for board in client.boards("rack=2")] == ["sim-1"]
    assert lab.daemon.metric("belayd_reconnects_total") == 0


def test_boards_come_go_and_are_renamed_and_who_holds_one_that_goes_hears_so(
    lab: Lab, until: Callable, bystander: Callable
) -> None:
    client = lab.daemon.client
    watcher = bystander(lab.daemon.connect(), ("sim-3",))
    lease = client.acquire("sim-1", ttl=60)
    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(lab.daemon.connect().run, "sim-1", "while True: pass", lease=lease)
        until(lambda: lab.state("sim-1") == "busy")
        lab.write({"new-1": lab.boards["sim-1"], "sim-3": lab.boards["sim-3"], "sim-4": {"simulated": {}}})

        changes = lab.operator.reload().changes

        assert isinstance(loop.exception(PATIENCE), LeaseLost)
    assert [change.holder for change in changes if change.key == "boards.sim-1"] == ["ann@desk"]
    until(lambda: lab.state("new-1") == lab.state("sim-4") == "ready")
    with pytest.raises(NotFound):
        client.board("sim-1")
    assert client.evaluate("new-1", "6 * 7") == client.evaluate("sim-4", "6 * 7") == 42
    watcher.leave()
    assert 'board="sim-1"' not in lab.daemon.scrape()


def test_whoever_watches_a_board_that_goes_or_is_theirs_no_more_hears_so(lab: Lab, until: Callable) -> None:
    tokens = Tokens(lab.daemon.folder / "state" / "access.sqlite")
    [token] = tokens.create([Wanted("bench", Role.VIEWER, Selector.parse("chip=sim"))], datetime.now(UTC))
    bench = lab.daemon.stack.enter_context(Client(lab.daemon.address, token=token))
    with bench.observe("sim-1") as gone, bench.observe("sim-2") as lost:
        until(lambda: all(lab.daemon.client.board(name).observers for name in ("sim-1", "sim-2")))
        lab.write({"sim-2": {"simulated": {}, "labels": {"chip": "other"}}, "sim-3": lab.boards["sim-3"]})
        lab.operator.reload()
        lab.daemon.client.run("sim-2", "print('not for the bench')")

        with pytest.raises(NotFound, match="left the inventory"):
            gone.read()
        with pytest.raises(Refused, match="not among those"):
            lost.read()


def test_a_board_that_goes_while_it_is_held_is_cleaned_when_it_comes_back(lab: Lab, until: Callable) -> None:
    client = lab.daemon.client
    lease = client.acquire("sim-1", ttl=60)
    client.run("sim-1", "secret = 1", lease=lease)
    lab.write({name: board for name, board in lab.boards.items() if name != "sim-1"})
    lab.operator.reload()
    lab.write(lab.boards)

    lab.operator.reload()
    until(lambda: lab.state("sim-1") == "ready")

    assert client.evaluate("sim-1", "'secret' in globals()") is False
    assert lab.daemon.metric("belayd_board_boots_total", board="sim-1", cause="reset") == 1


def test_a_broken_file_changes_nothing_and_every_mistake_is_told(lab: Lab, until: Callable) -> None:
    (lab.daemon.folder / "lab.yaml").write_text(
        "version: 1\nboards:\n  Sim_1: {simulated: {}}\n  sim-2: {simulted: {}}\n"
        "  sim-3: {simulated: {}, between: {deploy: nowhere}}\n"
    )

    with pytest.raises(RequestInvalid) as told:
        lab.operator.reload()
    belayctl = lab.daemon.belayctl("--address", lab.operator.address, "reload")
    lab.daemon.process.send_signal(signal.SIGHUP)
    until(lambda: lab.reloads("failed") == 3)

    path = lab.daemon.folder / "lab.yaml"
    problems = [told.value.fields[f"problem_{number}"] for number in (1, 2, 3)]
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:{line}" for line in (3, 4, 5)]
    assert "nowhere is not a folder" in problems[2]
    assert belayctl.returncode == 3
    assert [line for line in belayctl.stderr.splitlines() if f"{path}:" in line] == [
        f"belayctl: {problem}" for problem in problems
    ]
    assert lab.daemon.log.count(problems[0]) == 3
    assert [board.name for board in lab.daemon.client.boards()] == ["sim-1", "sim-2", "sim-3"]
    assert lab.daemon.metric("belayd_inventory_last_reload_successful") == 0
    lab.write(lab.boards)
    lab.daemon.process.send_signal(signal.SIGHUP)
    until(lambda: lab.daemon.metric("belayd_inventory_last_reload_successful") == 1)


def test_belayctl_shows_the_difference_and_then_applies_it(lab: Lab) -> None:
    at = ("--address", lab.operator.address)
    lab.write({**lab.boards, "sim-4": {"simulated": {}}})

    dry = lab.daemon.belayctl(*at, "reload", "--dry-run")
    wet = lab.daemon.belayctl(*at, "reload", "--json")
    again = lab.daemon.belayctl(*at, "reload")

    assert (dry.returncode, dry.stdout) == (0, "added         boards.sim-4\n")
    assert json.loads(wet.stdout)["changes"][0]["kind"] == "added"
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing differs" in again.stderr


def test_limits_count_at_once_for_leases_that_live(lab: Lab, until: Callable) -> None:
    lease = lab.daemon.client.acquire("sim-1", ttl=600)
    lab.write(lab.boards, {"limits": {"idle": "1s"}})

    lab.operator.reload()

    until(lambda: lease.loss is not None or lab.daemon.client.board("sim-1").lease is None)
    assert lab.daemon.metric("belayd_leases_ended_total", cause="idle") == 1


def test_whoever_is_no_operator_reloads_nothing(lab: Lab) -> None:
    with pytest.raises(Refused, match="needs operator"):
        lab.daemon.client.reload()
