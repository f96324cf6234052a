"""deploy: a project's files onto boards, prepared for each before any is touched."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from belayd_client.cli.command import (
    Command,
    UsageError,
    add_json,
    add_lease,
    add_limits,
    add_target,
    check_target,
    duration,
)
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, fit, note, one_line, print_json, spell_duration

if TYPE_CHECKING:
    from belayd_client.cli.several import Outcome
    from belayd_client.client import Client
    from belayd_client.deployment import DeploymentOptions, DeploymentProgress, DeploymentSummary
    from belayd_client.errors import BelaydError
    from belayd_client.preparation.gathering import Gathered
    from belayd_client.project import Project

_BAR_WIDTH = 24
_ROLLOUT = ("canary", "wave", "parallel", "max_failures", "check", "check_file", "keep_failed")
_BESIDE = ("check_timeout", "reason")  # of a rollout, but no reason for one
_TREE = ("dst", "mpy", "minify", "as_is", "ignore", "prune", "keep", "prune_also", "boot_guard")


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        help="the folder whose files the board shall have, or one with a belayd.toml (default: that here)",
    )
    parser.add_argument("--dst", metavar="PATH", help="where on the board (default: the project's, else /)")
    _add_switch(parser, "--mpy", "compile for each board's own version of .mpy files")
    _add_switch(
        parser, "--minify", "leave out comments, docstrings and indentation; lines stay numbered as they are"
    )
    _add_patterns(parser, "--as-is", "PATTERN", "gitignore pattern to send unchecked and unchanged")
    _add_patterns(parser, "--ignore", "PATTERN", "gitignore pattern not to deploy")
    _add_switch(parser, "--prune", "delete what is on the board and not in DIR")
    _add_patterns(parser, "--keep", "PATTERN", "gitignore pattern that prune leaves alone")
    _add_patterns(
        parser,
        "--prune-also",
        "NAME",
        "let prune delete boot.py, webrepl_cfg.py or lib/ too, which it otherwise never does",
    )
    _add_switch(parser, "--boot-guard", "add belayd_guard.py, with which boot.py completes what broke off")
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="replace file by file, where a board has no room for old and new together",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument(
        "--rollback", action="store_true", help="bring back what the last deployment replaced, without DIR"
    )
    parser.add_argument(
        "--deployment",
        metavar="NAME",
        help="with --rollback: go back to before this one (`belayctl drift BOARD --history`)",
    )
    parser.add_argument(
        "--no-rollback", action="store_true", help="keep nothing of what the board has; there is no way back"
    )
    group = parser.add_argument_group("rollout", "any of these lets the daemon take the boards in turn")
    for flag, text in (
        ("--canary", "how many boards go first, and must all succeed"),
        ("--wave", "how many boards a wave has after that"),
        ("--parallel", "how many boards of a wave at once"),
        ("--max-failures", "how many boards may fail; one more stops it"),
    ):
        group.add_argument(flag, metavar="N", type=_count, help=text)
    checks = group.add_mutually_exclusive_group()
    checks.add_argument("--check", metavar="EXPR", help="a board works if this is true there")
    checks.add_argument(
        "--check-file", metavar="FILE", help="a board works if this file runs there to its end"
    )
    group.add_argument("--check-timeout", metavar="TIME", type=duration, help="how long that may take")
    group.add_argument(
        "--keep-failed", action="store_true", help="leave a board that fails its check with its new files"
    )
    group.add_argument("--reason", metavar="TEXT", default="", help="why, for others to read")
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _add_switch(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    """Add a flag and its contrary; neither leaves it to the project."""
    parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)


def _add_patterns(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    parser.add_argument(flag, metavar=metavar, action="append", default=[], help=text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise argparse.ArgumentTypeError(f"not a number of boards: {text!r}")
    return int(text)


def _deploy(args: argparse.Namespace) -> int:
    if args.selector is not None and args.board is not None and args.folder is None:
        args.board, args.folder = None, args.board  # with a selector the one word is the folder
    check_target(args)
    if args.rollback:
        return _roll_back(args)
    if args.deployment is not None:
        raise UsageError("--deployment goes with --rollback")
    in_turn = bool(_given(args, _ROLLOUT))
    if not in_turn and (lone := _given(args, _BESIDE)):
        raise UsageError(f"{lone[0]} is of a rollout; say how it goes too, such as with --canary 1")
    if in_turn and args.dry_run:
        raise UsageError("a rollout has no dry run; leave its options away to see what each board would get")
    gathered = _gather(args)
    with open_client(args) as client:
        from belayd_client.cli import several

        boards = several.names(client, args)
        trees, absent = _prepare(client, boards, gathered)
        for tree in {id(tree): tree for tree in trees.values()}.values():
            client.upload(tree)
        options = _options(args, gathered)
        if in_turn:
            from belayd_client.cli import rollout
            from belayd_client.preparation.replacing import replacing

            for failure in absent.values():
                raise failure
            return rollout.deploy(client, args, boards, trees, replacing(options, trees.values()))
        from belayd_client.cli.rollback import stoppable

        with stoppable(args):
            outcomes = _deploy_each(client, args, boards, trees, absent, options)
    print_results(args, outcomes)
    return 0 if args.selector is None else several.report(outcomes)


def _given(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Return those flags that say something; 0 does."""
    values = {f"--{name.replace('_', '-')}": getattr(args, name) for name in names}
    return [flag for flag, value in values.items() if value or (value == 0 and value is not False)]


def _roll_back(args: argparse.Namespace) -> int:
    from belayd_client.cli import rollback

    if args.folder is not None:
        raise UsageError("--rollback brings back what the daemon kept; it takes no DIR")
    if unfit := _given(args, (*_TREE, "no_rollback", *_ROLLOUT, *_BESIDE)):
        raise UsageError(f"--rollback brings each board back to what it had, at once; it takes no {unfit[0]}")
    return rollback.roll_back(args)


def _gather(args: argparse.Namespace) -> Gathered:
    """Return the files as they are and what to do with them; speaks to nobody."""
    from belayd_client.errors import PreparationFailed
    from belayd_client.preparation.gathering import gather, overridden, settings_for

    try:
        settings = settings_for(args.folder)
    except PreparationFailed as error:
        if args.folder is None:
            raise UsageError(str(error)) from None
        raise
    settings = overridden(
        settings,
        destination=args.dst,
        prune=args.prune,
        mpy=args.mpy,
        minify=args.minify,
        boot_guard=args.boot_guard,
        keep=args.keep,
        prune_also=args.prune_also,
        as_is=args.as_is,
    )
    return gather(settings, ignore=args.ignore)


def _prepare(
    client: Client, boards: list[str], gathered: Gathered
) -> tuple[Mapping[str, Project], Mapping[str, BelaydError]]:
    """Return each board's tree, and why there is none for those without."""
    from belayd_client.errors import BelaydError, ConnectionFailed
    from belayd_client.preparation.compiler import Kind
    from belayd_client.preparation.trees import kind_for, prepare

    kinds: dict[str, Kind | None] = {}
    absent: dict[str, BelaydError] = {}
    for name in boards:
        try:
            kinds[name] = kind_for(client.board(name)) if gathered.recipe.mpy else None
        except ConnectionFailed:
            raise
        except BelaydError as error:
            absent[name] = error
    trees = prepare(gathered.project, kinds.values(), gathered.recipe, packages=gathered.packages)
    return {name: trees[kind] for name, kind in kinds.items()}, absent


def _options(args: argparse.Namespace, gathered: Gathered) -> DeploymentOptions:
    from belayd_client.deployment import DeploymentOptions

    settings = gathered.settings
    return DeploymentOptions(
        dst=settings.destination,
        prune=settings.prune,
        keep=settings.keep,
        prune_also=settings.prune_also,
        dry_run=args.dry_run,
        in_place=args.in_place,
        without_rollback=args.no_rollback,
    )


def _deploy_each(
    client: Client,
    args: argparse.Namespace,
    boards: list[str],
    trees: Mapping[str, Project],
    absent: Mapping[str, BelaydError],
    options: DeploymentOptions,
) -> list[Outcome[DeploymentSummary]]:
    """Deploy to all boards at once."""
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    bar = ProgressBar(len(boards)) if sys.stderr.isatty() else None

    def deploy(board: str, token: str) -> DeploymentSummary:
        return client.deploy(
            board,
            trees[board],
            dst=options.dst,
            prune=options.prune,
            keep=options.keep,
            prune_also=options.prune_also,
            in_place=options.in_place,
            without_rollback=options.without_rollback,
            dry_run=options.dry_run,
            progress=bar.follow(board) if bar else None,
            lease=token,
            timeout=args.timeout,
        )

    def work(board: str, _: Sink) -> DeploymentSummary:
        try:
            if board in absent:
                raise absent[board]
            return under_lease(client, args, board, lambda token: deploy(board, token))
        finally:
            if bar:
                bar.finish(board)

    try:
        if args.selector is None:
            return [several.Outcome(args.board, several.one(args.board, work, raw=False), None)]
        return several.many(client, boards, work, raw=False)
    finally:
        if bar:
            bar.clear()


def print_results(args: argparse.Namespace, outcomes: list[Outcome[DeploymentSummary]]) -> None:
    """Print what deployments to one or several boards came to."""
    summaries = [outcome.result for outcome in outcomes if outcome.result is not None]
    if args.json:
        print_json(summaries[0] if args.selector is None else summaries)
        return
    for summary in summaries:
        if args.dry_run:
            _print_plan(summary)
        else:
            print_summary(summary)
    sys.stdout.flush()


def _print_plan(summary: DeploymentSummary) -> None:
    plan = summary.plan
    for verb, paths in (
        ("write", plan.write),
        ("same", plan.same),
        ("delete", plan.delete),
        ("keep", plan.keep),
    ):
        for path in paths:
            print(f"{summary.board}: {verb:<7}{one_line(path)}")
    wire = f", about {plan.wire_bytes} on the wire" if plan.wire_bytes else ""
    print(
        f"{summary.board}: would write {len(plan.write)} files, {plan.payload_bytes} bytes{wire};"
        f" skip {len(plan.same)}, {plan.same_bytes} bytes; delete {len(plan.delete)}, keep {len(plan.keep)}"
    )


def print_summary(summary: DeploymentSummary) -> None:
    """Print how a deployment to one board ended, and on stderr what there is to know beside."""
    settled = summary.plan.settled.value
    if settled != "none":
        note(f"{summary.board}: an earlier deployment had broken off, and was {settled} first")
    wire = f", {summary.wire_bytes} on the wire" if summary.wire_bytes else ""
    if wire and summary.payload_bytes:
        wire += f" ({summary.wire_bytes / summary.payload_bytes:.2f} a byte)"
    print(
        f"{summary.board}: {summary.files_written} written, {summary.files_same} same,"
        f" {summary.files_deleted} deleted; {summary.payload_bytes} bytes in {spell_duration(summary.ran)}{wire}"
    )
    if summary.rollback_refusal:
        note(f"{summary.board}: this cannot be rolled back: {summary.rollback_refusal}")


class ProgressBar:
    """One line on a terminal's stderr for all boards of a deployment. Safe to use from several threads."""

    def __init__(self, boards: int) -> None:
        self._boards = boards
        self._lock = threading.Lock()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._done = 0

    def follow(self, board: str) -> _Follower:
        """Return what one board's progress is told to."""
        return _Follower(self, board)

    def show(self, board: str, progress: DeploymentProgress) -> None:
        """Draw the line with one board's progress."""
        with self._lock:
            self._bytes[board] = (progress.written_bytes, progress.total_bytes)
            self._draw(f"{board}: {progress.path}")

    def finish(self, board: str) -> None:
        """Count a board as ended, however it did."""
        with self._lock:
            self._done += 1
            self._draw(board)

    def clear(self) -> None:
        """Remove the line."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def _draw(self, text: str) -> None:
        written = sum(pair[0] for pair in self._bytes.values())
        total = sum(pair[1] for pair in self._bytes.values())
        share = min(written / total, 1.0) if total else 1.0
        filled = round(share * _BAR_WIDTH)
        boards = f"{self._done}/{self._boards} boards  " if self._boards > 1 else ""
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        line = f"[{bar}] {share:4.0%}  {written}/{total} bytes  {boards}{one_line(text)}"
        sys.stderr.write(f"\r{_cut(line)}\x1b[K")
        sys.stderr.flush()


class _Follower:
    def __init__(self, bar: ProgressBar, board: str) -> None:
        self._bar, self._board = bar, board

    def __call__(self, progress: DeploymentProgress) -> None:
        self._bar.show(self._board, progress)


def _cut(line: str) -> str:
    import shutil

    return fit(line, max(shutil.get_terminal_size().columns - 1, 20))


COMMANDS = (
    Command(
        name="deploy",
        summary="put a folder's files on a board",
        description="Make a board's files equal to a folder's. Only what differs is sent, each file is\n"
        "verified by hash on the board, and the new files take the old ones' places together:\n"
        "whatever breaks off, the board has the old tree or the new one. Nothing is deleted\n"
        "without --prune. Python that is broken is found here, and then no board is touched.\n"
        "What version control, editors and Python leave in a folder is not deployed.",
        example="  belayctl deploy pico-1 src --dry-run\n"
        "  belayctl deploy -l chip=rp2 src --mpy --prune --keep 'data/'\n"
        "  belayctl deploy -l chip=rp2 src --canary 1 --max-failures 2 --check 'main.works()'\n"
        "  belayctl deploy pico-1 --rollback",
        configure=_configure,
        run=_deploy,
    ),
)
