"""Contents by SHA-256 that outlast the daemon: what boards had, and what rollouts are to bring.

They may be secrets of a board's users, so the folder and its files are this user's
alone. Bounded in bytes: what does not fit is refused, never pushed out, since only
the owner of an archive knows what it still needs. Each owner has an archive, and a
folder, of its own: `retain` forgets whatever it does not name.

The index is in memory, read from the folder's names at the start. A content gets
its name only when it is whole and on disk; each writing has a file of its own, so
that one that is being forgotten can be kept again meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from belayd.errors import InternalError, QuotaExceeded, StoreFailed

log = logging.getLogger(__name__)

LIMIT_BYTES = 256 * 1024 * 1024
DIGEST_BYTES = 16
"""Of a SHA-256, as boards tell it of their files; cannot be equal by accident."""
LEAST_COST = 4096
"""Bytes that a file takes on a disk at least; also bounds how many there can be."""
_FLUSH = 1024 * 1024  # bytes gathered before a thread writes them: a small file costs one hop
_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]+)")
_UNFINISHED = re.compile(r"[0-9]+\.new")


@dataclass(frozen=True, slots=True)
class _Content:
    path: Path
    size: int


class Archive:
    """Contents in a folder of its own.

    Making it blocks for as long as the folder takes to be read; nothing else here does.

    Attributes:
        limit_bytes: A file counts as 4 KiB at least.
    """

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._contents: dict[bytes, _Content] = {}
        self._begins: dict[bytes, bytes] = {}
        self._used = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._numbers = itertools.count(self._find() + 1)

    @property
    def used_bytes(self) -> int:
        """Of `limit_bytes`."""
        return self._used

    def holds(self, sha256: bytes) -> bool:
        """Whether a content is kept."""
        return sha256 in self._contents

    def match(self, digest: bytes, size: int) -> bytes | None:
        """Return the SHA-256 of the content of that size whose hash begins so; None if none is kept.

        `digest` is a whole hash, or its first DIGEST_BYTES.
        """
        sha256 = self._begins.get(digest[:DIGEST_BYTES])
        if sha256 is None or not sha256.startswith(digest) or self._contents[sha256].size != size:
            return None
        return sha256

    def size(self, sha256: bytes) -> int | None:
        """Return the bytes of a content; None if it is not kept."""
        content = self._contents.get(sha256)
        return content.size if content else None

    def path(self, sha256: bytes) -> Path | None:
        """Return the file of a content, to be linked and never changed; None if it is not kept."""
        content = self._contents.get(sha256)
        return content.path if content else None

    async def keep(self, sha256: bytes, data: bytes) -> None:
        """Keep a content; does nothing if it is kept already. Cancelled, it is not kept.

        Raises:
            QuotaExceeded: There is no room (fields used_bytes, limit_bytes, needed_bytes).
            StoreFailed: The disk does not take it.
            InternalError: It has another hash.
        """
        if self.holds(sha256):
            return
        async with self.writer(len(data)) as writer:
            await writer.write(data)
            if writer.sha256 != sha256:
                raise InternalError(f"what came as content {sha256.hex()} has another SHA-256")

    async def adopt(self, files: Iterable[tuple[bytes, int, Path]]) -> None:
        """Keep contents that are files of this daemon's already, given as (SHA-256, size, path).

        For what is useful but not needed: what does not fit, or is gone, is passed over.
        Costs no room on the disk while both are there.
        """
        taken: list[tuple[bytes, int, Path, Path]] = []
        for sha256, size, source in files:
            if not self.holds(sha256) and self._used + _cost(size) <= self.limit_bytes:
                self.reserve(size)
                place = self.place(sha256, Path(self._folder, f"{next(self._numbers)}.new"))
                taken.append((sha256, size, source, place))
        if not taken:
            return
        pairs = [(source, place) for _, _, source, place in taken]
        linking = asyncio.get_running_loop().run_in_executor(None, _link, pairs)
        try:
            linked = await asyncio.shield(linking)
        except asyncio.CancelledError:
            linking.add_done_callback(lambda _: self._give_up(taken))
            raise
        for (sha256, size, _, place), there in zip(taken, linked, strict=True):
            if not there:
                self.release(size)
            elif not self.take(sha256, size, size, place):
                _remove_soon([place])

    async def read(self, sha256: bytes) -> bytes:
        """Return a content.

        Raises:
            StoreFailed: It is not kept, or is on disk no more as it was written.
        """
        content = self._contents.get(sha256)
        if content is None:
            raise _lost(sha256, "it is not kept")
        data = await asyncio.to_thread(_read, content.path, sha256)
        if data is None:
            log.error("content %s is not on disk as it was written", content.path)
            self._forget(sha256, content)
            raise _lost(sha256, "it is not on disk as it was written")
        return data

    async def retain(self, wanted: Collection[bytes]) -> int:
        """Forget every content that is not among `wanted`; returns how many those were."""
        wanted = frozenset(wanted)
        doomed = [(sha256, content) for sha256, content in self._contents.items() if sha256 not in wanted]
        for sha256, content in doomed:
            self._forget(sha256, content)
        if doomed:
            await asyncio.to_thread(_remove, [content.path for _, content in doomed])
        return len(doomed)

    def writer(self, size: int) -> Writer:
        """Return what takes one content of at most `size` bytes, whose hash need not be known before.

        Use it as an async context manager, which keeps it at its end; after an error
        or a cancellation inside it nothing is kept. Entering raises QuotaExceeded.
        """
        return Writer(self, size, self._folder / f"{next(self._numbers)}.new")

    def reserve(self, size: int) -> None:
        """Set room aside for a content that is about to come; for Writer."""
        cost = _cost(size)
        if self._used + cost > self.limit_bytes:
            raise QuotaExceeded(
                f"the daemon keeps {self._used} of {self.limit_bytes} bytes of {self._folder.name} and these "
                f"need {cost} more; what is older makes room by itself, or an operator makes some",
                used_bytes=self._used,
                limit_bytes=self.limit_bytes,
                needed_bytes=cost,
            )
        self._used += cost

    def release(self, size: int) -> None:
        """Give back what `reserve` set aside; for Writer."""
        self._used -= _cost(size)

    def place(self, sha256: bytes, path: Path) -> Path:
        """Return the name that a complete file is to get; for Writer."""
        return path.with_name(f"{sha256.hex()}.{path.stem}")

    def take(self, sha256: bytes, reserved: int, size: int, path: Path) -> bool:
        """Make a reserved and complete file a content; False if `path` is not needed; for Writer."""
        self.release(reserved)
        if sha256 in self._contents:
            return False
        self._add(sha256, _Content(path, size))
        return True

    def _add(self, sha256: bytes, content: _Content) -> None:
        self._contents[sha256] = content
        self._begins[sha256[:DIGEST_BYTES]] = sha256
        self._used += _cost(content.size)

    def _give_up(self, taken: list[tuple[bytes, int, Path, Path]]) -> None:
        for _, size, _, _ in taken:
            self.release(size)
        _remove_soon([place for *_, place in taken])

    def _forget(self, sha256: bytes, content: _Content) -> None:
        if self._contents.get(sha256) is content:
            del self._contents[sha256]
            self._begins.pop(sha256[:DIGEST_BYTES], None)
            self._used -= _cost(content.size)

    def _find(self) -> int:
        """Read the folder and remove what is unfinished; return the largest number in use."""
        largest = 0
        for path in sorted(self._folder.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name is None:
                if _UNFINISHED.fullmatch(path.name):
                    path.unlink()
                continue
            sha256, largest = bytes.fromhex(name[1]), max(largest, int(name[2]))
            if sha256 in self._contents:  # kept anew while it was being forgotten
                path.unlink()
                continue
            path.chmod(0o600)
            size = path.stat().st_size
            self._add(sha256, _Content(path, size))
        return largest


class Writer:
    """Takes one content in chunks; see `Archive.writer`."""

    def __init__(self, archive: Archive, size: int, path: Path) -> None:
        self._archive = archive
        self._reserved = size
        self._size = 0
        self._path = path
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._writing: asyncio.Future[None] | None = None

    @property
    def sha256(self) -> bytes:
        """Of what came so far."""
        return self._hash.digest()

    async def __aenter__(self) -> Writer:
        self._archive.reserve(self._reserved)
        return self

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            InternalError: They are more than announced.
            StoreFailed: The disk does not take them.
        """
        self._size += len(chunk)
        if self._size > self._reserved:
            raise InternalError(f"a content is longer than the {self._reserved} bytes announced")
        self._hash.update(chunk)
        self._gathered += chunk
        if len(self._gathered) >= _FLUSH:
            await self._in_thread(partial(self._append, self._take()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = False
        try:
            if error is None:
                await self._finish()
                kept = True
        finally:
            if not kept:  # never waits: whoever left may not let it
                self._archive.release(self._reserved)
                self._remove_when_written()

    async def _finish(self) -> None:
        place = self._archive.place(self.sha256, self._path)
        await self._in_thread(partial(self._complete, self._take(), place))
        self._path = place
        if not self._archive.take(self.sha256, self._reserved, self._size, place):
            _remove_soon([place])

    def _take(self) -> bytes:
        data = bytes(self._gathered)
        self._gathered.clear()
        return data

    async def _in_thread(self, work: Callable[[], None]) -> None:
        self._writing = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            # Shielded, so that a cancelled writing still knows when its file can be removed.
            await asyncio.shield(self._writing)
        except OSError as error:
            log.error("cannot write %s: %s", self._path, error)
            raise StoreFailed(
                f"the daemon cannot keep contents: {error.strerror}; an operator has to make room or mend "
                "the disk, then try again",
                cause=error.strerror or str(error),
            ) from error

    def _append(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:
            file.write(data)

    def _complete(self, data: bytes, place: Path) -> None:
        self._append(data)
        with self._path.open("rb") as file:  # under its name only what outlasts a loss of power
            os.fsync(file.fileno())
        self._path.rename(place)

    def _remove_when_written(self) -> None:
        place = self._archive.place(self.sha256, self._path)
        if self._writing is not None:
            self._writing.add_done_callback(lambda writing: _remove_after(writing, [self._path, place]))


def _remove_after(writing: asyncio.Future[None], paths: list[Path]) -> None:
    if not writing.cancelled():
        writing.exception()  # told already where it was awaited
    _remove_soon(paths)


def _remove_soon(paths: list[Path]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is ending: the next start removes them
        asyncio.get_running_loop().run_in_executor(None, _remove, paths)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error)


def _link(files: list[tuple[Path, Path]]) -> list[bool]:
    linked = []
    for source, place in files:
        try:
            os.link(source, place)
        except OSError as error:
            log.debug("cannot keep %s: %s", source, error)
            linked.append(False)
        else:
            linked.append(True)
    return linked


def _read(path: Path, sha256: bytes) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).digest() == sha256 else None


def _cost(size: int) -> int:
    return max(size, LEAST_COST)


def _lost(sha256: bytes, why: str) -> StoreFailed:
    return StoreFailed(f"content {sha256.hex()}: {why}; deploy it again from its source", cause=why)
