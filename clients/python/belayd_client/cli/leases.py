"""acquire, renew, release and leases: a board's lock by hand."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from belayd_client.cli.command import (
    Command,
    UsageError,
    add_json,
    add_lease,
    add_target,
    check_target,
    duration,
)
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import local_time, note, print_json, print_table, spell_duration

if TYPE_CHECKING:
    from belayd_client.board import LeaseRecord
    from belayd_client.client import Client
    from belayd_client.lease import Lease


# How long a board may take to be cleaned between two leases before that counts as busy.
_CLEANING = 10.0


def add_acquire_options(parser: argparse.ArgumentParser, *, ttl: str) -> None:
    """Add what an acquisition takes beside its target; `ttl` is the default time to live."""
    parser.add_argument(
        "--ttl",
        metavar="TIME",
        type=duration,
        default=ttl,
        help="how long it lasts unless renewed (default: %(default)s)",
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        type=duration,
        default="0s",
        help="how long to wait while somebody else has it (default: fail at once)",
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for others to read")
    parser.add_argument(
        "--priority",
        choices=("low", "normal", "high"),
        default="normal",
        help="low waits behind all others; high, for operators, before them",
    )


def acquire_target(client: Client, args: argparse.Namespace) -> Lease:
    """Acquire what a command line asks for, telling the user of the queue.

    Raises:
        UsageError: It names neither board nor selector, or both.
        BelaydError: As the daemon says.
    """
    check_target(args)
    from belayd_client.errors import BoardLeased

    target = args.board or args.selector

    def acquire(wait: float) -> Lease:
        return client.acquire(
            args.board,
            selector=args.selector,
            ttl=args.ttl,
            wait=wait,
            reason=args.reason,
            priority=args.priority,
            on_queued=lambda position: note(f"waiting for {target}: place {position} in the queue"),
        )

    try:
        return acquire(args.wait)
    except BoardLeased as error:
        if error.holder or args.wait:
            raise
    return acquire(_CLEANING)  # Nobody has it: it is being cleaned after its last lease.


def _configure_acquire(parser: argparse.ArgumentParser) -> None:
    add_target(parser, many="the first free board of these")
    add_acquire_options(parser, ttl="10m")
    add_json(parser)


def _acquire(args: argparse.Namespace) -> int:
    from belayd_client.cli import tokens
    from belayd_client.errors import BoardLeased

    with open_client(args) as client:
        try:
            lease = acquire_target(client, args)
        except BoardLeased:
            if args.board and tokens.find(args, client.address, args.board).token:
                note(f"a lease of yours on {args.board} is known here: renew it, or release it first")
            raise
        try:
            file = tokens.keep(client.address, lease)
        except OSError as error:
            lease.release()
            raise UsageError(f"the lease was given back, since its token cannot be kept: {error}") from None
        except BaseException:
            lease.release()
            raise
    if args.json:
        print_json(_described(lease) | {"token": lease.token, "token_file": str(file)})
        return 0
    print(f"{lease.name}  {lease.board}  until {local_time(lease.expires)} ({spell_duration(lease.ttl)})")
    note(f"your next commands on {lease.board} use it; its token is in {file}")
    note(
        f"nothing renews it: `belayctl renew {lease.board}`, and `belayctl release {lease.board}` at the end"
    )
    return 0


def _configure_renew(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", help="the board's name")
    parser.add_argument(
        "--ttl", metavar="TIME", type=duration, help="how long it lasts from now on (default: as acquired)"
    )
    add_lease(parser)
    add_json(parser)


def _renew(args: argparse.Namespace) -> int:
    from belayd_client.cli import tokens
    from belayd_client.errors import LeaseLost

    with open_client(args) as client:
        found = tokens.require(args, client.address, args.board)
        try:
            lease = client.lease(found.token, args.ttl)
        except LeaseLost:
            tokens.forget(found)
            raise
        if found.file is not None:
            tokens.keep(client.address, lease)
    if args.json:
        print_json(_described(lease))
    else:
        print(f"{lease.name}  {lease.board}  until {local_time(lease.expires)} ({spell_duration(lease.ttl)})")
    return 0


def _configure_release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", help="the board's name")
    add_lease(parser)


def _release(args: argparse.Namespace) -> int:
    from belayd_client.cli import tokens
    from belayd_client.errors import LeaseLost

    with open_client(args) as client:
        found = tokens.require(args, client.address, args.board)
        try:
            client.release(found.token)
        except LeaseLost:
            tokens.forget(found)
            raise
        tokens.forget(found)
    note(f"{args.board} is free")
    return 0


def _configure_leases(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def _leases(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        leases = client.leases()
    if args.json:
        print_json(leases)
        return 0
    rows = [
        (
            lease.name,
            lease.board,
            lease.holder or "-",
            local_time(lease.since),
            local_time(lease.expires),
            f"{lease.reason or '-'}{_ending(lease)}",
        )
        for lease in leases
    ]
    print_table(("LEASE", "BOARD", "HOLDER", "SINCE", "UNTIL", "REASON"), rows, empty="nobody holds a lease")
    return 0


def _ending(lease: LeaseRecord) -> str:
    notice = lease.notice
    return f" (will be broken by {notice.by}: {notice.reason})" if notice else ""


def _described(lease: Lease) -> dict[str, object]:
    from belayd_client.cli.output import plain

    described = plain(lease.record)
    return dict(described) if isinstance(described, dict) else {}


COMMANDS = (
    Command(
        name="acquire",
        summary="take a board for yourself",
        description="Take a board, or any one that a selector matches, and keep it for your next commands.\n"
        "The lease ends at its expiry unless you renew it; `hold` renews by itself.",
        example="  belayctl acquire pico-1 --ttl 1h --reason 'radio test'\n"
        "  belayctl exec pico-1 'print(1)'\n  belayctl release pico-1",
        configure=_configure_acquire,
        run=_acquire,
    ),
    Command(
        name="renew",
        summary="keep a board longer",
        description="Move the expiry of your lease on a board to now plus its time to live.",
        example="  belayctl renew pico-1 --ttl 2h",
        configure=_configure_renew,
        run=_renew,
    ),
    Command(
        name="release",
        summary="give a board back",
        description="End your lease on a board. What still runs under it is interrupted, the board is\n"
        "cleaned and goes to who waits next.",
        example="  belayctl release pico-1",
        configure=_configure_release,
        run=_release,
    ),
    Command(
        name="leases",
        summary="list who has which board",
        description="List the live leases, oldest first.",
        example="  belayctl leases",
        configure=_configure_leases,
        run=_leases,
    ),
)
