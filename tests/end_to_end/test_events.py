"""What happens, told to whoever watches a real daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from belayd.v1 import daemon_pb2, daemon_pb2_grpc

PATIENCE = 30.0


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim, "sim-2": sim})


def test_belayctl_follows_events(lab, until: Callable[..., None]) -> None:
    following = lab.start_belayctl("events", "-f", "--operations", "--json", "sim-2")
    lines: list[dict[str, Any]] = []

    def read() -> None:
        for line in following.stdout:
            lines.append(json.loads(line))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(read)
        # Whether it watches yet it does not say: until something came that nobody keeps.
        until(
            lambda: (
                lab.client.evaluate("sim-2", "1") == 1
                and any(one["kind"] == "operations_ended" for one in lines)
            )
        )
        following.terminate()
        following.wait(PATIENCE)

    assert {line["board"] for line in lines} == {"sim-2"}
    [operation] = [line for line in lines if line["kind"] == "operations_ended"][:1]
    assert operation["fields"]["operation"] == "run"
    assert operation["fields"]["outcomes"] == [{"outcome": "ok", "reason": "", "count": 1}]


def test_any_number_may_watch_and_each_is_told(lab) -> None:
    request = daemon_pb2.WatchEventsRequest(board="boards/sim-1")
    stubs = [daemon_pb2_grpc.DaemonServiceStub(lab.channel(("unused", number))) for number in range(20)]
    calls = [stub.WatchEvents(request, timeout=PATIENCE) for stub in stubs]
    for call in calls:
        assert not next(call).events  # it watches

    with lab.client.acquire("sim-1", ttl=60, wait=PATIENCE):
        pass

    for call in calls:
        kinds: list[str] = []
        while "lease_stopped" not in kinds:
            kinds += [str(event.WhichOneof("kind")) for event in next(call).events]
        assert kinds[: kinds.index("lease_stopped") + 1] == ["lease_started", "lease_stopped"]
        call.cancel()
