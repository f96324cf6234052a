"""Boards started anew: what goes with a reset, who hears of it, and boards that do not come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belayd_client import BoardException, BoardUnavailable


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


def cause(lab, board: str) -> int:
    """Return what the board says it was started by; 2 is a hard reset, 1 power."""
    number: int = lab.client.evaluate(board, "__import__('machine').reset_cause()", timeout=30)
    return number


def test_a_soft_reset_clears_names_and_keeps_the_chip_running(lab) -> None:
    lab.client.run("sim-1", "kept = 1")

    done = lab.belayctl("reset", "sim-1")

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "sim-1 was reset and answers" in done.stderr
    with pytest.raises(BoardException, match="kept"):
        lab.client.evaluate("sim-1", "kept")


def test_a_hard_reset_succeeds_although_the_link_goes_with_the_chip(lab) -> None:
    lab.client.run("sim-1", "kept = 1")
    counted = {"operation": "reset", "outcome": "ok"}
    before = lab.metric("belayd_operation_duration_seconds_count", **counted)
    boots = lab.metric("belayd_board_boots_total", board="sim-1", cause="reset")
    losses = lab.metric("belayd_failures_total", board="sim-1", reason="transport_lost")

    done = lab.belayctl("reset", "sim-1", "--hard")

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "sim-1 was reset and answers" in done.stderr
    with pytest.raises(BoardException, match="kept"):
        lab.client.evaluate("sim-1", "kept")
    assert lab.metric("belayd_operation_duration_seconds_count", **counted) == before + 1
    assert lab.metric("belayd_board_boots_total", board="sim-1", cause="reset") == boots + 1
    assert lab.metric("belayd_failures_total", board="sim-1", reason="transport_lost") == losses


def test_after_a_hard_reset_the_board_is_ready_at_once(lab) -> None:
    for _ in range(3):
        board = lab.client.reset("sim-2", hard=True)

        assert board.state.value == "ready"
        assert lab.client.evaluate("sim-2", "6 * 7") == 42


def test_a_lease_lives_through_a_hard_reset(lab) -> None:
    with lab.client.acquire("sim-1", ttl=60) as lease:
        lab.client.reset("sim-1", hard=True, lease=lease)

        assert lab.client.evaluate("sim-1", "6 * 7", lease=lease) == 42


def test_many_boards_are_reset_in_one_command(lab) -> None:
    done = lab.belayctl("reset", "-l", "chip=sim", "--hard")

    assert done.returncode == 0, done.stderr


def test_a_board_whose_port_vanishes_for_a_while_is_waited_for(
    daemon, simulated_pty: Callable[..., Any]
) -> None:
    path: Path = simulated_pty().path
    lab = daemon({"bench": {"serial": {"port": str(path)}}})
    assert cause(lab, "bench") == 1

    done = lab.belayctl("reset", "bench", "--hard")

    assert done.returncode == 0, done.stderr
    assert cause(lab, "bench") == 2


def test_a_board_that_does_not_come_back_is_offline(daemon, tmp_path: Path, micropython_binary: str) -> None:
    firmware = tmp_path / "micropython"
    firmware.symlink_to(micropython_binary)
    lab = daemon({"sim-1": {"simulated": {"micropython": str(firmware)}}})
    firmware.unlink()

    done = lab.belayctl("reset", "sim-1", "--hard", "--timeout", "3s")

    assert done.returncode == 5, done.stderr
    assert "did not come back" in done.stderr
    [board] = json.loads(lab.belayctl("boards", "--json").stdout)
    assert board["state"] == "offline"
    with pytest.raises(BoardUnavailable):
        lab.client.evaluate("sim-1", "1")
