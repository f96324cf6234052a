"""A hundred boards, one tree: one upload, then all boards at once, and what bounds them.

    python benchmarks/hundred.py [--boards 100] [--quick] [--json]

One daemon, one client: the tree's contents go to the daemon once, then a thread for each
board asks for its deployment, as `belayctl deploy -l` does. Each time it is a version
of the tree that nobody has seen, onto boards without it: on one board, on ten, on all.
A relay between client and daemon counts what the client sends. Beside the time stands
what bounds it: the share of the cores that daemon, boards and client took, as the
kernel counts it, and the share of the lines' bytes that were used.

Boards are processes on the same cores here; real ones bring their own, so that the
daemon's own time a board says what one core could serve. Keeping a line slow takes the
simulated board an eighth of a core at 115,200 baud and a fiftieth at 9,600 (it wakes
up for each 8 bytes), so that ten boards have lines of the one, and all boards lines of
the other, which two cores can only just keep up with. Slow lines have a ring of 259
bytes that drops.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from contenders import DESTINATION, DIGEST, WIPE
from crowd import cpu_seconds
from parts import daemon, machine, simulated_board, wait_until_ready
from trees import Tree, python_trees

from belayd_client import Client, project
from belayd_client.deployment import DeploymentSummary

MOST_FILES = 50
SLOW_FILES = 10
"""About 60 kB, so that slow lines do not take minutes."""
STARTED_AT_ONCE = 8


@dataclass(frozen=True)
class Link:
    """What boards hang on: the baud rate of their lines, None for no limit; and how much is tried there."""

    name: str
    baud: int | None
    boards: tuple[int, ...]
    files: int

    @property
    def options(self) -> tuple[str, ...]:
        """Those of the simulated board."""
        return () if self.baud is None else ("--baud", str(self.baud), "--ring", "259")


class Door:
    """A relay to an address that counts the bytes that go there; as good as nothing in time."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.sent = 0
        self._far = (host, int(port))
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for line in (self._listener, *self._lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                near, far = self._listener.accept()[0], socket.create_connection(self._far)
                self._lines += near, far
                for line in (near, far):
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        towards_daemon = sink.getpeername()[1] == self._far[1]
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                if towards_daemon:
                    self.sent += len(data)


@dataclass
class Row:
    """A tree onto so many boards at once. Times in seconds, `cpu` of daemon, boards and callers.

    Attributes:
        uploaded: Contents that the client gave to the daemon.
        client_bytes: All that the client sent.
        wire_bytes: Of all boards, both directions.
        idle: Share of the machine's cores that nobody used.
    """

    link: Link
    boards: int
    files: int
    seconds: float
    slowest: float
    payload_bytes: int
    wire_bytes: int
    round_trips: int
    uploaded: int
    client_bytes: int
    cpu: dict[str, float]
    idle: float

    @property
    def cores(self) -> float:
        """Share of the cores that belayd's parts took."""
        return sum(self.cpu.values()) / self.seconds / (os.cpu_count() or 1)

    @property
    def line(self) -> float | None:
        """Share of the lines' bytes that were used, ten bits each; None where nothing limits them.

        Of both directions against what one can take: a little over 1 is possible.
        """
        if self.link.baud is None:
            return None
        return self.wire_bytes / self.boards / self.seconds / (self.link.baud / 10)

    @property
    def once(self) -> bool:
        """Whether the client sent each content once, whatever the number of boards, and little beside."""
        tree_bytes = self.payload_bytes / self.boards
        return self.uploaded == self.files and self.client_bytes < tree_bytes * (1.1 + 0.1 * self.boards)


def deploy(client: Client, door: Door, link: Link, names: Sequence[str], tree: Tree) -> Row:
    """Put a tree on all boards, at once."""
    before, idle, sent = _cpu(), _idle_seconds(), door.sent
    began = time.perf_counter()
    contents = project.read(tree.folder)
    uploaded = client.upload(contents)

    def one(name: str) -> tuple[DeploymentSummary, float]:
        started = time.perf_counter()
        return client.deploy(name, contents, dst=DESTINATION), time.perf_counter() - started

    with ThreadPoolExecutor(len(names)) as pool:
        ended = list(pool.map(one, names))
    seconds = time.perf_counter() - began
    return Row(
        link=link,
        boards=len(names),
        files=tree.files,
        seconds=seconds,
        slowest=max(took for _, took in ended),
        payload_bytes=sum(summary.payload_bytes for summary, _ in ended),
        wire_bytes=sum(summary.wire_bytes for summary, _ in ended),
        round_trips=max(summary.round_trips for summary, _ in ended),
        uploaded=uploaded,
        client_bytes=door.sent - sent,
        cpu={role: used - before[role] for role, used in _cpu().items()},
        idle=(_idle_seconds() - idle) / seconds / (os.cpu_count() or 1),
    )


def measure(link: Link, folder: Path) -> Iterator[Row]:
    """Yield a row for each of the link's numbers of boards; what the one before wrote is wiped away."""
    names = [f"b{number}" for number in range(max(link.boards))]
    trees = python_trees(folder / "trees", len(link.boards), link.files)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(STARTED_AT_ONCE))
        paths = stack.enter_context(_boards(pool, [folder / name for name in names], link.options))
        inventory = "".join(
            f"  {name}: {{serial: {{port: {path}}}}}\n" for name, path in zip(names, paths, strict=True)
        )
        door = Door(stack.enter_context(daemon(folder, inventory)))
        stack.callback(door.close)
        client = stack.enter_context(Client(door.address))
        wait_until_ready(client, names)
        for count, tree in zip(link.boards, trees, strict=True):
            list(pool.map(partial(client.run, source=WIPE), names[:count]))
            yield deploy(client, door, link, names[:count], tree)
            list(pool.map(partial(_check, client, tree), names[:count]))


def _check(client: Client, tree: Tree, name: str) -> None:
    client.run(name, DIGEST)
    if client.evaluate(name, "_digest()") != tree.digest():
        raise SystemExit(f"{name} has not what was deployed")


@contextmanager
def _boards(pool: ThreadPoolExecutor, folders: Sequence[Path], options: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ptys of boards that were started some at a time."""
    for folder in folders:
        folder.mkdir(parents=True)
    boards = [simulated_board(folder, *options) for folder in folders]
    started = [pool.submit(board.__enter__) for board in boards]
    try:
        yield [one.result() for one in started]
    finally:
        list(pool.map(lambda board: board.__exit__(None, None, None), boards))


def _cpu() -> dict[str, float]:
    """Return the processor time of all parts so far; this process is the only caller."""
    return {**cpu_seconds(), "callers": time.process_time()}


def _idle_seconds() -> float:
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


def print_rows(rows: Sequence[Row]) -> None:
    """Print the tables of README.md."""
    print("| lines | boards | files | seconds | slowest board, s | payload, MB/s ", end="")
    print("| cores used | idle | line used |\n|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        line = "" if row.line is None else f"{row.line:.0%}"
        print(
            f"| {row.link.name} | {row.boards} | {row.files} | {row.seconds:.2f} | {row.slowest:.2f} ", end=""
        )
        print(f"| {row.payload_bytes / row.seconds / 1e6:.2f} | {row.cores:.0%} | {row.idle:.0%} | {line} |")
    print(
        "\n| lines | boards | contents uploaded | client sent, bytes | wire bytes a byte | round trips ",
        end="",
    )
    print("| daemon, ms a board | board, ms | client, ms |\n|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        each = {role: used / row.boards * 1e3 for role, used in row.cpu.items()}
        print(f"| {row.link.name} | {row.boards} | {row.uploaded} | {row.client_bytes:,} ", end="")
        print(f"| {row.wire_bytes / row.payload_bytes:.3f} | {row.round_trips:,} ", end="")
        print(f"| {each['daemon']:.0f} | {each['boards']:.0f} | {each['callers']:.0f} |")


def print_json(rows: Sequence[Row]) -> None:
    """Print a line for each row: whether there was one upload, and what bounds the boards."""
    for row in rows:
        figures = {
            "measure": f"{row.boards} boards, {row.link.name}: bytes that the client sent",
            "wanted": "one upload",
            "reached": row.client_bytes,
            "met": row.once,
            "uploaded": row.uploaded,
            "seconds": round(row.seconds, 3),
            "cores_used": round(row.cores, 3),
            "line_used": None if row.line is None else round(row.line, 3),
            "cpu_seconds": {role: round(used, 2) for role, used in row.cpu.items()},
        }
        print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boards", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="ten boards, a few files: does it work?")
    parser.add_argument("--json", action="store_true", help="only the lines in JSON")
    args = parser.parse_args()
    boards, files, few = (10, 10, 2) if args.quick else (args.boards, MOST_FILES, SLOW_FILES)
    some = min(10, boards)
    links = (
        Link("no limit", None, tuple(sorted({1, some, boards})), files),
        Link("115,200 baud", 115_200, tuple(sorted({1, some})), few),
        Link("9,600 baud", 9_600, (boards,), few // 2),
    )
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for link in links:
            rows += measure(link, Path(folder, str(link.baud)))
    if not args.json:
        print(f"simulated boards, one daemon, one client\n{machine()}\n")
        print_rows(rows)
        print()
    print_json(rows)


if __name__ == "__main__":
    main()
