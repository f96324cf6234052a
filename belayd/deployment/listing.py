"""What a board has below a folder: the text that asks, and the answer as a value.

The answer comes from a board, so it is data: names that could lead out of the
folder are refused, and nothing is evaluated but literals. Only the first 16 bytes
of each SHA-256 travel: 128 bits cannot be equal by accident, and at 115,200 baud
the other half would cost 2 ms a file. What was written is verified by the whole.
"""

from __future__ import annotations

import ast
import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from belayd import onboard
from belayd.deployment.encoding import shorten, text_literal
from belayd.deployment.paths import is_temporary
from belayd.errors import InternalError, Unsupported
from belayd.snapshot import Facts

DIGEST_BYTES = 16
LONGEST_RECORD_BYTES = 64 * 1024
"""A path of 200 folders with long names, escaped, is shorter."""


@dataclass(frozen=True, slots=True)
class BoardFile:
    """A file on the board.

    Attributes:
        digest: The first DIGEST_BYTES of its SHA-256; None where that was not asked or not readable.
        errno: Why it cannot be read; 22 for what is neither file nor folder; None if it can.
    """

    size: int
    digest: bytes | None
    errno: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Room on a filesystem; `longest_name_bytes` is None where the board cannot tell."""

    block_bytes: int
    total_bytes: int
    free_bytes: int
    longest_name_bytes: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """All that lies below a folder; every path is relative to it.

    Attributes:
        exists: Whether the folder does; if not, the rest is empty.
        is_file: There is a file where the folder should be.
        leftovers: Temporary files of deployments that broke off; not in `files`.
        unreadable_folders: With the errno of each; their contents are unknown.
        mounts: Folders where other filesystems are mounted; their contents were not asked for.
        filesystems: Absolute paths of all mounted filesystems, empty where the board cannot tell.
        usage: Of the filesystem that holds the folder; None where there is none.
        read_only: Whether the board's own code cannot write there, where it can tell.
        unsettled: Whether a deployment there broke off: `journal.settle`, and list again.
    """

    exists: bool
    is_file: bool
    files: Mapping[str, BoardFile]
    folders: frozenset[str]
    leftovers: Mapping[str, int]
    unreadable_folders: Mapping[str, int]
    mounts: frozenset[str]
    filesystems: tuple[str, ...]
    usage: Usage | None
    read_only: bool = False
    unsettled: bool = False


def sources(destination: str, largest: int, facts: Facts) -> tuple[str, str]:
    """Return two texts that list `destination`: a short one, and one that takes less memory.

    Files of more than `largest` bytes are not hashed.
    """
    text = onboard.load("listing")
    call = f"_BL({text_literal(destination)},{largest})\ndel _BL\n"
    return shorten(text, facts) + call, text + call


def parse(output: bytes) -> Listing:
    """Read what a text of `sources` printed.

    Raises:
        Unsupported: The board cannot make SHA-256.
        InternalError: It is cut short, makes no sense, or names what no folder can hold.
    """
    try:
        return _Reader(output).listing()
    except (ValueError, SyntaxError, TypeError, IndexError, RecursionError, MemoryError) as error:
        raise InternalError(
            f"the board's list of files cannot be read ({error}); does code of its own print meanwhile? "
            "Reset the board and try again"
        ) from error


class _Reader:
    def __init__(self, output: bytes) -> None:
        self._output = output
        self._files: dict[str, BoardFile] = {}
        self._folders: set[str] = set()
        self._leftovers: dict[str, int] = {}
        self._unreadable: dict[str, int] = {}
        self._mounts: set[str] = set()
        self._filesystems: tuple[str, ...] = ()
        self._usage: Usage | None = None
        self._read_only = False
        self._unsettled = False
        self._kind = 0
        self._folder = ""
        self._complete = False

    def listing(self) -> Listing:
        for count, (letter, fields) in enumerate(self._records()):
            if self._complete:
                raise ValueError("it goes on after its end")
            self._take(letter, fields, count)
        if not self._complete:
            raise ValueError("its end is missing")
        return Listing(
            exists=self._kind == 0x4000,
            is_file=self._kind not in (0, 0x4000),
            files=self._files,
            folders=frozenset(self._folders),
            leftovers=self._leftovers,
            unreadable_folders=self._unreadable,
            mounts=frozenset(self._mounts),
            filesystems=self._filesystems,
            usage=self._usage,
            read_only=self._read_only,
            unsettled=self._unsettled,
        )

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
            case "U", (int(), int(fragment), int(blocks), int(), int(available), *rest):
                longest = rest[4] if len(rest) > 4 else None
                self._usage = Usage(
                    block_bytes=fragment,
                    total_bytes=fragment * blocks,
                    free_bytes=fragment * available,
                    longest_name_bytes=longest if isinstance(longest, int) and longest > 0 else None,
                )
            case "N", ():
                raise Unsupported(
                    "this board's firmware has hashlib without SHA-256, so what it holds cannot be compared; "
                    "install a firmware that has it"
                )
            case "R", ():
                self._read_only = True
            case "S", ():
                self._unsettled = True
            case "W", paths:
                self._filesystems = tuple(str(path) for path in paths)
            case "T", (int(kind),):
                self._kind = kind
            case "D", (str(folder),):
                self._enter(folder)
            case "F", (str(name), int(size), (str() | bytes() | None) as digest):
                self._add_file(self._path(name), BoardFile(size, _digest(digest)))
            case "M", (str(name),):
                self._mounts.add(self._path(name))
            case "E", ("", int(errno)):
                self._unreadable[self._folder] = errno
            case "E", (str(name), int(errno)):
                self._add_file(self._path(name), BoardFile(0, None, errno))
            case "Z", (int(expected),):
                if expected != count:
                    raise ValueError(f"it has {count} records, not {expected}")
                self._complete = True
            case _:
                raise ValueError(f"a record {letter!r} makes no sense")

    def _enter(self, folder: str) -> None:
        if folder:
            parent, _, name = folder[1:].rpartition("/")
            if not folder.startswith("/") or (parent and parent not in self._folders):
                raise ValueError(f"a folder {folder!r} comes from nowhere")
            self._folder = parent
            self._folders.add(self._path(name))
        self._folder = folder[1:]

    def _path(self, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"a name {name!r} leads elsewhere")
        return f"{self._folder}/{name}" if self._folder else name

    def _add_file(self, path: str, file: BoardFile) -> None:
        if is_temporary(path.rpartition("/")[2]):
            self._leftovers[path] = file.size
        else:
            self._files[path] = file


def _digest(value: str | bytes | None) -> bytes | None:
    if value is None:
        return None
    try:
        digest = base64.b64decode(f"{value}==", validate=True) if isinstance(value, str) else value
    except binascii.Error as error:
        raise ValueError("a digest is not base64") from error
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a digest has another length")
    return digest
