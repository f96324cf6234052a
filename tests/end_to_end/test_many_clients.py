"""Eight processes that call at once, without a lease: each gets its own answers, all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALLS = 200
CLIENTS = 8
BOARDS = ("sim-1", "sim-2", "sim-3", "sim-4")
CALLER = """
import sys
from belayd_client import Client

address, number, calls, *boards = sys.argv[1:]
right = 0
with Client(address) as client:
    for n in range(int(calls)):
        x = int(number) * 100_000 + n
        answer = client.call(boards[n % len(boards)], "describe", x, again=[str(x)])
        right += answer == (x, x * x, {"again": [str(x)]})
print(right)
"""
DEFINITION = "def describe(x, **more):\n    return x, x * x, more\n"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    lab = shared_daemon(dict.fromkeys(BOARDS, sim))
    for board in BOARDS:
        lab.client.run(board, DEFINITION)
    return lab


@pytest.mark.parametrize("boards", [BOARDS[:1], BOARDS], ids=["one board", "four boards"])
def test_eight_clients_get_sixteen_hundred_right_answers(lab, boards: tuple[str, ...]) -> None:
    before = lab.metric("belayd_operations_total", outcome="ok")

    callers = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, lab.address, str(number), str(CALLS), *boards],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(CLIENTS)
    ]
    told = [caller.communicate(timeout=100)[0] for caller in callers]

    assert told == [f"{CALLS}\n"] * CLIENTS
    assert lab.metric("belayd_operations_total", outcome="ok") == before + CALLS * CLIENTS


def test_a_lease_taken_amid_the_calls_lets_none_through(lab) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, lab.address, "1", "1000000", "sim-2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    before = lab.metric("belayd_operations_total", board="sim-2", outcome="ok")
    while lab.metric("belayd_operations_total", board="sim-2", outcome="ok") < before + 20:
        assert caller.poll() is None

    with lab.client.acquire("sim-2", ttl=30) as lease:
        _, complaint = caller.communicate(timeout=30)
        answer = lab.client.call("sim-2", "describe", 3, lease=lease)

    assert answer == (3, 9, {})
    assert "BoardLeased" in complaint
    assert "ann@desk" in complaint
