"""What lies in a folder of a board, and how full its filesystems are.

The answer comes from a board, so it is data: names that could lead out of the
folder are refused, and nothing is evaluated but literals. What deployments keep for
themselves is left out.
Leaves to others: what the board does (`onboard/files.py`).
"""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from belayd.deployment.encoding import text_literal
from belayd.errors import Unsupported
from belayd.files.asking import Conversation, ask, unclear
from belayd.files.failing import failure
from belayd.files.names import is_count, is_name, is_own
from belayd.files.small import flat_name, is_small

LONGEST_RECORD_BYTES = 64 * 1024
FOLDER = 0x4000
ERRNOS = range(-(1 << 31), 1 << 31)


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder on a board.

    Attributes:
        path: Absolute.
        sha256: Of a file where it was asked for and the board can make it.
        errno: Why it cannot be read; 22 for what is neither file nor folder; None if it can.
        mount: Another filesystem is mounted there.
    """

    path: str
    folder: bool = False
    size: int = 0
    sha256: bytes | None = None
    errno: int | None = None
    mount: bool = False


@dataclass(frozen=True, slots=True)
class Filesystem:
    """How full a filesystem is, mounted at `path`; `read_only` for the board's own code."""

    path: str
    total_bytes: int
    free_bytes: int
    block_bytes: int
    read_only: bool


async def list_files(
    session: Conversation, path: str, recursive: bool = False, hashed: bool = False
) -> list[Found]:
    """Return what lies in a folder, each folder before what it holds, by name; or the one file.

    `path` is as `names.check_path` returns it.

    Raises:
        FileNotFound: There is nothing.
        InternalError: What the board says makes no sense, or a name leads elsewhere.
    """
    if is_small(session.facts):
        return await _list_small(session, path)
    call = f"_BF({text_literal(path)},{recursive},{hashed})\ndel _BF,_BU\n"
    return parse(path, await ask(session, path, call, "files"))


def parse(top: str, output: bytes) -> list[Found]:
    """Read what onboard/files.py printed of `top`.

    Raises:
        FileNotFound: There is nothing.
        InternalError: It is cut short, makes no sense, or names what no folder can hold.
    """
    try:
        found = _Reader(top, output).read()
    except (ValueError, SyntaxError, TypeError, IndexError, RecursionError, MemoryError) as error:
        raise unclear(top, str(error)) from error
    return sorted(found, key=lambda file: file.path.split("/"))


async def usage(session: Conversation) -> list[Filesystem]:
    """Return the board's filesystems, by where they are mounted.

    Raises:
        Unsupported: This board cannot tell.
    """
    if is_small(session.facts):
        raise Unsupported("this board cannot tell how full its filesystem is; fs ls shows the files' sizes")
    output = await ask(session, "/", "_BU()\ndel _BF,_BU\n", "files")
    try:
        told = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
        found = [_filesystem(entry) for entry in told]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise unclear("/", str(error)) from error
    return sorted(found, key=lambda filesystem: filesystem.path)


class _Reader:
    def __init__(self, top: str, output: bytes) -> None:
        self._top = top
        self._base = "" if top == "/" else top
        self._output = output
        self._found: list[Found] = []
        self._folders = {""}  # those that may come, relative to top with a '/' before each
        self._folder = ""
        self._mounts: set[str] = set()
        self._kind = 0
        self._complete = False

    def read(self) -> list[Found]:
        for count, (letter, fields) in enumerate(self._records()):
            if self._complete:
                raise ValueError("it goes on after its end")
            self._take(letter, fields, count)
        if not self._complete:
            raise ValueError("its end is missing")
        return [file for file in self._found if not is_own(file.path[len(self._base) :])]

    def _records(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        # What stands between a line's end and the next mark was printed by others.
        for part in self._output.split(b"\x1e")[1:]:
            line = part.partition(b"\n")[0]
            if len(line) > LONGEST_RECORD_BYTES:
                raise ValueError("a record is too long")
            fields = ast.literal_eval(line[1:].decode())
            if not isinstance(fields, tuple):
                raise TypeError("a record is not a tuple")
            yield chr(line[0]), fields

    def _take(self, letter: str, fields: tuple[object, ...], count: int) -> None:
        match letter, fields:
            case "T", (int(errno), int(), bool()):
                raise failure(self._top, errno, "be listed")
            case "T", (None, int(kind), bool()) if not count:
                self._kind = kind
            case "D", (str(folder),) if folder in self._folders and self._kind == FOLDER:
                self._folders.remove(folder)
                self._folder = folder
            case "F", (str(name), int(size), (str() | bytes() | None) as digest) if is_count(size):
                self._found.append(Found(self._path(name), size=size, sha256=_digest(digest)))
            case "S", (str(name),):
                self._found.append(Found(self._path(name), folder=True))
                self._folders.add(f"{self._folder}/{name}")
            case "M", (str(name),):
                mount = self._path(name)
                if mount not in self._mounts:  # "/" tells each twice if it has a folder of that name
                    self._mounts.add(mount)
                    self._found.append(Found(mount, folder=True, mount=True))
            case "E", ("", int(errno)) if errno in ERRNOS:
                self._fail(errno)
            case "E", (str(name), int(errno)) if errno in ERRNOS:
                self._found.append(Found(self._path(name), errno=errno))
            case "Z", (int(expected),):
                if expected != count:
                    raise ValueError(f"it has {count} records, not {expected}")
                self._complete = True
            case _:
                raise ValueError(f"a record {letter!r} makes no sense")

    def _path(self, name: str) -> str:
        if name == "" and self._kind != FOLDER:
            return self._top
        if not is_name(name):
            raise ValueError(f"a name {name!r} leads elsewhere")
        return f"{self._base}{self._folder}/{name}"

    def _fail(self, errno: int) -> None:
        """Note that the folder that is read, or the one file, cannot be."""
        if not self._folder:
            raise failure(self._top, errno, "be read")
        path = f"{self._base}{self._folder}"
        self._found = [
            Found(path, folder=True, errno=errno) if file.path == path else file for file in self._found
        ]


async def _list_small(session: Conversation, path: str) -> list[Found]:
    output = await ask(session, path, "import os\nprint([(n,os.size(n))for n in os.listdir()])\ndel os")
    try:
        told = ast.literal_eval(output.decode().strip())
        found = [Found(f"/{_small_name(name)}", size=_size(size)) for name, size in told]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise unclear(path, str(error)) from error
    if path != "/":
        flat_name(path)
        found = [file for file in found if file.path == path]
        if not found:
            raise failure(path, 2, "be listed")
    return sorted(found, key=lambda file: file.path)


def _small_name(name: object) -> str:
    if not (isinstance(name, str) and is_name(name)):
        raise ValueError(f"a name {name!r} leads elsewhere")
    return name


def _size(size: object) -> int:
    if not isinstance(size, int) or not is_count(size):
        raise ValueError(f"a size {size!r} cannot be")
    return size


def _filesystem(entry: object) -> Filesystem:
    match entry:
        case (str(path), int(block), int(blocks), int(free), bool(read_only)) if (
            min(block, blocks, free) >= 0 and is_count(block * blocks) and is_count(block * free)
        ):
            return Filesystem(path, block * blocks, block * free, block, read_only)
    raise ValueError("a filesystem makes no sense")


def _digest(value: str | bytes | None) -> bytes | None:
    if value is None:
        return None
    try:
        digest = base64.b64decode(f"{value}=", validate=True) if isinstance(value, str) else value
    except binascii.Error as error:
        raise ValueError("a digest is not base64") from error
    if len(digest) != 32:
        raise ValueError("a digest has another length")
    return digest
