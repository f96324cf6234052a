"""Boards that come, go and come back while the daemon runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from belayd_client import BoardUnavailable, TransportLost


@pytest.fixture
def lab(daemon, sim, tmp_path: Path):
    lab = daemon({"late-1": {"serial": {"port": str(tmp_path / "late.tty")}}, "sim-1": sim}, ready=False)
    assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42
    return lab


def test_a_serial_board_comes_goes_and_comes_back(
    lab, simulated_pty, until: Callable[..., None], tmp_path: Path
) -> None:
    def state() -> tuple[str, str]:
        board = lab.client.board("late-1")
        return board.state.value, board.state_reason

    until(lambda: state() == ("offline", f"{tmp_path / 'late.tty'} does not exist"))
    with pytest.raises(BoardUnavailable) as absent:
        lab.client.evaluate("late-1", "1")

    plugged = simulated_pty("late")
    until(lambda: state() == ("ready", ""))
    first = lab.client.evaluate("late-1", "6 * 7")

    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            lab.client.run, "late-1", "print('begun')\nwhile True: pass", output=lambda data: begun.set()
        )
        assert begun.wait(30)
        plugged.process.terminate()
        lost = running.exception(30)
    until(lambda: state()[0] == "offline")
    reason = state()[1]
    with pytest.raises(BoardUnavailable) as gone:
        lab.client.evaluate("late-1", "1")
    done = lab.belayctl("exec", "late-1", "print(1)")
    up = lab.metric("belayd_board_up", board="late-1")

    simulated_pty("late")
    until(lambda: state() == ("ready", ""))
    second = lab.client.evaluate("late-1", "7 * 6")

    assert (absent.value.reason, gone.value.reason) == ("BOARD_OFFLINE", "BOARD_OFFLINE")
    assert "does not exist" in absent.value.message
    assert isinstance(lost, TransportLost)
    assert "late.tty" in reason
    assert reason in gone.value.message
    assert (done.returncode, done.stdout) == (5, "")
    assert "late.tty" in done.stderr
    assert (first, second, up) == (42, 42, 0)
    assert lab.metric("belayd_board_up", board="late-1") == 1
    assert lab.metric("belayd_reconnects_total", board="late-1") == 1
    assert lab.metric("belayd_board_up", board="sim-1") == 1


def test_who_waits_for_an_absent_board_gets_it_when_it_comes(
    lab, simulated_pty, until: Callable[..., None]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lab.client.acquire, "late-1", ttl=60, wait=60)
        until(lambda: lab.client.board("late-1").lease_queue_length == 1)
        simulated_pty("late")
        lease = waiting.result(60)

    with lease:
        assert lab.client.evaluate("late-1", "6 * 7", lease=lease) == 42


def test_a_board_that_resets_itself_is_found_again(lab, simulated_pty, until: Callable[..., None]) -> None:
    simulated_pty("late", "--absence", "0.2")
    until(lambda: lab.client.board("late-1").state.value == "ready")

    with pytest.raises(TransportLost):  # as on native USB, where the port goes with the chip
        lab.client.run("late-1", "import machine; machine.reset()", timeout=30)

    until(lambda: lab.metric("belayd_reconnects_total", board="late-1") == 1)
    assert lab.client.evaluate("late-1", "6 * 7", timeout=30) == 42
