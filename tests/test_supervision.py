"""What arrives at a real notification socket, as systemd would hold it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from belayd.supervision import READY, feed_watchdog, tell


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and its address as the environment spells it."""
    spelled = str(tmp_path / "notify") if request.param == "path" else f"@belayd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(spelled.replace("@", "\0"))
        listening.settimeout(30)
        yield listening, spelled


def test_words_arrive_in_one_datagram(supervisor: tuple[socket.socket, str]) -> None:
    listening, address = supervisor

    tell(READY, "STATUS=4 boards", environment={"NOTIFY_SOCKET": address})

    assert listening.recv(100) == b"READY=1\nSTATUS=4 boards"


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "gone/away"}], ids=["nobody", "one that went away"]
)
def test_without_a_supervisor_nothing_happens(environment: dict[str, str]) -> None:
    tell(READY, environment=environment)


async def test_the_watchdog_is_fed_more_than_once_an_interval(supervisor: tuple[socket.socket, str]) -> None:
    listening, address = supervisor
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}

    feeding = asyncio.create_task(feed_watchdog(environment))
    fed = [await asyncio.to_thread(listening.recv, 100) for _ in range(3)]
    feeding.cancel()

    assert fed == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}],
    ids=["no watchdog", "another process's"],
)
async def test_a_watchdog_that_is_not_ours_is_not_fed(environment: dict[str, str]) -> None:
    async with asyncio.timeout(30):
        await feed_watchdog(environment)
