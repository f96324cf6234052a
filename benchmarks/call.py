"""A trivial call: Belay in process against belayd through gRPC, on the same kind of board.

    python benchmarks/call.py [--calls 2000] [--board simulated|microbit]

Every contender takes its turn in short blocks, so that a machine that speeds up or
slows down does so for all. Beside the two stands the breakdown: the bare exchange
with the board (one write, one read, no library), belayd's session with the board and
its queue around that (without gRPC), the bare gRPC echoes (nothing behind them), and
what belayd adds to both. Bytes and round trips are counted apart, by a relay that
would disturb the timing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import belay
import grpc
from inside import Inside
from parts import Counter, daemon, microbit, process, simulated_board

from belayd_client import Client

BLOCK = 100
ATTEMPTS = 5
SOURCE = "def add(a, b):\n    return a + b\n"


class Bare:
    """The board's raw REPL with nothing in between."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)
        os.write(self._fd, b"\r\x03\x03\x01")
        self._until(b"raw REPL; CTRL-B to exit\r\n>")
        os.write(self._fd, SOURCE.encode() + b"\x04")
        self._until(b"\x04>")

    def call(self, a: int, b: int) -> int:
        os.write(self._fd, b"print(add(%d,%d))\x04" % (a, b))
        return int(self._until(b"\x04>")[2:].split(b"\x04")[0])

    def _until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            got += os.read(self._fd, 65536)
        return got


@contextmanager
def belay_device(path: str) -> Iterator[Callable[[int, int], int]]:
    with belay.Device(path, startup="") as device:

        @device.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        yield add


@contextmanager
def belayd_board(address: str, board: str) -> Iterator[Callable[[int, int], int]]:
    with Client(address) as client:
        client.run(board, SOURCE)
        yield lambda a, b: client.call(board, "add", a, b)


@contextmanager
def echoes() -> Iterator[tuple[Callable[[int, int], int], Callable[[int, int], int]]]:
    here = Path(__file__).parent
    with process([sys.executable, str(here / "echo_server.py")], r"(\d+)") as found:
        channel = grpc.insecure_channel(f"localhost:{found[1]}")
        unary = channel.unary_unary("/echo/Unary")
        request = b"x" * 32

        def unary_echo(a: int, b: int) -> int:
            return a + b if unary(request) == request else 0

        def requests() -> Iterator[bytes]:
            yield request
            while True:
                go.acquire()
                yield request

        import threading

        go = threading.Semaphore(0)
        answers = channel.stream_stream("/echo/Stream")(requests())
        next(answers)

        def stream_echo(a: int, b: int) -> int:
            go.release()
            return a + b if next(answers) == request else 0

        yield unary_echo, stream_echo
        answers.cancel()
        channel.close()


def timed(call: Callable[[int, int], int]) -> Callable[[int], list[float]]:
    """Return what gives the milliseconds of so many calls."""

    def block(count: int) -> list[float]:
        times = []
        for number in range(count):
            began = time.perf_counter()
            result = call(number, 2)
            times.append((time.perf_counter() - began) * 1e3)
            if result != number + 2:
                raise SystemExit(f"add({number}, 2) gave {result!r}")
        return times

    return block


def measure(contenders: dict[str, Callable[[int], list[float]]], calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(max(1, calls // BLOCK) + 1):
        for name, contender in contenders.items():
            took = contender(BLOCK)
            if block:  # the first block warms up
                times[name] += took
    return times


def inside(stack: ExitStack, path: str, *, queued: bool) -> Callable[[int], list[float]]:
    opened = Inside(path, SOURCE, queued=queued)
    stack.callback(opened.close)
    return opened.times


def count(folder: Path, kind: str) -> None:
    """Print bytes and round trips of one call each, through a counting relay."""
    print("| per call | bytes out | bytes in | round trips |\n|---|---|---|---|")
    for name in ("Belay", "belayd"):
        for attempt in range(ATTEMPTS):
            own = folder / f"count-{name}-{attempt}"
            own.mkdir()
            try:
                row = counted(name, kind, own)
            except belay.PyboardException:
                continue  # Belay checks nothing of what it sends, and an emulated UART loses bytes
            print(f"| {name} `add(1, 2)` | {row[0]:g} | {row[1]:g} | {row[2]:g} |")
            break
        else:
            print(f"| {name} | did not start in {ATTEMPTS} attempts | | |")


def counted(name: str, kind: str, folder: Path) -> tuple[float, float, float]:
    """Return bytes out, bytes in and round trips of a call."""
    with ExitStack() as stack:
        counter = Counter(stack.enter_context(board_of(kind, folder)))
        if name == "Belay":
            call = stack.enter_context(belay_device(counter.path))
        else:
            entry = f"  b: {{serial: {{port: {counter.path}}}}}\n"
            address = stack.enter_context(daemon(folder, entry))
            call = stack.enter_context(belayd_board(address, "b"))
        call(1, 2)
        counter.reset()
        for _ in range(100):
            call(1, 2)
        total = counter.reset()
        return total.sent / 100, total.received / 100, total.round_trips / 100


@contextmanager
def board_of(kind: str, folder: Path) -> Iterator[str]:
    with simulated_board(folder) if kind == "simulated" else microbit() as path:
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000, help="timed calls of each contender")
    parser.add_argument("--board", choices=("simulated", "microbit"), default="simulated")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = []
        for name in ("bare", "belay", "belayd", "session", "board"):
            (folder / name).mkdir()
            paths.append(stack.enter_context(board_of(args.board, folder / name)))
        entry = f"  b: {{serial: {{port: {paths[2]}}}}}\n"
        address = stack.enter_context(daemon(folder, entry))
        unary, stream = stack.enter_context(echoes())
        contenders = {
            "bare exchange, raw REPL": timed(Bare(paths[0]).call),
            "belayd's session, no gRPC": inside(stack, paths[3], queued=False),
            "the same in a board's queue": inside(stack, paths[4], queued=True),
            "bare gRPC unary echo": timed(unary),
            "bare gRPC stream echo": timed(stream),
            "Belay in process": timed(stack.enter_context(belay_device(paths[1]))),
            "belayd through gRPC": timed(stack.enter_context(belayd_board(address, "b"))),
        }
        times = measure(contenders, args.calls)
    print(f"{args.board} board, {args.calls} calls each, interleaved by {BLOCK}; milliseconds")
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()} {platform.system()}\n"
    )
    print("| call | median | p99 |\n|---|---|---|")
    for name, took in times.items():
        p99 = statistics.quantiles(took, n=100)[98]
        print(f"| {name} | {statistics.median(took):.3f} | {p99:.3f} |")
    median = {name: statistics.median(took) for name, took in times.items()}
    ours, theirs = median["belayd through gRPC"], median["Belay in process"]
    bare, session, queued, echo = (
        median[name]
        for name in (
            "bare exchange, raw REPL",
            "belayd's session, no gRPC",
            "the same in a board's queue",
            "bare gRPC stream echo",
        )
    )
    print(f"\nBelay / belayd: {theirs / ours:.2f} (above 1: belayd is faster)")
    print(f"added by belayd over bare exchange + bare stream echo: {ours - bare - echo:.3f} ms, of that")
    print(f"- the session: {session - bare:+.3f}")
    print(f"- the board's queue, states, events and metrics: {queued - session:+.3f}")
    print(f"- messages, the stream's two ends, and all of it on two cores: {ours - queued - echo:+.3f}\n")
    with tempfile.TemporaryDirectory() as folder_name:
        count(Path(folder_name), args.board)


if __name__ == "__main__":
    main()
