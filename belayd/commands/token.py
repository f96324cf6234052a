"""`belayd token`: who may come in, and as what."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from belayd.commands.serve import default_state

if TYPE_CHECKING:
    from belayd.tokens import Tokens, Wanted

_EXAMPLES = """\
examples:
  belayd token create ann --role user > ann.token
  belayd token create ci --role user --selector lab=north --expires 30d
  belayd token create --from course.csv > tokens.csv   # name,role,selector,expires
  belayd token create ann@desk --role operator --certificate
  belayd token list
  belayd token revoke ann

A token is shown once, on stdout, and only its hash is kept. The running daemon
sees each change at once. Roles: viewer looks, user leases boards and runs code on
them, operator takes boards away from others, admin does everything. With
--selector a token sees and uses the boards it matches and no others.

A certificate's holder has the role and boards of the entry of its name, and is
user of all boards where there is none.

Exit codes: 0 done, 2 it cannot be done.
"""
DEFAULT_EXPIRY = "90d"
_COLUMNS = ("name", "role", "selector", "expires")
_ROLES = ("viewer", "user", "operator", "admin")
_DURATION = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "token",
        help="create, list and revoke tokens",
        description="Tokens with which callers come in, and what each may do.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    create = verbs.add_parser("create", help="make a token and show it once")
    create.add_argument("name", metavar="NAME", nargs="?", help="whose it is, such as ann or ci")
    create.add_argument("--role", choices=_ROLES, help="what it may do; user where a CSV says nothing")
    create.add_argument("--selector", metavar="SEL", help="its boards, such as chip=rp2 (default: all)")
    create.add_argument(
        "--expires", metavar="TIME", help=f"such as 90d, 12h or never (default: {DEFAULT_EXPIRY})"
    )
    create.add_argument(
        "--from",
        dest="source",
        metavar="FILE.csv",
        help="many at once, all or none: columns name, role, selector, expires; writes name,token",
    )
    create.add_argument(
        "--certificate", action="store_true", help="no token: what the certificate of this name may do"
    )
    create.set_defaults(run=_create, complain=create.error)
    listing = verbs.add_parser("list", help="show all, without the tokens themselves")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)
    revoke = verbs.add_parser("revoke", help="end one at once")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument(
        "--certificate", action="store_true", help="keep out the certificate of this name, token or not"
    )
    revoke.set_defaults(run=_revoke)
    for verb in (create, listing, revoke):
        verb.add_argument(
            "--state", metavar="DIR", type=Path, help=f"the daemon's (default: {default_state()})"
        )


def _tokens(args: argparse.Namespace) -> Tokens:
    from belayd.tokens import FILE, Tokens

    return Tokens((args.state or default_state()) / FILE)


def _create(args: argparse.Namespace) -> int:
    from belayd.errors import RequestInvalid
    from belayd.tokens import TokensFailed

    if (args.name is None) == (args.source is None):
        args.complain("give a NAME, or --from FILE.csv")
    if args.name is not None and args.role is None:
        args.complain("--role: one of " + ", ".join(_ROLES))
    now = datetime.now(UTC)
    try:
        wanted = _from_csv(args, now) if args.source else [_wanted(args, args.name, {}, now)]
        state = args.state or default_state()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        texts = _tokens(args).create(wanted, now)
    except (TokensFailed, RequestInvalid, OSError) as error:
        print(f"belayd token: {error}", file=sys.stderr)
        return 2
    if args.source and not args.certificate:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("name", "token"))
        writer.writerows((each.name, text) for each, text in zip(wanted, texts, strict=True))
    elif not args.certificate:
        print(texts[0])
    _explain(wanted)
    return 0


def _explain(wanted: Sequence[Wanted]) -> None:
    first = wanted[0] if len(wanted) == 1 else None
    if first is None:
        told = f"{len(wanted)} entries"
    else:
        boards = str(first.selector) or "all boards"
        until = f"until {first.expires:%Y-%m-%d}" if first.expires else "until it is revoked"
        told = f"{first.name}: {first.role.name.lower()} of {boards}, {until}"
    if not wanted[0].certificate:
        told += (
            "\nThis is shown once. Keep it in a file that nobody else can read (chmod 600), for "
            "belayctl login --token-file FILE"
        )
    print(told, file=sys.stderr)


def _from_csv(args: argparse.Namespace, now: datetime) -> list[Wanted]:
    from belayd.errors import RequestInvalid

    with Path(args.source).open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True, restval="")
        unknown = set(rows.fieldnames or ()) - set(_COLUMNS)
        if unknown or "name" not in (rows.fieldnames or ()):
            raise RequestInvalid(
                f"{args.source}:1: the first line must name columns among {', '.join(_COLUMNS)}, name at least"
            )
        wanted = []
        try:
            for row in rows:
                if None in row:
                    raise RequestInvalid("more values than columns; put quotes around a selector with commas")
                wanted.append(_wanted(args, row["name"].strip(), row, now))
        except (RequestInvalid, csv.Error) as error:
            raise RequestInvalid(f"{args.source}:{rows.line_num}: {error}") from error
    if not wanted:
        raise RequestInvalid(f"{args.source}: holds no names")
    return wanted


def _wanted(args: argparse.Namespace, name: str, row: dict[str, str], now: datetime) -> Wanted:
    """Return the entry; what a CSV's row leaves out, the options say."""
    from belayd.access import Role, check_name
    from belayd.errors import RequestInvalid
    from belayd.selector import Selector
    from belayd.tokens import Wanted

    role = (row.get("role") or args.role or "user").strip()
    if role not in _ROLES:
        raise RequestInvalid(f"{role!r} is no role; they are {', '.join(_ROLES)}")
    return Wanted(
        name=check_name(name),
        role=Role[role.upper()],
        selector=Selector.parse(row.get("selector") or args.selector or ""),
        expires=_expiry((row.get("expires") or args.expires or DEFAULT_EXPIRY).strip(), now),
        certificate=args.certificate,
    )


def _expiry(text: str, now: datetime) -> datetime | None:
    from belayd.errors import RequestInvalid

    if text == "never":
        return None
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise RequestInvalid(f"{text!r} is no time to expire after; write 90d, 12h, 30m or never")
    return now + timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _list(args: argparse.Namespace) -> int:
    from belayd.tokens import TokensFailed

    now = datetime.now(UTC)
    try:
        entries = _tokens(args).read()
    except (TokensFailed, OSError) as error:
        print(f"belayd token: {error}", file=sys.stderr)
        return 2
    rows = [
        {
            "name": entry.name,
            "role": entry.role.name.lower(),
            "selector": str(entry.selector),
            "kind": "certificate" if entry.digest is None else "token",
            "state": entry.state(now),
            "created": entry.created.isoformat(),
            "expires": entry.expires.isoformat() if entry.expires else None,
            "revoked": entry.revoked.isoformat() if entry.revoked else None,
        }
        for entry in entries
    ]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    shown = ("name", "role", "selector", "kind", "state", "expires")
    cells = [[name.upper() for name in shown], *([_cell(row[name]) for name in shown] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(shown))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _cell(value: str | None) -> str:
    return "-" if not value else value.partition("T")[0] if re.match(r"\d{4}-\d\d-\d\dT", value) else value


def _revoke(args: argparse.Namespace) -> int:
    from belayd.tokens import TokensFailed

    try:
        _tokens(args).revoke(args.name, datetime.now(UTC), certificate=args.certificate)
    except (TokensFailed, OSError) as error:
        print(f"belayd token: {error}", file=sys.stderr)
        return 2
    print(f"{args.name} may not come in any more; what goes on in that name ends within seconds")
    return 0
