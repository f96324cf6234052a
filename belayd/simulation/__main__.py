"""Runs one simulated board: `python -m belayd.simulation ROOT [options]`.

Prints one line on standard output when the board is there: the pty's path, or
"ready" for an inherited terminal; another line each time a pty comes back. Ends
with 0 when told to (SIGTERM, the far end of an inherited terminal closes, or
machine.reset() on one), with 1 and a line on standard error when the board crashed
or cannot start, with 2 when it is asked for the impossible.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
from pathlib import Path

from belayd.simulation import flash, kernel
from belayd.simulation.board import BoardFailure, SimulatedBoard
from belayd.simulation.child import Launch
from belayd.simulation.interpreter import InterpreterMissing, find_interpreter
from belayd.simulation.terminal import InheritedTerminal, PtyTerminal, Terminal


def main(arguments: list[str] | None = None) -> int:
    """Run the board that the command line describes; return the exit code."""
    options = _parse(arguments)
    folder = options.root.absolute()
    try:
        kernel.require()
        folder.mkdir(parents=True, exist_ok=True)
        if options.flash is not None:
            flash.prepare(folder, options.flash)
        launch = Launch(
            interpreter=find_interpreter(options.micropython),
            folder=folder,
            heap_kib=options.heap,
            flash_kib=options.flash,
            unique_id=options.unique_id or hashlib.sha256(folder.name.encode()).digest()[:8],
        )
    except (kernel.Unsupported, flash.FlashError, InterpreterMissing, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    terminal: Terminal
    if options.terminal_fd is not None:
        terminal = InheritedTerminal(options.terminal_fd)
    else:
        terminal = PtyTerminal(options.link, options.absence)
    try:
        SimulatedBoard(launch, terminal, _announce).run()
    except BoardFailure as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="belayd.simulation", description="one simulated MicroPython board")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the board's folder; made if missing")
    link = parser.add_mutually_exclusive_group(required=True)
    link.add_argument("--pty", action="store_true", help="offer a pty, for any tool")
    link.add_argument("--terminal-fd", type=int, metavar="N", help="be at the end of an inherited socket")
    parser.add_argument("--link", type=Path, metavar="PATH", help="keep a symbolic link to the pty here")
    parser.add_argument(
        "--absence",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="how long machine.reset() takes the pty away",
    )
    parser.add_argument(
        "--micropython", metavar="BIN", help="the interpreter; default: the one that is found"
    )
    parser.add_argument("--heap", type=int, default=512, metavar="KIB", help="memory for Python objects")
    parser.add_argument(
        "--flash", type=int, metavar="KIB", help="a LittleFS of this size instead of the folder itself"
    )
    parser.add_argument(
        "--unique-id", type=bytes.fromhex, metavar="HEX", help="default: derived from the folder's name"
    )
    return parser.parse_args(arguments)


def _announce(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens, which is no fault of the board
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
