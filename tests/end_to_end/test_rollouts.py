"""Rollouts over 24 simulated boards: canaries, budgets, people who interfere, and a daemon that is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client import (
    BoardLeased,
    Client,
    HealthCheck,
    NotFound,
    RequestInvalid,
    Rollout,
    RolloutPace,
    RolloutState,
    RolloutStep,
    RolloutTree,
)
from belayd_client.deployment import DeploymentOptions, manifest
from belayd_client.project import read

COUNT = 24
NAMES = [f"sim-{number:02}" for number in range(COUNT)]
OLD, NEW = b"version = 1\n", b"version = 2\n"
# A simulated board's files are a folder of this host: a file there makes it fail its check.
CHECK = HealthCheck(
    expression="'broken' not in __import__('os').listdir('/') and __import__('app').version == 2"
)
# And this waits as long as there is a file "gate", which says where a test is.
GATED = HealthCheck(
    source="import os, time\n"
    "while 'gate' in os.listdir('/'): time.sleep_ms(5)\n"
    "assert 'broken' not in os.listdir('/')"
)
DONE, FAILED, PENDING = RolloutStep.DONE, RolloutStep.FAILED, RolloutStep.PENDING


class Lab:
    """A daemon with 24 boards, and the folder whose files they are to get."""

    def __init__(self, daemon: Any, folder: Path) -> None:
        self.daemon = daemon
        self.source = folder
        (folder / "lib").mkdir()
        self.write(NEW)

    @property
    def client(self) -> Client:
        return self.daemon.client

    def write(self, content: bytes) -> None:
        (self.source / "app.py").write_bytes(content)
        (self.source / "lib" / "part.py").write_bytes(content * 100)

    def board(self, name: str) -> Path:
        return self.daemon.folder / "state" / "boards" / name

    def has(self, name: str) -> bytes | None:
        """Return what a board has of the application; None for nothing, or parts of two."""
        file = self.board(name) / "app.py"
        if not file.exists():
            return None
        content = file.read_bytes()
        return content if (self.board(name) / "lib" / "part.py").read_bytes() == content * 100 else None

    def break_(self, *names: str) -> None:
        for name in names:
            (self.board(name) / "broken").touch()

    def mend(self, *names: str) -> None:
        for name in names:
            (self.board(name) / "broken").unlink()

    def close_gates(self, *names: str) -> None:
        for name in names:
            (self.board(name) / "gate").touch()

    def open_gates(self, *names: str) -> None:
        for name in names:
            (self.board(name) / "gate").unlink()

    def break_lease(self, board: str) -> None:
        """As the daemon's own user, who may."""
        done = self.daemon.belayctl(
            "break",
            board,
            "--reason",
            "mine",
            BELAYD_ADDRESS=f"unix:{self.daemon.folder / 'state' / 'belayd.sock'}",
        )
        assert done.returncode == 0, done.stderr

    def reset(self) -> None:
        """Let every board have the old files, and nothing go on."""
        for name in NAMES:
            (self.board(name) / "gate").unlink(missing_ok=True)
        for rollout in self.client.rollouts():
            if rollout.ended is None:
                self.client.abort_rollout(rollout.name)
                follow(self.client, rollout.name, lambda rollout: rollout.ended is not None)
        for name in NAMES:
            (self.board(name) / "broken").unlink(missing_ok=True)
            (self.board(name) / "lib").mkdir(exist_ok=True)
            (self.board(name) / "app.py").write_bytes(OLD)
            (self.board(name) / "lib" / "part.py").write_bytes(OLD * 100)
        self.write(NEW)


def follow(client: Client, name: str, claim: Callable[[Rollout], bool]) -> Rollout:
    """Watch a rollout until something is true of it."""
    with contextlib.closing(client.watch_rollout(name)) as changes:
        return next(rollout for rollout in changes if claim(rollout))


def halted(rollout: Rollout) -> bool:
    return rollout.halted


def at_step(step: RolloutStep, *names: str) -> Callable[[Rollout], bool]:
    return lambda rollout: set(names) <= {board.board for board in rollout.boards if board.step is step}


def steps(rollout: Rollout) -> dict[RolloutStep, list[str]]:
    found: dict[RolloutStep, list[str]] = {}
    for board in rollout.boards:
        found.setdefault(board.step, []).append(board.board)
    return found


@pytest.fixture(scope="module")
def shared(shared_daemon, sim, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(shared_daemon(dict.fromkeys(NAMES, sim)), tmp_path_factory.mktemp("source"))


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    shared.reset()
    yield shared
    shared.reset()
    assert shared.client.leases() == []


def test_a_canary_that_fails_its_check_leaves_the_other_23_untouched(lab: Lab) -> None:
    lab.break_("sim-00")

    rollout = lab.client.create_rollout(lab.source, NAMES, pace=RolloutPace(canary=1), check=CHECK)
    ended = follow(lab.client, rollout.name, halted)

    assert (ended.state, ended.ended) == (RolloutState.STOPPED, None)
    assert "canary sim-00 failed" in ended.state_reason
    assert ended.boards[0].message.endswith("it has its old files again")
    assert steps(ended) == {FAILED: ["sim-00"], PENDING: NAMES[1:]}
    assert [lab.has(name) for name in NAMES] == [OLD] * COUNT


def test_all_boards_have_the_files_and_work_when_it_is_done(lab: Lab) -> None:
    pace = RolloutPace(canary=2, wave=8, parallel=6)

    rollout = lab.client.create_rollout(
        lab.source, selector="chip=sim", pace=pace, check=CHECK, reason="spring"
    )
    ended = follow(lab.client, rollout.name, halted)

    assert (ended.state, ended.state_reason, ended.reason) == (RolloutState.DONE, "", "spring")
    assert ended.ended is not None
    assert [board.board for board in ended.boards] == NAMES
    assert [board.wave for board in ended.boards] == [0] * 2 + [1] * 8 + [2] * 8 + [3] * 6
    assert steps(ended) == {DONE: NAMES}
    assert {board.written_bytes for board in ended.boards} == {101 * len(NEW)}
    assert min(board.wire_bytes for board in ended.boards) > 0
    assert [lab.has(name) for name in NAMES] == [NEW] * COUNT
    assert lab.client.get_rollout(rollout.name) == ended
    assert lab.client.rollouts(1) == [ended]


def test_a_budget_of_two_stops_at_the_third_failure_and_resumes_after_a_kill(
    daemon, sim, tmp_path: Path
) -> None:
    lab = Lab(daemon(dict.fromkeys(NAMES, sim)), tmp_path)
    lab.reset()
    broken = ["sim-03", "sim-06", "sim-09", "sim-20"]
    lab.break_(*broken)
    lab.close_gates("sim-07", "sim-08")
    pace = RolloutPace(parallel=2, max_failures=2)

    rollout = lab.client.create_rollout(lab.source, NAMES, pace=pace, check=GATED)
    before = follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-07", "sim-08"))
    lab.daemon.kill()
    lab.daemon = lab.daemon.again()
    after = follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-07", "sim-08"))
    lab.open_gates("sim-07", "sim-08")
    stopped = follow(lab.client, rollout.name, halted)

    assert steps(before)[FAILED] == steps(after)[FAILED] == ["sim-03", "sim-06"]
    assert steps(after)[DONE] == steps(before)[DONE]
    assert stopped.state is RolloutState.STOPPED
    assert stopped.state_reason == "3 failed and 2 may: sim-03, sim-06, sim-09"
    assert steps(stopped)[FAILED] == broken[:3]
    assert {lab.has(name) for name in broken} == {OLD}
    assert {lab.has(name) for name in steps(stopped)[DONE]} == {NEW}
    assert {lab.has(name) for name in steps(stopped)[PENDING]} == {OLD}
    assert lab.client.leases() == []

    lab.mend(*broken)
    lab.client.resume_rollout(rollout.name)
    ended = follow(lab.client, rollout.name, halted)

    assert (ended.state, steps(ended)) == (RolloutState.DONE, {DONE: NAMES})
    assert {lab.has(name) for name in NAMES} == {NEW}
    assert lab.client.leases() == []


@pytest.mark.parametrize("stop", ["kill", "stop"])
def test_one_that_was_paused_or_waits_is_as_it_was_after_a_restart(
    daemon, sim, tmp_path: Path, stop: str
) -> None:
    lab = Lab(daemon(dict.fromkeys(NAMES[:3], sim)), tmp_path)
    holder = lab.daemon.connect("bob@desk").acquire("sim-00", ttl=60)
    waits = lab.client.create_rollout(lab.source, ["sim-00"], reason="spring")
    follow(lab.client, waits.name, at_step(RolloutStep.WAITING, "sim-00"))
    lab.close_gates("sim-02")
    pace = RolloutPace(parallel=1)
    paused = lab.client.create_rollout(lab.source, ["sim-01", "sim-02"], pace=pace, check=GATED)
    follow(lab.client, paused.name, at_step(RolloutStep.CHECKING, "sim-02"))
    lab.client.pause_rollout(paused.name, "lunch")

    getattr(lab.daemon, stop)()
    lab.daemon = lab.daemon.again()

    found = {rollout.name: rollout for rollout in lab.client.rollouts()}
    assert (found[paused.name].state, found[paused.name].state_reason) == (
        RolloutState.PAUSED,
        "paused by local: lunch",
    )
    assert steps(found[paused.name]) == {DONE: ["sim-01"], PENDING: ["sim-02"]}
    assert found[waits.name].state is RolloutState.RUNNING
    follow(lab.client, waits.name, lambda rollout: "bob@desk holds it" in rollout.boards[0].message)
    holder.release()
    assert follow(lab.client, waits.name, halted).state is RolloutState.DONE
    assert lab.has("sim-00") == NEW


def test_paused_nothing_more_is_begun_with_and_resumed_it_goes_on(lab: Lab) -> None:
    lab.close_gates("sim-00", "sim-01")
    rollout = lab.client.create_rollout(lab.source, NAMES[:6], pace=RolloutPace(parallel=2), check=GATED)
    follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-00", "sim-01"))

    paused = lab.client.pause_rollout(rollout.name, "lunch")
    lab.open_gates("sim-00", "sim-01")
    quiet = follow(lab.client, rollout.name, halted)

    assert (paused.state, paused.state_reason) == (RolloutState.PAUSED, "paused by local: lunch")
    assert steps(quiet) == {DONE: NAMES[:2], PENDING: NAMES[2:6]}
    assert lab.client.resume_rollout(rollout.name).state is RolloutState.RUNNING
    assert steps(follow(lab.client, rollout.name, halted)) == {DONE: NAMES[:6]}


def test_aborted_those_under_way_end_and_the_others_stay_as_they_are(lab: Lab) -> None:
    lab.close_gates("sim-00")
    rollout = lab.client.create_rollout(lab.source, NAMES, pace=RolloutPace(parallel=1), check=GATED)
    follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-00"))

    aborted = lab.client.abort_rollout(rollout.name, "wrong files")
    lab.open_gates("sim-00")
    ended = follow(lab.client, rollout.name, lambda rollout: rollout.ended is not None)

    assert (aborted.state, aborted.ended) == (RolloutState.ABORTED, None)
    assert (ended.state_reason, steps(ended)) == (
        "aborted by local: wrong files",
        {DONE: ["sim-00"], PENDING: NAMES[1:]},
    )
    assert [lab.has(name) for name in NAMES] == [NEW] + [OLD] * 23
    assert lab.client.abort_rollout(rollout.name) == ended
    with pytest.raises(RequestInvalid, match="has ended, aborted"):
        lab.client.resume_rollout(rollout.name)


def test_a_board_that_somebody_holds_is_waited_for_and_let_go_when_paused(lab: Lab) -> None:
    other = lab.daemon.connect("bob@desk")
    with other.acquire("sim-01", ttl=60, reason="mine"):
        rollout = lab.client.create_rollout(lab.source, NAMES[:3], timeout=1.0)
        held = follow(
            lab.client, rollout.name, lambda rollout: "bob@desk holds it" in rollout.boards[1].message
        )
        until_done = follow(lab.client, rollout.name, at_step(DONE, "sim-00", "sim-02"))
        lab.client.pause_rollout(rollout.name)
        paused = follow(lab.client, rollout.name, halted)
        assert lab.client.board("sim-01").lease_queue_length == 0
        lab.client.resume_rollout(rollout.name)
        follow(lab.client, rollout.name, at_step(RolloutStep.WAITING, "sim-01"))
        assert lab.client.board("sim-01").lease_queue_length == 1

    ended = follow(lab.client, rollout.name, halted)

    assert held.boards[1].step is until_done.boards[1].step is RolloutStep.WAITING
    assert steps(paused) == {DONE: ["sim-00", "sim-02"], PENDING: ["sim-01"]}
    assert steps(ended) == {DONE: NAMES[:3]}


def test_while_it_works_on_a_board_nobody_else_does(lab: Lab) -> None:
    lab.close_gates("sim-00")
    rollout = lab.client.create_rollout(lab.source, ["sim-00"], check=GATED, reason="spring")
    follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-00"))

    with pytest.raises(BoardLeased) as refused:
        lab.daemon.connect("bob@desk").evaluate("sim-00", "1")
    [lease] = lab.client.leases()
    lab.open_gates("sim-00")
    follow(lab.client, rollout.name, halted)

    assert refused.value.holder == f"rollout {rollout.name}"
    assert lease.reason == "spring"


def test_a_board_whose_lease_is_broken_fails_and_is_done_again_when_resumed(lab: Lab) -> None:
    lab.close_gates("sim-00")
    rollout = lab.client.create_rollout(lab.source, ["sim-00"], check=GATED)
    follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-00"))

    lab.break_lease("sim-00")
    stopped = follow(lab.client, rollout.name, halted)
    lab.open_gates("sim-00")
    lab.client.resume_rollout(rollout.name)
    ended = follow(lab.client, rollout.name, halted)

    assert "was broken by" in stopped.boards[0].message
    assert stopped.boards[0].message.endswith("it has its new files, and was not checked")
    assert ended.state is RolloutState.DONE


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (HealthCheck(source="raise ValueError('no sensor')"), "its check raised ValueError: no sensor"),
        (HealthCheck(expression="0"), "its check is not true"),
        (HealthCheck(expression="1 +"), "its check raised SyntaxError"),
        (HealthCheck(source="while True: pass", timeout=0.5), "its check did not end within 0.5 s"),
    ],
    ids=["raises", "false", "no code", "for ever"],
)
def test_a_check_that_fails_says_how(lab: Lab, check: HealthCheck, message: str) -> None:
    rollout = lab.client.create_rollout(lab.source, ["sim-00"], check=check)
    ended = follow(lab.client, rollout.name, halted)

    assert ended.boards[0].message.startswith(message)
    assert ended.boards[0].message.endswith("; it has its old files again")
    assert lab.has("sim-00") == OLD


def test_what_fails_keeps_its_new_files_if_so_wanted(lab: Lab) -> None:
    check = HealthCheck(expression="False")
    rollout = lab.client.create_rollout(lab.source, ["sim-00"], check=check, keep_failed=True)
    ended = follow(lab.client, rollout.name, halted)

    assert ended.boards[0].message == "its check is not true; it keeps its new files"
    assert lab.has("sim-00") == NEW


def test_what_it_was_given_before_it_is_tried_again_is_what_it_gets_back(lab: Lab) -> None:
    there = lab.board("sim-00") / "there"
    there.touch()
    check = HealthCheck(expression="False")
    rollout = lab.client.create_rollout(
        lab.source, ["sim-00"], check=check, options=DeploymentOptions(dst="/there")
    )
    first = follow(lab.client, rollout.name, halted)
    there.unlink()
    lab.write(OLD)
    lab.client.deploy("sim-00", lab.source, dst="/there")

    lab.client.resume_rollout(rollout.name)
    again = follow(lab.client, rollout.name, lambda now: halted(now) and now.boards != first.boards)

    assert first.boards[0].message.endswith("it has its old files")
    assert again.boards[0].message.endswith("it has its old files again")
    assert (there / "app.py").read_bytes() == OLD
    shutil.rmtree(there)


def test_a_board_that_had_the_files_already_is_checked_and_not_rolled_back(lab: Lab) -> None:
    lab.write(OLD)
    rollout = lab.client.create_rollout(lab.source, ["sim-00"], check=HealthCheck(expression="False"))
    ended = follow(lab.client, rollout.name, halted)

    assert ended.boards[0].message == "its check is not true; its files were the same before"
    assert lab.has("sim-00") == OLD


def test_boards_may_have_trees_of_their_own(lab: Lab) -> None:
    mine = lab.source.parent / "mine"
    mine.mkdir()
    (mine / "app.py").write_bytes(b"version = 3\n")
    trees = [RolloutTree(read(lab.source)), RolloutTree(read(mine), ["sim-01"])]

    rollout = lab.client.create_rollout(trees, NAMES[:3])
    ended = follow(lab.client, rollout.name, halted)

    assert ended.state is RolloutState.DONE
    assert (lab.has("sim-00"), lab.has("sim-02")) == (NEW, NEW)
    assert (lab.board("sim-01") / "app.py").read_bytes() == b"version = 3\n"


def test_what_cannot_be_is_refused_and_nothing_begins(lab: Lab) -> None:
    project = read(lab.source)
    before = lab.client.rollouts()

    for wrong in (
        {"boards": ["sim-00", "sim-00"]},
        {"folder": [RolloutTree(project, ["sim-00"])], "boards": NAMES[:2]},
        {
            "folder": [RolloutTree(project, ["sim-00"]), RolloutTree(project, ["sim-00"])],
            "boards": ["sim-00"],
        },
        {"folder": [RolloutTree(project, ["sim-01"]), RolloutTree(project)], "boards": ["sim-00"]},
        {"boards": ["sim-00"], "pace": RolloutPace(parallel=257)},
        {"boards": ["sim-00"], "check": HealthCheck(expression=" ")},
        {"boards": ["sim-00"], "timeout": 0.1},
    ):
        with pytest.raises(RequestInvalid):
            lab.client.create_rollout(**{"folder": project, **wrong})
    with pytest.raises(NotFound):
        lab.client.create_rollout(project, ["sim-99"])
    with pytest.raises(NotFound):
        lab.client.get_rollout("3f9a")

    assert lab.client.rollouts() == before


def test_a_board_whose_link_is_lost_under_way_gets_its_files_all_the_same(lab: Lab) -> None:
    (lab.source / "big.bin").write_bytes(random.Random(5).randbytes(3_000_000))
    try:
        rollout = lab.client.create_rollout(lab.source, ["sim-05"])
        follow(lab.client, rollout.name, lambda rollout: rollout.boards[0].written_bytes > 0)
        os.kill(lab.daemon.interpreter("sim-05"), signal.SIGKILL)
        ended = follow(lab.client, rollout.name, halted)
    finally:
        big = (lab.source / "big.bin").read_bytes()
        (lab.source / "big.bin").unlink()

    assert ended.state is RolloutState.DONE, ended
    assert (lab.board("sim-05") / "big.bin").read_bytes() == big
    assert lab.has("sim-05") == NEW


def test_a_board_that_dies_of_its_check_is_rolled_back_when_it_is_back(lab: Lab) -> None:
    lab.close_gates("sim-05")
    rollout = lab.client.create_rollout(lab.source, ["sim-05"], check=GATED)
    follow(lab.client, rollout.name, at_step(RolloutStep.CHECKING, "sim-05"))

    os.kill(lab.daemon.interpreter("sim-05"), signal.SIGKILL)
    ended = follow(lab.client, rollout.name, halted)

    assert ended.state is RolloutState.STOPPED
    assert ended.boards[0].message.endswith("it has its old files again")
    assert lab.has("sim-05") == OLD


def test_the_contents_are_kept_only_while_they_are_needed(lab: Lab, until: Callable[..., None]) -> None:
    kept = lab.daemon.folder / "state" / "rollouts"
    until(lambda: not list(kept.iterdir()))
    lab.close_gates("sim-00")
    first = lab.client.create_rollout(lab.source, ["sim-00"], check=GATED)
    second = lab.client.create_rollout(lab.source, ["sim-01"])
    follow(lab.client, second.name, halted)

    assert len(list(kept.iterdir())) == 2
    assert {path.stat().st_mode & 0o777 for path in (kept, *kept.iterdir())} == {0o700, 0o600}
    lab.open_gates("sim-00")
    follow(lab.client, first.name, halted)
    until(lambda: not list(kept.iterdir()))


def test_nothing_of_it_is_deployed_to_a_board_whose_client_left_before_the_rollout_was_on_record(
    lab: Lab,
) -> None:
    project = read(lab.source)
    lab.client.upload(project)
    before = {rollout.name for rollout in lab.client.rollouts()}
    request = deployments_pb2.CreateRolloutRequest(
        trees=[deployments_pb2.RolloutTree(files=manifest(project))], boards=["boards/sim-00"]
    )
    stub = deployments_pb2_grpc.DeploymentServiceStub(lab.daemon.channel())

    for _ in range(20):
        call = stub.CreateRollout.future(request)
        call.cancel()
    begun = [rollout for rollout in lab.client.rollouts() if rollout.name not in before]

    ended = [follow(lab.client, rollout.name, halted) for rollout in begun]
    assert {rollout.state for rollout in ended} <= {RolloutState.DONE, RolloutState.ABORTED}
    assert lab.client.evaluate("sim-00", "6 * 7") == 42


def test_kills_at_any_moment_leave_nothing_undone_and_nothing_held(daemon, sim, tmp_path: Path) -> None:
    lab = Lab(daemon(dict.fromkeys(NAMES, sim)), tmp_path)
    lab.reset()
    chance = random.Random(24)
    rollout = lab.client.create_rollout(
        lab.source, NAMES, pace=RolloutPace(canary=1, wave=6, parallel=3), check=CHECK
    )
    ended_before = []

    for _ in range(6):
        changes = chance.randrange(1, 12)
        with contextlib.closing(lab.client.watch_rollout(rollout.name)) as watched:
            ended_before.append(list(itertools.islice(watched, changes))[-1].ended is not None)
        lab.daemon.kill()
        lab.daemon = lab.daemon.again()
    ended = follow(lab.client, rollout.name, halted)

    assert not ended_before[0]
    assert (ended.state, steps(ended)) == (RolloutState.DONE, {DONE: NAMES})
    assert {lab.has(name) for name in NAMES} == {NEW}
    assert lab.client.leases() == []
