"""drift: how boards differ from what was last deployed to them, and what that was."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from belayd_client.cli.command import (
    Command,
    UsageError,
    add_json,
    add_lease,
    add_limits,
    add_target,
    check_target,
)
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, local_time, one_line, print_json, print_table

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.rollback import Deployment, Drift

HEADINGS = ("TIME", "DEPLOYMENT", "WHO", "TO", "OUTCOME", "WRITTEN", "DELETED", "BYTES", "WAY BACK")


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "--history", action="store_true", help="list the board's deployments instead; asks the daemon alone"
    )
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _drift(args: argparse.Namespace) -> int:
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    check_target(args)
    if args.history and args.selector is not None:
        raise UsageError("--history is of one board; name it")
    with open_client(args) as client:
        if args.history:
            return _history(client, args)
        boards = several.names(client, args)

        def work(board: str, _: Sink) -> Drift:
            return under_lease(
                client, args, board, lambda token: client.drift(board, lease=token, timeout=args.timeout)
            )

        if args.selector is None:
            drift = several.one(args.board, work, raw=False)
            if args.json:
                print_json(drift)
            else:
                _print_drift(drift)
            return 0
        outcomes = several.many(client, boards, work, raw=False)
    found = [outcome.result for outcome in outcomes if outcome.result is not None]
    if args.json:
        print_json(found)
    else:
        for drift in found:
            _print_drift(drift)
    return several.report(outcomes)


def _print_drift(drift: Drift) -> None:
    for verb, paths in (("changed", drift.changed), ("missing", drift.missing), ("extra", drift.extra)):
        for path in paths:
            print(f"{drift.board}: {verb:<8}{one_line(path)}")
    if drift.deployment is None:
        print(f"{drift.board}: nothing was deployed to it that is on record")
        return
    last = drift.deployment
    told = "differs from" if drift else "is as left by"
    print(
        f"{drift.board}: {told} deployment {last.name} to {one_line(last.dst)} by {one_line(last.principal)}"
        f" at {local_time(last.created)}"
    )


def _history(client: Client, args: argparse.Namespace) -> int:
    found = list(client.deployments(args.board))
    if args.json:
        print_json(found)
    else:
        print_table(HEADINGS, [_row(each) for each in found], empty=f"{args.board}: none on record")
    return 0


def _row(deployment: Deployment) -> tuple[str, ...]:
    return (
        local_time(deployment.created),
        deployment.name,
        deployment.principal,
        deployment.dst,
        deployment.outcome.value,
        str(deployment.files_written),
        str(deployment.files_deleted),
        str(deployment.payload_bytes),
        ("yes" if deployment.reversible else "no")
        + (f", rolled back {deployment.rolls_back}" if deployment.rolls_back else ""),
    )


COMMANDS = (
    Command(
        name="drift",
        summary="tell how boards differ from what was deployed",
        description="Compare a board's files with what its last deployment left there: files that were\n"
        "changed, that are missing, and that nobody deployed, among them a boot.py left behind.\n"
        "Changes nothing. With --history list what was deployed to the board; what has a way\n"
        "back goes with `belayctl deploy BOARD --rollback`.",
        example="  belayctl drift pico-1\n  belayctl drift -l chip=rp2 --json\n  belayctl drift pico-1 --history",
        configure=_configure,
        run=_drift,
    ),
)
