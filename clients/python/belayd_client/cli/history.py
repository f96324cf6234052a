"""audit and events: what was done, and what happens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, UsageError, add_json, duration
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import local_time, note, one_line, print_json, print_table, spell_duration

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.history import AuditEvent, Event

HEADINGS = ("TIME", "WHO", "DID", "BOARD", "LEASE", "OUTCOME", "TOOK", "DETAIL")
RECENT = 1000
"""Events of the past that a daemon keeps."""
BROKEN = 1
"""Exit code of a chain that does not hold."""


def _configure_audit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", nargs="?", help="only what concerns this board")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=duration,
        default="1d",
        help="how far back to look (default: %(default)s)",
    )
    parser.add_argument(
        "--until", metavar="TIME", type=duration, help="leave out what is newer than so long ago"
    )
    parser.add_argument("--principal", metavar="NAME", help="only what this principal did")
    parser.add_argument("--verify", action="store_true", help="have the daemon check its records instead")
    add_json(parser)


def _audit(args: argparse.Namespace) -> int:
    if args.verify and (args.board or args.principal):
        raise UsageError("--verify checks all records: leave board and principal away")
    with open_client(args) as client:
        if args.verify:
            return _verify(client, args)
        events = _events_of(client, args)
    if args.json:
        print_json(events)
    else:
        print_table(HEADINGS, [_row(event) for event in events], empty="nothing on record")
    return 0


def _events_of(client: Client, args: argparse.Namespace) -> list[AuditEvent]:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    try:
        since = now - timedelta(seconds=args.since)
        until = None if args.until is None else now - timedelta(seconds=args.until)
    except OverflowError:
        raise UsageError("--since, --until: that is before the year 1") from None
    found = client.audit(args.board, principal=args.principal, since=since, until=until)
    return list(found)[::-1]


def _row(event: AuditEvent) -> tuple[str, ...]:
    outcome = event.outcome if not event.reason else f"{event.outcome}: {event.reason}"
    detail = event.detail
    if event.content_sha256:
        detail = f"{detail} sha256:{event.content_sha256[:12]}".lstrip()
    return (
        local_time(event.time),
        event.principal,
        event.action.rpartition("Service/")[2],
        event.board or "-",
        event.lease or "-",
        outcome,
        spell_duration(event.took),
        detail,
    )


def _verify(client: Client, args: argparse.Namespace) -> int:
    verdict = client.verify_audit()
    if args.json:
        print_json(verdict)
        return 0 if verdict.intact else BROKEN
    if verdict.lost:
        note(f"{verdict.lost} records could not be written since the daemon's start")
    pruned = f", {verdict.pruned} of them dropped by age or number" if verdict.pruned else ""
    if not verdict.intact:
        holds = f"records 1 to {verdict.last_number} hold{pruned}" if verdict.last_number else "none holds"
        note(f"the chain is broken at record {verdict.last_number + 1}: it was changed or taken out; {holds}")
        return BROKEN
    if verdict.last_number:
        print(f"records 1 to {verdict.last_number} hold{pruned}; the chain's head is {verdict.head_sha256}")
    else:
        print("nothing on record")
    return 0


def _configure_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", nargs="?", help="only what happens to this board")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="stay and show what happens, until Ctrl-C"
    )
    parser.add_argument(
        "--operations", action="store_true", help="with -f: each call and run too, from now on"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")


def _events(args: argparse.Namespace) -> int:
    if args.operations and not args.follow:
        raise UsageError("--operations goes with -f: operations of the past are in `belayctl audit`")
    with open_client(args) as client:
        happened = client.events(args.board, operations=args.operations, recent=RECENT, follow=args.follow)
        for event in happened:
            if event.dropped:
                note(f"{event.dropped} events were lost here: they came faster than they were read")
            if args.json:
                print_json(event, one_per_line=True)
            else:
                print(_line(event))
                sys.stdout.flush()
    return 0


def _line(event: Event) -> str:
    words = (local_time(event.time), f"{event.board:<12}", event.kind.replace("_", " "), _told(event.fields))
    return "  ".join(one_line(word) for word in words).rstrip()


def _told(fields: Mapping[str, object]) -> str:
    """Return fields as one reads them: numbers of seconds spelled, what is empty left away."""
    words = []
    for name, value in fields.items():
        if isinstance(value, float):
            words.append(f"{name} {spell_duration(value)}")
        elif isinstance(value, list):
            words += [_told(item) for item in value if isinstance(item, Mapping)]
        elif name == "previous":
            words.append(f"{value} ->")
        elif value != "":
            words.append(f"{name} {value}" if isinstance(value, int) else str(value))
    return " ".join(words)


COMMANDS = (
    Command(
        name="audit",
        summary="tell who did what, and who had a board when",
        description="Tell what was done and what happened by itself, oldest first: who took a board, what\n"
        "ran on it (source and files by their SHA-256), how it ended, when the lease did.\n"
        "A lease's end shows how long it was held. For operators. With --verify the daemon\n"
        "checks that no record was changed or taken out; exit code 1 if one was.",
        example="  belayctl audit pico-1 --since 2h\n  belayctl audit --principal ann --since 7d\n"
        "  belayctl audit --verify",
        configure=_configure_audit,
        run=_audit,
    ),
    Command(
        name="events",
        summary="tell what happened to the boards",
        description="Tell what happened last: states, leases, deployments, recoveries, restarts. With -f\n"
        "stay and go on. The daemon keeps the last 1000 until it stops.",
        example="  belayctl events\n  belayctl events -f pico-1\n  belayctl events -f --operations --json",
        configure=_configure_events,
        run=_events,
    ),
)
