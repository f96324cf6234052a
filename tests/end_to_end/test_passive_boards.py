"""Boards that run their own program: watched, interrupted only under a lease, and then let go again."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd_client import Console, LeaseRequired

MAIN = """\
import time
print('began')
n = 0
while True:
    n += 1
    print('tick', n)
    time.sleep(0.05)
"""


@pytest.fixture
def lab(daemon, tmp_path: Path, until: Callable[..., None]):
    (tmp_path / "main.py").write_text(MAIN)
    lab = daemon({"own-1": {"simulated": {"folder": str(tmp_path)}, "attach": "passive"}})
    until(lambda: lab.client.board("own-1").state.value == "ready")
    return lab


def read_until(console: Console, mark: bytes) -> bytes:
    came = b""
    while mark not in came:
        data = console.read()
        assert data, came
        came += data
    return came


def ticks(came: bytes) -> list[int]:
    """Return the numbers of the whole ticks."""
    return [int(line.split()[1]) for line in came.splitlines()[1:] if line.startswith(b"tick ")]


def test_its_program_goes_on_while_it_is_watched(lab) -> None:
    with lab.client.observe("own-1") as watching:
        came = read_until(watching, b"tick 20\n")

    seen = ticks(came)
    assert seen == list(range(seen[0], seen[-1] + 1))
    assert lab.metric("belayd_transport_bytes_total", board="own-1", direction="sent") == 0


def test_without_a_lease_it_is_left_alone(lab) -> None:
    with lab.client.observe("own-1") as watching:
        with pytest.raises(LeaseRequired, match="runs its own program"):
            lab.client.evaluate("own-1", "1")
        with pytest.raises(LeaseRequired):
            lab.client.reset("own-1")
        done = lab.belayctl("exec", "own-1", "print(1)")
        read_until(watching, b"tick")

    assert done.returncode == 3
    assert "acquire" in done.stderr
    assert lab.metric("belayd_transport_bytes_total", board="own-1", direction="sent") == 0


def test_a_lease_alone_interrupts_nothing(lab) -> None:
    with lab.client.observe("own-1") as watching:
        before = ticks(read_until(watching, b"tick 10"))
        with lab.client.acquire("own-1", ttl=60):
            read_until(watching, b"tick")
        after = ticks(read_until(watching, b"tick 30\n"))

    assert before[-1] < after[-1]
    assert lab.metric("belayd_transport_bytes_total", board="own-1", direction="sent") == 0


def test_its_program_starts_again_after_the_lease(lab) -> None:
    with lab.client.observe("own-1") as watching:
        with lab.client.acquire("own-1", ttl=60) as lease:
            assert lab.client.evaluate("own-1", "n > 0", lease=lease, timeout=60) is True
            assert lab.client.evaluate("own-1", "6 * 7", lease=lease, timeout=60) == 42
        read_until(watching, b"began")
        read_until(watching, b"tick 3\n")

    facts = lab.client.board("own-1").facts
    assert facts is not None
    assert facts.implementation == "micropython"


def test_whoever_attaches_and_types_nothing_only_watches(lab) -> None:
    with lab.client.acquire("own-1", ttl=60) as lease, lab.client.attach("own-1", lease) as console:
        read_until(console, b"tick")
        console.leave()
        while console.read():
            pass
    with lab.client.observe("own-1") as watching:
        came = read_until(watching, b"tick")

    assert b"began" not in came
    assert lab.metric("belayd_transport_bytes_total", board="own-1", direction="sent") == 0


def test_what_was_typed_ends_with_the_lease(lab) -> None:
    with lab.client.observe("own-1") as watching:
        with lab.client.acquire("own-1", ttl=60) as lease, lab.client.attach("own-1", lease) as console:
            console.write(b"\x03")
            read_until(console, b">>> ")
            console.write(b"print('by ' + 'hand')\r")
            read_until(console, b"by hand")
        came = read_until(watching, b"began")
        read_until(watching, b"tick 2\n")

    assert b"by hand" in came


def test_a_daemon_that_stops_lets_its_program_run_again(daemon, simulated_pty, tmp_path: Path) -> None:
    board = simulated_pty("own")
    (board.folder / "main.py").write_text(MAIN)
    lab = daemon({"own-1": {"serial": {"port": str(board.path)}, "attach": "passive"}})
    lease = lab.client.acquire("own-1", ttl=60)
    assert lab.client.evaluate("own-1", "6 * 7", lease=lease, timeout=60) == 42

    lab.stop()

    port = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    came = b""
    while b"tick 2" not in came:
        assert select.select([port], [], [], 30)[0], came
        came += os.read(port, 4096)
    os.close(port)
