"""A call over WebREPL against the same over serial, and 100 kB of bytes as a result.

    python benchmarks/links.py [--calls 1500] [--rounds 10] [--quick]

Each contender has a simulated board of its own: belayd, Belay and a bare exchange
(one write, one read, no library) over a pty and over WebREPL on loopback, in short
blocks that take turns. Belay over WebREPL gets few calls, since each takes it as long
as a delayed acknowledgement of TCP. The bytes of the large result hold every value
equally often; what they take on the board's wire is counted apart, by a relay.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import belay
from parts import Counter, daemon, machine, p99, simulated_board, wait_until_ready, webrepl_board

from belayd_client import Client, Device

BLOCK = 50
SLOW_BLOCK = 3
PASSWORD = "roof-4711"
PAYLOAD_BYTES = 100_000
PAYLOAD = (bytes(range(256)) * (PAYLOAD_BYTES // 256 + 1))[:PAYLOAD_BYTES]
ROOM = ("--heap", "2048")
"""With the usual 512 KiB Belay's call raises MemoryError: the whole text is built on the board."""
PAYLOAD_SOURCE = f"_P = (bytes(range(256)) * {PAYLOAD_BYTES // 256 + 1})[:{PAYLOAD_BYTES}]"
CALL = b"print(add(%d,%d))\x04"
SOURCE = b"def add(a, b):\n    return a + b\n\x04"
Add = Callable[[int, int], int]
Blob = Callable[[], object]


@contextmanager
def belay_tasks(address: str, password: str = "") -> Iterator[tuple[Add, Blob]]:
    with belay.Device(address, startup="", password=password) as device:
        device(PAYLOAD_SOURCE)

        @device.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        @device.task
        def blob():  # type: ignore[no-untyped-def]
            return _P  # type: ignore[name-defined]  # noqa: F821

        yield add, blob


@contextmanager
def belayd_tasks(address: str) -> Iterator[tuple[Add, Blob]]:
    with Device(address) as device:
        device(PAYLOAD_SOURCE)

        @device.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        @device.task
        def blob():  # type: ignore[no-untyped-def]
            return _P  # type: ignore[name-defined]  # noqa: F821

        yield add, blob


@contextmanager
def bare_serial(path: str) -> Iterator[Add]:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    yield bare(lambda data: os.write(fd, data), lambda: os.read(fd, 65536))
    os.close(fd)


@contextmanager
def bare_webrepl(url: str) -> Iterator[Add]:
    host, _, port = url.removeprefix("ws://").partition(":")
    with socket.create_connection((host, int(port))) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: foo\r\n\r\n"
        )
        pending = b""

        def receive() -> bytes:
            # Without it the kernel keeps its acknowledgement back, and the board its answer, for 44 ms.
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return line.recv(65536)

        while b"\r\n\r\n" not in pending:
            pending += receive()
        pending = pending.partition(b"\r\n\r\n")[2]

        def write(data: bytes) -> object:
            return line.send(struct.pack(">BB", 0x81, len(data)) + data)  # a text frame, below 126 bytes

        def read() -> bytes:
            nonlocal pending
            while len(pending) < 2 or len(pending) < 2 + pending[1]:
                pending += receive()
            frame, pending = pending[2 : 2 + pending[1]], pending[2 + pending[1] :]
            return frame

        read_until(read, b"Password: ")
        write(PASSWORD.encode() + b"\r")
        read_until(read, b">>> ")
        yield bare(write, read)


def bare(write: Callable[[bytes], object], read: Callable[[], bytes]) -> Add:
    """Return calls at the raw REPL of a link with nothing in between."""
    write(b"\r\x03\x03\x01")
    read_until(read, b"raw REPL; CTRL-B to exit\r\n>")
    write(SOURCE)
    read_until(read, b"\x04>")

    def add(a: int, b: int) -> int:
        write(CALL % (a, b))
        return int(read_until(read, b"\x04>")[2:].split(b"\x04")[0])

    return add


def read_until(read: Callable[[], bytes], end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        got += read()
    return got


def measure_calls(contenders: dict[str, Add], slow: str, calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for block in range(max(1, calls // BLOCK) + 1):
        for name, add in contenders.items():
            for number in range(SLOW_BLOCK if name == slow else BLOCK):
                began = time.perf_counter()
                result = add(number, 2)
                took = time.perf_counter() - began
                if result != number + 2:
                    raise SystemExit(f"{name}: add({number}, 2) gave {result!r}")
                if block:  # the first block warms up
                    times[name].append(took * 1e3)
    return times


def measure_blobs(contenders: dict[str, Blob], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, blob in contenders.items():
            began = time.perf_counter()
            result = blob()
            took = time.perf_counter() - began
            if result != PAYLOAD:
                raise SystemExit(f"{name}: the bytes came back wrong")
            if number:
                times[name].append(took * 1e3)
    return times


def count_blob(name: str, folder: Path) -> tuple[float, float, float]:
    """Return bytes out and in for each byte of one large result, and round trips, through a counting relay."""
    with ExitStack() as stack:
        counter = Counter(stack.enter_context(simulated_board(folder, *ROOM)))
        stack.callback(counter.close)
        if name == "Belay":
            _, blob = stack.enter_context(belay_tasks(counter.path))
        else:
            inventory = f"  b: {{serial: {{port: {counter.path}}}}}\n"
            address = stack.enter_context(daemon(folder, inventory))
            _, blob = stack.enter_context(belayd_tasks(f"{address}/b"))
        blob()
        counter.reset()
        for _ in range(3):
            blob()
        total = counter.reset()
    return total.sent / 3 / PAYLOAD_BYTES, total.received / 3 / PAYLOAD_BYTES, total.round_trips / 3


def print_calls(times: dict[str, list[float]]) -> None:
    print("| `add(1, 2)` | calls | median | p99 |\n|---|---|---|---|")
    for name, took in times.items():
        print(f"| {name} | {len(took):,} | {statistics.median(took):.3f} | {p99(took):.3f} |")
    print("\n| WebREPL over the serial figure, median | ms |\n|---|---|")
    for name in ("bare exchange", "Belay", "belayd"):
        more = statistics.median(times[f"{name}, WebREPL"]) - statistics.median(times[f"{name}, serial"])
        print(f"| {name} | {more:+.3f} |")


def print_blobs(times: dict[str, list[float]], wire: dict[str, tuple[float, float, float]]) -> None:
    print(f"\n| {PAYLOAD_BYTES:,} bytes as a result, serial | wire bytes in a byte ", end="")
    print("| wire bytes out a byte | round trips | median, ms | least to most |\n|---|---|---|---|---|---|")
    for name, took in times.items():
        sent, received, trips = wire[name]
        print(f"| {name} | {received:.3f} | {sent:.4f} | {trips:g} ", end="")
        print(f"| {statistics.median(took):.1f} | {min(took):.1f} to {max(took):.1f} |")
    ratio = statistics.median(times["Belay"]) / statistics.median(times["belayd"])
    print(f"\nBelay / belayd: {ratio:.2f} (above 1: belayd is faster)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1500, help="timed calls of each contender")
    parser.add_argument("--rounds", type=int, default=10, help="large results of each contender")
    parser.add_argument("--quick", action="store_true", help="few calls: does it work?")
    args = parser.parse_args()
    calls, rounds = (100, 2) if args.quick else (args.calls, args.rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ttys, doors = {}, {}
        for name in ("bare", "Belay", "belayd"):
            (folder / f"{name}-serial").mkdir()
            (folder / f"{name}-webrepl").mkdir()
            ttys[name] = stack.enter_context(simulated_board(folder / f"{name}-serial", *ROOM))
            doors[name] = stack.enter_context(webrepl_board(folder / f"{name}-webrepl", PASSWORD))
        door = f"{{url: '{doors['belayd']}', password_file: {folder}/belayd-webrepl/password}}"
        inventory = f"  tty: {{serial: {{port: {ttys['belayd']}}}}}\n  door: {{webrepl: {door}}}\n"
        # A soft reset closes a WebREPL, which is worth a warning, but not here.
        address = stack.enter_context(daemon(folder, inventory, log_level="error"))
        wait_until_ready(stack.enter_context(Client(address)), ["tty", "door"])
        their_add, their_blob = stack.enter_context(belay_tasks(ttys["Belay"]))
        far_add, _ = stack.enter_context(belay_tasks(doors["Belay"], password=PASSWORD))
        our_add, our_blob = stack.enter_context(belayd_tasks(f"{address}/tty"))
        door_add, _ = stack.enter_context(belayd_tasks(f"{address}/door"))
        times = measure_calls(
            {
                "bare exchange, serial": stack.enter_context(bare_serial(ttys["bare"])),
                "bare exchange, WebREPL": stack.enter_context(bare_webrepl(doors["bare"])),
                "Belay, serial": their_add,
                "Belay, WebREPL": far_add,
                "belayd, serial": our_add,
                "belayd, WebREPL": door_add,
            },
            "Belay, WebREPL",
            calls,
        )
        blobs = measure_blobs({"Belay": their_blob, "belayd": our_blob}, rounds)
    wire = {}
    for name in blobs:
        with tempfile.TemporaryDirectory() as folder_name:
            wire[name] = count_blob(name, Path(folder_name))
    print(f"simulated boards, interleaved by {BLOCK}; milliseconds\n{machine()}\n")
    print_calls(times)
    print_blobs(blobs, wire)


if __name__ == "__main__":
    main()
