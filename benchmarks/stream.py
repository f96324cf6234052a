"""Items of a generator, and many calls: Belay in process against belayd through gRPC.

    python benchmarks/stream.py [--items 20000]

Both on a simulated board, in turns; rates are compared. Belay is given fewer items and
calls, since each costs it two round trips, and its calls come from one thread: it is
not made for more.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import belay
from parts import daemon, simulated_board

from belayd_client import Device

ROUNDS = 5
THREADS = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=20_000)
    items = parser.parse_args().items
    rates: dict[str, list[float]] = {
        "Belay items/s": [],
        "belayd items/s": [],
        "Belay calls/s": [],
        "belayd calls/s, one thread": [],
        "belayd calls/s, 16 threads": [],
        "belayd calls/s, futures": [],
        "belayd calls/s, map": [],
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("belay", "belayd"):
            (folder / name).mkdir()
        theirs = stack.enter_context(
            belay.Device(stack.enter_context(simulated_board(folder / "belay")), startup="")
        )
        path = stack.enter_context(simulated_board(folder / "belayd"))
        address = stack.enter_context(daemon(folder, f"  b: {{serial: {{port: {path}}}}}\n"))
        ours = stack.enter_context(Device(f"{address}/b"))

        @theirs.task
        def count(n):  # type: ignore[no-untyped-def]
            i = 0
            while i < n:
                yield i
                i += 1

        their_count = count

        @ours.task
        def count(n):  # type: ignore[no-untyped-def]
            i = 0
            while i < n:
                yield i
                i += 1

        @theirs.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        their_add = add

        @ours.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        few, calls = items // 50, items // 5
        for _ in range(ROUNDS):
            rates["Belay items/s"].append(rate(few, lambda: check(their_count(few), few)))
            rates["belayd items/s"].append(rate(items, lambda: check(count(items), items)))
            rates["Belay calls/s"].append(
                rate(few, lambda: check((their_add(n, 0) for n in range(few)), few))
            )
            rates["belayd calls/s, one thread"].append(
                rate(few, lambda: check((add(n, 0) for n in range(few)), few))
            )
            with ThreadPoolExecutor(THREADS) as pool:
                rates["belayd calls/s, 16 threads"].append(
                    rate(calls, lambda: check(pool.map(add, range(calls), repeat(0)), calls))
                )
            rates["belayd calls/s, map"].append(
                rate(calls, lambda: check(add.map(range(calls), repeat(0)), calls))
            )
            futures = rate(calls, lambda: check(results([add.submit(n, 0) for n in range(calls)]), calls))
            rates["belayd calls/s, futures"].append(futures)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()} {platform.system()}\n"
    )
    print("| measure | median | least | most |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} |")


def results(futures: list[Future[int]]) -> list[int]:
    return [future.result() for future in futures]


def check(got: object, count: int) -> None:
    if list(got) != list(range(count)):  # type: ignore[call-overload]
        raise SystemExit("wrong items")


def rate(count: int, work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
