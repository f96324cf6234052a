"""Contents of what a deployment replaces and deletes: found where they are kept, else read from the board.

What an earlier deployment wrote is kept already; only what somebody else put on the
board has to be read. That something cannot be kept does not stop a deployment: its
record says why it cannot be rolled back. When there is no room, what is only useful
goes first, then what the oldest deployments replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from belayd.archive import LEAST_COST, Archive
from belayd.deployment.paths import check_path
from belayd.errors import (
    Exhausted,
    InternalError,
    NotFound,
    ReadOnly,
    RequestInvalid,
    StoreFailed,
    Unsupported,
)
from belayd.records.changes import UNKNOWN
from belayd.records.proving import proven
from belayd.session import Session
from belayd.store import Change, Deployments, Entry

ReadFile = Callable[[Session, str, Callable[[bytes], Awaitable[None]]], Awaitable[bytes]]
"""Passes on a board's file, by its absolute path, and returns its SHA-256; as `files.read_file`."""

_EMPTY = hashlib.sha256(b"").digest()
# Of one file; whatever else goes wrong (the link, the lease) ends the deployment.
_PASSED_OVER = (Exhausted, InternalError, NotFound, ReadOnly, RequestInvalid, StoreFailed, Unsupported)


class Keeping:
    """Keeps what boards have in an archive, for as long as `stored` names it."""

    def __init__(self, archive: Archive, stored: Deployments, read_file: ReadFile) -> None:
        self._archive = archive
        self._stored = stored
        self._read_file = read_file
        self._fresh: dict[str, set[bytes]] = {}  # by deployment: hashes that no record names yet
        self._recorded: set[str] = set()

    def begin(self, deployment: str) -> set[bytes]:
        """Return where the hashes go that a deployment needs until it is on record."""
        return self._fresh.setdefault(deployment, set())

    def end(self, deployment: str) -> None:
        """Say that a deployment is on record, or will never be."""
        self._recorded.add(deployment)

    async def sweep(self) -> None:
        """Forget contents that nothing names any more.

        Raises:
            StoreFailed: What is named cannot be read.
        """
        self._drop_recorded()
        needed, useful = await self._stored.contents()
        await self._archive.retain(needed | useful | self._unrecorded())

    async def keep(
        self, session: Session, changes: Sequence[Change], kept: set[bytes], own: Collection[bytes]
    ) -> tuple[list[Change], str]:
        """Keep every file that `changes` replace or delete.

        Returns the changes, each side by its whole hash then, and "", or why they
        cannot be undone. `kept` gets each hash as soon as it is needed. Of contents
        that are not among `own`, which the caller had already, the board must prove
        that it has them.

        Raises:
            TransportLost, BoardUnresponsive, ...: The board went away meanwhile.
        """
        known, missing = self._look_up(changes, kept)
        refusal = _refusal(changes, missing)
        claimed = {path: entry.digest for path, entry in known.items() if entry.digest not in own}
        if claimed and not refusal:
            try:
                unproven = set(claimed) - await proven(session, self._archive, claimed)
            except _PASSED_OVER as error:
                refusal = f"what it replaced could not be told apart: {error.message}"
                unproven = set(claimed)
            missing |= {path: known.pop(path) for path in unproven}
        if not refusal and missing:
            need = sum(max(entry.size, LEAST_COST) for entry in missing.values())
            if not await self._make_room(need):
                limit = self._archive.limit_bytes
                refusal = f"what it replaced takes {need} bytes, and {limit} are kept of all boards"
        for path, entry in () if refusal else sorted(missing.items()):
            try:
                known[path] = await self._read(session, path, entry, kept)
            except _PASSED_OVER as error:
                refusal = f"{path!r}, which it replaced, could not be kept: {error.message}"
                break
        return [replace(change, before=known.get(change.path, change.before)) for change in changes], refusal

    async def _make_room(self, need: int) -> bool:
        limit = self._archive.limit_bytes
        if need > limit:
            return False
        if self._archive.used_bytes + need > limit:
            await self._retain_needed()
        while self._archive.used_bytes + need > limit:
            oldest = await self._stored.oldest_reversible()
            if oldest is None:
                return False
            self._stored.refuse(oldest.name, "what it replaced made room for that of later deployments")
            await self._retain_needed()
        return True

    async def _retain_needed(self) -> None:
        self._drop_recorded()
        needed, _ = await self._stored.contents()
        await self._archive.retain(needed | self._unrecorded())

    def _drop_recorded(self) -> None:
        # Before the records are read: what they name is known from then on.
        for deployment in self._recorded:
            self._fresh.pop(deployment, None)
        self._recorded.clear()

    def _unrecorded(self) -> set[bytes]:
        return {sha256 for hashes in self._fresh.values() for sha256 in hashes}

    def _look_up(
        self, changes: Sequence[Change], kept: set[bytes]
    ) -> tuple[dict[str, Entry], dict[str, Entry]]:
        known: dict[str, Entry] = {}
        missing: dict[str, Entry] = {}
        for change in changes:
            before = change.before
            if before is None or before.folder or before == change.after:
                continue
            sha256 = None if before.digest == UNKNOWN else self._archive.match(before.digest, before.size)
            if sha256 is None:
                missing[change.path] = before
            else:
                kept.add(sha256)
                known[change.path] = Entry(sha256, before.size)
        return known, missing

    async def _read(self, session: Session, path: str, entry: Entry, kept: set[bytes]) -> Entry:
        if not entry.size:
            kept.add(_EMPTY)
            await self._archive.keep(_EMPTY, b"")
            return Entry(_EMPTY, 0)
        async with self._archive.writer(entry.size) as writer:
            told = await self._read_file(session, path, writer.write)
            if told != writer.sha256:
                raise InternalError(f"the board cannot vouch for what came of {path!r}", path=path)
            kept.add(told)
        return Entry(told, self._archive.size(told) or 0)


def _refusal(changes: Sequence[Change], missing: dict[str, Entry]) -> str:
    for change in changes:
        if change.before is None or change.before == change.after:
            continue
        try:
            check_path(change.path[1:])
        except RequestInvalid:
            return f"{change.path!r}, which it replaced, has a name that no deployment can give"
    for path, entry in missing.items():
        if entry.digest == UNKNOWN and not entry.size:
            return f"{path!r}, which it replaced, cannot be read by the board"
    return ""
