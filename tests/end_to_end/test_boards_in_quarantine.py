"""Boards that are not what the inventory says, or never listen: they stand aside, and alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from belayd_client import OperatorNeeded

OBSTINATE = """\
while True:
    try:
        while True: pass
    except KeyboardInterrupt:
        pass
"""
ID = "0123456789abcdef"


def test_another_board_than_the_inventory_says_is_quarantined(
    daemon, sim, simulated_pty, until: Callable[..., None]
) -> None:
    stranger = simulated_pty("stranger", "--unique-id", "ffffffffffffffff")
    expected = simulated_pty("expected", "--unique-id", ID)
    lab = daemon(
        {
            "pico-1": {"serial": {"port": str(stranger.path)}, "unique_id": "fedcba9876543210"},
            "pico-2": {"serial": {"port": str(expected.path)}, "unique_id": ID.upper()},
            "sim-1": {"simulated": {}, "unique_id": "0011223344556677"},
        },
        ready=False,
    )
    until(lambda: lab.client.board("pico-1").state.value == "quarantined")

    reason = lab.client.board("pico-1").state_reason
    with pytest.raises(OperatorNeeded) as caught:
        lab.client.evaluate("pico-1", "1")
    done = lab.belayctl("exec", "pico-1", "print(1)")

    assert "answers with unique_id ffffffffffffffff" in reason
    assert "the inventory says fedcba9876543210" in reason
    assert caught.value.reason == "WRONG_BOARD"
    assert caught.value.fields["unique_id"] == "ffffffffffffffff"
    assert reason in caught.value.message
    assert done.returncode == 5
    assert lab.metric("belayd_board_quarantined", board="pico-1", reason="wrong_board") == 1
    assert lab.metric("belayd_board_up", board="pico-1") == 0
    until(lambda: lab.client.board("pico-2").state.value == "ready")
    assert lab.client.evaluate("pico-2", "6 * 7") == 42
    assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42


def test_the_right_board_plugged_in_ends_the_quarantine(
    daemon, simulated_pty, until: Callable[..., None]
) -> None:
    stranger = simulated_pty("port", "--unique-id", "ffffffffffffffff")
    lab = daemon({"pico-1": {"serial": {"port": str(stranger.path)}, "unique_id": ID}}, ready=False)
    until(lambda: lab.client.board("pico-1").state.value == "quarantined")

    stranger.process.terminate()
    stranger.process.wait(30)
    simulated_pty("port", "--unique-id", ID)

    until(lambda: lab.client.board("pico-1").state.value == "ready")
    assert lab.client.evaluate("pico-1", "6 * 7") == 42


def test_a_program_that_swallows_every_interrupt_stops_its_own_board_alone(
    daemon, sim, until: Callable[..., None], tmp_path: Path, bystander
) -> None:
    (tmp_path / "main.py").write_text(OBSTINATE)
    lab = daemon(
        {"deaf-1": {"simulated": {"folder": str(tmp_path)}}, "sim-1": sim, "sim-2": sim}, ready=False
    )
    until(lambda: lab.client.board("sim-2").state.value == "ready")
    other = bystander(lab.connect(), ("sim-1", "sim-2"))
    until(lambda: lab.client.board("deaf-1").state.value == "quarantined")
    other.leave()

    board = lab.client.board("deaf-1")
    with pytest.raises(OperatorNeeded) as caught:
        lab.client.evaluate("deaf-1", "1")

    assert "may not let itself be interrupted" in board.state_reason
    assert caught.value.reason == "BOARD_QUARANTINED"
    assert lab.metric("belayd_recoveries_total", board="deaf-1", step="quarantine") >= 1

    (tmp_path / "main.py").unlink()

    until(lambda: lab.client.board("deaf-1").state.value == "ready")
    assert lab.client.evaluate("deaf-1", "6 * 7") == 42
