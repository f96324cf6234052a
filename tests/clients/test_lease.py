from __future__ import annotations

import subprocess
import sys
import threading

import grpc
import pytest

from belayd_client.client import Client
from belayd_client.errors import BelaydError, ConnectionFailed, LeaseLost


@pytest.fixture
def client(lab):
    with Client(lab.address) as client:
        yield client


def test_leaving_the_block_releases(lab, client: Client) -> None:
    with client.acquire("pico-1") as lease:
        assert lease.board == "pico-1"
        assert lease.token in lab.held

    assert lab.held == {}
    lease.release()


def test_a_renewal_moves_the_expiry(client: Client) -> None:
    with client.acquire("pico-1", ttl=60) as lease:
        before = lease.expires
        lease.renew(3600)

        assert (lease.expires - before).total_seconds() > 3000


def test_a_kept_lease_is_renewed_again_and_again(lab, client: Client) -> None:
    with client.acquire("pico-1", ttl=0.3).keep():
        for _ in range(5):
            assert lab.renewed.acquire(timeout=30)

        assert client.leases()


def test_a_plain_lease_is_not_renewed(lab, client: Client) -> None:
    with client.acquire("pico-1", ttl=0.3):
        assert not lab.renewed.acquire(timeout=1)


def test_a_kept_lease_survives_a_daemon_that_is_away_for_less_than_its_ttl(lab, client: Client) -> None:
    losses: list[LeaseLost] = []
    with client.acquire("pico-1", ttl=6).keep(losses.append) as lease:
        lab.stop()
        with pytest.raises(ConnectionFailed):
            lease.renew()
        lab.start()
        assert lab.renewed.acquire(timeout=60)

        assert not lease.lost
        assert losses == []


def test_a_daemon_that_is_away_for_longer_loses_the_lease(lab, client: Client) -> None:
    lost, losses = threading.Event(), []
    lease = client.acquire("pico-1", ttl=0.5)

    lab.stop()
    lease.keep(lambda loss: (losses.append(loss), lost.set()))

    assert lost.wait(30)
    assert lease.lost
    assert "could not be renewed" in str(losses[0])


def test_the_end_of_a_lease_is_noticed_and_told_once(lab, client: Client) -> None:
    lost, losses = threading.Event(), []
    lease = client.acquire("pico-1", ttl=0.3).keep(lambda loss: (losses.append(loss), lost.set()))

    lab.lose_leases()

    assert lost.wait(30)
    assert lease.lost
    assert losses[0].reason == "LEASE_EXPIRED"
    with pytest.raises(LeaseLost):
        client.run("pico-1", "x = 1", lease=lease)
    lease.release()
    assert len(losses) == 1


def test_a_refused_renewal_is_tried_again(lab, client: Client) -> None:
    with client.acquire("pico-1", ttl=3).keep() as lease:
        lab.failures["RenewLease"] = (grpc.StatusCode.INTERNAL, "INTERNAL", "once", {})
        with pytest.raises(BelaydError, match="once"):
            lease.renew()
        del lab.failures["RenewLease"]

        assert lab.renewed.acquire(timeout=30)
        assert not lease.lost


def test_a_daemon_that_forgot_the_lease_has_ended_it(lab, client: Client) -> None:
    lease = client.acquire("pico-1")
    lab.failures["RenewLease"] = (grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "no such lease", {})

    with pytest.raises(LeaseLost):
        lease.renew()

    assert lease.lost


def test_releasing_stops_the_renewals(lab, client: Client) -> None:
    lease = client.acquire("pico-1", ttl=0.3).keep()
    assert lab.renewed.acquire(timeout=30)

    lease.release()
    renewals = sum("RenewLease" in type(request).__name__ for request in lab.requests)

    assert not [thread for thread in threading.enumerate() if lease.name in thread.name]
    assert renewals == sum("RenewLease" in type(request).__name__ for request in lab.requests)


def test_the_blocks_own_exception_wins_over_a_failed_release(lab, client: Client) -> None:
    with pytest.raises(ZeroDivisionError), client.acquire("pico-1"):
        lab.stop()
        raise ZeroDivisionError


KEEPER = """
import sys
from belayd_client import Client
client = Client(sys.argv[1])
lease = client.acquire("pico-1", ttl=600)
if sys.argv[2] == "kept":
    lease.keep()
"""


@pytest.mark.parametrize(("how", "left"), [("kept", 0), ("plain", 1)])
def test_a_kept_lease_ends_with_the_program_and_a_plain_one_outlives_it(lab, how: str, left: int) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", KEEPER, lab.address, how], check=True, timeout=60)

    assert len(lab.held) == left
