"""exec, eval and run: code on boards, its output live."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

from belayd_client.cli.command import Command, UsageError, add_json, add_lease, add_limits, add_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, StderrSink, note, one_line, print_json

# The daemon's own limit for statements.
MAX_SOURCE_BYTES = 1024 * 1024


def _configure_exec(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("code", metavar="CODE", help="statements")
    _add_common(parser)


def _configure_run(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("file", metavar="FILE.py", help="a file here, or - for stdin")
    _add_common(parser)


def _configure_eval(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("expression", metavar="EXPR", help="one expression")
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_lease(parser)
    add_limits(parser)
    parser.add_argument(
        "--raw",
        action="store_true",
        help="every byte as the board sent it, escapes that a terminal obeys too",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="let it go on without you, under your lease if you have one; prints its name for `belayctl runs`",
    )


def _exec(args: argparse.Namespace) -> int:
    return _run_source(args, args.code)


def _run_file(args: argparse.Namespace) -> int:
    return _run_source(args, _read_source(args.file))


def _run_source(args: argparse.Namespace, source: str) -> int:
    if args.detach:
        from belayd_client.cli.runs import detach

        return detach(args, source)
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    with open_client(args) as client:
        boards = several.names(client, args)

        def work(board: str, sink: Sink) -> None:
            def attempt(token: str) -> None:
                client.run(
                    board,
                    source,
                    lease=token,
                    timeout=args.timeout,
                    output=sink.write,
                    on_queued=queue_note(board),
                )

            under_lease(client, args, board, attempt)

        if args.selector is None:
            several.one(args.board, work, raw=args.raw)
            return 0
        return several.report(several.many(client, boards, work, raw=args.raw))


def _eval(args: argparse.Namespace) -> int:
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    with open_client(args) as client:
        boards = several.names(client, args)

        def work(board: str, _: Sink) -> object:
            prints = StderrSink()

            def attempt(token: str) -> object:
                return client.evaluate(
                    board,
                    args.expression,
                    lease=token,
                    timeout=args.timeout,
                    output=prints.write,
                    on_queued=queue_note(board),
                )

            try:
                return under_lease(client, args, board, attempt)
            finally:
                prints.close()

        if args.selector is None:
            value = several.one(args.board, work, raw=False)
            if args.json:
                print_json(_described(args.board, value))
            else:
                print(_spelled(value))
            return 0
        outcomes = several.many(client, boards, work, raw=False)
        if args.json:
            print_json(
                [
                    _described(outcome.board, outcome.result)
                    if outcome.failure is None
                    else {"board": outcome.board, "error": outcome.summary, "exit_code": outcome.code}
                    for outcome in outcomes
                ]
            )
            return max(outcome.code for outcome in outcomes)
        width = max(len(board) for board in boards)
        for outcome in outcomes:
            if outcome.failure is None:
                print(f"{outcome.board.ljust(width)} | {_spelled(outcome.result)}")
        sys.stdout.flush()
        return several.report(outcomes)


def queue_note(board: str) -> Callable[[int], None]:
    """Return what tells the user, once, that other jobs go first."""
    told = False

    def tell(jobs_before: int) -> None:
        nonlocal told
        if jobs_before and not told:
            told = True
            note(
                f"waiting for {board}: {jobs_before} {'job' if jobs_before == 1 else 'jobs'} before this one"
            )

    return tell


def _read_source(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_SOURCE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    if len(data) > MAX_SOURCE_BYTES:
        raise UsageError(f"{name} is larger than 1 MiB; deploy it and import it instead")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None


def _spelled(value: object) -> str:
    """Return a value as Python writes it; what has no typed form, as the board wrote it."""
    from belayd.values import Repr

    return one_line(value.text if isinstance(value, Repr) else repr(value))


def _described(board: str, value: object) -> dict[str, object]:
    """Return a value for JSON: as it is where JSON has it exactly, and always as Python writes it."""
    from belayd.values import Repr

    described: dict[str, object] = {
        "board": board,
        "type": value.type_name if isinstance(value, Repr) else type(value).__name__,
        "repr": value.text if isinstance(value, Repr) else repr(value),
    }
    if _fits_json(value):
        described["value"] = value
    return described


def _fits_json(value: object) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_fits_json, value))
        case dict():
            return all(isinstance(key, str) for key in value) and all(map(_fits_json, value.values()))
        case _:
            return False


COMMANDS = (
    Command(
        name="exec",
        summary="run code on a board",
        description="Run statements in a board's global namespace and print what they print, as they do.\n"
        "With -l on many boards at once, each line after the board's name.",
        example="  belayctl exec pico-1 'import machine; print(machine.freq())'\n"
        "  belayctl exec -l chip=rp2 --timeout 10s 'print(1)'",
        configure=_configure_exec,
        run=_exec,
    ),
    Command(
        name="eval",
        summary="evaluate an expression on a board",
        description="Evaluate one expression on a board and print its value as Python writes it.\n"
        "What it prints goes to stderr. With --json the value, its type and its repr().",
        example="  belayctl eval pico-1 '[n * n for n in range(5)]'",
        configure=_configure_eval,
        run=_eval,
    ),
    Command(
        name="run",
        summary="run a file on a board",
        description="Run a Python file of this machine on a board and print what it prints, as it does.",
        example="  belayctl run pico-1 blink.py\n  belayctl run -l rack=2 selftest.py --wait 5m",
        configure=_configure_run,
        run=_run_file,
    ),
)
