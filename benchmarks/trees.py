"""What deployments are measured with: real Python source, and bytes that nothing makes smaller.

The source is 50 files of the running interpreter's standard library, about 300 kB, with
the packages that they lie in: the same ones for each run of one Python. Files on which
Belay's minifier raises are passed over, since one of them would end its every sync.
Each version of a tree has a line of its own in every file, so that a daemon that was
given an earlier one knows no content of it.
"""

from __future__ import annotations

import hashlib
import random
import sysconfig
import tokenize
from dataclasses import dataclass
from pathlib import Path

from belay._minify import minify

FILES = 50
SMALLEST, LARGEST = 1_000, 13_000
"""Bytes of a file. What people write for boards is about as long, and 50 of these are about 300 kB."""
NOT_SOURCE = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings"}
"""Not there on every machine, or written to be strange, or tables."""
NAME = "app"
"""The folder's name here and on the board: mpremote copies a folder under its own."""


@dataclass(frozen=True)
class Tree:
    """A folder called NAME, with how many files and bytes it has."""

    folder: Path
    files: int
    size: int

    def digest(self) -> str:
        """Return what `contenders.DIGEST` says of a board that has exactly these files."""
        total = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                total.update(path.relative_to(self.folder).as_posix().encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


def python_trees(folder: Path, count: int, files: int = FILES) -> list[Tree]:
    """Write so many versions of the first `files` source files below `folder`."""
    top = Path(sysconfig.get_path("stdlib"))
    chosen = _choose(top)[:files]
    trees = []
    for number in range(count):
        root = folder / f"version-{number}" / NAME
        for source in chosen:
            copy = root / source.relative_to(top)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes() + b"\nVERSION = %d\n" % number)
        trees.append(_tree(root))
    return trees


def random_trees(folder: Path, count: int, size: int) -> list[Tree]:
    """Write so many trees of one file called `file`, of random bytes: the same ones in each run."""
    trees = []
    for number in range(count):
        root = folder / f"random-{number}" / NAME
        root.mkdir(parents=True)
        (root / "file").write_bytes(random.Random(number).randbytes(size))
        trees.append(_tree(root))
    return trees


def _choose(top: Path) -> list[Path]:
    """Return FILES files spread evenly over the library, by name; the next one for one that does not fit."""
    candidates = [
        path
        for path in sorted(top.rglob("*.py"))
        if not NOT_SOURCE.intersection(path.relative_to(top).parts)
        and SMALLEST <= path.stat().st_size <= LARGEST
    ]
    chosen: list[Path] = []
    for number in range(FILES):
        place = number * len(candidates) // FILES
        while candidates[place] in chosen or not _minifies(candidates[place]):
            place = (place + 1) % len(candidates)
        chosen.append(candidates[place])
    return chosen


def _minifies(path: Path) -> bool:
    try:
        minify(path.read_text(encoding="utf-8"))
    except (IndentationError, UnicodeDecodeError, tokenize.TokenError, IndexError):
        return False
    return True


def _tree(root: Path) -> Tree:
    files = [path for path in root.rglob("*") if path.is_file()]
    return Tree(root, len(files), sum(path.stat().st_size for path in files))
