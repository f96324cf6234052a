"""fs cp: files between this machine and boards, and from board to board.

As `cp` has it: into a folder that is there, else under the new name. A folder goes
to a board as a deployment without prune, so that all of it is new or all of it is as
it was; what stands in its way is never deleted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from belayd_client.cli.command import UsageError
from belayd_client.cli.connection import open_client
from belayd_client.cli.outcome import REFUSED
from belayd_client.cli.output import RawSink, Sink, note
from belayd_client.cli.places import Place, Reach, on_board, read_place
from belayd_client.errors import PreparationFailed, RequestInvalid, Unsupported

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.project import ProjectFile

# Above it what goes from board to board lies in a file meanwhile.
_HELD_BYTES = 1 << 20


class Here(NamedTuple):
    """A file or folder here; `name` is "" for a folder that is meant as all that is in it, such as "."."""

    place: Path
    name: str


Spot = Place | Here | None
"""On a board, here, or this machine's input or output."""


class _Tree(NamedTuple):
    """A folder here: its files, and the folders that hold none."""

    files: tuple[ProjectFile, ...]
    empty: tuple[str, ...]


def copy(args: argparse.Namespace) -> int:
    """Do what `fs cp` asks for; return the exit code."""
    if len(args.words) < 2:
        raise UsageError("cp takes what to copy, and where to")
    if args.json:
        raise UsageError("cp tells nothing that could be JSON")
    *sources, last = [_read(word, args.selector) for word in args.words]
    into_many = args.words[-1].endswith("/") or len(sources) > 1
    if not isinstance(last, Place):
        there = [source for source in sources if isinstance(source, Place)]
        if args.selector is not None:
            raise UsageError(
                "with -l, cp goes to boards: the files of several would overwrite each other here"
            )
        if len(there) < len(sources):
            raise UsageError("neither from nor to a board; write BOARD:PATH for what lies there")
        with open_client(args) as client:
            return _fetch_all(client, args, there, last and last.place, into_many)
    with open_client(args) as client:
        work = partial(_bring_all, args=args, sources=sources, to=last, into=into_many)
        if args.selector is not None:
            return _bring_to_many(client, args, sources, work)
        on_board(client, args, last.board or "", work)
    return 0


def _read(word: str, selector: str | None) -> Spot:
    if word == "-":
        return None
    name = word.rstrip("/").rpartition("/")[2]
    return read_place(word, selector) or Here(Path(word), "" if name in ("", ".", "..") else name)


# To boards


def _bring_to_many(
    client: Client, args: argparse.Namespace, sources: Sequence[Spot], bring: Callable[[Reach], None]
) -> int:
    from belayd_client.cli import several

    if not all(isinstance(source, Here) for source in sources):
        raise UsageError("with -l, cp takes files of this machine: input can be read only once")
    boards = several.names(client, argparse.Namespace(board=None, selector=args.selector))

    def work(board: str, _: Sink) -> None:
        on_board(client, args, board, bring)

    return several.report(several.many(client, boards, work, raw=False))


def _bring_all(
    reach: Reach, args: argparse.Namespace, sources: Sequence[Spot], to: Place, into: bool
) -> None:
    into = into or reach.is_folder(to.path)
    for source in sources:
        path = _inside(to.path, source) if into else to.path
        match source:
            case Place():
                _pass_on(reach, args, source, path)
            case Here(place) if place.is_dir():
                if not args.recursive:
                    raise UsageError(f"{place} is a folder; copy it with -r")
                _bring_tree(reach, path, _walk(place))
            case Here(place):
                _bring(reach, args, path, place)
            case _:
                _bring(reach, args, path, sys.stdin.buffer.read())


def _inside(folder: str, source: Spot) -> str:
    """Return the path of what comes from `source` into a board's folder."""
    if source is None:
        raise UsageError("- has no name; write BOARD:PATH with the file's")
    return f"{folder.rstrip('/')}/{source.name}"


def _bring(reach: Reach, args: argparse.Namespace, path: str, content: bytes | Path) -> None:
    reach.client.write_file(
        reach.board, path, content, parents=args.parents, lease=reach.token, timeout=reach.timeout
    )


def _bring_tree(reach: Reach, path: str, tree: _Tree) -> None:
    from belayd_client.project import Project

    project = Project(Path(path), tree.files)
    try:
        plan = reach.client.deploy(
            reach.board, project, dst=path, dry_run=True, lease=reach.token, timeout=reach.timeout
        ).plan
        if plan.delete:
            raise RequestInvalid(
                f"{plan.delete[0]!r} on {reach.board} stands in the way, a file for a folder or the reverse; "
                "delete it first"
            )
        reach.client.upload(project)
        reach.client.deploy(
            reach.board,
            project,
            dst=path,
            without_rollback=True,
            lease=reach.token,
            timeout=reach.timeout,
        )
    except Unsupported:
        _bring_singly(reach, path, tree)
        return
    for folder in tree.empty:
        if place := f"{path.rstrip('/')}/{folder}".rstrip("/"):
            reach.client.make_directory(
                reach.board, place, parents=True, lease=reach.token, timeout=reach.timeout
            )


def _bring_singly(reach: Reach, path: str, tree: _Tree) -> None:
    """File after file, for a board that takes no deployments."""
    for file in tree.files:
        place = f"{path.rstrip('/')}/{file.path}"
        reach.client.write_file(
            reach.board, place, file.source, parents=True, lease=reach.token, timeout=reach.timeout
        )


def _walk(top: Path) -> _Tree:
    """Return all that lies in a folder; links to files are followed, links to folders refused."""
    from belayd_client.project import ProjectFile

    files: list[ProjectFile] = []
    empty: list[str] = []

    def fail(error: OSError) -> None:
        raise PreparationFailed(f"cannot read {error.filename}: {error.strerror}")

    for folder, folders, names in os.walk(top, onerror=fail):
        inner = Path(folder).relative_to(top).parts
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise PreparationFailed(
                    f"{Path(folder) / name} is a link to a folder; name that folder itself"
                )
        if not (folders or names):
            empty.append("/".join(inner))
        for name in names:
            source = Path(folder) / name
            sha256, size = _hash(source)
            files.append(ProjectFile("/".join((*inner, name)), sha256, size, source))
    return _Tree(tuple(sorted(files, key=lambda file: file.path)), tuple(empty))


def _hash(source: Path) -> tuple[bytes, int]:
    import hashlib

    if not source.is_file():
        raise PreparationFailed(f"{source} is neither a file nor a folder, or a link to nowhere")
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            return digest, file.tell()
    except OSError as error:
        raise PreparationFailed(f"cannot read {source}: {error.strerror}") from None


def _pass_on(reach: Reach, args: argparse.Namespace, source: Place, path: str) -> None:
    """Copy from a board to a board."""

    def take(other: Reach) -> None:
        if other.is_folder(source.path):
            raise UsageError("from board to board cp takes files; copy a folder here first")
        with tempfile.SpooledTemporaryFile(_HELD_BYTES) as held:
            held.writelines(other.stream(source.path))
            held.seek(0)
            reach.client.write_file(
                reach.board, path, held, parents=args.parents, lease=reach.token, timeout=reach.timeout
            )

    if source.board == reach.board:
        take(reach)
    else:
        on_board(reach.client, args, source.board or "", take)


# To this machine


def _fetch_all(
    client: Client, args: argparse.Namespace, sources: Sequence[Place], to: Path | None, into: bool
) -> int:
    unread = 0
    for source in sources:
        work = partial(_fetch, args=args, source=source, to=to, into=into)
        unread += on_board(client, args, source.board or "", work)
    return REFUSED if unread else 0


def _fetch(reach: Reach, args: argparse.Namespace, source: Place, to: Path | None, into: bool) -> int:
    """Copy one source here; return how many files could not be read."""
    from belayd_client.landing import Landing, pour

    if to is None:
        sink = RawSink()
        for chunk in reach.stream(source.path):
            sink.write(chunk)
        return 0
    place = to / source.name if source.name and (into or to.is_dir()) else to
    if args.recursive and reach.is_folder(source.path):
        return _fetch_tree(reach, source.path, place)
    if place.exists() and not (place.is_file() or place.is_dir()):  # such as /dev/null
        pour(place, reach.stream(source.path))
        return 0
    with Landing(place.parent) as landing:
        landing.write((place.name,), reach.stream(source.path))
    return 0


def _fetch_tree(reach: Reach, top: str, place: Path) -> int:
    from belayd_client.landing import Landing, parts_below

    top = top.rstrip("/") or "/"
    found = reach.list_files(top, recursive=True)
    # All names before the first file: a board that lies about one writes nothing here.
    named = [(parts_below(top, file.path), file) for file in found]
    unread = 0
    with Landing(place) as landing:
        for parts, file in named:
            if file.errno:
                unread += 1
                note(f"{reach.board} cannot read {file.path!r} (errno {file.errno})")
            elif file.folder:
                landing.make_folder(parts)
            else:
                landing.write(parts, reach.stream(file.path))
    return unread
