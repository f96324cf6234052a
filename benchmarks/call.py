"""A trivial call: Belay in process against belayd through gRPC, on the same kind of board.

    python benchmarks/call.py [--calls 2000] [--board simulated|microbit]

Every contender takes its turn in short blocks, so that a machine that speeds up or
slows down does so for all. Beside the two stands the breakdown: the bare exchange
with the board (one write, one read, no library), the bare gRPC echoes (nothing
behind them), and what belayd adds to both. Bytes and round trips are counted
apart, by a relay that would disturb the timing.
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
from parts import Counter, daemon, microbit, process, simulated_board

from belayd_client import Client

BLOCK = 100
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


def measure(contenders: dict[str, Callable[[int, int], int]], calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(max(1, calls // BLOCK) + 1):
        for name, call in contenders.items():
            for number in range(BLOCK):
                began = time.perf_counter()
                result = call(number, 2)
                took = time.perf_counter() - began
                if result != number + 2:
                    raise SystemExit(f"{name}: add({number}, 2) gave {result!r}")
                if block:  # the first block warms up
                    times[name].append(took * 1e3)
    return times


def count(folder: Path, kind: str) -> None:
    """Print bytes and round trips of one call each, through a counting relay."""
    print("| per call | bytes out | bytes in | round trips |\n|---|---|---|---|")
    for name in ("Belay", "belayd"):
        with ExitStack() as stack:
            own = folder / f"count-{name}"
            own.mkdir()
            counter = Counter(stack.enter_context(board_of(kind, own)))
            if name == "Belay":
                call = stack.enter_context(belay_device(counter.path))
            else:
                entry = f"  b: {{serial: {{port: {counter.path}}}}}\n"
                address = stack.enter_context(daemon(own, entry))
                call = stack.enter_context(belayd_board(address, "b"))
            call(1, 2)
            counter.reset()
            for _ in range(100):
                call(1, 2)
            total = counter.reset()
            row = (total.sent / 100, total.received / 100, total.round_trips / 100)
            print(f"| {name} `add(1, 2)` | {row[0]:g} | {row[1]:g} | {row[2]:g} |")


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
        for name in ("bare", "belay", "belayd"):
            (folder / name).mkdir()
            paths.append(stack.enter_context(board_of(args.board, folder / name)))
        entry = f"  b: {{serial: {{port: {paths[2]}}}}}\n"
        address = stack.enter_context(daemon(folder, entry))
        unary, stream = stack.enter_context(echoes())
        contenders = {
            "bare exchange, raw REPL": Bare(paths[0]).call,
            "bare gRPC unary echo": unary,
            "bare gRPC stream echo": stream,
            "Belay in process": stack.enter_context(belay_device(paths[1])),
            "belayd through gRPC": stack.enter_context(belayd_board(address, "b")),
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
    floor = median["bare exchange, raw REPL"] + median["bare gRPC unary echo"]
    print(f"\nBelay / belayd: {theirs / ours:.2f} (above 1: belayd is faster)")
    print(f"added by belayd over bare exchange + bare unary echo: {ours - floor:.3f} ms\n")
    with tempfile.TemporaryDirectory() as folder_name:
        count(Path(folder_name), args.board)


if __name__ == "__main__":
    main()
