"""Items of a generator, and calls sent ahead: Belay in process against belayd through gRPC.

    python benchmarks/stream.py [--items 20000]

Both on a simulated board, in turns. Belay is given fewer items, since each costs it
two round trips; rates are compared.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import belay
from parts import daemon, simulated_board

from belayd_client import Client, Device

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
        "belayd calls/s, 16 threads": [],
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
        client = stack.enter_context(Client(address))

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

        ours("def add(a, b): return a + b")
        few, calls = items // 50, items // 10
        for _ in range(ROUNDS):
            rates["Belay items/s"].append(rate(few, lambda: check(their_count(few), few)))
            rates["belayd items/s"].append(rate(items, lambda: check(count(items), items)))
            with ThreadPoolExecutor(THREADS) as pool:
                rates["belayd calls/s, 16 threads"].append(
                    rate(
                        calls,
                        lambda: check(
                            pool.map(lambda n: client.call("b", "add", n, 0, lease=ours.lease), range(calls)),
                            calls,
                        ),
                    )
                )
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()} {platform.system()}\n"
    )
    print("| measure | median | least | most |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} |")


def check(got: object, count: int) -> None:
    if list(got) != list(range(count)):  # type: ignore[call-overload]
        raise SystemExit("wrong items")


def rate(count: int, work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
