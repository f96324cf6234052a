"""Leases beside labgrid's places: acquire and release of both in one run, and what their commands take.

    python benchmarks/beside_labgrid.py [--labgrid VENV] [--pairs 300] [--watchers 100] [--quick]

labgrid's coordinator, one exporter of three NetworkService resources (addresses that
nothing connects to) and one ClientSession that stays; belayd with three simulated boards
and one Client that stays. All on loopback. A pair of labgrid's is what
`labgrid-client acquire` and `release` do after their start: each the call, then the
wait until the session has seen the change. The contenders take turns in blocks.
Watchers are streams of all changes, which one other process for each system reads at once;
labgrid's have a connection each, since its coordinator tells clients apart by that.
Each command is a process of its own, from its start until it has ended.

belayd answers when the grant, and then the release, is on the disk; labgrid answers from
memory, writes its places within 15 s, and forgets who held them when it starts again.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from parts import PATIENCE, daemon, machine, p99, process, wait_until_ready

from belayd_client import Client

VERSION = "26.0.1"
BLOCK = 25
BOARDS = [f"sim-{number}" for number in range(1, 4)]
PLACES = {"three": "*/bench/*", "one": "*/bench/NetworkService/board-1"}
# Runs in labgrid's environment, which has nothing of ours: orders on its input, answers on its output.
SESSION = """
import argparse, asyncio, contextlib, json, sys, time
from labgrid.remote.client import ServerError, start_session

address, wanted = sys.argv[1], int(sys.argv[2])
arguments = argparse.Namespace(allow_unmatched=False, kick=False)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
session = start_session(address, extra={"args": arguments}, loop=loop)

async def exported():
    while sum(len(group) for groups in session.resources.values() for group in groups.values()) < wanted:
        await asyncio.sleep(0.05)

async def pairs(place, times):
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await session._acquire_place(place)
        acquired = time.perf_counter()
        await session._release_place(place)
        took.append(((time.perf_counter() - began) * 1e3, (acquired - began) * 1e3))
    return took

answers = sys.stdout
sys.stdout = sys.stderr
loop.run_until_complete(exported())
print(json.dumps([]), file=answers, flush=True)
for order in sys.stdin:
    place, times = order.split()
    print(json.dumps(loop.run_until_complete(pairs(place, int(times)))), file=answers, flush=True)
loop.run_until_complete(session.stop())
loop.run_until_complete(session.close())
"""

# As many sessions as so many processes have: gRPC would have them all share one connection.
WATCH = """
import asyncio, sys
import grpc
from labgrid.remote.client import ClientSession
from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub

async def watch(address, number):
    sessions = [ClientSession(address, asyncio.get_running_loop()) for _ in range(number)]
    for session in sessions:
        session.channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        session.stub = CoordinatorStub(session.channel)
        await session.start()
    print("all there", flush=True)
    await sessions[0].stopping.wait()

asyncio.run(watch(sys.argv[1], int(sys.argv[2])))
"""

Pairs = Callable[[int], list[tuple[float, float]]]


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--labgrid",
        type=Path,
        metavar="VENV",
        help=f"an environment that has labgrid; without it one is made in a temporary\n"
        f"folder, which fetches labgrid {VERSION} with pip",
    )
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--starts", type=int, default=15, help="of each command")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.watchers, options.starts = BLOCK, 20, 3
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bin_ = (options.labgrid or _environment(folder / "venv")).absolute() / "bin"
        coordinator = stack.enter_context(_labgrid(bin_, folder))
        address = stack.enter_context(
            daemon(folder, "".join(f"  {b}: {{simulated: {{}}}}\n" for b in BOARDS))
        )
        client = stack.enter_context(Client(address))
        wait_until_ready(client, BOARDS)
        print(f"{machine()}; labgrid {_version(bin_)}")
        ask = stack.enter_context(_session(bin_, coordinator))
        contenders: dict[str, Pairs] = {
            "**belayd, durable**": lambda times: _pairs(client, times),
            "labgrid, not durable, a place of one resource": lambda times: ask("one", times),
            "labgrid, not durable, a place of three": lambda times: ask("three", times),
        }
        _measure_pairs(contenders, options.pairs, f"{options.pairs} pairs each")
        number = str(options.watchers)
        ours = [
            sys.executable,
            str(Path(__file__).with_name("leases.py")),
            "--crowd",
            "watch",
            address,
            number,
        ]
        theirs = [str(bin_ / "python"), "-c", WATCH, coordinator, number]
        with process(ours, "all there"), process(theirs, "all there"):
            _measure_pairs(contenders, options.pairs, f"{number} watchers each")
        places = [str(bin_ / "labgrid-client"), "-x", coordinator]
        boards = [str(Path(sys.executable).parent / "belayctl"), "--address", address]
        _measure_starts(
            {
                "belayctl boards": [*boards, "boards"],
                "labgrid-client places": [*places, "places"],
                "labgrid-client resources": [*places, "resources"],
                "belayctl acquire": [*boards, "acquire", BOARDS[0]],
                "belayctl release": [*boards, "release", BOARDS[0]],
                "labgrid-client acquire": [*places, "-p", "three", "acquire"],
                "labgrid-client release": [*places, "-p", "three", "release"],
            },
            options.starts,
        )


def _measure_pairs(contenders: dict[str, Pairs], pairs: int, title: str) -> None:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for measure in contenders.values():
        measure(BLOCK)
    for _ in range(0, pairs, BLOCK):
        for name, measure in contenders.items():
            took[name] += measure(BLOCK)
    print(f"\n| acquire and release, {title}, ms | median | p99 | the acquire alone, median | p99 |")
    print("|---|---|---|---|---|")
    for name, values in took.items():
        print(f"| {name} | {_figures([v[0] for v in values])} | {_figures([v[1] for v in values])} |")


def _measure_starts(commands: dict[str, list[str]], starts: int) -> None:
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(starts + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took[name].append((time.perf_counter() - began) * 1e3)
    print(f"\n| a command from start to end, {starts} each, ms | median | most |\n|---|---|---|")
    for name, (_, *values) in took.items():  # the first read the disk
        print(f"| `{name}` | {statistics.median(values):.0f} | {max(values):.0f} |")


def _figures(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} | {p99(values):.2f}"


def _pairs(client: Client, times: int) -> list[tuple[float, float]]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        token = client.acquire(BOARDS[0], ttl=60).token
        acquired = time.perf_counter()
        client.release(token)
        took.append(((time.perf_counter() - began) * 1e3, (acquired - began) * 1e3))
    return took


def _environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin/pip"), "install", "-q", f"labgrid=={VERSION}"], check=True)
    return folder


def _version(bin_: Path) -> str:
    ask = "from importlib.metadata import version as v; print(v('labgrid'), 'with grpcio', v('grpcio'))"
    return subprocess.run(
        [str(bin_ / "python"), "-c", ask], check=True, capture_output=True, text=True
    ).stdout.strip()


@contextmanager
def _labgrid(bin_: Path, folder: Path) -> Iterator[str]:
    """Yield the address of a coordinator with one exporter and two places; its state lies in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    group = {
        f"board-{n}": {"cls": "NetworkService", "address": "127.0.0.1", "username": "x"} for n in (1, 2, 3)
    }
    (folder / "exporter.yaml").write_text(json.dumps({"bench": group}))
    with ExitStack() as stack:
        stack.enter_context(_running([str(bin_ / "labgrid-coordinator"), "-l", address], folder))
        _until_it_listens(port)
        exporter = [str(bin_ / "labgrid-exporter"), "-c", address, "-n", "bench", "--hostname", "localhost"]
        stack.enter_context(_running([*exporter, "exporter.yaml"], folder))
        for place, match in PLACES.items():
            for order in (["create"], ["add-match", match]):
                command = [str(bin_ / "labgrid-client"), "-x", address, "-p", place, *order]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield address


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    # Not by parts.process: the coordinator prints every request, and nobody would read that.
    with (folder / "labgrid.log").open("a") as log:
        part = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        part.terminate()
        part.wait(PATIENCE)


@contextmanager
def _session(bin_: Path, address: str) -> Iterator[Callable[[str, int], list[tuple[float, float]]]]:
    """Yield what has labgrid's session make pairs of a place, so many; milliseconds of pair and acquire."""
    command = [str(bin_ / "python"), "-c", SESSION, address, str(len(BOARDS))]
    part = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=bin_
    )
    assert part.stdin is not None and part.stdout is not None
    orders, answers = part.stdin, part.stdout

    def answer() -> list[tuple[float, float]]:
        line = answers.readline()
        if not line:
            raise SystemExit("labgrid's session died")
        return [(pair, acquire) for pair, acquire in json.loads(line)]

    def ask(place: str, times: int) -> list[tuple[float, float]]:
        orders.write(f"{place} {times}\n")
        orders.flush()
        return answer()

    try:
        answer()
        yield ask
    finally:
        orders.close()
        part.wait(PATIENCE)
        answers.close()


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise SystemExit("the coordinator does not listen") from None
            time.sleep(0.05)


if __name__ == "__main__":
    main()
