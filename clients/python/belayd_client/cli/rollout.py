"""rollouts: one deployment over many boards; and how `deploy` begins it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, UsageError, add_json
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import local_time, note, one_line, print_json, print_table, spell_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from belayd_client.client import Client
    from belayd_client.deployment import DeploymentOptions
    from belayd_client.project import Project
    from belayd_client.rollouts import HealthCheck, Rollout, RolloutBoard

VERBS = ("show", "watch", "pause", "resume", "abort")
STOPPED = 1
ABORTED = 6
MOST_CHECK_BYTES = 64 * 1024


def deploy(
    client: Client,
    args: argparse.Namespace,
    boards: Sequence[str],
    trees: Mapping[str, Project],
    options: DeploymentOptions,
) -> int:
    """Begin the rollout that a command line of `deploy` asks for, and watch it; return the exit code.

    `boards` are taken in their order; `trees` has the files of each.
    """
    from belayd_client.rollouts import RolloutPace, RolloutTree

    if args.wait is not None:
        raise UsageError("a rollout waits for its boards by itself, as long as others hold them; no --wait")
    if options.without_rollback:
        raise UsageError("a rollout keeps what it replaces; no --no-rollback")
    sharing: dict[int, list[str]] = {}
    for board in boards:
        sharing.setdefault(id(trees[board]), []).append(board)
    rollout = client.create_rollout(
        [RolloutTree(trees[names[0]], names) for names in sharing.values()],
        boards,
        pace=RolloutPace(args.canary or 0, args.wave or 0, args.parallel or 0, args.max_failures or 0),
        check=_check(args),
        keep_failed=args.keep_failed,
        options=options,
        timeout=args.timeout,
        reason=args.reason,
    )
    note(f"rollout {rollout.name} begins; it goes on by itself")
    return _follow(client, rollout.name, as_json=args.json, each=False)


def _check(args: argparse.Namespace) -> HealthCheck | None:
    from belayd_client.rollouts import HealthCheck

    if args.check and args.check_file:
        raise UsageError("--check and --check-file: give one of them")
    if args.check:
        return HealthCheck(expression=args.check, timeout=args.check_timeout)
    if args.check_file is None:
        if args.check_timeout is not None or args.keep_failed:
            raise UsageError("there is no --check and no --check-file that could fail")
        return None
    try:
        source = Path(args.check_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--check-file {args.check_file}: {error}") from None
    if not source.strip() or len(source.encode()) > MOST_CHECK_BYTES:
        raise UsageError(f"--check-file {args.check_file}: 1 to {MOST_CHECK_BYTES} bytes of code")
    return HealthCheck(source=source, timeout=args.check_timeout)


def _follow(client: Client, name: str, *, as_json: bool, each: bool) -> int:
    """Show a rollout until it goes on no more; return the exit code.

    With `each` as JSON, an object for each change; else one at the end.
    """
    from belayd_client.cli.livetable import Lines, LiveTable

    show: LiveTable | Lines = LiveTable() if sys.stderr.isatty() and not as_json else Lines(quiet=as_json)
    rollout: Rollout | None = None
    try:
        # By name: the iterator is closed, and its call ended, before the exit code is known.
        changes = client.watch_rollout(name)
        for rollout in changes:
            show.show(rollout)
            if as_json and each:
                print_json(rollout, one_per_line=True)
            if rollout.halted:
                break
        changes.close()
    except KeyboardInterrupt:
        show.clear()
        note(f"the rollout goes on by itself; belayctl rollouts watch {name}, or pause, or abort")
        raise
    show.clear()
    assert rollout is not None
    if as_json:
        if not each:
            print_json(rollout)
    else:
        _print_end(rollout)
    return _code(rollout)


def _code(rollout: Rollout) -> int:
    match rollout.state.value:
        case "done":
            return 0
        case "stopped":
            return STOPPED
        case _:
            return ABORTED


def _print_end(rollout: Rollout) -> None:
    for board in rollout.boards:
        if board.step.value == "failed":
            note(f"{board.board} failed: {board.message}")
    done = sum(board.step.value == "done" for board in rollout.boards)
    failed = sum(board.step.value == "failed" for board in rollout.boards)
    untouched = len(rollout.boards) - done - failed
    counts = f"{done} done, {failed} failed, {untouched} untouched"
    print(f"rollout {rollout.name} {rollout.state.value}: {counts}", flush=True)
    if rollout.state_reason:
        note(rollout.state_reason)
    if rollout.state.value in ("stopped", "paused"):
        note(f"belayctl rollouts resume {rollout.name} goes on with it, abort ends it")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="|".join(VERBS) + " ROLLOUT", nargs="*", help="none of them lists the rollouts"
    )
    parser.add_argument(
        "-n", "--limit", metavar="N", type=int, default=20, help="list so many (default: %(default)s)"
    )
    parser.add_argument("--reason", metavar="TEXT", default="", help="pause, abort: why, for others to read")
    add_json(parser)


def _rollouts(args: argparse.Namespace) -> int:
    if not args.words:
        return _list(args)
    verb, *names = args.words
    if verb not in VERBS:
        raise UsageError(f"{verb!r} is none of {', '.join(VERBS)}; `belayctl rollouts` lists the rollouts")
    if len(names) != 1:
        raise UsageError(f"{verb} takes the name of one rollout; `belayctl rollouts` lists them")
    name = names[0]
    with open_client(args) as client:
        changes: dict[str, Callable[[], Rollout]] = {
            "pause": lambda: client.pause_rollout(name, args.reason),
            "resume": lambda: client.resume_rollout(name),
            "abort": lambda: client.abort_rollout(name, args.reason),
        }
        if verb == "watch":
            return _follow(client, name, as_json=args.json, each=True)
        rollout = changes[verb]() if verb in changes else client.get_rollout(name)
    if args.json:
        print_json(rollout)
    elif verb == "show":
        _print(rollout)
    else:
        note(f"rollout {name} is {rollout.state.value}")
    return 0


def _list(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise UsageError("--limit: at least 1")
    with open_client(args) as client:
        rollouts = client.rollouts(args.limit)
    if args.json:
        print_json(rollouts)
        return 0
    rows = [
        (
            rollout.name,
            rollout.state.value,
            f"{sum(board.step.value == 'done' for board in rollout.boards)}/{len(rollout.boards)}",
            str(sum(board.step.value == "failed" for board in rollout.boards)),
            rollout.principal,
            local_time(rollout.created),
            rollout.reason or "-",
        )
        for rollout in rollouts
    ]
    headings = ("ROLLOUT", "STATE", "DONE", "FAILED", "BY", "BEGUN", "WHY")
    print_table(headings, rows, empty="no rollouts; `belayctl deploy -l SEL DIR --canary 1` begins one")
    return 0


def _print(rollout: Rollout) -> None:
    facts = {
        "rollout": rollout.name,
        "state": rollout.state.value + (f": {rollout.state_reason}" if rollout.state_reason else ""),
        "by": rollout.principal,
        "why": rollout.reason or "-",
        "begun": local_time(rollout.created),
        "ended": local_time(rollout.ended),
        "canaries": str(rollout.canary or "-"),
        "wave": str(rollout.wave or "all"),
        "at once": str(rollout.parallel or 32),
        "may fail": str(rollout.max_failures),
    }
    for fact, text in facts.items():
        print(f"{fact:<9} {one_line(text)}")
    print()
    headings = ("BOARD", "WAVE", "STEP", "FILES", "TOOK", "")
    print_table(headings, [row(board) for board in rollout.boards], empty="")


def row(board: RolloutBoard) -> tuple[str, ...]:
    """Return a board's line in a table."""
    size = f"{board.written_bytes}/{board.total_bytes} B" if board.total_bytes else "-"
    took = spell_duration(board.ran) if board.ran else "-"
    wave = str(board.wave) if board.wave else "canary"
    return board.board, wave, board.step.value.replace("_", " "), size, took, board.message


COMMANDS = (
    Command(
        name="rollouts",
        summary="list, show, watch, pause, resume and abort rollouts",
        description="List the rollouts over boards that you see, newest first. `deploy` with --canary, --wave,\n"
        "--parallel, --max-failures or --check begins them; the daemon carries them on, also after\n"
        "its own restart. `watch` shows one until it goes on no more: exit code 0 when it is done,\n"
        "1 when it was stopped since too many boards failed, 6 when it was paused or aborted.\n"
        "`resume` goes on with one that was paused or stopped, and tries again what had failed\n"
        "before it stopped; `abort` ends it, and boards not begun with stay as they are.",
        example="  belayctl deploy -l chip=rp2 src --canary 1 --wave 8 --check 'app.ok()'\n"
        "  belayctl rollouts watch 3f9a0c11d2e4b587\n  belayctl rollouts pause 3f9a0c11d2e4b587 --reason 'lunch'",
        configure=_configure,
        run=_rollouts,
    ),
)
