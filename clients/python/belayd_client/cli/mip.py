"""mip: packages onto boards, as MicroPython's own mip finds them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from belayd_client.cli.command import (
    Command,
    UsageError,
    add_json,
    add_lease,
    add_limits,
)
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import Sink, fit, note, one_line, print_json, spell_duration

if TYPE_CHECKING:
    from belayd_client.board import Board
    from belayd_client.cli.several import Outcome
    from belayd_client.client import Client
    from belayd_client.deployment import DeploymentPlan, DeploymentSummary
    from belayd_client.packages import Resolution
    from belayd_client.packages.download import Fetch

# A board's frozen packages are no place for others, and not every port has "/lib".
_SEARCH = "getattr(__import__('sys'), 'path', [])"


class _Installed(NamedTuple):
    """What one board's part came to."""

    target: str
    resolution: Resolution
    summary: DeploymentSummary


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "belayctl mip install [-h] (BOARD | -l SEL) PACKAGE ... [options]"
    parser.add_argument("verb", metavar="install", help="the one thing it does")
    parser.add_argument(
        "words",
        metavar="BOARD PACKAGE",
        nargs="+",
        help="the board's name, unless -l is given; then NAME, NAME@VERSION, github:ORG/REPO[/PATH][@REF],"
        " gitlab: and codeberg: likewise, a URL, or a path of this machine with a '/' in it",
    )
    parser.add_argument("-l", "--selector", metavar="SEL", help="such as chip=rp2: every board it matches")
    parser.add_argument(
        "--target", metavar="PATH", help="where on the board (default: the lib folder it imports from)"
    )
    parser.add_argument("--index", metavar="URL", help="where packages with a bare name come from")
    parser.add_argument("--no-mpy", action="store_true", help="source, not .mpy files")
    parser.add_argument(
        "--lock", metavar="FILE", help="take what is locked there, and lock there what is not"
    )
    parser.add_argument("--update", action="store_true", help="look for these packages anew, and lock that")
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _mip(args: argparse.Namespace) -> int:
    from belayd_client.cli import several

    packages = _read_words(args)
    with open_client(args) as client:
        boards = several.names(client, args)
        # All of them before any board is touched: one package that cannot be installed installs none.
        resolutions = _resolve(args, packages, _variants(client, boards, args))
        if not args.dry_run:
            for resolution in {id(found): found for found in resolutions.values()}.values():
                client.upload(resolution.project())
        outcomes = _install(client, args, boards, resolutions)
    _print_results(args, outcomes)
    return 0 if args.selector is None else several.report(outcomes)


def _read_words(args: argparse.Namespace) -> list[str]:
    """Return the packages of a command line, having told its board from them."""
    if args.verb != "install":
        raise UsageError(f"there is no {args.verb!r}; write: belayctl mip install BOARD PACKAGE")
    if args.update and args.lock is None:
        raise UsageError("--update changes a lock file; name it with --lock FILE")
    words: list[str] = args.words
    args.board = None if args.selector is not None else words[0]
    packages = words if args.selector is not None else words[1:]
    if not packages:
        raise UsageError(f"name the packages after the board: belayctl mip install {words[0]} PACKAGE")
    return packages


def _variants(client: Client, boards: Iterable[str], args: argparse.Namespace) -> dict[str, int]:
    """Return for each board the version of .mpy files that it takes; 0 is source, which all take."""
    if args.no_mpy:
        return dict.fromkeys(boards, 0)
    if args.selector is None:
        return {name: _variant(client.board(name)) for name in boards}
    known = {board.name: _variant(board) for board in client.boards(args.selector)}
    return {name: known.get(name, 0) for name in boards}


def _variant(board: Board) -> int:
    # CircuitPython has versions too, of another form than the index's.
    if board.facts is None or board.facts.implementation != "micropython":
        return 0
    return board.facts.mpy & 0xFF


def _resolve(
    args: argparse.Namespace, packages: list[str], variants: Mapping[str, int]
) -> dict[str, Resolution]:
    """Return what each board gets, the lock file written."""
    from belayd_client.packages import INDEX, Lock, resolve

    file = None if args.lock is None else Path(args.lock)
    lock = Lock() if file is None else Lock.read(file)
    progress = _Progress() if sys.stderr.isatty() else None
    found: dict[int, Resolution] = {}
    try:
        for mpy in sorted(set(variants.values())):
            found[mpy] = resolve(
                packages,
                mpy=mpy,
                index=args.index or INDEX,
                lock=Lock() if args.update else lock,
                on_fetch=progress,
            )
            lock = lock.with_packages(found[mpy].lock.packages.values())
    finally:
        if progress:
            progress.clear()
    for resolution in found.values():
        for package in resolution.packages:
            form = {"": "", "py": " as source"}.get(package.key.variant, f" as .mpy {package.key.variant}")
            note(f"{package.shown}{form}: {_count(len(package.files), 'file')}")
    if file is not None and not args.dry_run:
        lock.write(file)
    return {board: found[mpy] for board, mpy in variants.items()}


def _install(
    client: Client, args: argparse.Namespace, boards: list[str], resolutions: Mapping[str, Resolution]
) -> list[Outcome[_Installed]]:
    from belayd_client.cli import several
    from belayd_client.cli.deploy import ProgressBar
    from belayd_client.cli.tokens import under_lease

    bar = ProgressBar(len(boards)) if sys.stderr.isatty() else None

    def install(board: str, token: str) -> _Installed:
        target = args.target or _find_target(client, board, token, args.timeout)
        summary = client.deploy(
            board,
            resolutions[board].project(),
            dst=target,
            dry_run=args.dry_run,
            progress=bar.follow(board) if bar else None,
            lease=token,
            timeout=args.timeout,
        )
        return _Installed(target, resolutions[board], summary)

    def work(board: str, _: Sink) -> _Installed:
        try:
            return under_lease(client, args, board, lambda token: install(board, token))
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


def _find_target(client: Client, board: str, token: str, timeout: float | None) -> str:
    """Return the first folder called lib that a board imports from, as MicroPython's own mip takes it.

    Raises:
        RequestInvalid: It has none.
    """
    from belayd_client.errors import RequestInvalid

    found = client.evaluate(board, _SEARCH, lease=token, timeout=timeout)
    folders = found if isinstance(found, list) else []
    for folder in folders:
        if isinstance(folder, str) and folder.endswith("/lib") and not folder.startswith("/rom"):
            # Relative to the root, where a board starts.
            return folder if folder.startswith("/") else f"/{folder}"
    raise RequestInvalid(f"{board} imports from no lib folder; name one with --target, such as --target /")


def _print_results(args: argparse.Namespace, outcomes: list[Outcome[_Installed]]) -> None:
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    if args.json:
        values = [_plain(result) for result in results]
        print_json(values[0] if args.selector is None else values)
        return
    for result in results:
        _print_result(result, dry_run=args.dry_run)
    sys.stdout.flush()


def _plain(result: _Installed) -> dict[str, object]:
    """Return a result for JSON: the packages with their hashes, and the deployment."""
    return {
        "target": result.target,
        "packages": [
            {
                "package": package.key.name,
                "version": package.key.version,
                "release": package.release,
                "variant": package.key.variant,
            }
            for package in result.resolution.packages
        ],
        "files": [
            {"path": file.path, "sha256": file.sha256.hex(), "size": file.size}
            for file in result.resolution.files
        ],
        "deployment": result.summary,
    }


def _print_result(result: _Installed, *, dry_run: bool) -> None:
    summary = result.summary
    plan = summary.plan
    if dry_run:
        for verb, paths in (("write", plan.write), ("same", plan.same)):
            for path in paths:
                print(f"{summary.board}: {verb:<7}{one_line(path)}")
        print(
            f"{summary.board}: would write {_count(len(plan.write), 'file')}, {plan.payload_bytes} bytes,"
            f" to {one_line(result.target)}"
        )
    else:
        print(
            f"{summary.board}: {summary.files_written} written to {one_line(result.target)},"
            f" {summary.files_same} same; {summary.payload_bytes} bytes in {spell_duration(summary.ran)}"
        )
    for old, new in shadowed(plan):
        note(f"{summary.board}: {old} was there before and is imported in place of {new}; remove one of them")


def shadowed(plan: DeploymentPlan) -> list[tuple[str, str]]:
    """Return the source files that stay on a board and hide an .mpy file that was installed.

    A board that finds both x.py and x.mpy imports x.py.
    """
    stay = set(plan.keep)
    installed = (PurePosixPath(path) for path in (*plan.write, *plan.same))
    pairs = ((str(path.with_suffix(".py")), str(path)) for path in installed if path.suffix == ".mpy")
    return [(old, new) for old, new in pairs if old in stay]


class _Progress:
    """One line on a terminal's stderr while files are fetched."""

    def __call__(self, fetch: Fetch) -> None:
        import shutil

        of = "" if fetch.total_bytes is None else f"/{fetch.total_bytes}"
        line = f"{fetch.received_bytes}{of} bytes  {one_line(fetch.url)}"
        sys.stderr.write(f"\r{fit(line, max(shutil.get_terminal_size().columns - 1, 20))}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


COMMANDS = (
    Command(
        name="mip",
        summary="install packages on a board",
        description="Install packages and what they need. They are found, fetched and checked here, then\n"
        "deployed like files: what the board has already is not sent, each file is verified by\n"
        "hash on the board, and nothing is deleted.",
        example="  belayctl mip install pico-1 aioble umqtt.simple@1.4.0\n"
        "  belayctl mip install -l chip=rp2 github:org/repo@v1 ./drivers/bme280 --lock belayd.lock",
        configure=_configure,
        run=_mip,
    ),
)
