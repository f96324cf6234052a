"""What writing to a board takes and tells: the board's conversation, the changes, progress, failures.

Two ways carry changes out, `stream` and `steps`; `sender` chooses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from belayd.deployment.plan import Deletion, Plan
from belayd.dialogue import Partner, T
from belayd.errors import BelaydError, BoardFull, InternalError, OutOfMemory, ReadOnly, RequestInvalid
from belayd.snapshot import Facts

Contents = Callable[[bytes], Awaitable[bytes]]
"""Gives the content with a SHA-256."""

NO_MEMORY = 12
NO_SPACE = 28
NOT_WRITABLE = (1, 13, 30)
"""EPERM, EACCES, EROFS."""
NOT_FOUND = 2
NAME_REFUSED = (22, 36)
"""EINVAL and ENAMETOOLONG: FAT refuses such as ':' and '?'."""


class Link(Protocol):
    """Bytes that went through a board's link, and how it carries input; as `transport.contract.Traffic`."""

    received_bytes: int
    sent_bytes: int
    round_trips: int
    steady: bool
    bulky: bool


class Step(Protocol):
    """A step of recovery."""

    @property
    def action(self) -> Callable[[], Awaitable[None]]:
        """Takes it."""


class Conversation(Protocol):
    """What a deployment needs of a session; each as `Session` has it."""

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at its prompt."""

    @property
    def facts(self) -> Facts:
        """What the board said of itself."""

    @property
    def traffic(self) -> Link:
        """What went through its link, and how that carries input."""

    async def command(self, source: str) -> bytes:
        """Run belayd's own text and return what it printed."""

    async def dialogue(self, call: str, partner: Partner[T], more: bytes = b"") -> T:
        """Start belayd's own text and let `partner` speak with it."""

    def recovery(self, emit: Callable[[bytes], Awaitable[None]]) -> Sequence[Step]:
        """Return the steps that win back a board that does not answer, gentlest first."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the writing is.

    Attributes:
        path: The file being written, absolute on the board.
        written_bytes: Of all files, acknowledged by the board; falls when a file is written again.
    """

    path: str
    written_bytes: int
    total_bytes: int


Report = Callable[[Plan | Progress], Awaitable[None]]
"""Hears of the plan and of progress; the board waits for it."""


@dataclass(frozen=True, slots=True)
class Put:
    """A file to write.

    Attributes:
        path: Its name when it is in use, absolute on the board; for messages where it is not renamed.
        place: Where it is written.
        moves: Whether it is renamed to `path` when it is verified.
        content: Of a file that is belayd's own and counts as no payload; None where it is asked for.
    """

    path: str
    place: str
    sha256: bytes
    size: int
    moves: bool = False
    content: bytes | None = None

    @property
    def payload_bytes(self) -> int:
        """What of it counts as payload."""
        return self.size if self.content is None else 0


@dataclass(frozen=True, slots=True)
class Ask:
    """Whether the filesystem takes a name as that of `place`, before `path` depends on it."""

    path: str
    place: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of belayd's own to make at `place`, for the sake of `path`."""

    path: str
    place: str


Change = Deletion | str | Put | Ask | Folder
"""What to delete, a folder to make, a file to write, a name to try; one after the other."""


def own_file(place: str, content: bytes) -> Put:
    """Return the change that writes a file of belayd's own."""
    return Put(place, place, hashlib.sha256(content).digest(), len(content), content=content)


def payload_of(changes: Sequence[Change]) -> int:
    """Return the bytes of callers' files in `changes`."""
    return sum(change.payload_bytes for change in changes if isinstance(change, Put))


def path_of(change: Change) -> str:
    """Return what a change is about, for people."""
    return change if isinstance(change, str) else change.path


async def content_of(put: Put, contents: Contents) -> bytes:
    """Return what `put` writes.

    Raises:
        InternalError: What is kept under its hash is something else.
        RequestInvalid: The manifest has its size wrong.
    """
    if put.content is not None:
        return put.content
    data = await contents(put.sha256)
    if hashlib.sha256(data).digest() != put.sha256:
        raise InternalError(f"the content kept for {put.path!r} has another hash", path=put.path)
    if len(data) != put.size:
        raise RequestInvalid(
            f"the manifest says {put.size} bytes for {put.path!r}, but its content has {len(data)}",
            field="files",
            path=put.path,
        )
    return data


def out_of_memory(path: str, size: int) -> OutOfMemory:
    """Return the error for a board that cannot take even the smallest pieces."""
    return OutOfMemory(
        f"the board's memory does not hold {size} bytes to write {path!r}; reset it and try again", path=path
    )


def wrong_twice(put: Put, found: bytes) -> InternalError:
    """Return the error for a file that cannot be verified."""
    return InternalError(
        f"{put.path!r} was written twice and came out with SHA-256 {found.hex()} instead of "
        f"{put.sha256.hex()}; the old file is kept: is the board's flash worn out?",
        path=put.path,
        expected=put.sha256.hex(),
        found=found.hex(),
    )


def failure(path: str, problem: int | bytes) -> BelaydError:
    """Return the error for what the board said of `path`, mostly an errno."""
    if problem == NO_SPACE:
        return BoardFull(
            f"the board's filesystem was full while {path!r} was written; what stood there before is intact: "
            "delete something, or deploy with prune",
            path=path,
        )
    if problem in NOT_WRITABLE:
        return ReadOnly(
            f"{path!r} cannot be written by the board itself; if it shows its files as a USB drive, "
            "eject that or remount it writable in boot.py",
            path=path,
        )
    if problem in NAME_REFUSED or (problem == NOT_FOUND and "\\" in path):  # to FAT it separates folders
        return RequestInvalid(
            f"the board's filesystem refuses the name {path!r}; choose another", field="files", path=path
        )
    return InternalError(
        f"{path!r} failed on the board with errno {problem!r}", path=path, errno=str(problem)
    )
