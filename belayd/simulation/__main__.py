"""Runs one simulated board: `python -m belayd.simulation ROOT [options]`.

Prints a line on standard output for each link when the board is there: the pty's
path or "ready" for an inherited terminal, then the WebREPL's URL; the same lines
each time they come back. Ends
with 0 when told to (SIGTERM, the far end of an inherited terminal closes, or
machine.reset() on one), with 1 and a line on standard error when the board crashed
or cannot start, with 2 when it is asked for the impossible.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from belayd.simulation import flash, kernel
from belayd.simulation.board import BoardFailure, SimulatedBoard
from belayd.simulation.child import Launch
from belayd.simulation.interpreter import InterpreterMissing, find_interpreter
from belayd.simulation.link import Link, TerminalLink
from belayd.simulation.pace import BaudPace, Pace, Unpaced
from belayd.simulation.terminal import InheritedTerminal, PtyTerminal
from belayd.simulation.webrepl import PASSWORD_BYTES, DoorTaken, Webrepl


def main(arguments: list[str] | None = None) -> int:
    """Run the board that the command line describes; return the exit code."""
    options = _parse(arguments)
    folder = options.root.absolute()
    try:
        kernel.require()
        folder.mkdir(parents=True, exist_ok=True)
        password = options.password_file.read_bytes().strip() if options.password_file else b""
        if len(password) > PASSWORD_BYTES:
            raise flash.FlashError(f"a WebREPL's password has at most {PASSWORD_BYTES} bytes")
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
    board = SimulatedBoard(
        launch,
        _announce,
        ring_bytes=options.ring,
        unplug_after=options.unplug_after,
        raw_paste=not options.no_raw_paste,
    )
    board.join(_links(options, folder, password, board.show))
    try:
        board.run()
    except (BoardFailure, DoorTaken) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _links(
    options: argparse.Namespace, folder: Path, password: bytes, show: Callable[[bytes], None]
) -> list[Link]:
    def line() -> Pace:
        return Unpaced() if options.baud is None else BaudPace(options.baud, time.monotonic)

    links: list[Link] = []
    if options.terminal_fd is not None:
        links.append(TerminalLink(InheritedTerminal(options.terminal_fd), line(), line()))
    elif options.pty:
        links.append(TerminalLink(PtyTerminal(options.link, options.absence), line(), line()))
    if options.webrepl is not None:
        files = folder if options.flash is None else None
        links.append(Webrepl(options.webrepl, password, files, options.absence, show))
    return links


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="belayd.simulation", description="one simulated MicroPython board")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the board's folder; made if missing")
    link = parser.add_mutually_exclusive_group()
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
    parser.add_argument(
        "--webrepl", type=int, metavar="PORT", help="offer a WebREPL on loopback; 0 for any port"
    )
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="holds the WebREPL's password")
    parser.add_argument(
        "--ring", type=_positive, metavar="BYTES", help="drop input that finds no room, as UART ports do"
    )
    parser.add_argument(
        "--no-raw-paste", action="store_true", help="know no raw paste, as firmware before 1.14"
    )
    parser.add_argument("--baud", type=_positive, metavar="N", help="how fast the terminal's line is")
    parser.add_argument(
        "--unplug-after", type=_positive, metavar="BYTES", help="pull the plug after so much output, once"
    )
    options = parser.parse_args(arguments)
    if not options.pty and options.terminal_fd is None and options.webrepl is None:
        parser.error("one of --pty, --terminal-fd and --webrepl is needed")
    if options.webrepl is not None and options.password_file is None:
        parser.error("--webrepl needs --password-file")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _announce(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens, which is no fault of the board
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
