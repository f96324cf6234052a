"""break: an operator takes boards from their holders."""

from __future__ import annotations

import argparse

from belayd_client.cli.command import Command, add_target, duration
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, local_time, note


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--reason", metavar="TEXT", required=True, help="why, for the holder to read")
    parser.add_argument(
        "--grace", metavar="TIME", type=duration, help="let the holder go on for so long, with notice"
    )


def _break(args: argparse.Namespace) -> int:
    from belayd_client.cli import several
    from belayd_client.errors import NotFound

    with open_client(args) as client:
        boards = several.names(client, args)

        def work(board: str, _: Sink) -> None:
            ended = client.break_lease(board, args.reason, args.grace)
            when = f"ends at {local_time(ended.expires)}" if args.grace else "has ended"
            note(f"{board}: the lease of {ended.holder} {when}")

        if args.selector is None:
            several.one(args.board, work, raw=False)
            return 0
        held = {lease.board for lease in client.leases()}
        taken = [board for board in boards if board in held]
        if not taken:
            raise NotFound(f"nobody holds any of the boards that {args.selector} matches")
        return several.report(several.many(client, taken, work, raw=False))


COMMANDS = (
    Command(
        name="break",
        summary="take a board from its holder",
        description="End somebody's lease against their will; for operators. What runs under it is\n"
        "interrupted, the board is cleaned and goes to who waits next. The holder reads why.",
        example="  belayctl break pico-1 --reason 'moving the rack' --grace 10m\n"
        "  belayctl break -l rack=2 --reason 'power cut at noon'",
        configure=_configure,
        run=_break,
    ),
)
