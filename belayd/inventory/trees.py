"""The folders that `between: {deploy: FOLDER}` names, read once: what boards get before each holder.

Read when the inventory is, so that a folder that changes or goes later changes
nothing until the next reload. Left out is what editors, version control and
Python leave behind. Links are followed while they stay inside the folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from belayd.inventory.specs import TreeFile

T = TypeVar("T")

MOST_FILES = 2000
MOST_BYTES = 16 << 20
"""Of one folder: kept in memory, and no board's flash is larger."""
IGNORED = {".git", ".hg", ".svn", ".gitignore", ".DS_Store", "Thumbs.db", ".idea", ".vscode", ".venv"}
IGNORED |= {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
IGNORED_ENDS = (".pyc", ".pyo", ".pyd", "~", ".swp", ".swo")
OURS = ".belayd-"
"""How names of deployments' temporary files begin."""


class TreeUnusable(Exception):
    """A folder cannot go on boards; the message says why, `advice` what to do."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.advice = advice


class Trees:
    """The folders that one inventory names, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[TreeFile, ...]] = {}

    def read(self, folder: Path) -> tuple[TreeFile, ...]:
        """Return a folder's files by path; blocks for as long as the disk takes.

        Raises:
            TreeUnusable: It cannot go on boards as it is.
        """
        folder = Path(os.path.normpath(folder))
        if folder not in self._read:
            self._read[folder] = tuple(sorted(_read(folder), key=lambda file: file.path))
        return self._read[folder]


def _read(folder: Path) -> Iterator[TreeFile]:
    if not folder.is_dir():
        raise TreeUnusable(f"{folder} is not a folder", "name the folder whose files the boards shall have")
    count = size = 0
    top = folder.resolve()
    for path, source in _walk(folder, top, "", (top,)):
        content = _guarded(source, source.read_bytes)
        count, size = count + 1, size + len(content)
        if count > MOST_FILES or size > MOST_BYTES:
            raise TreeUnusable(
                f"{folder} has more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB",
                "is it the right folder?",
            )
        yield TreeFile(path, hashlib.sha256(content).digest(), content)


def _walk(folder: Path, top: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the path and place of each file; `above` are the real folders on the way."""
    for name in sorted(_guarded(folder, partial(os.listdir, folder))):
        if name in IGNORED or name.endswith(IGNORED_ENDS):
            continue
        source = folder / name
        _check_name(name, source)
        real = _guarded(source, partial(source.resolve, strict=True))
        if not real.is_relative_to(top):
            raise TreeUnusable(f"{source} is a link out of the folder", "put a copy there")
        if real.is_dir():
            if real in above:
                raise TreeUnusable(f"{source} is a link to a folder that it is in itself", "remove it")
            yield from _walk(source, top, f"{prefix}{name}/", (*above, real))
        elif real.is_file():
            yield prefix + name, source
        else:
            raise TreeUnusable(f"{source} is neither a file nor a folder", "remove it")


def _check_name(name: str, source: Path) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise TreeUnusable(f"{str(source)!a}: its name is not UTF-8", "rename it") from None
    if "\\" in name or not name.isprintable():
        raise TreeUnusable(f"{str(source)!a}: such a name cannot be on a board", "rename it")
    if name.startswith(OURS):
        raise TreeUnusable(f"{source}: names that begin with {OURS} are belayd's own", "rename it")


def _guarded(source: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        cause = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise TreeUnusable(f"{source} cannot be read: {cause}", "mend it or remove it") from None
