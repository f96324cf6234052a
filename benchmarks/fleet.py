"""Sixteen boards, one client each, all busy: Belay's threads against belayd through gRPC.

    python benchmarks/fleet.py [--rounds 4] [--seconds 3] [--boards 16] [--quick]

Belay: sixteen Devices in sixteen threads of one process, each on a simulated board's
pty. belayd: one `belayd serve` with sixteen boards of the same kind, and sixteen
Devices, each with its own connection and lease, once in a process of its own each
and once in sixteen threads of one process as Belay's. A bare gRPC stream echo with
sixteen clients and no boards is the floor under that. The contenders take turns. With
the processor time that daemon, boards and callers used a call, as the kernel counts
it: where cores are few, it is what bounds the calls/s.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from crowd import Crowd, call_for, cpu_seconds, crowds, tell
from parts import daemon, machine, p99, process, simulated_board, wait_until_ready

from belayd_client import Client

WARM_UP = 0.5
"""Seconds: the first calls define things, and belayd's client opens its stream with the third."""


@dataclass
class Figures:
    """What one contender reached, in all rounds."""

    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    fewest: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)

    def measure(self, members: Sequence[Crowd], seconds: float) -> None:
        """Let the callers call for so long, and add what comes of it."""
        before = cpu_seconds()
        callers = call_for(members, seconds)
        for role, used in cpu_seconds().items():
            self.cpu[role] = self.cpu.get(role, 0.0) + used - before[role]
        took = [one for caller in callers for one in caller]
        self.took += took
        self.rates.append(len(took) / seconds)
        self.p99s.append(p99(took))
        self.fewest.append(min(map(len, callers)) / seconds)

    def row(self, name: str) -> str:
        """Return a row of the first table."""
        return (
            f"| {name} | {statistics.median(self.rates):,.0f} | {min(self.rates):,.0f} to {max(self.rates):,.0f} "
            f"| {statistics.median(self.took):.1f} | {p99(self.took):.1f} "
            f"| {min(self.p99s):.1f} to {max(self.p99s):.1f} | {statistics.median(self.fewest):,.0f} |"
        )

    def cpu_row(self, name: str) -> str:
        """Return a row of the second table."""
        each = {role: used / len(self.took) * 1e3 for role, used in self.cpu.items()}
        return (
            f"| {name} | {each['callers']:.2f} | {each['daemon']:.2f} | {each['boards']:.2f} "
            f"| {sum(each.values()):.2f} |"
        )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of what each round gave."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each contender in each round")
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="two rounds of one second: does it work?")
    args = parser.parse_args()
    rounds, seconds = (2, 1.0) if args.quick else (args.rounds, args.seconds)
    theirs, apart, together, floor = Figures(), Figures(), Figures(), Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = [f"b{number}" for number in range(args.boards)]
        paths: dict[str, list[str]] = {}
        for library in ("belay", "belayd"):
            for name in names:
                (folder / library / name).mkdir(parents=True)
            paths[library] = [stack.enter_context(simulated_board(folder / library / name)) for name in names]
        entries = zip(names, paths["belayd"], strict=True)
        inventory = "".join(f"  {name}: {{serial: {{port: {path}}}}}\n" for name, path in entries)
        address = stack.enter_context(daemon(folder, inventory))
        client = stack.enter_context(Client(address))
        wait_until_ready(client, names)
        targets = [f"{address}/{name}" for name in names]
        belays = stack.enter_context(crowds("Belay", [paths["belay"]]))
        processes = stack.enter_context(crowds("belayd", [[target] for target in targets]))
        threads = stack.enter_context(crowds("belayd", [targets]))
        server = [sys.executable, str(Path(__file__).with_name("echo_server.py"))]
        port = stack.enter_context(process(server, r"\d+"))[0]
        echoes = stack.enter_context(crowds("echo", [[f"localhost:{port}"]] * args.boards))
        for members in (belays, echoes):
            tell(members, "open")
            call_for(members, WARM_UP)
        for _ in range(rounds):
            theirs.measure(belays, seconds)
            floor.measure(echoes, seconds)
            for members, figures in ((processes, apart), (threads, together)):
                tell(members, "open")
                call_for(members, WARM_UP)
                figures.measure(members, seconds)
                tell(members, "close")
                wait_until_ready(client, names)
    rows = {
        f"Belay, {args.boards} threads of one process": theirs,
        f"**belayd, {args.boards} client processes**": apart,
        f"belayd, {args.boards} threads of one process": together,
        f"bare gRPC stream echo, {args.boards} client processes": floor,
    }
    print(f"{args.boards} simulated boards, {rounds} rounds of {seconds:g} s, interleaved; milliseconds")
    print(f"{machine()}\n")
    print("| all busy | calls/s | least to most | median | p99 | least to most | slowest board, calls/s |")
    print("|---|---|---|---|---|---|---|")
    for name, figures in rows.items():
        print(figures.row(name))
    for what, figures in (("processes", apart), ("threads", together)):
        rate = ratio(figures.rates, theirs.rates)
        tail = ratio(figures.p99s, theirs.p99s)
        print(f"\nbelayd's {what} / Belay's threads: {rate:.2f} times the calls/s, {tail:.2f} times the p99")
    print("\n| processor time a call, ms | callers | daemon | boards | together |\n|---|---|---|---|---|")
    for name, figures in rows.items():
        print(figures.cpu_row(name))


if __name__ == "__main__":
    main()
