"""File contents by SHA-256, for deployments: stored once, seen only by who brought them.

Who may use a content is who has itself sent its bytes: knowing a hash is no proof
of having the content, and "the daemon has it already" would tell what others
deploy. Bounded in all and per owner; what nobody used for an hour goes.

The index is in memory and names every file, so a file that is being written, or
was left by a daemon that died, is nobody's. A restart forgets all contents: clients
offer them again with each deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from belayd.errors import InternalError, QuotaExceeded, RequestInvalid

log = logging.getLogger(__name__)

_MIB = 1 << 20
_LEAST_COST = 4096  # bytes a file takes on a disk at least; also bounds how many there can be
_FLUSH = _MIB  # bytes gathered before a thread writes them: a small file costs one hop
_MOST_OFFERED = 10_000
_FILE_NAME = re.compile(r"[0-9a-f]{64}\.[0-9]+")


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """Bounds in bytes; `keep` is seconds that an unused content stays."""

    total: int = 1024 * _MIB
    per_owner: int = 256 * _MIB
    per_blob: int = 64 * _MIB
    keep: float = 3600.0


@dataclass(slots=True)
class _Use:
    last: float
    pins: int = 0
    passing: bool = False


@dataclass(slots=True)
class _Content:
    path: Path
    size: int
    uses: dict[str, _Use] = field(default_factory=dict)


class Blobs:
    """Contents in a folder of its own; what an earlier daemon left there is removed.

    Making it blocks for as long as that takes; nothing else here does.
    """

    def __init__(
        self, folder: Path, limits: BlobLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or BlobLimits()
        self._clock = clock
        self._folder = folder
        self._contents: dict[bytes, _Content] = {}
        self._total = 0
        self._used: dict[str, int] = {}
        self._numbers = itertools.count()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for path in folder.iterdir():
            if _FILE_NAME.fullmatch(path.name):
                path.unlink()

    def missing(self, owner: str, offered: Sequence[tuple[bytes, int]]) -> list[bytes]:
        """Return which of (SHA-256, size) `owner` has yet to send, in their order, each once.

        Raises:
            RequestInvalid: A hash or a size cannot be.
            QuotaExceeded: There is no room for them.
        """
        if len(offered) > _MOST_OFFERED:
            raise RequestInvalid(f"at most {_MOST_OFFERED} contents in one offer", field="offer")
        wanted: dict[bytes, int] = {}
        for sha256, size in offered:
            self._refuse_impossible(sha256, size)
            content = self._contents.get(sha256)
            if content is None or owner not in content.uses:
                wanted[sha256] = size
            elif content.size != size:
                raise RequestInvalid(f"content {sha256.hex()} has {content.size} bytes", field="size")
            else:
                content.uses[owner].last = self._clock()
                content.uses[owner].passing = False  # a deployment counts on it now
        self._refuse_if_full(owner, sum(map(_cost, wanted.values())))
        return list(wanted)

    def size(self, owner: str, sha256: bytes) -> int | None:
        """Return the bytes of a content; None if `owner` has not sent it, or too long ago."""
        content = self._contents.get(sha256)
        return None if content is None or owner not in content.uses else content.size

    def path(self, owner: str, sha256: bytes) -> Path | None:
        """Return the file of a content, to be linked and never changed; None as `size`."""
        content = self._contents.get(sha256)
        return None if content is None or owner not in content.uses else content.path

    def writer(self, owner: str, sha256: bytes, size: int, *, passing: bool = False) -> Writer:
        """Return what takes one content; use it as an async context manager, which stores it at its end.

        After an error or a cancellation inside it nothing is kept. Entering raises
        what `missing` raises. What is only `passing` goes when it is pinned no more,
        unless `owner` sent or offered it otherwise too.
        """
        name = f"{sha256.hex()}.{next(self._numbers)}"
        return Writer(self, owner, sha256, size, self._folder / name, passing)

    async def read(self, owner: str, sha256: bytes) -> bytes:
        """Return a content that `owner` has sent.

        Raises:
            RequestInvalid: It has not, or too long ago.
        """
        content = self._contents.get(sha256)
        if content is None or owner not in content.uses:
            raise _unknown(sha256)
        with self.pinned(owner, [sha256]):
            data = await asyncio.to_thread(_read, content.path, sha256)
        if data is None:
            log.warning("content %s is not on disk as it was written", content.path)
            self._forget(sha256, content)
            raise _unknown(sha256)
        return data

    @contextlib.contextmanager
    def pinned(self, owner: str, hashes: Iterable[bytes]) -> Iterator[None]:
        """Keep contents from expiring inside the context; unknown ones are passed over."""
        uses = [
            (sha256, self._contents[sha256].uses[owner])
            for sha256 in hashes
            if sha256 in self._contents and owner in self._contents[sha256].uses
        ]
        for _, use in uses:
            use.pins += 1
        try:
            yield
        finally:
            for sha256, use in uses:
                use.pins -= 1
                use.last = self._clock()
                if use.passing and not use.pins:
                    self._let_go(owner, sha256, use)

    async def expire(self, now: float | None = None) -> int:
        """Remove what was not used for long by `now` (None: the present); returns how many files."""
        paths = self._drop_expired(self._clock() if now is None else now)
        await asyncio.to_thread(_remove, paths)
        return len(paths)

    def reserve(self, owner: str, sha256: bytes, size: int) -> None:
        """Set room aside for a content that is about to come; for Writer."""
        self._refuse_impossible(sha256, size)
        self._refuse_if_full(owner, _cost(size))
        self._charge(owner, _cost(size))
        self._total += _cost(size)

    def release(self, owner: str, size: int) -> None:
        """Give back what `reserve` set aside; for Writer."""
        self._charge(owner, -_cost(size))
        self._total -= _cost(size)

    def take(self, owner: str, sha256: bytes, size: int, path: Path, passing: bool) -> bool:
        """Make a reserved and complete file a content; False if `path` is not needed; for Writer."""
        content = self._contents.get(sha256)
        if content is None:
            self._contents[sha256] = _Content(path, size, {owner: _Use(self._clock(), passing=passing)})
            return True
        self._total -= _cost(size)
        if owner in content.uses:
            self._charge(owner, -_cost(size))
        use = content.uses.setdefault(owner, _Use(0.0, passing=passing))
        use.last = self._clock()
        use.passing = use.passing and passing
        return False

    def _refuse_impossible(self, sha256: bytes, size: int) -> None:
        if len(sha256) != 32:
            raise RequestInvalid("a SHA-256 has 32 bytes", field="sha256")
        if not 0 <= size <= self.limits.per_blob:
            raise RequestInvalid(
                f"a content has at most {self.limits.per_blob} bytes, not {size}", field="size", size=size
            )

    def _refuse_if_full(self, owner: str, cost: int) -> None:
        if self._fits(owner, cost):
            return
        _remove_soon(self._drop_expired(self._clock()))
        if self._fits(owner, cost):
            return
        used, limit = self._used.get(owner, 0), self.limits.per_owner
        if used + cost <= limit:
            used, limit = self._total, self.limits.total
            owner = "the daemon"
        raise QuotaExceeded(
            f"{owner} keeps {used} of {limit} bytes of contents and these need {cost} more; those unused "
            f"for {self.limits.keep / 60:g} min make room by themselves: send less, or try again later",
            used_bytes=used,
            limit_bytes=limit,
            needed_bytes=cost,
        )

    def _fits(self, owner: str, cost: int) -> bool:
        fits_owner = self._used.get(owner, 0) + cost <= self.limits.per_owner
        return not cost or (fits_owner and self._total + cost <= self.limits.total)

    def _charge(self, owner: str, cost: int) -> None:
        self._used[owner] = self._used.get(owner, 0) + cost
        if not self._used[owner]:
            del self._used[owner]

    def _drop_expired(self, now: float) -> list[Path]:
        paths = []
        for sha256, content in list(self._contents.items()):
            for owner, use in list(content.uses.items()):
                if not use.pins and now - use.last >= self.limits.keep:
                    del content.uses[owner]
                    self._charge(owner, -_cost(content.size))
            if not content.uses:
                self._forget(sha256, content)
                paths.append(content.path)
        return paths

    def _let_go(self, owner: str, sha256: bytes, use: _Use) -> None:
        content = self._contents.get(sha256)
        if content is None or content.uses.get(owner) is not use:
            return
        del content.uses[owner]
        self._charge(owner, -_cost(content.size))
        if not content.uses:
            self._forget(sha256, content)
            _remove_soon([content.path])

    def _forget(self, sha256: bytes, content: _Content) -> None:
        if self._contents.get(sha256) is content:
            del self._contents[sha256]
            self._total -= _cost(content.size)
            for owner in content.uses:
                self._charge(owner, -_cost(content.size))


class Writer:
    """Takes one content in chunks; see `Blobs.writer`.

    Attributes:
        missing_bytes: How many are still to come.
    """

    def __init__(
        self, blobs: Blobs, owner: str, sha256: bytes, size: int, path: Path, passing: bool = False
    ) -> None:
        self.missing_bytes = size
        self._passing = passing
        self._blobs = blobs
        self._owner = owner
        self._sha256 = sha256
        self._size = size
        self._path = path
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Writer:
        self._blobs.reserve(self._owner, self._sha256, self._size)
        return self

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            RequestInvalid: They are more than announced.
            InternalError: The disk does not take them.
        """
        if len(chunk) > self.missing_bytes:
            raise RequestInvalid(
                f"content {self._sha256.hex()} is longer than the {self._size} bytes announced", field="chunk"
            )
        self.missing_bytes -= len(chunk)
        self._gathered += chunk
        if len(self._gathered) >= _FLUSH:
            await self._flush()

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
                self._blobs.release(self._owner, self._size)
                self._remove_when_written()

    async def _finish(self) -> None:
        if self.missing_bytes:
            raise RequestInvalid(
                f"content {self._sha256.hex()} lacks {self.missing_bytes} of its {self._size} bytes",
                field="chunk",
            )
        if self._gathered or self._writing is None:  # an empty content is a file too
            await self._flush()
        if self._hash.digest() != self._sha256:
            raise RequestInvalid(
                f"what came as content {self._sha256.hex()} has the SHA-256 {self._hash.hexdigest()}",
                field="sha256",
            )
        if not self._blobs.take(self._owner, self._sha256, self._size, self._path, self._passing):
            _remove_soon([self._path])

    async def _flush(self) -> None:
        data, self._gathered = self._gathered, bytearray()
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._append, data)
        try:
            # Shielded, so that a cancelled upload still knows when its file can be removed.
            await asyncio.shield(self._writing)
        except OSError as error:
            log.error("cannot write %s: %s", self._path, error)
            raise InternalError(f"the daemon cannot store contents: {error.strerror}") from error

    def _append(self, data: bytearray) -> None:
        self._hash.update(data)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:
            file.write(data)

    def _remove_when_written(self) -> None:
        if self._writing is not None:
            self._writing.add_done_callback(lambda writing: _remove_after(writing, self._path))


def _remove_after(writing: asyncio.Future[None], path: Path) -> None:
    if not writing.cancelled():
        writing.exception()  # told already where it was awaited
    _remove_soon([path])


def _remove_soon(paths: list[Path]) -> None:
    if paths:
        with contextlib.suppress(RuntimeError):  # the loop is ending: the next start removes them
            asyncio.get_running_loop().run_in_executor(None, _remove, paths)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error)


def _read(path: Path, sha256: bytes) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).digest() == sha256 else None


def _cost(size: int) -> int:
    return max(size, _LEAST_COST)


def _unknown(sha256: bytes) -> RequestInvalid:
    return RequestInvalid(
        f"content {sha256.hex()} was not sent, or went unused for too long; send it again", field="sha256"
    )
