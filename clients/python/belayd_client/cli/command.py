"""What a command of belayctl is, and how its arguments are read.

Nothing here or at the top of a command's file imports grpc: `--help` and usage
errors come at once. A command's `run` imports what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple


class UsageError(Exception):
    """The command line cannot be what the user meant; exit code 2."""


class Command(NamedTuple):
    """One command: its line in the overview, its help, its arguments and what it does.

    `run` returns the exit code; it may raise BelaydError, BoardException and UsageError.
    """

    name: str
    summary: str
    description: str
    example: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def parse(self, arguments: Sequence[str], chosen: argparse.Namespace) -> argparse.Namespace:
        """Read the arguments after the command's name; `chosen` are the options before it."""
        parser = argparse.ArgumentParser(
            prog=f"belayctl {self.name}",
            description=self.description,
            epilog=f"example:\n{self.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.configure(parser)
        add_connection_options(parser)
        words, trailing = list(arguments), None
        if parser.get_default("trailing") is not None and "--" in words:
            # What follows belongs to another program: argparse must not look at it.
            at = words.index("--")
            words, trailing = words[:at], words[at + 1 :]
        # Intermixed: a word after an option is still the next positional.
        read = parser.parse_intermixed_args(words, argparse.Namespace(**vars(chosen)))
        if trailing is not None:
            read.trailing = trailing
        return read


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes, before its name and after."""
    group = parser.add_argument_group("connection")
    for flag, metavar, text in (
        ("--address", "HOST:PORT", "the daemon (default: BELAYD_ADDRESS, else the profile's)"),
        ("--profile", "NAME", "what `belayctl login` kept (default: BELAYD_PROFILE, else default)"),
        ("--token-file", "FILE", "a file with your token (default: BELAYD_TOKEN, else the profile's)"),
        ("--ca", "FILE", "the CA of the daemon's certificate; switches TLS on"),
        ("--cert", "FILE", "your certificate"),
        ("--key", "FILE", "your certificate's key"),
    ):
        # Left out means absent, so that what stood before the command's name is not overwritten.
        group.add_argument(flag, metavar=metavar, help=text, default=argparse.SUPPRESS)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_target(parser: argparse.ArgumentParser, *, many: str = "every board it matches") -> None:
    """Add a board's name or a selector; `many` says what a selector does."""
    parser.add_argument("board", metavar="BOARD", nargs="?", help="the board's name")
    parser.add_argument("-l", "--selector", metavar="SEL", help=f"such as chip=rp2,rack=2: {many}")


def add_lease(parser: argparse.ArgumentParser) -> None:
    """Add --lease."""
    parser.add_argument(
        "--lease",
        metavar="FILE",
        help="a file with the lease's token (default: BELAYD_LEASE's value, else your `belayctl acquire`)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add --wait and --timeout."""
    parser.add_argument(
        "--wait",
        metavar="TIME",
        type=duration,
        help="how long to wait while somebody else has a board's lease",
    )
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration, help="how long queueing and running may take, such as 10s"
    )


def check_target(args: argparse.Namespace) -> None:
    """Hold that exactly one of board and selector is given.

    Raises:
        UsageError: Otherwise.
    """
    if args.board is None and args.selector is None:
        raise UsageError("name a board, or select some with -l SEL; `belayctl boards` lists them")
    if args.board is not None and args.selector is not None:
        raise UsageError(f"both a board, {args.board!r}, and a selector: give one of them")


def duration(text: str) -> float:
    """Read "90s", "10m", "1h30m", "250ms" or "2d" as seconds; a bare number is seconds.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    rest, seconds, order = text.strip(), 0.0, list(units)
    if rest.isascii() and rest.replace(".", "", 1).isdigit():
        return float(rest)
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        tail = rest[len(digits) :]
        unit = "ms" if tail.startswith("ms") else tail[:1]
        if unit not in order or not digits.isascii() or not digits.replace(".", "", 1).isdigit():
            raise argparse.ArgumentTypeError(f"not a duration: {text!r}; write 5s, 10m or 1h30m")
        order = order[: order.index(unit)]  # "30m1h" and "5s5s" are slips
        seconds += float(digits) * units[unit]
        rest = tail[len(unit) :]
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty duration; write 5s, 10m or 1h30m")
    return seconds
