"""One board of sixteen stuck: what the other fifteen notice of it.

    python benchmarks/stuck.py [--rounds 3] [--seconds 3] [--boards 16] [--quick]

All boards are simulated ones of one `belayd serve`. Fifteen clients, each a process
with its own connection and lease, call all the time. In turns the sixteenth board is

    healthy    and idle;
    mute       in an endless loop that swallows every Ctrl-C (and sleeps: a board's own
               processor is not the daemon's);
    stalled    behind a link that passes nothing any more, either way, and stays open.

Somebody calls a stuck board too, again and again, with a time limit. A round with a
stuck board lasts twice as long, from the call that gets stuck into the recovery. No
call waits on a stuck board if the longest call of the others is far below the
seconds for which that board was silent.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from crowd import Crowd, call_for, crowds, tell
from parts import PATIENCE, Counter, daemon, machine, p99, simulated_board, wait_until_ready

from belayd_client import BelaydError, Client

LIMIT = 1.0
"""Seconds that the call to a stuck board allows."""
PAUSE = 0.25
"""Seconds between two calls to it: refusals are quick, and thousands of them would be another load."""
WARM_UP = 0.5
STATES = ("healthy", "mute", "stalled")
SOURCE = """import time
def add(a, b):
    return a + b
def stick():
    while True:
        try:
            time.sleep(10)
        except BaseException:
            pass
"""


@dataclass
class Figures:
    """What the others' calls took while the one board was in one state."""

    took: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)

    def add(self, callers: Sequence[array[float]]) -> None:
        """Add one round."""
        took = [one for caller in callers for one in caller]
        self.took += took
        self.medians.append(statistics.median(took))
        self.longest.append(max(took))


class Victim:
    """Calls the stuck board from a thread: first what makes it stick, then anything."""

    def __init__(self, client: Client, board: str, function: str, *arguments: int) -> None:
        self.ends: list[tuple[str, float]] = []
        self._client = client
        self._board = board
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call, args=(function, arguments))
        self._thread.start()

    def stop(self) -> None:
        """Wait for the last call."""
        self._over.set()
        self._thread.join()

    def _call(self, function: str, arguments: tuple[int, ...]) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            try:
                self._client.call(self._board, function, *arguments, timeout=LIMIT)
                how = "answered"
            except BelaydError as error:
                how = error.reason or type(error).__name__
            self.ends.append((how, time.perf_counter() - began))
            function, arguments = "add", (1, 2)
            self._over.wait(PAUSE)


class Troubled:
    """The sixteenth board: one of its own for each round, behind a link that can be stalled."""

    def __init__(self, folder: Path) -> None:
        self.port = folder / "troubled.tty"
        self._folder = folder

    def measure(
        self, state: str, client: Client, board: str, members: Sequence[Crowd], seconds: float
    ) -> tuple[list[array[float]], list[tuple[str, float]]]:
        """Return the others' calls and the ends of the calls to this one, in one round."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            link = Counter(stack.enter_context(simulated_board(folder)))
            stack.callback(link.close)
            self.port.symlink_to(link.path)
            stack.callback(self.port.unlink)
            wait_until_ready(client, [board])
            client.run(board, SOURCE, timeout=PATIENCE)
            call_for(members, WARM_UP)
            if state == "healthy":
                return call_for(members, seconds), []
            if state == "stalled":
                link.stall()
            victim = Victim(client, board, *(("stick",) if state == "mute" else ("add", 1, 2)))
            stack.callback(victim.stop)
            callers = call_for(members, 2 * seconds)
            victim.stop()
            return callers, victim.ends


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round; twice that when stuck")
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds: does it work?")
    args = parser.parse_args()
    rounds, seconds = (1, 2.0) if args.quick else (args.rounds, args.seconds)
    figures = {state: Figures() for state in STATES}
    ends: dict[str, list[tuple[str, float]]] = {state: [] for state in STATES}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = [f"b{number}" for number in range(1, args.boards)]
        entries = []
        for name in names:
            (folder / name).mkdir()
            path = stack.enter_context(simulated_board(folder / name))
            entries.append(f"  {name}: {{serial: {{port: {path}}}}}\n")
        troubled = Troubled(folder)
        entries.append(f"  troubled: {{serial: {{port: {troubled.port}}}}}\n")
        # Warnings would tell at length of the one board, which fails on purpose here.
        address = stack.enter_context(daemon(folder, "".join(entries), log_level="error"))
        client = stack.enter_context(Client(address))
        wait_until_ready(client, names)
        members = stack.enter_context(crowds("belayd", [[f"{address}/{name}"] for name in names]))
        tell(members, "open")
        for number in range(rounds):
            for state in STATES[number % 3 :] + STATES[: number % 3]:  # each is first in its turn
                callers, how = troubled.measure(state, client, "troubled", members, seconds)
                figures[state].add(callers)
                ends[state] += how
    print(f"{len(names)} busy boards and one more, {rounds} rounds, interleaved; milliseconds")
    print(f"{machine()}\n")
    print(f"| the other board | calls | median of the {len(names)} | against healthy | p99 | longest call |")
    print("|---|---|---|---|---|---|")
    for state, figure in figures.items():
        pairs = zip(figure.medians, figures["healthy"].medians, strict=True)
        change = (statistics.median(stuck / healthy for stuck, healthy in pairs) - 1) * 100
        print(
            f"| {state} | {len(figure.took):,} | {statistics.median(figure.took):.1f} | {change:+.0f} % "
            f"| {p99(figure.took):.1f} | {max(figure.longest):.0f} |"
        )
    print(f"\n| calls to the stuck board, limit {LIMIT:g} s | ended as | how many | longest, s |")
    print("|---|---|---|---|")
    for state in STATES[1:]:
        for outcome in sorted({outcome for outcome, _ in ends[state]}):
            waits = [wait for name, wait in ends[state] if name == outcome]
            print(f"| {state} | {outcome} | {len(waits)} | {max(waits):.2f} |")


if __name__ == "__main__":
    main()
