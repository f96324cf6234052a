"""reset: a board's interpreter or chip started anew."""

from __future__ import annotations

import argparse

from belayd_client.cli.command import Command, add_lease, add_limits, add_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, note


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--hard", action="store_true", help="the chip, not only the interpreter")
    add_lease(parser)
    add_limits(parser)


def _reset(args: argparse.Namespace) -> int:
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    with open_client(args) as client:
        boards = several.names(client, args)

        def work(board: str, _: Sink) -> None:
            under_lease(
                client,
                args,
                board,
                lambda token: client.reset(board, hard=args.hard, lease=token, timeout=args.timeout),
            )

        if args.selector is None:
            several.one(args.board, work, raw=False)
            note(f"{args.board} was reset and answers")
            return 0
        return several.report(several.many(client, boards, work, raw=False))


COMMANDS = (
    Command(
        name="reset",
        summary="reset a board",
        description="Soft-reset a board's interpreter, or with --hard its chip, and wait until it\n"
        "answers again.",
        example="  belayctl reset pico-1\n  belayctl reset -l rack=2 --hard",
        configure=_configure,
        run=_reset,
    ),
)
