"""deploy: a folder's files onto boards."""

from __future__ import annotations

import argparse
import sys
import threading
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, add_json, add_lease, add_limits, add_target, check_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, one_line, print_json, spell_duration

if TYPE_CHECKING:
    from belayd_client.cli.several import Outcome
    from belayd_client.deployment import DeploymentProgress, DeploymentSummary

_BAR_WIDTH = 24


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("folder", metavar="DIR", help="the folder whose files the board shall have")
    parser.add_argument(
        "--dst", metavar="PATH", default="/", help="where on the board (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument("--prune", action="store_true", help="delete what is on the board and not in DIR")
    parser.add_argument(
        "--keep",
        metavar="PATTERN",
        action="append",
        default=[],
        help="gitignore pattern that prune leaves alone",
    )
    parser.add_argument(
        "--prune-also",
        metavar="NAME",
        action="append",
        default=[],
        help="let prune delete boot.py, webrepl_cfg.py or lib/ too, which it otherwise never does",
    )
    parser.add_argument(
        "--ignore", metavar="PATTERN", action="append", default=[], help="gitignore pattern not to deploy"
    )
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _deploy(args: argparse.Namespace) -> int:
    from belayd_client import project
    from belayd_client.cli import several
    from belayd_client.cli.tokens import under_lease

    check_target(args)
    folder = project.read(args.folder, args.ignore)
    with open_client(args) as client:
        boards = several.names(client, args)
        if not args.dry_run:
            client.upload(folder)
        bar = ProgressBar(len(boards)) if sys.stderr.isatty() else None

        def work(board: str, _: Sink) -> DeploymentSummary:
            try:
                return under_lease(
                    client,
                    args,
                    board,
                    lambda token: client.deploy(
                        board,
                        folder,
                        dst=args.dst,
                        prune=args.prune,
                        keep=args.keep,
                        prune_also=args.prune_also,
                        dry_run=args.dry_run,
                        progress=bar.follow(board) if bar else None,
                        lease=token,
                        timeout=args.timeout,
                    ),
                )
            finally:
                if bar:
                    bar.finish(board)

        try:
            if args.selector is None:
                outcomes = [several.Outcome(args.board, several.one(args.board, work, raw=False), None)]
            else:
                outcomes = several.many(client, boards, work, raw=False)
        finally:
            if bar:
                bar.clear()
    _print_results(args, outcomes)
    return 0 if args.selector is None else several.report(outcomes)


def _print_results(args: argparse.Namespace, outcomes: list[Outcome[DeploymentSummary]]) -> None:
    summaries = [outcome.result for outcome in outcomes if outcome.result is not None]
    if args.json:
        print_json(summaries[0] if args.selector is None else summaries)
        return
    for summary in summaries:
        _print_summary(summary, dry_run=args.dry_run)
    sys.stdout.flush()


def _print_summary(summary: DeploymentSummary, *, dry_run: bool) -> None:
    plan = summary.plan
    if dry_run:
        for verb, paths in (
            ("write", plan.write),
            ("same", plan.same),
            ("delete", plan.delete),
            ("keep", plan.keep),
        ):
            for path in paths:
                print(f"{summary.board}: {verb:<7}{one_line(path)}")
        print(
            f"{summary.board}: would write {len(plan.write)} files, {plan.payload_bytes} bytes,"
            f" and delete {len(plan.delete)}"
        )
        return
    print(
        f"{summary.board}: {summary.files_written} written, {summary.files_same} same,"
        f" {summary.files_deleted} deleted; {summary.payload_bytes} bytes in {spell_duration(summary.ran)}"
    )


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

    return line[: max(shutil.get_terminal_size().columns - 1, 20)]


COMMANDS = (
    Command(
        name="deploy",
        summary="put a folder's files on a board",
        description="Make a board's files equal to a folder's. Only what differs is sent, each file is\n"
        "verified by hash on the board, and nothing is deleted without --prune. What version\n"
        "control, editors and Python leave in a folder is not deployed.",
        example="  belayctl deploy pico-1 src --dry-run\n"
        "  belayctl deploy -l chip=rp2 src --prune --keep 'data/'",
        configure=_configure,
        run=_deploy,
    ),
)
