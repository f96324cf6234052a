"""fs: the files of boards, listed, shown, copied, renamed, deleted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from belayd_client.cli.command import Command, UsageError, add_json, add_lease, add_limits
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import RawSink, Sink, TerminalSink, one_line, print_json
from belayd_client.cli.places import Place, Reach, by_board, on_board, read_places

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.files import BoardFile

_BRANCH, _LAST, _THROUGH, _PAST = "├── ", "└── ", "│   ", "    "


class _Work(Protocol):
    def __call__(self, reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object: ...


class _Verb(NamedTuple):
    """One thing that fs does.

    `work` does it on one board and returns what JSON tells; `show` makes lines of that.
    """

    least: int
    work: _Work
    show: Callable[[argparse.Namespace, object], list[str]] | None = None
    most: int | None = None
    bare: bool = False


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "belayctl fs VERB [options] BOARD:PATH ..."
    parser.add_argument(
        "verb", metavar="VERB", choices=[*_VERBS, "cat", "cp"], help=", ".join([*_VERBS, "cat", "cp"])
    )
    parser.add_argument(
        "words",
        metavar="BOARD:PATH",
        nargs="*",
        help="a place on a board, :PATH with -l; for cp also files of this machine, and - for its input or output",
    )
    parser.add_argument("-l", "--selector", metavar="SEL", help="such as chip=rp2: every board it matches")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="ls, sha256sum, cp, rm: all that is in a folder too"
    )
    parser.add_argument(
        "-p", "--parents", action="store_true", help="mkdir, touch, cp: make the folders that lead there too"
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="rm: it may be gone already; mv: replace a file"
    )
    parser.add_argument("--raw", action="store_true", help="cat: let a terminal have every byte as it is")
    add_lease(parser)
    add_limits(parser)
    add_json(parser)


def _fs(args: argparse.Namespace) -> int:
    if args.verb == "cp":
        from belayd_client.cli.copying import copy

        return copy(args)
    if args.verb == "cat":
        return _cat(args)
    verb = _VERBS[args.verb]
    places = read_places(args.words, args, bare=verb.bare)
    if not places and verb.bare and args.selector is not None:
        places = [Place(None, "/")]
    if len(places) < verb.least or (verb.most is not None and len(places) > verb.most):
        wanted = "two places" if verb.least == 2 else "a place on a board, such as pico-1:/main.py"
        raise UsageError(f"{args.verb} takes {wanted}")
    with open_client(args) as client:
        if args.selector is None:
            return _on_named(client, args, verb, places)
        return _on_selected(client, args, verb, [place.path for place in places])


def _on_named(client: Client, args: argparse.Namespace, verb: _Verb, places: Sequence[Place]) -> int:
    paths = by_board(places)
    if verb.most is not None and len(paths) > 1:
        raise UsageError(f"{args.verb} works on one board; copy with cp from one to another")
    told: dict[str, object] = {}
    for board, some in paths.items():
        told[board] = on_board(client, args, board, partial(verb.work, args=args, paths=some))
        if verb.show and not args.json:
            for line in verb.show(args, told[board]):
                print(line)
    if verb.show and args.json:
        print_json(told if len(told) > 1 else next(iter(told.values())))
    return 0


def _on_selected(client: Client, args: argparse.Namespace, verb: _Verb, paths: Sequence[str]) -> int:
    from belayd_client.cli import several

    def work(board: str, sink: Sink) -> object:
        told = on_board(client, args, board, partial(verb.work, args=args, paths=paths))
        if verb.show and not args.json:
            sink.write("".join(f"{line}\n" for line in verb.show(args, told)).encode())
        return told

    outcomes = several.many(client, several.names(client, _selected(args)), work, raw=False)
    if verb.show and args.json:
        print_json({outcome.board: outcome.result for outcome in outcomes if outcome.failure is None})
    return several.report(outcomes)


def _selected(args: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(board=None, selector=args.selector)


def _cat(args: argparse.Namespace) -> int:
    if args.selector is not None:
        raise UsageError("cat takes no selector: the files of several boards would run together")
    places = read_places(args.words, args)
    if not places:
        raise UsageError("cat takes a place on a board, such as pico-1:/main.py")
    sink: Sink = TerminalSink() if sys.stdout.isatty() and not args.raw else RawSink()

    def show(reach: Reach, path: str) -> None:
        for chunk in reach.stream(path):
            sink.write(chunk)

    with open_client(args) as client:
        for place in places:
            on_board(client, args, place.board or "", partial(show, path=place.path))
    sink.close()
    return 0


def _ls(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    return [file for path in paths for file in reach.list_files(path, recursive=args.recursive)]


def _show_ls(args: argparse.Namespace, told: object) -> list[str]:
    assert isinstance(told, list)
    lines = []
    for file in told:
        name = file.path if args.recursive else file.path.rpartition("/")[2]
        size = "-" if file.folder or file.errno else file.size
        lines.append(f"{size:>10}  {one_line(name)}{_ending(file)}")
    return lines


def _ending(file: BoardFile) -> str:
    ending = "/" if file.folder else ""
    if file.mount:
        ending += "  (another filesystem)"
    return ending + (f"  (cannot be read: errno {file.errno})" if file.errno else "")


def _tree(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    return [{"path": path, "files": reach.list_files(path, recursive=True)} for path in paths]


def _show_tree(args: argparse.Namespace, told: object) -> list[str]:
    assert isinstance(told, list)
    lines: list[str] = []
    for entry in told:
        top: str = entry["path"]
        below: dict[str, list[BoardFile]] = {}
        for file in entry["files"]:
            below.setdefault(file.path.rpartition("/")[0], []).append(file)
        lines.append(one_line(top))
        waiting = [("", file, last) for file, last in _marked(below.pop(top.rstrip("/"), []))]
        while waiting:
            before, file, last = waiting.pop()
            lines.append(
                before + (_LAST if last else _BRANCH) + one_line(file.path.rpartition("/")[2]) + _ending(file)
            )
            inner = before + (_PAST if last else _THROUGH)
            waiting += [(inner, one, end) for one, end in _marked(below.pop(file.path, []))]
    return lines


def _marked(files: Sequence[BoardFile]) -> list[tuple[BoardFile, bool]]:
    """Return files in the reverse of their order, each with whether it is the last."""
    return [(file, at == len(files)) for at, file in reversed(list(enumerate(files, 1)))]


def _sha256sum(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    from belayd_client.errors import NotFound

    sums = []
    for path in paths:
        for file in reach.list_files(path, recursive=args.recursive, sha256=True):
            if file.folder:
                continue
            if file.errno:
                raise NotFound(f"{reach.board} cannot read {file.path!r} (errno {file.errno})")
            sums.append({"path": file.path, "sha256": file.sha256 or _hash_here(reach, file.path)})
    return sums


def _hash_here(reach: Reach, path: str) -> str:
    """Hash what comes of a file, for a board that cannot."""
    import hashlib

    digest = hashlib.sha256()
    for chunk in reach.stream(path):
        digest.update(chunk)
    return digest.hexdigest()


def _show_sums(args: argparse.Namespace, told: object) -> list[str]:
    assert isinstance(told, list)
    return [f"{entry['sha256']}  {one_line(entry['path'])}" for entry in told]


def _df(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    return reach.client.filesystems(reach.board, lease=reach.token, timeout=reach.timeout)


def _show_df(args: argparse.Namespace, told: object) -> list[str]:
    assert isinstance(told, list)
    rows = [("size", "used", "free", "use", "mounted on")]
    for found in told:
        used = found.total_bytes - found.free_bytes
        share = f"{used / found.total_bytes:.0%}" if found.total_bytes else "-"
        mounted = one_line(found.path) + ("  (read-only)" if found.read_only else "")
        rows.append((str(found.total_bytes), str(used), str(found.free_bytes), share, mounted))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]


def _rm(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    for path in paths:
        reach.client.delete_file(
            reach.board,
            path,
            recursive=args.recursive,
            missing_ok=args.force,
            lease=reach.token,
            timeout=reach.timeout,
        )
    return None


def _mv(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    path, to = paths
    if to.endswith("/") or reach.is_folder(to):
        to = f"{to.rstrip('/')}/{Place(None, path).name}"
    reach.client.move_file(
        reach.board, path, to, replace=args.force, lease=reach.token, timeout=reach.timeout
    )
    return None


def _mkdir(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    for path in paths:
        reach.client.make_directory(
            reach.board, path, parents=args.parents, lease=reach.token, timeout=reach.timeout
        )
    return None


def _touch(reach: Reach, args: argparse.Namespace, paths: Sequence[str]) -> object:
    for path in paths:
        reach.client.touch_file(
            reach.board, path, parents=args.parents, lease=reach.token, timeout=reach.timeout
        )
    return None


_VERBS = {
    "ls": _Verb(1, _ls, _show_ls, bare=True),
    "tree": _Verb(1, _tree, _show_tree, bare=True),
    "sha256sum": _Verb(1, _sha256sum, _show_sums),
    "df": _Verb(1, _df, _show_df, bare=True),
    "rm": _Verb(1, _rm),
    "mv": _Verb(2, _mv, most=2),
    "mkdir": _Verb(1, _mkdir),
    "touch": _Verb(1, _touch),
}

COMMANDS = (
    Command(
        name="fs",
        summary="list, show, copy, rename and delete boards' files",
        description="The files of boards: ls, tree, cat, sha256sum, df; cp, mv, rm, mkdir, touch. A place is\n"
        "written BOARD:PATH. cp copies between this machine and boards, whole folders with -r;\n"
        "what is there byte for byte already is not sent, each file is verified by hash, and\n"
        "takes the place of the old one only then. `deploy` keeps a board equal to a folder.",
        example="  belayctl fs ls pico-1:/lib\n"
        "  belayctl fs cp main.py pico-1:\n"
        "  belayctl fs cp -r pico-1:/data measurements\n"
        "  belayctl fs cp -l rack=2 settings.json :/settings.json",
        configure=_configure,
        run=_fs,
    ),
)
