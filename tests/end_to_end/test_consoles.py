"""A board's raw bytes for its holder, and what it prints for those who watch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from belayd_client import Client, Console, LeaseLost, LeaseRequired, NotFound, TransportLost


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture
def lease(lab) -> Iterator:
    with lab.client.acquire("sim-1", ttl=60) as lease:
        yield lease


def read_until(console: Console, mark: bytes) -> bytes:
    """Return what comes up to `mark`; the test's own time limit ends a wait for nothing."""
    came = b""
    while mark not in came:
        data = console.read()
        assert data, came
        came += data
    return came


def test_the_holder_types_at_the_friendly_prompt(lab, lease) -> None:
    with lab.client.attach("sim-1", lease) as console:
        read_until(console, b">>> ")
        console.write(b"print(6 * 7)\r")

        assert read_until(console, b"42").startswith(b"print(6 * 7)")  # echoed, as a terminal expects


def test_every_byte_goes_through_both_ways(lab, lease) -> None:
    with lab.client.attach("sim-1", lease) as console:
        read_until(console, b">>> ")
        console.write(b"\x01")
        read_until(console, b"raw REPL; CTRL-B to exit\r\n>")
        console.write(b"import sys\nsys.stdout.buffer.write(bytes(range(256)))\x04")

        assert bytes(range(256)) in read_until(console, b"\x04\x04>")


def test_jobs_wait_until_the_holder_left_and_names_typed_there_stay(lab, lease) -> None:
    with lab.client.attach("sim-1", lease) as console:
        read_until(console, b">>> ")
        console.write(b"typed = 17\r")
        read_until(console, b">>> ")
        answer: list[object] = []
        asking = threading.Thread(
            target=lambda: answer.append(lab.client.evaluate("sim-1", "typed", lease=lease, timeout=60))
        )
        asking.start()
        console.leave()
        while console.read():
            pass
        asking.join(60)

    assert answer == [17]


@pytest.mark.parametrize(
    "left_at",
    [b"\x01", b"\x01print(1", b"\x05x = 1\r", b"while True: pass\r\r", b"(1,\r", b"\x01\x05A\x01abc"],
    ids=["raw", "raw, half a line", "paste", "running", "continuing", "raw paste"],
)
def test_wherever_the_holder_left_the_next_job_is_right(lab, lease, left_at: bytes) -> None:
    with lab.client.attach("sim-1", lease) as console:
        read_until(console, b">>> ")
        console.write(left_at)
        console.leave()
        while console.read():
            pass

    assert lab.client.evaluate("sim-1", "6 * 7", lease=lease, timeout=60) == 42


def test_a_caller_that_vanishes_frees_the_board(lab, lease) -> None:
    with Client(lab.address) as gone:
        console = gone.attach("sim-1", lease)
        read_until(console, b">>> ")
        console.write(b"while True: pass\r\r")

    assert lab.client.evaluate("sim-1", "6 * 7", lease=lease, timeout=60) == 42


def test_the_leases_end_ends_the_console(lab) -> None:
    lease = lab.client.acquire("sim-1", ttl=60)
    with lab.client.attach("sim-1", lease) as console:
        read_until(console, b">>> ")
        lab.client.release(lease.token)
        with pytest.raises(LeaseLost):
            while console.read():
                pass

    assert lab.client.evaluate("sim-1", "6 * 7", timeout=60) == 42


def test_without_a_lease_nobody_types(lab) -> None:
    with pytest.raises(LeaseRequired, match="acquire one, or only observe"):
        lab.client.attach("sim-1", "")
    with pytest.raises(NotFound):
        lab.client.attach("sim-9", "")


def test_an_observer_sees_what_jobs_print_and_what_is_typed(lab, lease) -> None:
    with Client(lab.address) as other, other.observe("sim-1") as watching:
        lab.client.run("sim-1", "print('from a run')", lease=lease)
        lab.client.call("sim-1", "print", "from a call", lease=lease)
        came = read_until(watching, b"from a call")
        with lab.client.attach("sim-1", lease) as console:
            read_until(console, b">>> ")
            console.write(b"print('by ' + 'hand')\r")
            came += read_until(watching, b"by hand")

        assert b"from a run" in came
        assert lab.client.board("sim-1").observers == ("local",)


def test_an_observer_sees_what_a_conversations_calls_and_generators_print(lab, lease) -> None:
    lab.client.run(
        "sim-1", "def gen():\n print('from a generator')\n yield 1\n print('its end')", lease=lease
    )
    with Client(lab.address) as other, other.observe("sim-1") as watching:
        function = lab.client.function("sim-1", "print", lease=lease)
        assert list(function.map(["from a map"])) == [None]
        read_until(watching, b"from a map")
        assert list(lab.client.iterate("sim-1", "gen", lease=lease)) == [1]
        assert b"from a generator" in read_until(watching, b"its end")


def test_what_belayd_itself_says_to_the_board_is_not_shown(lab, lease) -> None:
    with lab.client.observe("sim-1") as watching:
        assert lab.client.evaluate("sim-1", "6 * 7", lease=lease) == 42
        lab.client.run("sim-1", "print('end')", lease=lease)

        assert read_until(watching, b"end").strip() == b"end"


def test_an_observer_that_leaves_is_no_observer_any_more(lab, lease, until: Callable[..., None]) -> None:
    with lab.client.observe("sim-1"):
        until(lambda: lab.client.board("sim-1").observers)
    until(lambda: not lab.client.board("sim-1").observers)


def test_a_slow_observer_loses_the_oldest_and_slows_nobody(lab, lease) -> None:
    with Client(lab.address) as other, other.observe("sim-1") as watching:
        source = "for n in range(40000): print('%06d' % n, 'x' * 90)\nprint('the end')"
        lab.client.run("sim-1", source, lease=lease, timeout=120)
        came = read_until(watching, b"the end")

    assert len(came) + watching.dropped_bytes >= 40_000 * 98
    assert watching.dropped_bytes > 0


def test_a_board_that_goes_away_ends_its_console(lab) -> None:
    import os
    import signal

    with lab.client.acquire("sim-2", ttl=60) as lease, lab.client.attach("sim-2", lease) as console:
        read_until(console, b">>> ")
        os.kill(lab.wrapper("sim-2"), signal.SIGKILL)
        with pytest.raises(TransportLost):
            while console.read():
                pass
