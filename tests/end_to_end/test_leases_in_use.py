"""Leases between several people: who may, who waits, and what becomes of whom when one ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from belayd.v1 import leases_pb2, leases_pb2_grpc
from belayd_client import BoardException, BoardLeased, LeaseLost, LeaseNotFound, RequestInvalid

FOREVER = "print('begun')\nwhile True: pass\n"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    other = {"simulated": {}, "labels": {"chip": "other"}}
    return shared_daemon({"sim-1": sim, "sim-2": sim, "sim-3": other})


@pytest.fixture
def ann(lab):
    return lab.connect("ann@desk")


@pytest.fixture
def bob(lab):
    return lab.connect("bob@bench")


@pytest.fixture(autouse=True)
def nothing_is_left(lab, until: Callable[..., None]):
    """Every lease and every waiter is gone at the end, and each board answers."""
    yield
    until(lambda: not lab.client.leases())
    assert {board.lease_queue_length for board in lab.client.boards()} == {0}
    for board in lab.client.boards():
        assert lab.client.evaluate(board.name, "6 * 7", timeout=30) == 42


def test_somebody_elses_lease_shuts_out_with_its_holder_named(lab, ann, bob) -> None:
    before = datetime.now(UTC)
    with ann.acquire("sim-1", ttl=60, reason="calibration") as lease:
        with pytest.raises(BoardLeased) as caught:
            bob.evaluate("sim-1", "1")
        with pytest.raises(BoardLeased):
            bob.call("sim-1", "len", "x")
        with pytest.raises(BoardLeased):
            bob.reset("sim-1")
        done = lab.belayctl("exec", "sim-1", "print(1)")
        listed = json.loads(lab.belayctl("leases", "--json").stdout)

        assert ann.evaluate("sim-1", "6 * 7", lease=lease) == 42
        assert bob.evaluate("sim-2", "6 * 7") == 42

    assert caught.value.holder == "ann@desk"
    assert caught.value.queue_length == 0
    assert (caught.value.expires - before).total_seconds() > 58
    assert (done.returncode, done.stdout) == (5, "")
    assert "ann@desk" in done.stderr
    assert [(each["board"], each["holder"], each["reason"]) for each in listed] == [
        ("sim-1", "ann@desk", "calibration")
    ]
    assert lease.token not in json.dumps(listed)


def test_a_token_works_for_its_own_board_alone(ann) -> None:
    with ann.acquire("sim-1", ttl=60) as lease, pytest.raises(RequestInvalid, match="is for board 'sim-1'"):
        ann.evaluate("sim-2", "1", lease=lease.token)


def test_what_runs_under_a_lease_ends_with_its_expiry_and_the_next_finds_a_clean_board(lab, ann, bob) -> None:
    expired = lab.metric("belayd_leases_ended_total", cause="expired")
    begun = threading.Event()
    lease = ann.acquire("sim-1", ttl=1)
    ann.run("sim-1", "left_over = 1", lease=lease)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(
            ann.run, "sim-1", FOREVER, lease=lease, output=lambda data: begun.set(), timeout=60
        )
        assert begun.wait(30)
        queued = pool.submit(ann.evaluate, "sim-1", "1", lease=lease)
        with bob.acquire("sim-1", ttl=60, wait=30) as following:
            failures = [running.exception(30), queued.exception(30)]
            with pytest.raises(BoardException, match="left_over"):
                bob.evaluate("sim-1", "left_over", lease=following)
            with pytest.raises(LeaseLost) as late:
                ann.evaluate("sim-1", "1", lease=lease.token)

    assert [type(failure) for failure in failures] == [LeaseLost, LeaseLost]
    assert {failure.reason for failure in (*failures, late.value)} == {"LEASE_EXPIRED"}
    assert "not renewed in time" in failures[0].message
    assert following.fence == lease.fence + 1
    assert lab.metric("belayd_leases_ended_total", cause="expired") == expired + 1


def test_a_released_lease_interrupts_what_runs_under_it(ann) -> None:
    begun = threading.Event()
    lease = ann.acquire("sim-1", ttl=60)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ann.run, "sim-1", FOREVER, lease=lease.token, output=lambda data: begun.set())
        assert begun.wait(30)
        lease.release()
        failure = running.exception(30)

    assert isinstance(failure, LeaseLost)
    assert "was released" in failure.message


def test_a_lease_that_was_never_used_leaves_the_names_alone(ann) -> None:
    ann.run("sim-1", "kept = 5")

    ann.acquire("sim-1", ttl=60).release()

    assert ann.evaluate("sim-1", "kept") == 5


def test_release_twice_finds_no_lease(ann) -> None:
    lease = ann.acquire("sim-1", ttl=60)
    ann.release(lease.token)

    for act in (ann.release, ann.lease):
        with pytest.raises(LeaseLost) as caught:
            act(lease.token)
        assert caught.value.reason in ("LEASE_NOT_FOUND", "LEASE_EXPIRED")
    with pytest.raises(LeaseNotFound):
        ann.release(lease.token)


def test_fences_of_one_board_grow(ann) -> None:
    fences = []
    for _ in range(4):
        with ann.acquire("sim-2", ttl=60) as lease:
            fences.append(lease.fence)

    assert fences == list(range(fences[0], fences[0] + 4))


def test_any_board_of_a_selector_is_had_until_none_is_free(ann, bob) -> None:
    with ann.acquire(selector="chip=sim", ttl=60) as one, ann.acquire(selector="chip=sim", ttl=60) as other:
        with pytest.raises(BoardLeased):
            bob.acquire(selector="chip=sim", wait=0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(bob.acquire, selector="chip=sim", ttl=60, wait=30)
            other.release()
            third = waiting.result(30)

        assert {one.board, other.board} == {"sim-1", "sim-2"}
        assert third.board == other.board
        third.release()


def test_places_in_the_queue_are_told_and_kept(lab, ann, until: Callable[..., None]) -> None:
    places: dict[str, list[int]] = {name: [] for name in ("bob", "cleo", "dan")}
    granted: list[str] = []

    def wait_for_it(name: str) -> None:
        lease = lab.connect(name).acquire("sim-1", ttl=60, wait=60, on_queued=places[name].append)
        granted.append(name)
        lease.release()

    lease = ann.acquire("sim-1", ttl=60)
    with ThreadPoolExecutor(3) as pool:
        waiting = []
        for number, name in enumerate(places, 1):
            waiting.append(pool.submit(wait_for_it, name))
            until(lambda number=number: lab.client.board("sim-1").lease_queue_length == number)
        lease.release()
        for each in waiting:
            each.result(30)

    assert granted == ["bob", "cleo", "dan"]
    assert places == {"bob": [1], "cleo": [2, 1], "dan": [3, 2, 1]}


def test_who_waits_long_enough_is_refused_with_the_holder(ann, bob) -> None:
    with ann.acquire("sim-1", ttl=60), pytest.raises(BoardLeased) as caught:
        bob.acquire("sim-1", wait=0.2)

    assert caught.value.holder == "ann@desk"


def test_a_waiting_client_that_is_killed_is_withdrawn(lab, ann, bob, until: Callable[..., None]) -> None:
    with ann.acquire("sim-1", ttl=60) as lease:
        killed = lab.start_belayctl("acquire", "sim-1", "--wait", "60s", XDG_STATE_HOME=str(lab.folder))
        until(lambda: lab.client.board("sim-1").lease_queue_length == 1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(bob.acquire, "sim-1", ttl=60, wait=30)
            until(lambda: lab.client.board("sim-1").lease_queue_length == 2)
            killed.kill()
            until(lambda: lab.client.board("sim-1").lease_queue_length == 1)
            lease.release()
            granted = waiting.result(30)

    assert lab.client.board("sim-1").lease.holder == "bob@bench"
    granted.release()


def test_a_grant_that_nobody_reads_any_more_is_taken_back(lab, ann, until: Callable[..., None]) -> None:
    lease = ann.acquire("sim-1", ttl=60)
    request = leases_pb2.AcquireLeaseRequest(board="boards/sim-1", ttl=Duration(seconds=60), holder="gone")
    stream = leases_pb2_grpc.LeaseServiceStub(lab.channel()).AcquireLease(request)
    assert next(stream).queued.position == 1

    stream.cancel()
    lease.release()

    with pytest.raises(grpc.RpcError):
        next(stream)
    until(lambda: lab.client.board("sim-1").lease is None)


def test_single_calls_that_queued_before_a_lease_are_refused_when_their_turn_comes(
    lab, ann, bob, until: Callable[..., None]
) -> None:
    begun = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(
            bob.run, "sim-1", "print('begun')\nimport time\ntime.sleep(1)", output=lambda data: begun.set()
        )
        assert begun.wait(30)
        queued = pool.submit(bob.run, "sim-1", "ran = 1")
        until(lambda: lab.client.board("sim-1").queue_length == 1)
        with ann.acquire("sim-1", ttl=60) as lease:
            under_lease = ann.evaluate("sim-1", "'ran' in globals()", lease=lease)
            refused = queued.exception(30)
            unharmed = running.exception(30)

    assert unharmed is None  # it had begun before the lease
    assert isinstance(refused, BoardLeased)
    assert refused.holder == "ann@desk"
    assert under_lease is False


def test_the_ends_of_leases_are_counted(lab, ann) -> None:
    released, waits = (
        lab.metric("belayd_leases_ended_total", cause="released"),
        lab.metric("belayd_lease_wait_seconds_count"),
    )

    with ann.acquire("sim-1", ttl=60):
        assert lab.metric("belayd_lease_held", board="sim-1") == 1
        assert lab.metric("belayd_lease_held") == 1

    assert lab.metric("belayd_leases_ended_total", cause="released") == released + 1
    assert lab.metric("belayd_lease_wait_seconds_count") == waits + 1
    assert lab.metric("belayd_lease_held") == 0
