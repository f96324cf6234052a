"""Rollouts by belayctl: begun by deploy, followed line by line, listed, paused and aborted."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NAMES = ["sim-1", "sim-2", "sim-3"]


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Any:
    return shared_daemon(dict.fromkeys(NAMES, sim))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(f"version = {tmp_path.name!r}\n")
    return tmp_path


def name_of(told: str) -> str:
    return told.partition("belayctl: rollout ")[2].partition(" begins")[0]


def test_deploy_with_a_canary_rolls_out_and_tells_each_step(lab, source: Path) -> None:
    done = lab.belayctl(
        "deploy",
        "-l",
        "chip=sim",
        source,
        "--canary",
        "1",
        "--check",
        "'app.py' in __import__('os').listdir()",
    )

    name = name_of(done.stderr)
    assert (done.returncode, done.stdout) == (0, f"rollout {name} done: 3 done, 0 failed, 0 untouched\n")
    lines = done.stderr.splitlines()
    after = lines[lines.index("belayctl: sim-1: done") :]
    others = [line for line in lines if line.startswith(("belayctl: sim-2:", "belayctl: sim-3:"))]
    assert set(others) <= set(after)
    assert {f"belayctl: {board}: done" for board in NAMES} <= set(lines)


def test_one_that_stops_says_why_and_ends_with_its_own_code(lab, source: Path, tmp_path: Path) -> None:
    check = tmp_path.parent / f"{tmp_path.name}.check.py"
    check.write_text("import app\nassert False, 'no sensor'\n")

    done = lab.belayctl(
        "deploy", "-l", "chip=sim", source, "--wave", "1", "--check-file", check, "--reason", "spring"
    )
    name = name_of(done.stderr)
    listed = lab.belayctl("rollouts", "-n", "1").stdout.splitlines()
    shown = lab.belayctl("rollouts", "show", name).stdout

    assert (done.returncode, done.stdout) == (1, f"rollout {name} stopped: 0 done, 1 failed, 2 untouched\n")
    failure = "sim-1 failed: its check raised AssertionError: no sensor; it has its old files again"
    assert f"belayctl: {failure}" in done.stderr
    assert f"belayctl rollouts resume {name} goes on with it" in done.stderr
    assert listed[0].split() == ["ROLLOUT", "STATE", "DONE", "FAILED", "BY", "BEGUN", "WHY"]
    assert listed[1].split()[:5] == [name, "stopped", "0/3", "1", "local"]
    assert "state     stopped: 1 failed and 0 may: sim-1" in shown
    assert "no sensor; it has its old files again" in shown
    assert lab.belayctl("rollouts", "abort", name).returncode == 0
    assert lab.belayctl("rollouts", "resume", name).returncode == 3


def test_as_json_it_is_one_object_and_when_watched_one_for_each_change(lab, source: Path) -> None:
    done = lab.belayctl("deploy", "-l", "chip=sim", source, "--parallel", "2", "--json")
    rollout = json.loads(done.stdout)
    watched = lab.belayctl("rollouts", "watch", rollout["name"], "--json")

    assert (done.returncode, rollout["state"], rollout["parallel"]) == (0, "done", 2)
    assert [board["step"] for board in rollout["boards"]] == ["done"] * 3
    assert (watched.returncode, json.loads(watched.stdout)) == (0, rollout)
    assert json.loads(lab.belayctl("rollouts", "-n", "1", "--json").stdout) == [rollout]


def test_it_goes_on_when_whoever_watches_it_presses_ctrl_c(
    lab, source: Path, until: Callable[..., None]
) -> None:
    holder = lab.client.acquire("sim-1", ttl=60)
    watcher = lab.start_belayctl("deploy", "sim-1", source, "--canary", "1")
    until(lambda: lab.client.board("sim-1").lease_queue_length == 1)
    name = lab.client.rollouts(1)[0].name

    watcher.send_signal(signal.SIGINT)
    _, told = watcher.communicate(timeout=30)
    holder.release()

    assert watcher.returncode == 130
    assert f"the rollout goes on by itself; belayctl rollouts watch {name}" in told
    assert lab.belayctl("rollouts", "watch", name).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("rollouts", "stop", "3f9a"),
        ("rollouts", "show"),
        ("rollouts", "-n", "0"),
        ("deploy", "sim-1", ".", "--check-timeout", "3s", "--canary", "1"),
        ("deploy", "sim-1", ".", "--wait", "3s", "--canary", "1"),
        ("deploy", "sim-1", ".", "--no-rollback", "--canary", "1"),
        ("deploy", "sim-1", ".", "--check-file", "/nowhere"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(lab, source: Path, words: tuple[str, ...]) -> None:
    done = lab.belayctl(*(source if word == "." else word for word in words))

    assert (done.returncode, done.stdout) == (2, "")
