"""latency: how long a call takes, from here through the daemon to the board and back."""

from __future__ import annotations

import argparse
import time

from belayd_client.cli.command import Command, add_json, add_lease, add_limits
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import print_json

# Names of the board's own globals must not be overwritten; nobody calls theirs this.
_FUNCTION = "_belayctl_latency"

_MOST_CALLS = 1_000_000


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", help="the board's name")
    parser.add_argument(
        "-n",
        metavar="N",
        dest="calls",
        type=_count,
        default=1000,
        help="how many calls (default: %(default)s)",
    )
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= _MOST_CALLS:
        raise argparse.ArgumentTypeError(f"not a number of calls from 1 to {_MOST_CALLS}: {text!r}")
    return int(text)


def _latency(args: argparse.Namespace) -> int:
    from belayd_client.cli.tokens import under_lease

    with open_client(args) as client:

        def measure(token: str) -> list[float]:
            client.run(
                args.board, f"def {_FUNCTION}(a, b):\n return a + b\n", lease=token, timeout=args.timeout
            )
            try:
                times = []
                for number in range(args.calls):
                    begun = time.perf_counter()
                    client.call(args.board, _FUNCTION, number, 1, lease=token, timeout=args.timeout)
                    times.append(time.perf_counter() - begun)
                return times
            finally:
                client.run(args.board, f"del {_FUNCTION}", lease=token, timeout=args.timeout)

        times = under_lease(client, args, args.board, measure)
    figures = summarise(times)
    if args.json:
        print_json({"board": args.board, **figures})
        return 0
    print(
        f"{args.board}: {len(times)} calls, min {figures['minimum_seconds'] * 1000:.2f} ms,"
        f" median {figures['median_seconds'] * 1000:.2f} ms, p99 {figures['p99_seconds'] * 1000:.2f} ms,"
        f" {figures['calls_per_second']:.0f} calls/s"
    )
    return 0


def summarise(times: list[float]) -> dict[str, float]:
    """Return count, minimum, median, 99th percentile (nearest rank) and calls per second."""
    ordered, count = sorted(times), len(times)
    middle = count // 2
    return {
        "calls": count,
        "minimum_seconds": ordered[0],
        "median_seconds": ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2,
        "p99_seconds": ordered[-(-count * 99 // 100) - 1],
        "calls_per_second": count / sum(ordered),
    }


COMMANDS = (
    Command(
        name="latency",
        summary="measure calls to a board",
        description="Define a function that adds two numbers on a board, call it one call after the other,\n"
        "and print the minimum, median and 99th percentile of the times, and calls per second.",
        example="  belayctl latency pico-1 -n 200",
        configure=_configure,
        run=_latency,
    ),
)
