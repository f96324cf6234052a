"""runs: what goes on without a client; and how `exec` and `run` begin it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, UsageError, add_json
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import (
    Sink,
    local_time,
    note,
    one_line,
    plain,
    print_json,
    print_table,
    spell_duration,
)

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.runs import Run

VERBS = ("show", "watch", "cancel")

# How long a lease that --wait took outlives the daemon, which renews it while the run goes on.
_LEASE_TTL = 60.0


def detach(args: argparse.Namespace, source: str) -> int:
    """Begin a detached run on each board of a command line, and print their names."""
    from belayd_client.cli import several

    with open_client(args) as client:
        boards = several.names(client, args)

        def work(board: str, _: Sink) -> str:
            return _begin(client, args, board, source).name

        if args.selector is None:
            name = several.one(args.board, work, raw=False)
            print(name, flush=True)
            note(f"it goes on by itself; belayctl runs watch {name}")
            return 0
        outcomes = several.many(client, boards, work, raw=False)
        width = max(len(board) for board in boards)
        for outcome in outcomes:
            if outcome.result is not None:
                print(f"{outcome.board.ljust(width)}  {outcome.result}", flush=True)
        return several.report(outcomes)


def _begin(client: Client, args: argparse.Namespace, board: str, source: str) -> Run:
    from belayd_client.cli.tokens import find, under_lease
    from belayd_client.errors import BoardLeased

    # What --wait takes must not be released when this command ends, as it is for others.
    at_once = argparse.Namespace(**{**vars(args), "wait": None})
    try:
        return under_lease(
            client,
            at_once,
            board,
            lambda token: client.start_run(board, source, lease=token, timeout=args.timeout),
        )
    except BoardLeased:
        if args.wait is None or find(args, client.address, board).token:
            raise
    lease = client.acquire(
        board,
        ttl=_LEASE_TTL,
        wait=args.wait,
        reason="belayctl, for a detached run",
        on_queued=lambda position: note(f"waiting for {board}: place {position} in the queue"),
    )
    try:
        return client.start_run(board, source, lease=lease, timeout=args.timeout, release=True)
    except BaseException:
        lease.release()
        raise


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="show|watch|cancel RUN", nargs="*", help="none of them lists the runs"
    )
    parser.add_argument("--board", metavar="BOARD", help="list those on one board")
    parser.add_argument(
        "-n", "--limit", metavar="N", type=int, default=50, help="list so many (default: %(default)s)"
    )
    parser.add_argument(
        "--offset", metavar="N", type=int, default=0, help="watch: begin at this byte of the output"
    )
    parser.add_argument(
        "--raw", action="store_true", help="watch: every byte as the board sent it, escapes too"
    )
    add_json(parser)


def _runs(args: argparse.Namespace) -> int:
    if not args.words:
        return _list(args)
    verb, *names = args.words
    if verb not in VERBS:
        raise UsageError(f"{verb!r} is none of {', '.join(VERBS)}; `belayctl runs` lists the runs")
    if len(names) != 1:
        raise UsageError(f"{verb} takes the name of one run; `belayctl runs` lists them")
    if args.offset < 0:
        raise UsageError("--offset counts from the beginning of the output, 0")
    return {"show": _show, "watch": _watch, "cancel": _cancel}[verb](args, names[0])


def _list(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit: at least 1")
    with open_client(args) as client:
        runs = client.runs(args.board, args.limit)
    if args.json:
        print_json([_facts(run) for run in runs])
        return 0
    rows = [
        (
            run.name,
            run.board,
            _state(run),
            run.principal,
            local_time(run.created),
            _took(run),
            f"{run.output_bytes} B",
        )
        for run in runs
    ]
    headings = ("RUN", "BOARD", "STATE", "BY", "BEGUN", "TOOK", "OUTPUT")
    print_table(headings, rows, empty="no detached runs; `belayctl run BOARD FILE.py --detach` begins one")
    return 0


def _show(args: argparse.Namespace, name: str) -> int:
    with open_client(args) as client:
        run = client.get_run(name)
    if args.json:
        print_json(_described(run))
        return 0
    facts = {
        "run": run.name,
        "board": run.board,
        "state": _state(run),
        "by": run.principal,
        "lease": run.lease or "-",
        "code": f"sha256 {run.code_sha256}",
        "begun": local_time(run.created),
        "on board": local_time(run.started),
        "ended": local_time(run.ended),
        "took": _took(run),
        "output": f"{run.output_bytes} bytes" + _dropped(run),
    }
    for fact, text in facts.items():
        print(f"{fact:<9} {one_line(text)}")
    if run.error is not None:
        print(f"{'error':<9} {one_line(str(run.error).splitlines()[-1])}")
    elif run.state.value == "succeeded":
        print(f"{'value':<9} {one_line(_spelled(run.value))}")
    return 0


def _watch(args: argparse.Namespace, name: str) -> int:
    from belayd_client.cli import several

    with open_client(args) as client:
        if args.json:
            return _watch_as_json(client, args, name)
        value = several.one(
            name,
            lambda _, sink: client.watch_run(
                name,
                offset=args.offset,
                output=sink.write,
                on_dropped=lambda size: note(f"{size} bytes of the output are kept no more"),
            ),
            raw=args.raw,
        )
    if value is not None:
        print(_spelled(value))
    return 0


def _watch_as_json(client: Client, args: argparse.Namespace, name: str) -> int:
    """Print each piece of output and then the ended run, one object a line."""
    from belayd_client.cli.outcome import exit_code
    from belayd_client.errors import BelaydError, BoardException

    def tell(data: bytes) -> None:
        print_json({"output": data.decode("utf-8", "backslashreplace")}, one_per_line=True)

    failure: BelaydError | BoardException | None = None
    try:
        client.watch_run(
            name,
            offset=args.offset,
            output=tell,
            on_dropped=lambda size: print_json({"dropped_bytes": size}, one_per_line=True),
        )
    except (BelaydError, BoardException) as error:
        failure = error
    run = client.get_run(name)
    if run.ended is None and failure is not None:  # it is the watch that failed
        raise failure
    print_json(_described(run), one_per_line=True)
    return exit_code(failure) if failure else 0


def _cancel(args: argparse.Namespace, name: str) -> int:
    with open_client(args) as client:
        run = client.cancel_run(name)
    if args.json:
        print_json(_described(run))
    else:
        note(f"{run.name} on {run.board}: {_state(run)}")
    return 0


def _state(run: Run) -> str:
    return f"{run.state.value} ({run.state_reason})" if run.state_reason else run.state.value


def _took(run: Run) -> str:
    if run.started is None or run.ended is None:
        return "-"
    return spell_duration((run.ended - run.started).total_seconds())


def _dropped(run: Run) -> str:
    return f", the first {run.dropped_bytes} kept no more" if run.dropped_bytes else ""


def _spelled(value: object) -> str:
    from belayd.values import Repr

    return value.text if isinstance(value, Repr) else repr(value)


def _facts(run: Run) -> dict[str, object]:
    """Return what lists tell of a run, for JSON."""
    fields = plain(run)
    assert isinstance(fields, dict)
    return {name: value for name, value in fields.items() if name not in ("value", "error")}


def _described(run: Run) -> dict[str, object]:
    """Return all of a run for JSON: the value as Python writes it, an error as reason and text."""
    described = _facts(run)
    if run.error is not None:
        described["error"] = {"reason": run.state_reason, "message": str(run.error)}
    elif run.state.value == "succeeded":
        described["value"] = _spelled(run.value)
    return described


COMMANDS = (
    Command(
        name="runs",
        summary="list, show, watch and cancel detached runs",
        description="List the detached runs, newest first: yours, to operators everybody's. They are begun by\n"
        "`run --detach` and `exec --detach`; the daemon keeps what they print and how they ended.\n"
        "`show RUN` tells of one, `watch RUN` prints its output and waits for its end, with the exit\n"
        "code that `run` would have had, `cancel RUN` ends it. A run goes on until the lease it is\n"
        "under ends; without one (acquire, or --wait) it makes way for whoever leases the board.",
        example="  run=$(belayctl run pico-1 soak.py --detach)\n  belayctl runs watch $run\n"
        "  belayctl runs cancel $run",
        configure=_configure,
        run=_runs,
    ),
)
