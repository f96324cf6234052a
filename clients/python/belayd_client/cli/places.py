"""BOARD:path on a command line: which file on which board."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from belayd_client.cli.command import UsageError
from belayd_client.errors import NotFound

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.files import BoardFile

T = TypeVar("T")

# A board that hides filesystems in filesystems without an end is left at that.
MOST_MOUNTS = 16

_PLACE = re.compile(r"([a-z0-9-]{1,63})?:(.*)", re.DOTALL)
_BOARD = re.compile(r"[a-z0-9-]{1,63}")


class Place(NamedTuple):
    """A file or folder: `board` is None for each of those that a selector matches."""

    board: str | None
    path: str

    @property
    def name(self) -> str:
        """Its last name; "" for the root."""
        return self.path.rstrip("/").rpartition("/")[2]


class Reach(NamedTuple):
    """One board as a command works with it."""

    client: Client
    board: str
    token: str
    timeout: float | None

    def list_files(self, path: str, *, recursive: bool = False, sha256: bool = False) -> list[BoardFile]:
        """As Client.list_files; with `recursive` into filesystems that are mounted below too."""
        found: list[BoardFile] = []
        tops = [path]
        for top in tops[: MOST_MOUNTS + 1]:
            some = self.client.list_files(
                self.board,
                top,
                recursive=recursive,
                sha256=sha256,
                lease=self.token,
                timeout=self.timeout,
            )
            found += some
            if recursive and len(tops) <= MOST_MOUNTS:
                tops += [file.path for file in some if file.mount]
        return sorted(found, key=lambda file: file.path.split("/"))

    def stream(self, path: str) -> Iterator[bytes]:
        """As Client.stream_file."""
        return self.client.stream_file(self.board, path, lease=self.token, timeout=self.timeout)

    def is_folder(self, path: str) -> bool:
        """Tell whether there is a folder of this name."""
        if not path.strip("/"):
            return True
        try:
            found = self.list_files(path)
        except NotFound:
            return False
        return not (len(found) == 1 and found[0].path == path.rstrip("/") and not found[0].folder)


def read_place(text: str, selector: str | None, *, bare: bool = False) -> Place | None:
    """Return what BOARD:path, or with a selector :path, means; None for what is no such thing.

    With `bare` a board's name alone is its root.

    Raises:
        UsageError: The board is missing, or is one too many.
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        if bare and selector is None and _BOARD.fullmatch(text):
            return Place(text, "/")
        return None
    board, path = found[1], "/" + found[2].removeprefix("/")
    if selector is not None and board is not None:
        raise UsageError(f"both a board, {board!r}, and a selector: with -l write :{found[2]}")
    if selector is None and board is None:
        raise UsageError(f"{text!r} names no board: write BOARD{text}, or select some with -l SEL")
    return Place(board, path)


def read_places(words: Sequence[str], args: argparse.Namespace, *, bare: bool = False) -> list[Place]:
    """Return the places that all `words` are.

    Raises:
        UsageError: One is none.
    """
    places = []
    for word in words:
        place = read_place(word, args.selector, bare=bare)
        if place is None:
            example = ":/main.py" if args.selector is not None else "pico-1:/main.py"
            raise UsageError(f"{word!r} is no place on a board; write such as {example}")
        places.append(place)
    return places


def by_board(places: Sequence[Place]) -> dict[str, list[str]]:
    """Return the paths on each board, in their order."""
    paths: dict[str, list[str]] = {}
    for place in places:
        paths.setdefault(place.board or "", []).append(place.path)
    return paths


def on_board(client: Client, args: argparse.Namespace, board: str, work: Callable[[Reach], T]) -> T:
    """Return what `work` returns, under the lease that there is or, with --wait, one of its own."""
    from belayd_client.cli.tokens import under_lease

    return under_lease(client, args, board, lambda token: work(Reach(client, board, token, args.timeout)))
