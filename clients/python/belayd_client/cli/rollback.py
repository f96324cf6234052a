"""The way back, for `deploy --rollback`: what the last deployment replaced is brought back."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from belayd_client.cli import several
from belayd_client.cli.command import check_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.deploy import ProgressBar, print_results
from belayd_client.cli.output import Sink, note
from belayd_client.cli.tokens import under_lease

if TYPE_CHECKING:
    from belayd_client.deployment import DeploymentSummary


def roll_back(args: argparse.Namespace) -> int:
    """Roll back one board, or all that a selector matches; return the exit code."""
    check_target(args)
    with open_client(args) as client:
        boards = several.names(client, args)
        bar = ProgressBar(len(boards)) if sys.stderr.isatty() else None

        def work(board: str, _: Sink) -> DeploymentSummary:
            try:
                return under_lease(
                    client,
                    args,
                    board,
                    lambda token: client.roll_back(
                        board,
                        args.deployment or "",
                        dry_run=args.dry_run,
                        in_place=args.in_place,
                        progress=bar.follow(board) if bar else None,
                        lease=token,
                        timeout=args.timeout,
                    ),
                )
            finally:
                if bar:
                    bar.finish(board)

        try:
            with stoppable(args):
                if args.selector is None:
                    outcomes = [several.Outcome(args.board, several.one(args.board, work, raw=False), None)]
                else:
                    outcomes = several.many(client, boards, work, raw=False)
        finally:
            if bar:
                bar.clear()
    print_results(args, outcomes)
    return 0 if args.selector is None else several.report(outcomes)


@contextlib.contextmanager
def stoppable(args: argparse.Namespace) -> Iterator[None]:
    """Say what Ctrl-C means for deployments that are under way inside."""
    try:
        yield
    except KeyboardInterrupt:
        if not args.dry_run:
            board = args.board or "BOARD"
            note(
                f"stopped: what had begun is undone, or completed if all was sent; in place, some files are new "
                f"and others old. `belayctl drift {board} --history` tells"
            )
        raise
