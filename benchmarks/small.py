"""A micro:bit in QEMU, inside the daemon: belayd's session against the bare exchange, and its memory.

    python benchmarks/small.py [--calls 1500] [--quick]

One board and one port: the contenders take turns on it in short blocks. The bare
exchange is one write and one blocking read of the raw REPL, without a library. The
second one writes what belayd writes, so that the first difference is the board's
work for it and the second one the daemon's own. The session is the daemon's, with no
queue and no gRPC around it. Memory is what gc.mem_free() says before belayd first
meets the board and after it has left, at the raw REPL of an interpreter that was
restarted, as belayd does with a board that small, and after a collection.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import select
import statistics
import time
import tty

from parts import machine, microbit, p99

from belayd.call import prepare
from belayd.outcome import Returned
from belayd.session import Session
from belayd.transport.serial import open_serial

BLOCK = 50
SETTLE = 0.3
"""Seconds of silence that end an answer whose length nobody knows."""
SOURCE = "def add(a, b):\n return a + b\n"
# One by one: of more than 60 bytes at once the board may lose some.
FREE = ("import gc", "gc.collect()", "print(gc.mem_free(),gc.mem_alloc())")
TOKEN = "\x1eAbCdEfGhIj"
PLAIN = "print(add(%d,%d))"
AS_BELAYD = "_B('" + TOKEN + "',lambda:add(%d,%d),2)"


class Bare:
    """The board's raw REPL with nothing in between."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)

    def enter(self) -> None:
        """Come to the raw prompt, from wherever the board is."""
        got = b""
        while not got.endswith(b"raw REPL; CTRL-B to exit\r\n>"):
            # Again and again, since firmware that has just been started loses what it is sent.
            os.write(self._fd, b"\r\x03\x03\x01")
            while select.select([self._fd], [], [], SETTLE)[0]:
                got += os.read(self._fd, 65536)

    def restart(self) -> None:
        """Restart the interpreter, with nothing in it but its own names."""
        os.write(self._fd, b"\x04")
        self._until(b"raw REPL; CTRL-B to exit\r\n>")

    def execute(self, source: str) -> bytes:
        """Return what the source prints, belayd's frames included."""
        os.write(self._fd, source.encode() + b"\x04")
        out, error, _ = self._until(b"\x04>").removeprefix(b"OK").split(b"\x04")
        if error:
            raise SystemExit(f"{source!r} raised {error.decode()}")
        return out

    def free(self) -> tuple[int, int]:
        """Return bytes free and in all."""
        for _ in range(2):  # the first time costs names
            out = [self.execute(source) for source in FREE][-1]
        free, taken = map(int, out.split())
        return free, free + taken

    def plain(self, a: int, b: int) -> int:
        return int(self.execute(PLAIN % (a, b)))

    def as_belayd(self, a: int, b: int) -> int:
        out = self.execute(AS_BELAYD % (a, b))
        return int(out.removeprefix(TOKEN.encode() + b"V").removesuffix(TOKEN.encode()))

    def close(self) -> None:
        os.close(self._fd)

    def _until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            got += os.read(self._fd, 65536)
        return got


async def discard(data: bytes) -> None:
    """Take what the board prints."""


def new_token(length: int) -> str:
    return secrets.token_hex(length)[:length]


async def meet(path: str) -> Session:
    """Return a session that has the board, as the daemon's own tasks begin."""
    session = Session("microbit", await open_serial(path), new_token)
    await session.start(discard)
    return session


async def call(session: Session, a: int, b: int) -> object:
    match await session.call(prepare("add", (a, b), {}), discard):
        case Returned(value):
            return value
        case other:
            raise SystemExit(f"add({a}, {b}) ended with {other}")


async def measure(bare: Bare, session: Session, calls: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"bare exchange": [], "the same, belayd's text": [], "session": []}
    exchanges = {"bare exchange": bare.plain, "the same, belayd's text": bare.as_belayd}
    for block in range(max(1, calls // BLOCK) + 1):
        for name, took in times.items():
            for number in range(BLOCK):
                began = time.perf_counter()
                if name == "session":
                    result = await call(session, number, 2)
                else:
                    result = exchanges[name](number, 2)
                after = time.perf_counter()
                if result != number + 2:
                    raise SystemExit(f"{name}: add({number}, 2) gave {result!r}")
                if block:  # the first block warms up
                    took.append((after - began) * 1e3)
    return times


async def run(path: str, calls: int) -> None:
    bare = Bare(path)  # open all the time: QEMU takes a second to see a port that was closed open again
    try:
        bare.enter()
        bare.restart()  # from boot on it has the names of the module microbit, and less memory
        before, total = bare.free()
        session = await meet(path)
        await session.close()
        bare.enter()
        after, _ = bare.free()
        session = await meet(path)
        await session.run(SOURCE, discard)
        traffic = session.traffic
        sent, received = traffic.sent_bytes, traffic.received_bytes
        await call(session, 1, 2)
        sent, received = traffic.sent_bytes - sent, traffic.received_bytes - received
        times = await measure(bare, session, calls)
        await session.close()
    finally:
        bare.close()
    print(f"micro:bit firmware in QEMU, {calls} calls each, interleaved by {BLOCK}; milliseconds")
    print(f"{machine()}\n")
    print("| inside the daemon, `add(1, 2)` | median | p99 | against bare |\n|---|---|---|---|")
    floor = statistics.median(times["bare exchange"])
    for name, took in times.items():
        print(f"| {name} | {statistics.median(took):.3f} | {p99(took):.3f} ", end="")
        print(f"| {statistics.median(took) / floor:.2f} |")
    print("\n| per call | bytes out | bytes in |\n|---|---|---|")
    print(f"| bare exchange | {len(PLAIN % (1, 2)) + 1} | {len('OK3') + 2 + len('...')} |")
    print(f"| session | {sent} | {received} |")
    print("\n| memory of the micro:bit, bytes | free | of |\n|---|---|---|")
    print(f"| before belayd | {before:,} | {total:,} |")
    print(f"| after belayd has met it and left | {after:,} | {total:,} |")
    print(f"\nbelayd's own code takes {before - after:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1500, help="timed calls of each contender")
    parser.add_argument("--quick", action="store_true", help="few calls: does it work?")
    args = parser.parse_args()
    with microbit() as path:
        asyncio.run(run(path, 100 if args.quick else args.calls))


if __name__ == "__main__":
    main()
