"""A board's process dies in the middle of a call: the caller learns it, and the board comes back by itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from belayd_client import BoardException, RunTimeout, TransportLost

SPIN = "print('begun')\nwhile True: pass\n"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture(autouse=True)
def everybody_else(lab, bystander):
    """Somebody gets right answers from another board all the while."""
    other = bystander(lab.connect(), ("sim-2",))
    yield
    other.leave()


def kill_amid(lab, victim: Callable[[], int]) -> BaseException | None:
    """Run what never ends on sim-1, kill a process of that board, and return what the caller is told."""
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lab.client.run, "sim-1", SPIN, timeout=60, output=lambda data: begun.set())
        assert begun.wait(30)
        os.kill(victim(), signal.SIGKILL)
        return running.exception(30)


@pytest.mark.parametrize("part", ["interpreter", "wrapper"])
def test_a_board_that_dies_amid_a_run_is_told_of_and_comes_back(lab, part: str) -> None:
    lab.client.run("sim-1", "before = 1")
    lost = lab.metric("belayd_failures_total", board="sim-1", reason="transport_lost")
    ended = lab.metric("belayd_operations_total", board="sim-1", outcome="transport_error")
    reconnects = lab.metric("belayd_reconnects_total", board="sim-1")

    failure = kill_amid(lab, lambda: getattr(lab, part)("sim-1"))
    answer = lab.client.evaluate("sim-1", "6 * 7", timeout=30)

    assert isinstance(failure, TransportLost), failure
    assert failure.reason == "TRANSPORT_LOST"
    assert answer == 42
    with pytest.raises(BoardException, match="NameError"):
        lab.client.evaluate("sim-1", "before")
    assert lab.client.board("sim-1").state.value == "ready"
    assert lab.metric("belayd_failures_total", board="sim-1", reason="transport_lost") == lost + 1
    assert lab.metric("belayd_operations_total", board="sim-1", outcome="transport_error") == ended + 1
    assert lab.metric("belayd_reconnects_total", board="sim-1") == reconnects + 1
    assert lab.metric("belayd_board_up", board="sim-1") == 1


def test_jobs_queued_behind_a_board_that_dies_run_when_it_is_back(lab, until: Callable[..., None]) -> None:
    with ThreadPoolExecutor(3) as pool:
        waiting = []

        def queue_three_and_tell() -> int:
            waiting.extend(pool.submit(lab.client.evaluate, "sim-1", f"{n} + 1") for n in (1, 2, 3))
            until(lambda: lab.client.board("sim-1").queue_length == 3)
            return lab.wrapper("sim-1")

        failure = kill_amid(lab, queue_three_and_tell)
        answers = [future.result(30) for future in waiting]

    assert isinstance(failure, TransportLost)
    assert answers == [2, 3, 4]


def test_a_board_that_dies_while_idle_is_back_before_anybody_asks(lab, until: Callable[..., None]) -> None:
    reconnects = lab.metric("belayd_reconnects_total", board="sim-1")

    os.kill(lab.wrapper("sim-1"), signal.SIGKILL)

    until(lambda: lab.metric("belayd_reconnects_total", board="sim-1") == reconnects + 1)
    assert lab.client.evaluate("sim-1", "6 * 7") == 42


def test_a_lease_outlives_the_loss_of_its_board(lab) -> None:
    with lab.client.acquire("sim-1", ttl=60) as lease:
        begun = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(lab.client.run, "sim-1", SPIN, lease=lease, output=lambda data: begun.set())
            assert begun.wait(30)
            os.kill(lab.interpreter("sim-1"), signal.SIGKILL)
            failure = running.exception(30)
        answer = lab.client.evaluate("sim-1", "6 * 7", lease=lease)

    assert isinstance(failure, TransportLost)
    assert answer == 42


def test_a_board_that_is_mute_for_a_while_is_won_back_by_the_ladder(lab, until: Callable[..., None]) -> None:
    def recoveries() -> list[float]:
        steps = ("interrupt", "reenter", "soft_reset", "reopen")
        return [lab.metric("belayd_recoveries_total", board="sim-1", step=step) for step in steps]

    before = recoveries()
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lab.client.run, "sim-1", SPIN, timeout=1, output=lambda data: begun.set())
        assert begun.wait(30)
        wrapper = lab.wrapper("sim-1")
        os.kill(wrapper, signal.SIGSTOP)  # present, and takes nothing in
        failure = running.exception(30)
    recovering = lab.client.board("sim-1").state.value
    until(lambda: recoveries()[2] == before[2] + 1)
    os.kill(wrapper, signal.SIGCONT)
    answer = lab.client.evaluate("sim-1", "6 * 7", timeout=30)

    assert isinstance(failure, RunTimeout)
    assert recovering == "recovering"
    assert answer == 42
    assert lab.wrapper("sim-1") == wrapper
    assert [after - earlier for after, earlier in zip(recoveries(), before, strict=True)] == [1, 1, 1, 0]
