"""`belayd serve`: the daemon."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belayd.daemon import Addresses, Settings
    from belayd.inventory import Inventory

_EXAMPLES = """\
examples:
  belayd serve --inventory lab.yaml
  belayd serve --inventory lab.yaml --listen localhost:50951 --metrics localhost:9951

One line with both addresses says that it is ready. SIGTERM and Ctrl-C stop it:
what runs on boards is interrupted and their ports are given back. Exit codes: 0
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
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=None, help=f"default: {_default_state()}"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve beyond loopback without TLS and credentials"
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
        state=args.state or _default_state(),
    )
    refusals = [*_exposed(settings, args.insecure), *_unserved(inventory)]
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
    await daemon.run(_say_ready)


def _say_ready(addresses: Addresses) -> None:
    metrics = f"http://{addresses.metrics}/metrics" if addresses.metrics else "none"
    print(f"belayd ready: gRPC {addresses.grpc} metrics {metrics}", flush=True)


def _exposed(settings: Settings, insecure: bool) -> list[str]:
    from belayd.rpc.server import is_loopback

    open_addresses = [
        address for address in (settings.listen, settings.metrics) if address and not is_loopback(address)
    ]
    if not open_addresses:
        return []
    found = []
    if not insecure:
        found.append(
            f"{' and '.join(open_addresses)}: others can reach it, and this version has no TLS and tokens yet; "
            "listen on localhost, tunnel to it (ssh -L), or say --insecure to let everybody in"
        )
    simulated = [spec.name for spec in settings.inventory.boards.values() if spec.link.kind == "simulated"]
    if simulated and not is_loopback(settings.listen):
        found.append(
            f"{simulated[0]}: a simulated board runs callers' code on this host without isolation; "
            "listen on localhost, or take the simulated boards out of the inventory"
        )
    return found


def _unserved(inventory: Inventory) -> list[str]:
    """Return what the inventory asks for and this version would silently leave undone."""
    from belayd.inventory import Attach, SoftReset

    found = []
    if inventory.server.tls is not None:
        found.append("server.tls: this version serves no TLS yet; take the section out")
    if inventory.cluster is not None and (inventory.cluster.peers or inventory.cluster.etcd_endpoints):
        found.append("cluster: this version serves one host; take the section out")
    for spec in inventory.boards.values():
        if spec.attach is not Attach.INTERRUPT:
            found.append(f"boards.{spec.name}.attach: only interrupt is served yet")
        if not isinstance(spec.between, SoftReset):
            found.append(f"boards.{spec.name}.between: only soft_reset is served yet")
    return found


def _default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/belayd")
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "belayd"
