"""Leases: a durable acquire and release, lists of many boards, and what those who wait cost.

    python benchmarks/leases.py [--pairs 1000] [--watchers 100] [--boards 500] [--waiting 1000] [--quick]

Everything through gRPC to one `belayd serve`. A pair is answered only when both the
grant and the release are on the disk (SQLite, full sync); the bare fsync of a page
beside it says what the disk alone takes. Watchers are WatchBoards streams of another
process, which reads everything at once; each pair is two changes for each of them.
Nothing runs under the leases, so the board is not cleaned between them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from parts import daemon, machine, p99, process, wait_until_ready

from belayd.v1 import boards_pb2, boards_pb2_grpc, leases_pb2, leases_pb2_grpc
from belayd_client import Client

PAGE_BYTES = 4096
BOARD = "  sim-1: {simulated: {}, labels: {lab: bench}}\n"


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--boards", type=int, default=500)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--crowd", nargs=3, metavar=("KIND", "ADDRESS", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        kind, address, number = options.crowd
        asyncio.run(_crowd(kind, address, int(number)))
        return
    if options.quick:
        options.pairs, options.watchers, options.boards, options.waiting = 50, 20, 100, 100
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        print("\n| durable acquire and release, ms | median | p99 |\n|---|---|---|")
        print(_row("bare fsync of a page, twice", _fsyncs(path / "page", options.pairs)))
        with daemon(path, BOARD) as address, Client(address) as client:
            wait_until_ready(client, ["sim-1"])
            _measure_pairs(client, options.pairs, options.watchers)
            _measure_waiting(client, address, options.waiting)
    with tempfile.TemporaryDirectory() as folder:
        _measure_lists(Path(folder), options.boards)


def _measure_pairs(client: Client, pairs: int, watchers: int) -> None:
    def pair() -> None:
        client.release(client.acquire("sim-1", ttl=60).token)

    def pair_of_a_lease() -> None:
        client.acquire("sim-1", ttl=60).release()

    _timed(pair, 20)
    print(_row("**the pair**", _timed(pair, pairs)))
    print(
        _row("the pair by `with client.acquire()`: on a channel of its own", _timed(pair_of_a_lease, pairs))
    )
    with _started("watch", client.address, watchers):
        _timed(pair, 20)
        print(_row(f"**the pair, {watchers} watchers**", _timed(pair, pairs)))
    if client.leases():
        raise SystemExit("a pair went wrong")


def _measure_waiting(client: Client, address: str, waiting: int) -> None:
    pid = _pid_of(address)
    lease = client.acquire("sim-1", ttl=600)
    with _started("wait", address, 1):
        before = _rss(pid)
    with _started("wait", address, waiting):
        _until(lambda: client.board("sim-1").lease_queue_length == waiting)
        grown = _rss(pid) - before
        took = _timed(lambda: client.lease(lease.token), 20)
    _until(lambda: client.board("sim-1").lease_queue_length == 0)
    lease.release()
    print(
        f"\n{waiting} waiting acquirers take {grown / 2**20:.1f} MiB, {grown / waiting / 1024:.1f} KiB each; ",
        end="",
    )
    print(f"a renewal meanwhile {statistics.median(took):.2f} ms")


def _measure_lists(folder: Path, boards: int) -> None:
    # Ports that are not there: what is listed counts, not what the boards do.
    lines = [
        f"  b-{number}: {{serial: {{port: {folder}/none-{number}}}, labels: {{rack: '{number % 10}'}}}}\n"
        for number in range(boards)
    ]
    with daemon(folder, "".join(lines)) as address, Client(address) as client:
        if len(client.boards()) != boards:
            raise SystemExit("a list went wrong")
        print(f"\n| lists of {boards} boards, ms | median | p99 |\n|---|---|---|")
        print(_row("**client.boards()**", _timed(client.boards, 30)))
        print(_row("client.boards('rack=3'), a tenth of them", _timed(lambda: client.boards("rack=3"), 30)))
        print(_row("client.leases(), none held", _timed(client.leases, 30)))


def _timed(what: Callable[[], object], times: int) -> list[float]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        took.append((time.perf_counter() - began) * 1e3)
    return took


def _row(name: str, took: list[float]) -> str:
    return f"| {name} | {statistics.median(took):.2f} | {p99(took):.2f} |"


def _fsyncs(path: Path, times: int) -> list[float]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:

        def twice() -> None:
            for _ in range(2):
                os.pwrite(descriptor, os.urandom(PAGE_BYTES), 0)
                os.fsync(descriptor)

        return _timed(twice, times)
    finally:
        os.close(descriptor)


@contextmanager
def _started(kind: str, address: str, number: int) -> Iterator[None]:
    command = [sys.executable, __file__, "--crowd", kind, address, str(number)]
    with process(command, "all there"):
        yield


async def _crowd(kind: str, address: str, number: int) -> None:
    """Be `number` watchers of all boards, or acquirers who wait for one; say so when all are."""
    began = asyncio.Semaphore(0)
    async with grpc.aio.insecure_channel(address) as channel:
        one = _watch if kind == "watch" else _wait
        streams = [asyncio.create_task(one(channel, began)) for _ in range(number)]
        for _ in range(number):
            await began.acquire()
        print("all there", flush=True)
        await asyncio.gather(*streams)


async def _watch(channel: grpc.aio.Channel, began: asyncio.Semaphore) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(channel)
    async for _ in stub.WatchBoards(boards_pb2.WatchBoardsRequest()):
        began.release()


async def _wait(channel: grpc.aio.Channel, began: asyncio.Semaphore) -> None:
    stub = leases_pb2_grpc.LeaseServiceStub(channel)
    request = leases_pb2.AcquireLeaseRequest(board="boards/sim-1", holder="somebody", reason="waits")
    async for _ in stub.AcquireLease(request):
        began.release()


def _pid_of(address: str) -> int:
    """Return the process of the daemon, which is a child of this one."""
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
    )
    found = re.search(r"(\d+) .*\bbelayd serve\b", children.stdout)
    if found is None:
        raise SystemExit(f"no daemon of ours serves {address}")
    return int(found[1])


def _rss(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not claim():
        if time.monotonic() > deadline:
            raise SystemExit("never came true")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
