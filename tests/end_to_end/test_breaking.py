"""An operator takes boards from their holders: at once, or with notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from belayd_client import BoardLeased, Client, LeaseLost, LeaseNotFound, Refused, RequestInvalid

QUEUED = 30


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture(scope="module")
def operator(lab) -> Client:
    """The daemon's own user, through its unix socket."""
    client: Client = lab.stack.enter_context(Client(f"unix:{lab.folder / 'state' / 'belayd.sock'}"))
    return client


def test_whoever_is_no_operator_breaks_nothing(lab) -> None:
    with lab.client.acquire("sim-1", ttl=60) as lease:
        with pytest.raises(Refused, match="needs operator"):
            lab.client.break_lease("sim-1", "because")
        assert lab.client.evaluate("sim-1", "6 * 7", lease=lease) == 42


def test_what_runs_is_interrupted_and_nothing_queued_ever_runs(lab, operator: Client) -> None:
    lease = lab.client.acquire("sim-1", ttl=60)
    lab.client.run("sim-1", "ran = []", lease=lease)
    with ThreadPoolExecutor(QUEUED + 1) as pool, lab.connect() as other:
        loop = pool.submit(lab.client.run, "sim-1", "while True: pass", lease=lease)
        while lab.client.board("sim-1").state.value != "busy":
            pass
        calls = [
            pool.submit(other.run, "sim-1", f"open('/ran-{number}', 'w').close()", lease=lease)
            for number in range(QUEUED)
        ]
        while lab.client.board("sim-1").queue_length < QUEUED:
            pass
        began = time.monotonic()
        ended = operator.break_lease("sim-1", "moving the rack")
        errors = [one.exception(60) for one in (loop, *calls)]
        took = time.monotonic() - began

    assert ended.holder == "ann@desk"
    assert {type(error) for error in errors} == {LeaseLost}
    assert {error.reason for error in errors} == {"LEASE_BROKEN"}
    assert all("moving the rack" in str(error) for error in errors)
    assert took < 10  # 0.2 s is usual
    files = lab.client.evaluate("sim-1", "__import__('os').listdir('/')", timeout=60)
    assert not [name for name in files if name.startswith("ran-")]
    with pytest.raises(LeaseLost, match="broken by"):
        lab.client.evaluate("sim-1", "1", lease=lease)


def test_a_holder_with_notice_goes_on_and_cannot_stay(
    lab, operator: Client, until: Callable[..., None]
) -> None:
    lease = lab.client.acquire("sim-2", ttl=60)
    operator.break_lease("sim-2", "maintenance", grace=3)
    lease.renew()

    assert lease.notice is not None
    assert lease.notice.reason == "maintenance"
    assert lease.expires <= datetime.now(UTC) + timedelta(seconds=3)
    assert lab.client.evaluate("sim-2", "6 * 7", lease=lease) == 42
    assert [one.notice.by for one in lab.client.leases() if one.notice] == [lease.notice.by]

    until(lambda: not lab.client.leases())
    with pytest.raises(LeaseLost) as caught:
        lab.client.evaluate("sim-2", "1", lease=lease)
    assert caught.value.reason == "LEASE_BROKEN"
    assert lab.metric("belayd_leases_ended_total", cause="broken") >= 1


def test_who_waited_gets_the_board(lab, operator: Client) -> None:
    lab.client.acquire("sim-1", ttl=60, wait=60)
    with lab.connect("bob@desk") as bob, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bob.acquire, "sim-1", ttl=60, wait=60)
        while lab.client.board("sim-1").lease_queue_length < 1:
            pass
        operator.break_lease("sim-1", "bob's turn")
        with waiting.result(60) as lease:
            assert bob.evaluate("sim-1", "6 * 7", lease=lease) == 42


def test_what_makes_no_sense_is_refused(operator: Client) -> None:
    with pytest.raises(LeaseNotFound, match="nobody holds"):
        operator.break_lease("sim-2", "because")
    with pytest.raises(RequestInvalid, match="say why"):
        operator.break_lease("sim-2", " ")
    with pytest.raises(RequestInvalid, match="at most 3600 s"):
        operator.break_lease("sim-2", "because", grace=4000)


def test_the_command_line_breaks_one_board_and_all_that_are_held(lab, operator: Client) -> None:
    first = lab.client.acquire("sim-1", ttl=60, wait=60)
    second = lab.client.acquire("sim-2", ttl=60, wait=60)
    address = operator.address

    without = lab.belayctl("break", "sim-1", "--reason", "because")
    one = lab.belayctl("break", "sim-1", "--reason", "because", BELAYD_ADDRESS=address)
    rest = lab.belayctl("break", "-l", "name=sim-2", "--reason", "power cut", BELAYD_ADDRESS=address)
    none = lab.belayctl("break", "-l", "name=sim-2", "--reason", "again", BELAYD_ADDRESS=address)

    assert without.returncode == 3
    assert (one.returncode, rest.returncode, none.returncode) == (0, 0, 3)
    assert "the lease of ann@desk has ended" in one.stderr
    for lease, reason in ((first, "because"), (second, "power cut")):
        with pytest.raises(LeaseLost, match=reason):
            lease.renew()


def test_high_priority_is_for_operators_and_goes_first(lab, operator: Client) -> None:
    with pytest.raises(Refused, match="high priority needs operator"):
        lab.client.acquire("sim-1", priority="high", wait=0)
    holder = lab.client.acquire("sim-1", ttl=60, wait=60)
    with ThreadPoolExecutor(2) as pool:
        normal = pool.submit(lab.client.acquire, "sim-1", ttl=60, wait=60)
        while lab.client.board("sim-1").lease_queue_length < 1:
            pass
        high = pool.submit(operator.acquire, "sim-1", ttl=60, wait=60, priority="high")
        while lab.client.board("sim-1").lease_queue_length < 2:
            pass
        holder.release()
        first = high.result(60)
        assert not normal.done()
        first.release()
        normal.result(60).release()
    with pytest.raises(BoardLeased), lab.client.acquire("sim-2", ttl=60, wait=60):
        lab.client.acquire("sim-2", wait=0)
