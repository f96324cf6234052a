"""reload and drain: the daemon's inventory read again, and the daemon before an upgrade."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, add_json
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import note, one_line, print_json

if TYPE_CHECKING:
    from belayd_client.board import DrainStatus
    from belayd_client.errors import RequestInvalid
    from belayd_client.upkeep import InventoryChange


def _configure_reload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")
    add_json(parser)


def _reload(args: argparse.Namespace) -> int:
    from belayd_client.cli.outcome import exit_code
    from belayd_client.errors import RequestInvalid

    with open_client(args) as client:
        try:
            reloaded = client.reload(dry_run=args.dry_run)
        except RequestInvalid as error:
            _print_problems(error)
            return exit_code(error)
    if args.json:
        print_json(reloaded)
        return 0
    for warning in reloaded.warnings:
        note(f"warning: {warning}")
    for change in reloaded.changes:
        print(_line(change))
    if not reloaded.changes:
        note("nothing differs from what the daemon has")
    elif args.dry_run:
        note("nothing was changed; without --dry-run it is")
    return 0


def _print_problems(error: RequestInvalid) -> None:
    told = 0
    while problem := error.fields.get(f"problem_{told + 1}"):
        note(problem)
        told += 1
    if not told:
        note(str(error))
        return
    count = int(error.fields.get("problems", told))
    more = f"; {count - told} more are not shown, `belayd check` has them" if count > told else ""
    note(f"the inventory cannot be used, and nothing was changed{more}")


def _line(change: InventoryChange) -> str:
    details = f"  {'; '.join(change.details)}" if change.details else ""
    loser = f"  (ends the lease of {change.holder})" if change.holder else ""
    return one_line(f"{change.kind.value:<14}{change.key}{details}{loser}")


def _configure_drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", action="store_true", help="until nobody holds a board and nothing runs, or Ctrl-C"
    )
    parser.add_argument("--off", action="store_true", help="take new leases and work again")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for others to read")


def _drain(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        told = client.drain(args.reason, off=args.off)
        status = next(told, None)
        if args.off:
            note("the daemon takes new leases and work again")
            return 0
        note(_how_far(status))
        if args.wait:
            for status in told:
                note(_how_far(status))
            return 0 if status is not None else 3
        told.close()
    return 0


def _how_far(status: DrainStatus | None) -> str:
    if status is None:
        return "somebody ended the draining"
    if not (status.leases or status.boards_at_work):
        return "draining: nobody holds a board and nothing runs"
    return f"draining: leases {status.leases}, boards with work {status.boards_at_work}"


COMMANDS = (
    Command(
        name="reload",
        summary="apply a changed inventory",
        description="Let the daemon read its inventory file again; for operators. Boards that do not\n"
        "differ notice nothing. A board with another link, unique_id or way to attach is\n"
        "replaced, which ends its lease. A file with a mistake changes nothing.",
        example="  belayctl reload --dry-run\n  belayctl reload",
        configure=_configure_reload,
        run=_reload,
    ),
    Command(
        name="drain",
        summary="let the daemon finish, for an upgrade",
        description="Let the daemon take no new leases and no new work without one; for\n"
        "administrators. Leases that live go on. A restart, or --off, ends it.",
        example="  belayctl drain --wait --reason 'upgrade to 2.0' && systemctl restart belayd\n"
        "  belayctl drain --off",
        configure=_configure_drain,
        run=_drain,
    ),
)
