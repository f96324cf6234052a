"""The folder to deploy: which files, their contents' hashes, and what cannot go on a board.

`read` looks at everything before anything is sent: one file that cannot go
refuses the whole deployment. Patterns are gitignore's, relative to the folder
given and to nothing above it. Empty folders are not deployed. Links are
followed while they stay inside the folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from belayd_client.errors import PreparationFailed

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# What editors, version control and Python leave behind, and no board wants.
DEFAULT_IGNORES = (
    ".git",
    ".hg",
    ".svn",
    ".gitignore",
    ".DS_Store",
    "Thumbs.db",
    ".idea/",
    ".vscode/",
    ".venv/",
    "__pycache__/",
    "*.py[cod]",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    "*~",
    "*.swp",
    "*.swo",
    ".#*",
    "\\#*#",
)

# More would be a wrong folder: no board's filesystem holds them.
MAX_FILES = 10_000

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """One file to deploy: `path` on the board below the destination, and where its content is here.

    What was made from `source` is in `content`; None is the file itself.
    """

    path: str
    sha256: bytes
    size: int
    source: Path
    content: bytes | None = None

    def read(self) -> bytes:
        """Return the content as it was hashed.

        Raises:
            PreparationFailed: It changed since, or cannot be read any more.
        """
        return b"".join(self.chunks())

    def with_content(self, content: bytes, path: str | None = None) -> ProjectFile:
        """Return the file with a content made from its own, and another path if so wanted."""
        return made(self.path if path is None else path, content, self.source)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content as it was hashed, in parts of at most 64 KiB.

        Raises:
            PreparationFailed: It changed since, or cannot be read any more. Parts
                of it were yielded, never all.
        """
        digest, left = hashlib.sha256(), self.size
        if self.content is not None:
            for start in range(0, len(self.content), CHUNK_BYTES):
                yield self.content[start : start + CHUNK_BYTES]
            return
        try:
            with self.source.open("rb") as file:
                while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                    digest.update(chunk)
                    left -= len(chunk)
                    if not left and digest.digest() != self.sha256:
                        break
                    yield chunk
        except OSError as error:
            raise PreparationFailed(f"cannot read {self.source}: {error.strerror}") from None
        if digest.digest() != self.sha256:
            raise PreparationFailed(f"{self.source} changed while it was deployed; deploy again")


@dataclass(frozen=True, slots=True)
class Project:
    """The files of a folder, ordered by path.

    `replaced` are paths that the board must not keep: it would import them instead of
    a file of the project.
    """

    folder: Path
    files: tuple[ProjectFile, ...]
    replaced: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def contents(self) -> dict[bytes, ProjectFile]:
        """Return one file for each different content, by SHA-256."""
        return {file.sha256: file for file in self.files}


def made(path: str, content: bytes, source: Path) -> ProjectFile:
    """Return a file whose content was made here; `source` is what it was made from, for messages."""
    return ProjectFile(path, hashlib.sha256(content).digest(), len(content), source, content)


def joined(folder: Path, parts: Iterable[Project]) -> Project:
    """Return the files of several projects as one.

    Raises:
        PreparationFailed: Two have a file of one path, or a file where another has a folder.
    """
    found: dict[str, ProjectFile] = {}
    for file in (file for part in parts for file in part.files):
        other = found.setdefault(file.path, file)
        if other is not file:
            raise PreparationFailed(
                f"{other.source} and {file.source} would both become {file.path}; drop one"
            )
    for path, file in found.items():
        for end in (at for at, character in enumerate(path) if character == "/"):
            if above := found.get(path[:end]):
                raise PreparationFailed(f"{above.source} is a file where {file.source} needs a folder")
    return Project(folder, tuple(found[path] for path in sorted(found)))


def read(folder: str | os.PathLike[str], ignore: Sequence[str] = ()) -> Project:
    """Return the files of a folder.

    Args:
        folder: What becomes the destination on the board.
        ignore: gitignore patterns beside the defaults; a "!" before one takes a
            default back.

    Raises:
        PreparationFailed: There is no such folder, a name cannot go on a board, a
            link leaves the folder, something is neither file nor folder, or
            cannot be read. The message names it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise PreparationFailed(f"{root} is not a folder; name the folder whose files the board shall have")
    spec = patterns([*DEFAULT_IGNORES, *ignore])
    found: list[ProjectFile] = []
    top = root.resolve()
    for file in _walk(root, top, spec, "", (top,)):
        found.append(file)
        if len(found) > MAX_FILES:
            raise PreparationFailed(f"{root} has more than {MAX_FILES} files; is it the right folder?")
    return Project(root, tuple(sorted(found, key=lambda file: file.path)))


def patterns(lines: Iterable[str]) -> GitIgnoreSpec:
    """Return gitignore patterns, to be matched with paths.

    Raises:
        PreparationFailed: One is none.
    """
    from pathspec import GitIgnoreSpec  # Late: 11 ms that only deployments need.

    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise PreparationFailed(f"{error}; patterns are as in .gitignore") from None


def _walk(
    folder: Path, top: Path, spec: GitIgnoreSpec, prefix: str, above: tuple[Path, ...]
) -> Iterator[ProjectFile]:
    """Yield the files below `folder`; `above` are the real folders on the way to it."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise PreparationFailed(f"cannot read {folder}: {error.strerror}") from None
    for entry in entries:
        path, source = prefix + entry.name, folder / entry.name
        if spec.match_file(path):
            continue
        mode = _mode(source, top)
        if stat.S_ISDIR(mode):
            if spec.match_file(path + "/"):
                continue
            _check_name(entry.name, source)
            real = source.resolve()
            if real in above:
                raise PreparationFailed(f"{source} is a link to a folder that it is in itself")
            yield from _walk(source, top, spec, path + "/", (*above, real))
        elif stat.S_ISREG(mode):
            _check_name(entry.name, source)
            sha256, size = _hash(source)
            yield ProjectFile(path, sha256, size, source)
        else:
            raise PreparationFailed(f"{source} is neither a file nor a folder; ignore it or remove it")


def _mode(source: Path, top: Path) -> int:
    try:
        if source.is_symlink() and not source.resolve(strict=True).is_relative_to(top):
            raise PreparationFailed(f"{source} is a link out of the folder; put a copy there or ignore it")
        return source.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        cause = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise PreparationFailed(f"cannot read {source}: {cause}; ignore it or mend it") from None


def _check_name(name: str, source: Path) -> None:
    shown = ascii(str(source))
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise PreparationFailed(f"{shown}: a control character cannot be in a name on a board; rename it")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise PreparationFailed(f"{shown}: the name is not UTF-8; rename it") from None


def _hash(source: Path) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise PreparationFailed(f"cannot read {source}: {error.strerror}") from None
    return digest.digest(), size
