"""An operator takes boards out of service: who holds one, who waits for one, and after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from belayd_client import BelaydError, Client, LeaseLost, OperatorNeeded, Refused, RequestInvalid

PATIENCE = 30.0


def operator_of(daemon: Any) -> Client:
    client: Client = daemon.stack.enter_context(Client(f"unix:{daemon.folder / 'state' / 'belayd.sock'}"))
    return client


@pytest.fixture
def lab(daemon: Callable, sim: dict) -> Iterator[Any]:
    yield daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture
def operator(lab) -> Client:
    return operator_of(lab)


def test_a_disabled_board_is_closed_refuses_work_and_is_not_judged(
    lab, operator: Client, until: Callable
) -> None:
    processes = len(lab.processes())

    operator.disable("sim-1", "its cable is broken")

    until(lambda: lab.client.board("sim-1").state.value == "disabled")
    until(lambda: len(lab.processes()) == processes - 2)
    reason = lab.client.board("sim-1").state_reason
    assert reason.startswith("by unix:")
    assert reason.endswith(": its cable is broken")
    with pytest.raises(OperatorNeeded, match="its cable is broken") as refused:
        lab.client.evaluate("sim-1", "1")
    assert refused.value.reason == "BOARD_DISABLED"
    scraped = lab.scrape()
    assert 'belayd_board_up{board="sim-2"}' in scraped
    assert 'belayd_board_up{board="sim-1"}' not in scraped
    assert 'belayd_board_state{board="sim-1",state="disabled"} 1.0' in scraped

    operator.enable("sim-1")

    until(lambda: lab.client.board("sim-1").state.value == "ready")
    assert lab.client.evaluate("sim-1", "6 * 7") == 42


def test_who_holds_a_board_keeps_it_to_the_end_and_who_waits_goes_on_waiting(
    lab, operator: Client, until: Callable
) -> None:
    with ThreadPoolExecutor(1) as pool, lab.connect("bob@desk") as bob:
        lease = lab.client.acquire("sim-1", ttl=60)
        waiting = pool.submit(bob.acquire, "sim-1", ttl=60)
        until(lambda: lab.client.board("sim-1").lease_queue_length == 1)

        shown = operator.disable("sim-1", "rack moves")
        assert lab.client.evaluate("sim-1", "6 * 7", lease=lease) == 42
        lease.release()

        assert "once its lease has ended" in shown.state_reason
        until(lambda: lab.client.board("sim-1").state.value == "disabled")
        assert lab.client.board("sim-1").lease_queue_length == 1
        assert lab.client.acquire(selector="chip=sim", ttl=60).board == "sim-2"

        operator.enable("sim-1")

        assert bob.evaluate("sim-1", "6 * 7", lease=waiting.result(PATIENCE)) == 42


def test_with_now_the_holder_loses_the_board(lab, operator: Client, until: Callable) -> None:
    lease = lab.client.acquire("sim-1", ttl=60)
    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(lab.client.run, "sim-1", "while True: pass", lease=lease)
        until(lambda: operator.board("sim-1").state.value == "busy")

        operator.disable("sim-1", "it smokes", now=True)

        error = loop.exception(PATIENCE)
    assert isinstance(error, LeaseLost)
    assert "it smokes" in str(error)
    until(lambda: lab.client.board("sim-1").state.value == "disabled")


def test_work_without_a_lease_ends_at_once(lab, operator: Client, until: Callable) -> None:
    with ThreadPoolExecutor(2) as pool:
        loop = pool.submit(lab.client.run, "sim-1", "while True: pass")
        until(lambda: operator.board("sim-1").state.value == "busy")
        queued = pool.submit(lab.connect().run, "sim-1", "print(1)")
        until(lambda: operator.board("sim-1").queue_length == 1)

        operator.disable("sim-1", "rack moves")

        errors = [run.exception(PATIENCE) for run in (loop, queued)]
    assert [error.reason for error in errors if isinstance(error, BelaydError)] == ["BOARD_DISABLED"] * 2


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_changes_nothing(lab, operator: Client, until: Callable, how: str) -> None:
    operator.disable("sim-1", "its cable is broken")
    before = lab.client.board("sim-1").state_reason
    getattr(lab, how)()

    again = lab.again()

    until(lambda: again.client.board("sim-1").state.value == "disabled")
    assert again.client.board("sim-1").state_reason == before
    operator_of(again).enable("sim-1")
    until(lambda: again.client.board("sim-1").state.value == "ready")


def test_belayctl_disables_enables_and_resets_by_selector(lab, operator: Client, until: Callable) -> None:
    at = ("--address", operator.address)

    off = lab.belayctl(*at, "disable", "-l", "chip=sim", "--reason", "rack moves")
    listed = lab.belayctl("boards")
    on = lab.belayctl(*at, "enable", "-l", "chip=sim")
    until(lambda: all(board.state.value == "ready" for board in lab.client.boards()))
    reset = lab.belayctl(*at, "reset", "-l", "chip=sim")

    assert (off.returncode, on.returncode, reset.returncode) == (0, 0, 0)
    assert listed.stdout.count("disabled") == 2
    assert "rack moves" in listed.stdout
    assert "2 of 2 boards done" in reset.stderr


def test_a_reason_is_required_and_so_is_an_operator(lab, operator: Client) -> None:
    with pytest.raises(RequestInvalid, match="reason"):
        operator.disable("sim-1", " ")
    with pytest.raises(Refused, match="needs operator"):
        lab.client.disable("sim-1", "because")
    with pytest.raises(Refused, match="needs operator"):
        lab.client.enable("sim-1")
