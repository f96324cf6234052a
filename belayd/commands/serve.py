"""`belayd serve`: the daemon."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belayd.daemon import Addresses, Settings
    from belayd.inventory import Inventory

_EXAMPLES = """\
examples:
  belayd serve --inventory lab.yaml
  belayd serve --inventory lab.yaml --listen localhost:50951 --metrics localhost:9951

Beyond loopback it serves TLS (server.tls of the inventory) to whoever has a token
(`belayd token create`) or a certificate. STATE/belayd.sock is for this user alone,
who is administrator there: belayctl --address unix:STATE/belayd.sock

One line with both addresses says that it is ready. SIGTERM and Ctrl-C stop it:
what runs on boards is interrupted and their ports are given back. SIGHUP reads
the inventory again. Exit codes: 0
stopped when asked to, 2 it could not start.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="run the daemon",
        description="Own the inventory's boards and serve them over gRPC, with metrics for Prometheus.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inventory", metavar="FILE", type=Path, required=True, help="the boards, YAML")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="gRPC (default: the inventory's, localhost:50951)"
    )
    parser.add_argument(
        "--metrics",
        metavar="HOST:PORT",
        help="/metrics and /healthz (default: the inventory's, localhost:9951)",
    )
    parser.add_argument("--state", metavar="DIR", type=Path, default=None, help=f"default: {default_state()}")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="let in from beyond loopback whoever shows no credentials, without TLS if there is none",
    )
    parser.add_argument("--log-json", action="store_true", help="log lines as JSON")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="default: info"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop; returns the exit code."""
    import asyncio

    from belayd.daemon import Settings, StartFailed
    from belayd.inventory import InventoryError, load
    from belayd.logs import configure

    configure(args.log_level, json=args.log_json)
    try:
        inventory = load(args.inventory)
    except InventoryError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    for warning in inventory.warnings:
        print(warning, file=sys.stderr)
    settings = Settings(
        inventory=inventory,
        listen=args.listen or inventory.server.listen,
        metrics=args.metrics or inventory.server.metrics,
        state=args.state or default_state(),
        insecure=args.insecure,
    )
    settings = replace(settings, refuse=partial(_refusals, settings))
    refusals = settings.refuse(inventory)
    for refusal in refusals:
        print(f"belayd: {refusal}", file=sys.stderr)
    if refusals:
        return 2
    try:
        asyncio.run(_serve(settings))
    except StartFailed as error:
        print(f"belayd: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    import asyncio
    import signal

    from belayd.daemon import Daemon

    daemon = Daemon(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    await daemon.run(_say_ready)


def _say_ready(addresses: Addresses) -> None:
    metrics = f"http://{addresses.metrics}/metrics" if addresses.metrics else "none"
    print(f"belayd ready: gRPC {addresses.grpc} metrics {metrics}", flush=True)


def _refusals(settings: Settings, inventory: Inventory) -> list[str]:
    """Return why `inventory` cannot be served with what else is set."""
    return [*_exposed(replace(settings, inventory=inventory)), *_unserved(inventory)]


def _exposed(settings: Settings) -> list[str]:
    """Return why others must not reach what the settings would open to them."""
    from belayd.rpc.server import is_loopback

    open_addresses = [
        address for address in (settings.listen, settings.metrics) if address and not is_loopback(address)
    ]
    if not open_addresses:
        return []
    found = []
    tls = settings.inventory.server.tls
    if not settings.insecure and tls is None:
        found.append(
            f"{' and '.join(open_addresses)}: others can reach it; name a certificate under server.tls in the "
            "inventory (belayd certs makes one), listen on localhost and tunnel to it (ssh -L), or say "
            "--insecure to let everybody in"
        )
    elif not settings.insecure and tls and tls.client_ca is None and not _anybody_has_a_token(settings.state):
        found.append(
            f"{' and '.join(open_addresses)}: others can reach it, and nobody has credentials; first run: "
            f"belayd token create NAME --role admin --state {settings.state}, or name server.tls.client_ca"
        )
    simulated = [spec.name for spec in settings.inventory.boards.values() if spec.link.kind == "simulated"]
    if simulated and not is_loopback(settings.listen):
        found.append(
            f"{simulated[0]}: a simulated board runs callers' code on this host without isolation; "
            "listen on localhost, or take the simulated boards out of the inventory"
        )
    return found


def _anybody_has_a_token(state: Path) -> bool:
    from datetime import UTC, datetime

    from belayd.tokens import FILE, Table, Tokens, TokensFailed

    try:
        return Table(Tokens(state / FILE).read()).any_valid(datetime.now(UTC))
    except (TokensFailed, OSError):
        return True  # the daemon itself says what is wrong with the file


def _unserved(inventory: Inventory) -> list[str]:
    """Return what the inventory asks for and this version would silently leave undone."""
    found = []
    if inventory.cluster is not None and (inventory.cluster.peers or inventory.cluster.etcd_endpoints):
        found.append("cluster: this version serves one host; take the section out")
    return found


def default_state() -> Path:
    """Return the state folder of this user's daemon."""
    if os.geteuid() == 0:
        return Path("/var/lib/belayd")
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "belayd"
