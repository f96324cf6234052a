"""Who did what to which board, how it went: append-only, chained by hashes, bounded.

Bounded by age, and by number and size for each principal apart: whoever makes noise
pushes out records of their own only. `principal` must therefore be one that was
authenticated; whatever is refused before that goes under one fixed name.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from belayd.errors import StoreFailed
from belayd.store.chain import COLUMNS, Verdict, Walk, cut, follow, link
from belayd.store.reader import Reader
from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Writer

log = logging.getLogger(__name__)

MOST_TEXT = 256
"""Characters of each text of a record; the rest is cut."""
MOST_PER_PAGE = 1000
_OVERHEAD_BYTES = 150  # of a record beside its texts: hash, numbers, its places in three indices
_AT_ONCE = 5000  # records verified between two looks at other queries; about 30 ms


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that somebody did, or that happened.

    Attributes:
        at: When it ended.
        principal: Who, as authenticated.
        role: Of the principal then.
        peer: The kind of peer: unix, loopback, tls.
        action: The RPC, such as "TaskService/RunTask", or the event.
        board, lease: Names; "" where none is concerned.
        what: SHA-256 of the source or files; b"" without any.
        outcome: ok, or the metrics' word for what it was else.
        reason: The error table's, else "".
        seconds: How long it took.
        detail: What else there is to say, in a few words.
        seq: Its number in the chain, from 1; given by `append`.
    """

    at: datetime
    principal: str
    role: str
    peer: str
    action: str
    board: str = ""
    lease: str = ""
    what: bytes = b""
    outcome: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    detail: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first; `next_page` asks for those before them, None when there are none."""

    records: tuple[AuditRecord, ...]
    next_page: int | None


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """What is kept: of each principal so many records and bytes, none older than `age`."""

    records: int = 20_000
    bytes: int = 8 * 1024 * 1024
    age: timedelta = timedelta(days=90)


class Audit:
    """The records; `append` is called on the loop and does not block.

    Attributes:
        lost: Records that could not be kept since the start, as the database could not be written for long.
    """

    def __init__(
        self, writer: Writer, reader: Reader, wall: Callable[[], datetime], limits: AuditLimits | None = None
    ) -> None:
        self.lost = 0
        self._writer = writer
        self._reader = reader
        self._wall = wall
        self._limits = limits or AuditLimits()

    def append(self, record: AuditRecord) -> None:
        """Queue a record; it survives a kill of the daemon some 20 ms later."""
        row = _row(record)
        limits = self._limits

        def work(connection: sqlite3.Connection) -> None:
            _append(connection, row, limits)

        try:
            self._writer.put(work, cost=_size(row))
        except StoreFailed:
            if self.lost == 0:
                log.error("audit records are being lost, as the database cannot be written")
            self.lost += 1

    def expire(self) -> None:
        """Queue the end of what is too old."""
        before = to_micros(self._wall() - self._limits.age)

        def work(connection: sqlite3.Connection) -> None:
            doomed = connection.execute(
                "SELECT seq, hash, principal, size FROM audit WHERE at < ? ORDER BY seq", (before,)
            )
            cut(connection, doomed.fetchall())

        self._writer.put(work, key="audit age")

    async def query(
        self,
        board: str | None = None,
        principal: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        page: int | None = None,
    ) -> AuditPage:
        """Return records, newest first.

        Args:
            since: The earliest; `until`: the first that is too late.
            limit: At most MOST_PER_PAGE.
            page: An earlier page's `next_page`.

        Raises:
            StoreFailed: They cannot be read.
        """
        limit = max(1, min(limit, MOST_PER_PAGE))
        wanted = {
            "board = ?": board,
            "principal = ?": principal,
            "at >= ?": None if since is None else to_micros(since),
            "at < ?": None if until is None else to_micros(until),
            "seq < ?": page,
        }
        chosen = {clause: value for clause, value in wanted.items() if value is not None}
        where = " AND ".join(chosen) or "1"

        def read(connection: sqlite3.Connection) -> list[AuditRecord]:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM audit WHERE {where} ORDER BY seq DESC LIMIT ?",
                (*chosen.values(), limit + 1),
            )
            return [_record(row) for row in rows]

        found = await self._reader.read(read)
        more = len(found) > limit
        return AuditPage(tuple(found[:limit]), found[limit - 1].seq if more else None)

    async def verify(self) -> Verdict:
        """Follow the whole chain and say whether it holds.

        Raises:
            StoreFailed: It cannot be read.
        """
        walk = Walk()
        while not (walk.done or walk.broken):
            # In pieces, so that other queries get their turn.
            walk = await self._reader.read(functools.partial(follow, walk=walk, most=_AT_ONCE))
        return Verdict(walk.records, walk.pruned, walk.hash, walk.seq if walk.broken else None)


_Row = tuple[int, str, str, str, str, str, str, bytes, str, str, float, str]
"""As COLUMNS, without the number."""


def _row(record: AuditRecord) -> _Row:
    return (
        to_micros(record.at),
        _clean(record.principal),
        _clean(record.role),
        _clean(record.peer),
        _clean(record.action),
        _clean(record.board),
        _clean(record.lease),
        record.what[:32],
        _clean(record.outcome),
        _clean(record.reason),
        float(record.seconds),
        _clean(record.detail),
    )


def _clean(text: str) -> str:
    """Return a text as SQLite takes it: cut, and what is no Unicode (a file's name, say) replaced."""
    return text[:MOST_TEXT].encode("utf-8", "replace").decode("utf-8")


def _size(row: _Row) -> int:
    return _OVERHEAD_BYTES + sum(len(value) for value in row if isinstance(value, str | bytes))


def _append(connection: sqlite3.Connection, row: _Row, limits: AuditLimits) -> None:
    [[last, before]] = connection.execute("SELECT seq, hash FROM audit_head")
    numbered = (last + 1, *row)
    after, size, principal = link(before, numbered), _size(row), row[1]
    marks = ", ".join("?" * (len(numbered) + 2))
    connection.execute(
        f"INSERT INTO audit ({COLUMNS}, size, hash) VALUES ({marks})", (*numbered, size, after)
    )
    connection.execute("UPDATE audit_head SET seq = ?, hash = ?", (last + 1, after))
    [[records, kept]] = connection.execute(
        "INSERT INTO audit_kept VALUES (?, 1, ?) ON CONFLICT (principal) "
        "DO UPDATE SET records = records + 1, bytes = bytes + excluded.bytes RETURNING records, bytes",
        (principal, size),
    )
    if records > limits.records or kept > limits.bytes:
        # A tenth at once: one record out for each one in would cost a gap a record.
        _prune(connection, principal, records - limits.records * 9 // 10, kept - limits.bytes * 9 // 10)


def _prune(connection: sqlite3.Connection, principal: str, records: int, size: int) -> None:
    """Take out a principal's oldest until so many records and bytes are gone, but never the newest."""
    rows = connection.execute(
        "SELECT seq, hash, principal, size FROM audit WHERE principal = ? ORDER BY seq", (principal,)
    )
    doomed: list[tuple[int, bytes, str, int]] = []
    gone = 0
    for row in rows:
        if len(doomed) >= records and gone >= size:
            break
        doomed.append(row)
        gone += row[3]
    rows.close()
    [[newest]] = connection.execute("SELECT max(seq) FROM audit WHERE principal = ?", (principal,))
    cut(connection, [each for each in doomed if each[0] != newest])


def _record(row: tuple[int, int, str, str, str, str, str, str, bytes, str, str, float, str]) -> AuditRecord:
    seq, at, *rest = row
    named = dict(zip([each.name for each in fields(AuditRecord)][1:-1], rest, strict=True))
    return replace(AuditRecord(from_micros(at), "", "", "", ""), seq=seq, **named)  # type: ignore[arg-type]
