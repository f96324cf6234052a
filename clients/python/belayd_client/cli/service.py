"""disable and enable: boards out of service and back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, add_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, note

if TYPE_CHECKING:
    from belayd_client.board import Board
    from belayd_client.client import Client


def _configure_disable(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why, for everybody to read")
    parser.add_argument("--now", action="store_true", help="break the leases there are")


def _disable(args: argparse.Namespace) -> int:
    def work(client: Client, board: str) -> str:
        lease = client.disable(board, args.reason, now=args.now).lease
        return f"is disabled once the lease of {lease.holder} has ended" if lease else "is disabled"

    return _each(args, work)


def _configure_enable(parser: argparse.ArgumentParser) -> None:
    add_target(parser)


def _enable(args: argparse.Namespace) -> int:
    def work(client: Client, board: str) -> str:
        enabled: Board = client.enable(board)
        return f"is enabled, and {enabled.state.value}"

    return _each(args, work)


def _each(args: argparse.Namespace, work: Callable[[Client, str], str]) -> int:
    from belayd_client.cli import several

    with open_client(args) as client:
        boards = several.names(client, args)

        def part(board: str, _: Sink) -> None:
            note(f"{board} {work(client, board)}")

        if args.selector is None:
            several.one(args.board, part, raw=False)
            return 0
        return several.report(several.many(client, boards, part, raw=False))


COMMANDS = (
    Command(
        name="disable",
        summary="take a board out of service",
        description="Take a board out of service until it is enabled; for operators. Work without a\n"
        "lease ends at once. Who holds the board keeps it until the lease ends, unless\n"
        "--now; who waits for it goes on waiting. Outlasts restarts of the daemon.",
        example="  belayctl disable pico-1 --reason 'USB cable on its way'\n"
        "  belayctl disable -l rack=2 --reason 'rack moves' --now",
        configure=_configure_disable,
        run=_disable,
    ),
    Command(
        name="enable",
        summary="put a board back in service",
        description="Put a board that was disabled back in service; for operators.",
        example="  belayctl enable pico-1\n  belayctl enable -l rack=2",
        configure=_configure_enable,
        run=_enable,
    ),
)
