"""Deployments: what each board had before, what it has since, and what became of it.

Of each board the latest that changed something are kept, none for longer than a
certain age; its very latest stays, since what the board has now is compared with
it. Contents are named here by hash and kept elsewhere.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from belayd.store.reader import Reader
from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Writer

MOST_PER_PAGE = 100
_ROW_BYTES = 200  # of memory that a change takes beside its path while it waits to be written
_NEWEST = (1 << 63) - 1  # SQLite counts in 64 bits, signed
_FIELDS = (
    "name, board, principal, created, destination, outcome, in_place, files_written, files_deleted, "
    "payload_bytes, changed, refusal, rolls_back"
)


class DeploymentOutcome(enum.Enum):
    """What became of a deployment; the values are stored."""

    OPEN = "open"
    DONE = "done"
    UNDONE = "undone"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is, or was, at a path.

    Attributes:
        digest: A file's whole SHA-256, or its first 16 bytes, or b"?" where nothing is known;
            b"" of a folder.
        size: A file's; 0 of a folder.
    """

    digest: bytes
    size: int

    @property
    def folder(self) -> bool:
        """Whether it is no file."""
        return not self.digest

    @property
    def whole(self) -> bool:
        """Whether its content is known by its whole hash."""
        return len(self.digest) == 32


FOLDER = Entry(b"", 0)


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment did to one path, absolute on the board; nothing, if both are equal."""

    path: str
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment.

    Attributes:
        name: Without "deployments/".
        changed: Whether it had anything to do.
        refusal: Why it cannot be rolled back; "" if it can, or changed nothing.
        rolls_back: The name of the deployment that it rolled back; "" if it is no rollback.
    """

    name: str
    board: str
    principal: str
    created: datetime
    destination: str
    outcome: DeploymentOutcome = DeploymentOutcome.OPEN
    in_place: bool = False
    files_written: int = 0
    files_deleted: int = 0
    payload_bytes: int = 0
    changed: bool = True
    refusal: str = ""
    rolls_back: str = ""

    @property
    def reversible(self) -> bool:
        """Whether it can be rolled back."""
        return self.changed and not self.refusal and self.outcome is not DeploymentOutcome.UNDONE


class Deployments:
    """The deployments on record; what writes is called on the loop and does not block."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    def add(self, record: DeploymentRecord, changes: Sequence[Change]) -> None:
        """Put a deployment on record; begin with it only after `settled`.

        Raises:
            StoreFailed: Too much waits to be written already.
        """
        row = (
            record.name,
            record.board,
            record.principal,
            to_micros(record.created),
            record.destination,
            record.outcome.value,
            record.in_place,
            record.files_written,
            record.files_deleted,
            record.payload_bytes,
            record.changed,
            record.refusal,
            record.rolls_back,
        )
        rows = [
            (_spell(change.path), *_columns(change.before), *_columns(change.after)) for change in changes
        ]

        def work(connection: sqlite3.Connection) -> None:
            marks = ", ".join("?" * len(row))
            added = connection.execute(f"INSERT INTO deployments ({_FIELDS}) VALUES ({marks})", row)
            seq = added.lastrowid
            connection.executemany(f"INSERT INTO deployment_files VALUES ({seq}, ?, ?, ?, ?, ?)", rows)

        cost = sum(_ROW_BYTES + len(path) for path, *_ in rows)
        self._writer.put(work, urgent=True, cost=cost)

    def end(self, name: str, outcome: DeploymentOutcome, *, urgent: bool = False) -> None:
        """Put on record what became of a deployment; if `urgent`, `settled` waits for it too.

        Raises:
            StoreFailed: Too much waits to be written already.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE deployments SET outcome = ? WHERE name = ?", (outcome.value, name))

        self._writer.put(work, urgent=urgent)

    def refuse(self, name: str, refusal: str) -> None:
        """Put on record why a deployment cannot be rolled back any more."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE deployments SET refusal = ? WHERE name = ?", (refusal, name))

        self._writer.put(work)

    def expire(self, before: datetime, most: int) -> None:
        """Drop what began before a time, and all but the latest so many of each board.

        Of each board stays the latest, with nothing to roll back to if it is too old; what is
        open stays.
        """
        at = to_micros(before)

        def work(connection: sqlite3.Connection) -> None:
            _expire(connection, at, most)

        self._writer.put(work, key=("deployments", "expire"))

    async def settled(self) -> None:
        """Return when every deployment added so far outlasts a loss of power.

        Raises:
            StoreFailed: They could not be written; it is tried again by itself.
        """
        await self._writer.settled()

    async def get(self, name: str) -> DeploymentRecord | None:
        """Return a deployment; None if there is none, or no more.

        Raises:
            StoreFailed: It cannot be read, as with all of these.
        """
        found = await self._reader.read(lambda connection: _select(connection, "name = ?", (name,), 1))
        return found[0][1] if found else None

    async def changes(self, name: str) -> list[Change]:
        """Return what a deployment did, by path; empty if there is none."""
        return await self._reader.read(lambda connection: _changes(connection, name))

    async def of_board(
        self, board: str, limit: int, page: int | None = None
    ) -> tuple[list[DeploymentRecord], int | None]:
        """Return a board's, newest first, and the `page` that asks for those before them, None without any."""
        limit = max(1, min(limit, MOST_PER_PAGE))
        values = (board, _NEWEST if page is None else page)
        found = await self._reader.read(
            lambda connection: _select(connection, "board = ? AND seq < ?", values, limit + 1)
        )
        more = len(found) > limit
        return [record for _, record in found[:limit]], found[limit - 1][0] if more else None

    async def unsettled(self) -> list[DeploymentRecord]:
        """Return those whose outcome nobody knows yet, oldest first."""
        found = await self._reader.read(lambda connection: _select(connection, "outcome = 'open'", (), -1))
        return [record for _, record in reversed(found)]

    async def oldest_reversible(self) -> DeploymentRecord | None:
        """Return what is to give way first when there is no room; None without any."""
        where = "changed AND refusal = '' AND outcome IN ('done', 'mixed')"
        found = await self._reader.read(lambda connection: _select(connection, where, (), 1, "ASC"))
        return found[0][1] if found else None

    async def contents(self) -> tuple[set[bytes], set[bytes]]:
        """Return the hashes of what rolling back needs, and of what boards should have now."""
        return await self._reader.read(_contents)


def _columns(entry: Entry | None) -> tuple[bytes | None, int]:
    return (None, 0) if entry is None else (entry.digest, entry.size)


def _entry(digest: bytes | None, size: int) -> Entry | None:
    return None if digest is None else Entry(digest, size)


def _spell(path: str) -> bytes:
    return path.encode("utf-8", "surrogatepass")  # names come from boards, and not all are Unicode


def _select(
    connection: sqlite3.Connection, where: str, values: Iterable[object], limit: int, order: str = "DESC"
) -> list[tuple[int, DeploymentRecord]]:
    rows = connection.execute(
        f"SELECT seq, {_FIELDS} FROM deployments WHERE {where} ORDER BY seq {order} LIMIT ?",
        (*values, limit),
    )
    found = []
    for row in rows:
        seq, name, board, principal, created, destination, outcome, in_place, *rest = row
        written, deleted, size, changed, refusal, rolls_back = rest
        record = DeploymentRecord(
            name,
            board,
            principal,
            from_micros(created),
            destination,
            DeploymentOutcome(outcome),
            bool(in_place),
            written,
            deleted,
            size,
            bool(changed),
            refusal,
            rolls_back,
        )
        found.append((seq, record))
    return found


def _changes(connection: sqlite3.Connection, name: str) -> list[Change]:
    rows = connection.execute(
        "SELECT path, before, before_size, after, after_size FROM deployment_files "
        "JOIN deployments ON deployment = seq WHERE name = ? ORDER BY path",
        (name,),
    )
    return [
        Change(path.decode("utf-8", "surrogatepass"), _entry(before, before_size), _entry(after, after_size))
        for path, before, before_size, after, after_size in rows
    ]


_LATEST = "SELECT max(seq) FROM deployments WHERE outcome != 'undone' GROUP BY board"


def _contents(connection: sqlite3.Connection) -> tuple[set[bytes], set[bytes]]:
    needed = connection.execute(
        "SELECT DISTINCT before FROM deployment_files JOIN deployments ON deployment = seq "
        "WHERE changed AND refusal = '' AND outcome != 'undone' AND length(before) = 32 "
        "AND before IS NOT after"
    )
    useful = connection.execute(
        f"SELECT DISTINCT after FROM deployment_files WHERE length(after) = 32 AND deployment IN ({_LATEST})"
    )
    return {digest for (digest,) in needed}, {digest for (digest,) in useful}


def _expire(connection: sqlite3.Connection, before: int, most: int) -> None:
    doomed = connection.execute(
        "SELECT seq FROM ("
        "  SELECT seq, created, changed, outcome,"
        "  sum(changed) OVER (PARTITION BY board ORDER BY seq DESC) AS place FROM deployments"
        f") WHERE outcome != 'open' AND seq NOT IN ({_LATEST}) AND (created < ? OR place > ? OR NOT changed)",
        (before, most),
    ).fetchall()
    connection.executemany("DELETE FROM deployment_files WHERE deployment = ?", doomed)
    connection.executemany("DELETE FROM deployments WHERE seq = ?", doomed)
    connection.execute(
        "UPDATE deployments SET refusal = 'it is too old: what it replaced is kept no more' "
        "WHERE created < ? AND changed AND refusal = '' AND outcome != 'open'",
        (before,),
    )
