"""belayctl's entry: finds the command, runs it, and turns what went wrong into a line and an exit code.

Exit codes: 0 done, 1 the code on the board raised, 2 usage, 3 belayd refused,
4 no connection, 5 board busy or unavailable, 6 timeout or link lost; 130 after
Ctrl-C, 141 when whoever reads the output has gone.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Sequence

from belayd_client.cli.command import Command, UsageError, add_connection_options
from belayd_client.cli.output import note, traceback_to_stderr

# Each file of commands, in the order of the overview.
FILES = (
    "login",
    "boards",
    "leases",
    "hold",
    "breaking",
    "run",
    "runs",
    "deploy",
    "fs",
    "rollout",
    "drift",
    "mip",
    "reset",
    "service",
    "reload",
    "history",
    "latency",
)

INTERRUPTED = 130
PIPE_CLOSED = 141
USAGE = 2
REFUSED = 3
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code. None takes the process's own arguments."""
    code = _main(arguments)
    if "grpc" in sys.modules:
        # A call that an exception's frames still hold would be collected when grpcio's threads
        # are dead already, one perhaps with the call's lock: several of 200 processes hung at their end.
        gc.collect()
    return code


def _main(arguments: Sequence[str] | None) -> int:
    commands = {command.name: command for command in _commands()}
    top = _parser(commands.values())
    chosen = top.parse_args(arguments)
    if chosen.version:
        return _print_version()
    if chosen.command is None:
        top.print_help(sys.stderr)
        return USAGE
    if chosen.command not in commands:
        note(f"no such command: {chosen.command}; `belayctl --help` lists them")
        return USAGE
    rest, command = chosen.rest, commands[chosen.command]
    del chosen.rest, chosen.command, chosen.version
    try:
        code = _run(command, command.parse(rest, chosen))
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end; that must have somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        note(f"cannot write all of the output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(command: Command, args: argparse.Namespace) -> int:
    try:
        return command.run(args)
    except UsageError as error:
        note(f"{command.name}: {error}")
        return USAGE
    except _failures() as error:
        from belayd_client.cli.outcome import exit_code
        from belayd_client.errors import BoardException

        if isinstance(error, BoardException):
            traceback_to_stderr(error.traceback or str(error))
        else:
            note(str(error))
        return exit_code(error)


def _failures() -> tuple[type[Exception], ...]:
    """Return what commands fail with; imported only when one has failed."""
    from belayd_client.errors import BelaydError, BoardException

    return BelaydError, BoardException


def _commands() -> Iterable[Command]:
    for file in FILES:
        yield from importlib.import_module(f"belayd_client.cli.{file}").COMMANDS


def _parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    overview = "\n".join(f"  {command.name:<10}{command.summary}" for command in commands)
    parser = argparse.ArgumentParser(
        prog="belayctl",
        usage="belayctl [connection options] COMMAND ...",
        description="The boards of a lab from the command line.\n\n"
        f"commands (belayctl COMMAND --help tells more):\n{overview}",
        epilog="exit codes: 0 done, 1 the code on the board raised, 2 usage, 3 refused,\n"
        "4 no connection, 5 board busy or unavailable, 6 timeout or link lost\n\n"
        "example:\n  belayctl boards -l chip=rp2\n  belayctl exec pico-1 'print(1 + 1)'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print belayctl's version and exit")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    add_connection_options(parser)
    return parser


def _print_version() -> int:
    from importlib.metadata import version

    print(f"belayctl {version('belayd')}")
    return 0
