"""`belayd COMMAND`: hands over to the command's module, which imports what it needs when it runs.

`belayd --help` therefore starts without grpc, pydantic or any other part of the
daemon, and works in an installation of the client alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from belayd.commands import certs, check, demo, discover, serve, token

COMMANDS = (serve, demo, check, discover, token, certs)  # in the order of --help
DAEMON_EXTRA = {
    "yaml",
    "pydantic",
    "serial",
    "prometheus_client",
    "structlog",
    "grpc_health",
    "grpc_reflection",
    "cryptography",
}

_EPILOG = """\
examples:
  belayd discover --write lab.yaml
  belayd check lab.yaml

`belayd COMMAND --help` tells more. The client is `belayctl`.
"""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"belayd {version('belayd')}")
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Wrong usage exits with 2, as argparse does."""
    args = _parser().parse_args(arguments)
    try:
        code: int = args.run(args)
    except ModuleNotFoundError as error:
        if error.name not in DAEMON_EXTRA:
            raise
        print("This is the client's installation; run: pip install 'belayd[daemon]'", file=sys.stderr)
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="belayd",
        description="The daemon that owns the ports of a lab's boards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
