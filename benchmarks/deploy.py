"""Deployments: belayd against Belay's sync and mpremote's `fs cp -r`, on the same kind of board.

    python benchmarks/deploy.py [--rounds 5] [--quick] [--json]

Each contender has simulated boards of its own and takes its turn in each round: a tree
that nobody has seen yet onto a board without it, the same again with nothing changed,
a random file, and that file back. After each the board says what it has. The boards
are one with LittleFS, one whose files are the host's, and one at the end of a line of
115,200 baud with a ring of 259 bytes that drops what finds no room. Bytes and round
trips are counted by a relay in a run of their own. What a whole command takes, its
process included, is measured last. The other half is `hundred.py`.

With --json only a line for each goal: what was wanted, what was reached, by whom else.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from contenders import (
    DESTINATION,
    WIPE,
    Belayd,
    Contender,
    Opener,
    belay_opener,
    check,
    mpremote_opener,
    open_belayd,
)
from goals import Goal, at_least, at_most, print_goals
from parts import Count, Counter, daemon, machine, simulated_board, wait_until_ready
from trees import Tree, python_trees, random_trees

from belayd_client import Client

LITTLEFS = ("--flash", "2048")
HOST_FILES = ()
SLOW = ("--flash", "2048", "--baud", "115200", "--ring", "259")
SLOW_FILES = 10
"""Of the 50, about 60 kB: all 50 take Belay and mpremote half a minute each."""
FILE_BYTES = 100_000
SAME = 3
"""Deployments of what is there already, a round."""
CLI_ROUNDS = 3
OURS = "belayd"
AS_IT_COMES = "Belay, as it comes here"
OPENERS: dict[str, Opener] = {
    "Belay, minify=False": belay_opener(minify=False),
    "Belay, minify=True": belay_opener(minify=True),
    "mpremote": mpremote_opener(),
    OURS: open_belayd,
}
POLLING = "mpremote, by a real port's path"
SLOW_OPENERS = {POLLING: mpremote_opener(polling=True), **OPENERS}
COUNT_OPENERS = {AS_IT_COMES: belay_opener(minify=False, portable=False), **OPENERS}


@dataclass
class Times:
    """Seconds that one contender took, in each round."""

    first: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    random: list[float] = field(default_factory=list)
    download: list[float] = field(default_factory=list)


@dataclass
class Counts:
    """What one contender's deployments were on the wire; None where it was not asked."""

    first: Count
    same: Count
    random: Count | None = None
    download: Count | None = None


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(
    options: Sequence[str], openers: Mapping[str, Opener], trees: Sequence[Tree], files: Sequence[Tree]
) -> dict[str, Times]:
    """Time all contenders on boards of one kind: a round for each tree, with a file of `files` if there are."""
    times = {name: Times() for name in openers}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = {}
        for number, (name, opener) in enumerate(openers.items()):
            own = folder / str(number)
            own.mkdir()
            path = stack.enter_context(simulated_board(own, *options))
            contenders[name] = stack.enter_context(opener(path, own))
        for number, tree in enumerate(trees):
            for name, contender in contenders.items():
                took = times[name]
                contender.run(WIPE)
                took.first.append(timed(partial(contender.deploy, tree)))
                check(name, contender, tree)
                for _ in range(SAME):
                    took.same.append(timed(partial(contender.deploy, tree)))
                if files:
                    _time_file(name, contender, files[number], took)
    return times


def _time_file(name: str, contender: Contender, tree: Tree, took: Times) -> None:
    contender.run(WIPE)
    took.random.append(timed(partial(contender.deploy, tree)))
    check(name, contender, tree)
    took.download.append(timed(partial(_download, name, contender, tree)))


def _download(name: str, contender: Contender, tree: Tree) -> None:
    if contender.download(f"{DESTINATION}/file") != (tree.folder / "file").read_bytes():
        raise SystemExit(f"{name}: the file came back wrong")


def count(
    options: Sequence[str], openers: Mapping[str, Opener], tree: Tree, file: Tree | None
) -> dict[str, Counts]:
    """Count what all contenders send and receive, each through a relay to a board of its own."""
    counts = {}
    for name, opener in openers.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            counter = Counter(stack.enter_context(simulated_board(folder, *options)))
            stack.callback(counter.close)
            contender = stack.enter_context(opener(counter.path, folder))
            contender.run(WIPE)
            first = _counted(counter, partial(contender.deploy, tree))
            _agree(contender, first)
            same = _counted(counter, partial(contender.deploy, tree))
            _agree(contender, same)
            counts[name] = Counts(first, same)
            if file is not None:
                contender.run(WIPE)
                counts[name].random = _counted(counter, partial(contender.deploy, file))
                counts[name].download = _counted(counter, partial(_download, name, contender, file))
    return counts


def _counted(counter: Counter, work: Callable[[], object]) -> Count:
    time.sleep(0.1)  # the relay counts after it has passed on
    counter.reset()
    work()
    time.sleep(0.1)
    return counter.reset()


def _agree(contender: Contender, counted: Count) -> None:
    """Say so if belayd's own figures are others than the relay's."""
    if isinstance(contender, Belayd):
        wire_bytes, round_trips = contender.counted
        if (wire_bytes, round_trips) != (counted.sent + counted.received, counted.round_trips):
            print(f"belayd's summary says {wire_bytes} bytes, {round_trips} round trips;", file=sys.stderr)
            print(f"the relay {counted.sent} + {counted.received}, {counted.round_trips}", file=sys.stderr)


def measure_commands(trees: Sequence[Tree]) -> dict[str, list[float]]:
    """Time whole commands from start to end, and what does nothing, on boards with LittleFS."""
    scripts = Path(sys.executable).parent
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("ours", "theirs"):
            (folder / name).mkdir()
        theirs = Path(stack.enter_context(simulated_board(folder / "theirs", *LITTLEFS))).resolve()
        ours = stack.enter_context(simulated_board(folder / "ours", *LITTLEFS))
        address = stack.enter_context(daemon(folder, f"  b: {{serial: {{port: {ours}}}}}\n"))
        client = stack.enter_context(Client(address))
        wait_until_ready(client, ["b"])
        mpremote, belayctl = str(scripts / "mpremote"), str(scripts / "belayctl")
        at_board = [mpremote, "connect", str(theirs)]

        def run(*words: str | Path) -> None:
            environment = {**os.environ, "BELAYD_ADDRESS": address}
            subprocess.run(words, check=True, capture_output=True, env=environment)

        times: dict[str, list[float]] = {}
        for tree in trees:
            run(*at_board, "exec", WIPE)
            client.run("b", WIPE)
            copy: tuple[str | Path, ...] = (*at_board, "fs", "cp", "-r", tree.folder, ":/")
            deploy = (belayctl, "deploy", "b", tree.folder, "--dst", DESTINATION)
            steps: dict[str, tuple[str | Path, ...]] = {
                "`mpremote version`": (mpremote, "version"),
                "`belayctl --version`": (belayctl, "--version"),
                "`mpremote connect PORT fs cp -r app :/`": copy,
                "the same, nothing changed": copy,
                "**`belayctl deploy b app --dst /app`**": deploy,
                "**the same**, nothing changed": deploy,
            }
            for name, words in steps.items():
                times.setdefault(name, []).append(timed(partial(run, *words)))
    return times


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median over the rounds of how many times as long they took."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def print_times(title: str, times: Mapping[str, Times], what: str, scale: float) -> None:
    """Print a table of one figure of each; `scale` is milliseconds or seconds in a second."""
    unit = "ms" if scale > 1 else "s"
    print(f"\n| {title}, {unit} | median | least to most | times belayd's |\n|---|---|---|---|")
    ours: list[float] = getattr(times[OURS], what)
    for name, each in times.items():
        took: list[float] = getattr(each, what)
        shown = f"**{name}**" if name == OURS else name
        print(f"| {shown} | {statistics.median(took) * scale:.3g} ", end="")
        print(f"| {min(took) * scale:.3g} to {max(took) * scale:.3g} | {ratio(took, ours):.1f} |")


def print_counts(title: str, counts: Mapping[str, Count | None], size: int) -> None:
    print(
        f"\n| {title} | bytes out | bytes in | of both a payload byte | round trips |\n|---|---|---|---|---|"
    )
    for name, each in counts.items():
        if each is not None:
            shown = f"**{name}**" if name == OURS else name
            print(f"| {shown} | {each.sent:,} | {each.received:,} ", end="")
            print(f"| {(each.sent + each.received) / size:.3f} | {each.round_trips:,} |")


def of_times(times: Mapping[str, Times], what: str, names: Sequence[str]) -> dict[str, float]:
    """Return how many times as long the others took for one figure."""
    ours: list[float] = getattr(times[OURS], what)
    return {name: ratio(getattr(times[name], what), ours) for name in names}


def per_byte(counts: Mapping[str, Counts], what: str, size: int) -> dict[str, float]:
    """Return the wire bytes of both directions a payload byte."""
    found: dict[str, Count] = {name: getattr(each, what) for name, each in counts.items()}
    return {name: (each.sent + each.received) / size for name, each in found.items()}


def round_trips(counts: Mapping[str, Counts], what: str) -> dict[str, float]:
    return {name: getattr(each, what).round_trips for name, each in counts.items()}


def others(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != OURS}


@dataclass
class Findings:
    """All that was measured."""

    fast: dict[str, Times]
    host: dict[str, Times]
    slow: dict[str, Times]
    fast_counts: dict[str, Counts]
    slow_counts: dict[str, Counts]
    commands: dict[str, list[float]]
    tree: Tree
    small: Tree
    file: Tree

    def goals(self) -> list[Goal]:
        """Return what was wanted of these figures, and what came."""
        peers = [name for name in OPENERS if name != OURS]
        goals = []

        def count(measure: str, most: float, figures: dict[str, float]) -> None:
            goals.append(at_most(measure, most, figures[OURS], others(figures)))

        count("first deploy: wire bytes a byte", 0.40, per_byte(self.fast_counts, "first", self.tree.size))
        count("first deploy: round trips", 120, round_trips(self.fast_counts, "first"))
        for board, times in (("LittleFS", self.fast), ("the host's files", self.host)):
            goals.append(at_least(f"first deploy: time, {board}", 10, of_times(times, "first", peers)))
            goals.append(at_least(f"nothing changed: time, {board}", 10, of_times(times, "same", peers)))
        count("nothing changed: round trips, LittleFS", 3, round_trips(self.fast_counts, "same"))
        count("nothing changed: round trips, small ring", 10, round_trips(self.slow_counts, "same"))
        count("random binary: wire bytes a byte", 1.06, per_byte(self.fast_counts, "random", self.file.size))
        count("download: wire bytes a byte", 1.02, per_byte(self.fast_counts, "download", self.file.size))
        slow = of_times(self.slow, "first", ["mpremote"])
        goals.append(at_least("115,200 baud, small ring: time of a first deploy", 2.5, slow))
        return goals

    def print_tables(self) -> None:
        """Print the tables of README.md."""
        files = f"{self.tree.files} files, {self.tree.size:,} bytes"
        print_times(f"{files}, LittleFS", self.fast, "first", 1)
        print_times("nothing changed, LittleFS", self.fast, "same", 1e3)
        print_times(f"{files}, the host's files", self.host, "first", 1)
        print_times("nothing changed, the host's files", self.host, "same", 1e3)
        print_counts("the first time", {n: c.first for n, c in self.fast_counts.items()}, self.tree.size)
        print_counts("nothing changed", {n: c.same for n, c in self.fast_counts.items()}, self.tree.size)
        print_times(f"random file, {self.file.size:,} bytes", self.fast, "random", 1e3)
        print_counts("the file", {n: c.random for n, c in self.fast_counts.items()}, self.file.size)
        print_times("the file back", self.fast, "download", 1e3)
        print_counts("the file back", {n: c.download for n, c in self.fast_counts.items()}, self.file.size)
        files = f"{self.small.files} files, {self.small.size:,} bytes"
        print_times(f"{files}, 115,200 baud", self.slow, "first", 1)
        print_times("nothing changed, 115,200 baud", self.slow, "same", 1e3)
        print_counts("115,200 baud", {n: c.first for n, c in self.slow_counts.items()}, self.small.size)
        print_counts(
            "115,200 baud, nothing changed", {n: c.same for n, c in self.slow_counts.items()}, self.small.size
        )
        print("\n| a command from start to end, ms | median | least to most |\n|---|---|---|")
        for name, took in self.commands.items():
            print(f"| {name} | {statistics.median(took) * 1e3:.0f} ", end="")
            print(f"| {min(took) * 1e3:.0f} to {max(took) * 1e3:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a round of ten files: does it work?")
    parser.add_argument("--json", action="store_true", help="only a line for each goal")
    args = parser.parse_args()
    rounds, files = (1, SLOW_FILES) if args.quick else (args.rounds, 50)
    slow_rounds, slow_files = (1, 2) if args.quick else (2, SLOW_FILES)
    with tempfile.TemporaryDirectory() as folder:
        trees = python_trees(Path(folder, "all"), rounds, files)
        small = python_trees(Path(folder, "some"), slow_rounds, slow_files)
        random = random_trees(Path(folder, "one"), rounds, FILE_BYTES)
        findings = Findings(
            fast=measure(LITTLEFS, OPENERS, trees, random),
            host=measure(HOST_FILES, OPENERS, trees[:3], []),
            slow=measure(SLOW, SLOW_OPENERS, small, []),
            fast_counts=count(LITTLEFS, COUNT_OPENERS, trees[0], random[0]),
            slow_counts=count(SLOW, OPENERS, small[0], None),
            commands=measure_commands(trees[:CLI_ROUNDS]),
            tree=trees[0],
            small=small[0],
            file=random[0],
        )
    if not args.json:
        print(f"simulated boards, rounds interleaved\n{machine()}")
        findings.print_tables()
        print()
    print_goals(findings.goals())


if __name__ == "__main__":
    main()
