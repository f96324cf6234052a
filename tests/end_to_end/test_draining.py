"""A daemon before its upgrade: nothing new, what lives goes on, and then nobody holds a board."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from belayd_client import BoardUnavailable, Client, Refused

PATIENCE = 30.0


@pytest.fixture
def lab(daemon: Callable, sim: dict) -> Iterator[Any]:
    yield daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture
def admin(lab) -> Client:
    client: Client = lab.stack.enter_context(Client(f"unix:{lab.folder / 'state' / 'belayd.sock'}"))
    return client


def health(lab: Any) -> int:
    stub = health_pb2_grpc.HealthStub(lab.channel())
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE).status
    return status


def test_a_draining_daemon_takes_nothing_new_and_its_holders_go_on(
    lab, admin: Client, until: Callable
) -> None:
    with ThreadPoolExecutor(1) as pool:
        lease = lab.client.acquire("sim-1", ttl=60)
        waiting = pool.submit(lab.connect("bob@desk").acquire, "sim-1", ttl=60)
        until(lambda: lab.client.board("sim-1").lease_queue_length == 1)

        status = next(admin.drain("upgrade"))

        assert status is not None
        assert (status.leases, status.reason) == (1, "upgrade")
        refused = [waiting.exception(PATIENCE)]
    for work in (lambda: lab.client.acquire("sim-2", ttl=60), lambda: lab.client.evaluate("sim-2", "1")):
        with pytest.raises(BoardUnavailable, match="draining") as error:
            work()
        refused.append(error.value)
    assert [getattr(error, "reason", error) for error in refused] == ["DRAINING"] * 3
    assert lab.client.evaluate("sim-1", "6 * 7", lease=lease) == 42
    told = lab.client.daemon().drain
    assert told is not None
    assert told.principal.startswith("unix:")
    assert health(lab) == health_pb2.HealthCheckResponse.NOT_SERVING

    list(admin.drain(off=True))

    assert lab.client.daemon().drain is None
    assert health(lab) == health_pb2.HealthCheckResponse.SERVING
    assert lab.client.evaluate("sim-2", "6 * 7") == 42


def test_waiting_ends_when_nobody_holds_a_board_and_nothing_runs(lab, admin: Client, until: Callable) -> None:
    lease = lab.client.acquire("sim-1", ttl=60)
    lab.client.run("sim-1", "x = 1", lease=lease)
    draining = lab.start_belayctl("--address", admin.address, "drain", "--wait", "--reason", "upgrade")
    assert "leases 1," in draining.stderr.readline()

    lease.release()

    assert draining.wait(PATIENCE) == 0
    assert "nobody holds a board and nothing runs" in draining.stderr.read()
    assert lab.client.board("sim-1").state.value == "ready"
    with contextlib.suppress(HTTPError):
        lab.scrape()  # metrics go on


def test_waiting_ends_when_somebody_ends_the_draining(lab, admin: Client) -> None:
    lab.client.acquire("sim-1", ttl=60)
    draining = lab.start_belayctl("--address", admin.address, "drain", "--wait")
    assert "leases 1," in draining.stderr.readline()

    off = lab.belayctl("--address", admin.address, "drain", "--off")

    assert off.returncode == 0
    assert draining.wait(PATIENCE) == 3
    assert "somebody ended the draining" in draining.stderr.read()


def test_a_restart_ends_a_draining_and_only_an_administrator_begins_one(lab, admin: Client) -> None:
    with pytest.raises(Refused, match="needs admin"):
        next(lab.client.drain())
    next(admin.drain())
    lab.stop()

    again = lab.again()

    assert again.client.daemon().drain is None
    assert again.client.evaluate("sim-1", "6 * 7", timeout=PATIENCE) == 42
