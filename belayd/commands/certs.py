"""`belayd certs`: certificates for a lab that has no authority of its own."""

from __future__ import annotations

import argparse
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from belayd.commands.serve import default_state

_EXAMPLES = """\
examples:
  belayd certs init
  belayd certs issue lab.example 10.0.0.5 --server   # in the inventory: server.tls
  belayd certs issue ann@desk                        # for ann: belayctl login --cert --key
  belayd certs issue ann@desk --days 30              # again: a new one takes its place

ca.pem is for everybody: callers know the daemon by it (belayctl --ca). ca.key is
for nobody: who has it can be anyone, administrators too. Keep it off the network,
best on another machine or a stick, and bring it out to issue a certificate. The
daemon needs neither of your other keys, and reads its own anew when it is renewed.

Exit codes: 0 done, 2 it cannot be done.
"""
SERVER_DAYS = 397.0
CALLER_DAYS = 180.0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "certs",
        help="make a small lab's own authority and certificates",
        description="An authority and certificates for TLS, for a lab that has none.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    init = verbs.add_parser("init", help="make the authority")
    init.add_argument("--name", default=f"belayd of {socket.gethostname()}"[:64], help="what it calls itself")
    init.set_defaults(run=_init)
    issue = verbs.add_parser("issue", help="issue a certificate and its key, or renew them")
    issue.add_argument(
        "names",
        metavar="NAME",
        nargs="+",
        help="the caller's name; with --server, all names and IP addresses of the daemon's host",
    )
    issue.add_argument("--server", action="store_true", help="for a daemon, not a caller")
    issue.add_argument(
        "--days", type=float, help=f"default: {SERVER_DAYS:g} for servers, {CALLER_DAYS:g} for callers"
    )
    issue.set_defaults(run=_issue, complain=issue.error)
    for verb in (init, issue):
        verb.add_argument(
            "--state", metavar="DIR", type=Path, help=f"files go to its certs/ (default: {default_state()})"
        )


def _folder(args: argparse.Namespace) -> Path:
    state: Path = args.state or default_state()
    return state / "certs"


def _init(args: argparse.Namespace) -> int:
    from belayd.certs import CertificateFailed, make_authority

    try:
        made = make_authority(_folder(args), args.name, datetime.now(UTC))
    except CertificateFailed as error:
        print(f"belayd certs: {error}", file=sys.stderr)
        return 2
    print(made.cert)
    print(
        f"valid until {made.expires:%Y-%m-%d}. Give {made.cert.name} to everybody. Keep {made.key} from everybody: "
        "who has it can be anyone.\nNext: belayd certs issue HOSTNAME --server",
        file=sys.stderr,
    )
    return 0


def _issue(args: argparse.Namespace) -> int:
    from belayd.certs import CA_CERT, CertificateFailed, issue
    from belayd.errors import RequestInvalid

    if len(args.names) > 1 and not args.server:
        args.complain("a caller has one name; --server takes several")
    days = args.days if args.days is not None else SERVER_DAYS if args.server else CALLER_DAYS
    if not 0 < days <= 3650:
        args.complain("--days: more than 0, at most 3650")
    folder = _folder(args)
    try:
        made = issue(folder, args.names, server=args.server, days=days, now=datetime.now(UTC))
    except (CertificateFailed, RequestInvalid) as error:
        print(f"belayd certs: {error}", file=sys.stderr)
        return 2
    print(made.cert)
    print(made.key)
    told = "renewed, " if made.renewed else ""
    if args.server:
        usage = f"server:\n  tls: {{cert: {made.cert}, key: {made.key}}}"
        usage += f"\nwith client_ca: {folder / CA_CERT} in it, callers must have certificates."
    else:
        usage = (
            f"belayctl login ADDRESS --ca {CA_CERT} --cert {made.cert.name} --key {made.key.name}"
            f"\nIt makes a user of all boards; for another role: belayd token create {args.names[0]} "
            "--role ROLE --certificate"
        )
    print(f"{told}valid until {made.expires:%Y-%m-%d}. Use it with:\n{usage}", file=sys.stderr)
    return 0
