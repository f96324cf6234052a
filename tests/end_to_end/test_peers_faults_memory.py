"""What Belay 0.30.1 leaves behind in a board's memory, and what belayd does not.

The numbers are those of the list of faults that were reproduced in Belay: 9 generators
that somebody abandons, 10 a micro:bit, whose memory is 9.7 kB.
"""

from __future__ import annotations

import gc
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import belay
import pytest

from belayd_client import Device, Unsupported
from belayd_client.errors import BoardException, Exhausted

PATIENCE = 30.0
ABANDONED = 200
MOST_BYTES = 1024
"""What belayd may take of a micro:bit's memory."""
FREE = "def free():\n gc.collect()\n return gc.mem_free()\n"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim})


@pytest.fixture
def device(lab) -> Iterator[Device]:
    with Device(f"{lab.address}/sim-1", timeout=60) as device:
        device("import gc\nclosed = []\n" + FREE)
        yield device


@pytest.fixture
def count(device: Device) -> Callable[[int], Iterator[int]]:
    @device.task
    def count(n: int) -> Iterator[int]:
        try:
            held = bytearray(500)  # noqa: F841
            yield from range(n)
        finally:
            closed.append(n)  # type: ignore[name-defined]

    return count


# 9: generators that are abandoned


def dropped(items: Iterator[int]) -> None:
    assert next(items) == 0


def closed(items: Any) -> None:
    assert next(items) == 0
    items.close()


def left_by_break(items: Iterator[int]) -> None:
    for _ in items:
        break


def left_by_an_exception(items: Iterator[int]) -> None:
    with pytest.raises(RuntimeError, match="in the body"):
        for _ in items:
            raise RuntimeError("in the body")


def thrown_into(items: Any) -> None:
    assert next(items) == 0
    with pytest.raises(RuntimeError, match="thrown"):
        items.throw(RuntimeError("thrown"))


def exhausted(items: Iterator[int]) -> None:
    for _ in items:
        pass


@pytest.mark.parametrize("length", [10, 10_000], ids=["all on its way", "more to come"])
@pytest.mark.parametrize("leave", [dropped, closed, left_by_break, left_by_an_exception, thrown_into])
def test_an_abandoned_generator_runs_its_finally_and_leaves_no_memory_behind(
    device: Device,
    count: Callable[[int], Iterator[int]],
    leave: Callable[[Iterator[int]], None],
    length: int,
) -> None:
    for _ in range(3):
        leave(count(length))
    gc.collect()
    device("closed.clear()")
    names = device("sorted(globals())")
    before = device("free()")

    for _ in range(ABANDONED):
        leave(count(length))
    gc.collect()

    assert device("(len(closed), set(closed))") == (ABANDONED, {length})
    device("closed = []")
    after = device("free()")
    assert before - after < 1000, f"{before - after} bytes for {ABANDONED} generators"
    assert device("sorted(globals())") == names


def test_an_exhausted_generator_leaves_no_memory_behind(
    device: Device, count: Callable[[int], Iterator[int]]
) -> None:
    exhausted(count(10))
    device("closed = []")
    before = device("free()")

    for _ in range(ABANDONED):
        exhausted(count(10))

    device("closed = []")
    assert before - device("free()") < 1000


def test_a_generator_that_nobody_asked_never_begins(
    device: Device, count: Callable[[int], Iterator[int]]
) -> None:
    items = count(10)
    del items
    gc.collect()

    assert device("closed") == []


def test_a_generator_that_raises_runs_its_finally_and_raises_here(device: Device) -> None:
    @device.task
    def fail() -> Iterator[int]:
        try:
            yield 1
            raise ValueError("on the board")
        finally:
            closed.append(0)  # type: ignore[name-defined]

    items = fail()
    assert next(items) == 1
    with pytest.raises(BoardException, match="on the board"):
        next(items)
    assert list(items) == []
    assert device("closed") == [0]


def test_a_generator_that_was_closed_stays_closed(
    device: Device, count: Callable[[int], Iterator[int]]
) -> None:
    begun: Any = count(10)
    fresh: Any = count(10)
    assert next(begun) == 0

    for items in (begun, fresh):
        items.close()
        items.close()
        assert list(items) == []

    assert device("closed") == [10]


def test_a_generator_that_takes_values_is_closed_too(device: Device) -> None:
    @device.task
    def echo() -> Iterator[object]:
        got = None
        try:
            while True:
                got = yield got
        finally:
            closed.append(got)  # type: ignore[name-defined]

    for number in range(20):
        items: Any = echo()
        assert [next(items), items.send(number)] == [None, number]
        del items
    gc.collect()

    assert device("closed") == list(range(20))


def test_belay_itself_leaves_every_abandoned_generator_on_the_board(
    simulated_pty: Callable[..., Any],
) -> None:
    with belay.Device(str(simulated_pty("anchor").path), startup="") as device:
        device("import gc\nclosed = []\n" + FREE)

        @device.task
        def count(n: int) -> Iterator[int]:
            try:
                held = bytearray(500)  # noqa: F841
                yield from range(n)
            finally:
                closed.append(n)  # type: ignore[name-defined]

        closed(count(10))
        before = device("free()")
        for _ in range(20):
            closed(count(10))

        assert before - device("free()") > 20 * 500
        assert device("closed") == []


# 10: a micro:bit


@pytest.fixture
def microbit(daemon: Callable[..., Any], microbit_port: Path) -> Iterator[tuple[Any, Device]]:
    """A daemon with a micro:bit named bit, and that board leased."""
    lab = daemon({"bit": {"serial": {"port": str(microbit_port)}}})
    with Device(f"{lab.address}/bit", timeout=60) as device:
        yield lab, device


def ask_bare(port: Path, *commands: str) -> str:
    """Return what the last of some commands prints on a micro:bit that has restarted and holds nothing else."""
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
    came = b""

    def until(end: bytes) -> str:
        nonlocal came
        deadline = time.monotonic() + PATIENCE
        while end not in came:
            assert time.monotonic() < deadline, came
            if select.select([fd], [], [], 0.1)[0]:
                came += os.read(fd, 1000)
        answer, _, came = came.partition(end)
        return answer.decode()

    try:
        os.write(fd, b"\r\x03\x03")
        until(b">>> ")
        os.write(fd, b"\x01")
        until(b"raw REPL; CTRL-B to exit\r\n>")
        os.write(fd, b"\x04")
        until(b"raw REPL; CTRL-B to exit\r\n>")
        answer = ""
        for command in commands:
            os.write(fd, command.encode() + b"\x04")
            answer = until(b"\x04>")
            assert "Error" not in answer, answer
        os.write(fd, b"\x02")
        until(b">>> ")
    finally:
        os.close(fd)
    numbers = re.findall(r"\d+", answer)
    return numbers[-1]


def test_belayd_takes_at_most_a_kilobyte_of_a_micro_bits_memory(
    daemon: Callable[..., Any], microbit_port: Path
) -> None:
    without = int(ask_bare(microbit_port, "import gc", FREE, "print(free())"))

    lab = daemon({"bit": {"serial": {"port": str(microbit_port)}}})
    with Device(f"{lab.address}/bit", timeout=60) as device:
        device("import gc")
        device(FREE)
        within = [device("free()") for _ in range(3)]

        @device.task
        def nothing() -> None:
            pass

        for _ in range(50):
            nothing()
        device("x = 'text that is too long for one command: ' * 3\ndel x\ndel nothing")
        later = device("free()")

    assert without > 9_000
    assert without - min(within) <= MOST_BYTES
    # Names that callers bring stay in a board's memory by its own rules; nothing else does.
    assert min(within) - later <= 128


def test_a_micro_bit_works_with_the_default_start(microbit: tuple[Any, Device]) -> None:
    _, device = microbit

    @device.task
    def add(a: int, b: int) -> int:
        return a + b

    device("import microbit")

    assert [add(n, 1) for n in range(20)] == list(range(1, 21))
    assert device("microbit.running_time() >= 0") is True
    assert device("'hello'") == "hello"
    with pytest.raises(BoardException, match="ZeroDivisionError"):
        device("1 / 0")


def test_belays_default_start_fails_on_a_micro_bit(microbit_port: Path) -> None:
    script = (
        "import sys, belay\ntry: belay.Device(sys.argv[1])\nexcept belay.PyboardException as e: print(e)\n"
    )

    done = subprocess.run([sys.executable, "-c", script, microbit_port], capture_output=True, text=True)

    assert "ImportError" in done.stdout


def test_a_runner_that_its_user_deleted_is_back_for_the_call_that_misses_it(
    microbit: tuple[Any, Device],
) -> None:
    _, device = microbit
    for damage in ("del _B", "_B = 1"):
        device(damage)
        assert device("[number * 2 for number in range(10) if number % 2 == 0]") == [0, 4, 8, 12, 16]


def test_a_long_text_is_run_and_does_not_stay_in_a_micro_bits_memory(microbit: tuple[Any, Device]) -> None:
    _, device = microbit
    device("import gc")
    device(FREE)
    before = device("free()")

    device("\n".join(f"x = 'line number {number} of a text'" for number in range(35)) + "\ndel x\n")

    assert before - device("free()") <= 128


def test_a_small_file_is_deployed_to_a_micro_bit_or_refused_with_the_reason(
    microbit: tuple[Any, Device], tmp_path: Path
) -> None:
    lab, device = microbit
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "note.txt").write_text("a small file\n")

    with pytest.raises(Unsupported, match="no hashlib") as refused:
        lab.client.deploy("bit", tree, lease=device.lease)

    assert "use run" in refused.value.message
    assert device("6 * 7") == 42


def test_a_text_that_a_micro_bit_cannot_hold_is_refused_before_it_hangs(microbit: tuple[Any, Device]) -> None:
    _, device = microbit
    with pytest.raises(Exhausted, match="smaller parts"):
        device("x = 1\n" * 600)

    assert device("6 * 7") == 42


def test_a_generator_on_a_micro_bit_is_refused_with_what_to_do_instead(microbit: tuple[Any, Device]) -> None:
    _, device = microbit

    @device.task
    def count() -> Iterator[int]:
        yield 1

    with pytest.raises(Unsupported, match="return a list instead"):
        list(count())
    assert device("list(count())") == [1]
