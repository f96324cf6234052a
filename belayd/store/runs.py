"""Detached runs: what was asked, how it went, and what it printed, after their client has left.

Of each run's output the latest part is kept, at positions that count from its
beginning. Of each principal so many ended runs and bytes are kept, none for longer
than a certain age; runs that have not ended are never taken away.
"""

from __future__ import annotations

import enum
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from belayd.errors import StoreFailed
from belayd.store.reader import Reader
from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Write, Writer

log = logging.getLogger(__name__)

MOST_PER_PAGE = 1000
MOST_READ_BYTES = 1024 * 1024
PIECE_BYTES = 32 * 1024
"""Output is stored in rows of at most so much; the oldest row goes first."""


class RunState(enum.Enum):
    """Where a detached run is in its life; the values are stored."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A detached run.

    Attributes:
        name: Without "runs/".
        principal: Who asked for it.
        lease: The name of the lease it is under.
        what: SHA-256 of its source.
        outcome: How it ended, as bytes whose meaning is the caller's; None before, and for a lost one.
        output_end: Bytes printed so far: the position of the next.
        output_kept: Of those, how many are kept; the others were dropped.
    """

    name: str
    board: str
    principal: str
    lease: str
    what: bytes
    created: datetime
    state: RunState = RunState.QUEUED
    started: datetime | None = None
    ended: datetime | None = None
    outcome: bytes | None = None
    output_end: int = 0
    output_kept: int = 0

    @property
    def dropped(self) -> int:
        """Bytes of its output that are kept no more."""
        return self.output_end - self.output_kept


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of a run's output; `position` may be later than asked for where some was dropped."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What is kept: of a run so much output, of a principal so many ended runs and bytes, so long."""

    output: int = 1024 * 1024
    runs: int = 200
    bytes: int = 32 * 1024 * 1024
    age: timedelta = timedelta(days=14)


@dataclass(slots=True)
class _Growing:
    """Output that is queued and may still be added to."""

    write: Write
    chunks: list[bytes]


class Runs:
    """The runs; what writes is called on the loop and does not block.

    Attributes:
        unkept: Bytes of output that could not be kept since the start, as the database could
            not be written for long; they count as dropped.
    """

    def __init__(
        self, writer: Writer, reader: Reader, wall: Callable[[], datetime], limits: RunLimits | None = None
    ) -> None:
        self.unkept = 0
        self._writer = writer
        self._reader = reader
        self._wall = wall
        self._limits = limits or RunLimits()
        self._ends: dict[str, int] = {}
        self._growing: dict[str, _Growing] = {}

    def create(self, name: str, board: str, principal: str, lease: str, what: bytes) -> None:
        """Queue a new run; tell its name only after `settled`.

        Raises:
            StoreFailed: Too much waits to be written already.
        """
        now = to_micros(self._wall())
        row = (name, board, principal, lease, what, RunState.QUEUED.value, now)
        limits = self._limits

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO runs (name, board, principal, lease, what, state, created, output_end, output_kept) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)",
                row,
            )
            _prune(connection, principal, limits)

        self._writer.put(work, urgent=True, cost=len(what))
        self._ends[name] = 0

    def start(self, name: str) -> None:
        """Queue that a run began.

        Raises:
            StoreFailed: Too much waits to be written already.
        """
        values = (RunState.RUNNING.value, to_micros(self._wall()), name)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE runs SET state = ?, started = ? WHERE name = ?", values)

        self._writer.put(work)

    def append(self, name: str, data: bytes) -> int:
        """Queue what a run printed; return the position after it."""
        position = self._ends.get(name, 0)
        self._ends[name] = position + len(data)
        for begin in range(0, len(data), PIECE_BYTES):
            piece = data[begin : begin + PIECE_BYTES]
            try:
                self._queue_output(name, position + begin, piece)
            except StoreFailed:
                if self.unkept == 0:
                    log.error("output of detached runs is being lost, as the database cannot be written")
                self.unkept += len(piece)
                self._growing.pop(name, None)  # what comes next is not next to what was queued
        return position + len(data)

    def end(self, name: str, outcome: bytes) -> None:
        """Queue how a run ended; it is told to whoever asks after `settled`.

        Raises:
            StoreFailed: Too much waits to be written already.
        """
        self._growing.pop(name, None)
        end = self._ends.pop(name, 0)
        values = (RunState.ENDED.value, to_micros(self._wall()), outcome, end, name)
        limits = self._limits

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE runs SET state = ?, ended = ?, outcome = ?, output_end = max(output_end, ?) WHERE name = ?",
                values,
            )
            for (principal,) in connection.execute(
                "SELECT principal FROM runs WHERE name = ?", (name,)
            ).fetchall():
                _prune(connection, principal, limits)

        self._writer.put(work, urgent=True, cost=len(outcome))

    def expire(self) -> None:
        """Queue the end of what is too old."""
        before = to_micros(self._wall() - self._limits.age)

        def work(connection: sqlite3.Connection) -> None:
            doomed = connection.execute(
                "SELECT seq FROM runs WHERE state IN ('ended', 'lost') AND ended < ?", (before,)
            )
            _remove(connection, [seq for (seq,) in doomed])

        self._writer.put(work, key="runs age")

    async def settled(self) -> None:
        """Return when every create and end so far outlasts a loss of power.

        Raises:
            StoreFailed: They could not be written; it is tried again by itself.
        """
        await self._writer.settled()

    async def get(self, name: str) -> RunRecord | None:
        """Return a run; None if there is none, or no more.

        Raises:
            StoreFailed: It cannot be read.
        """
        found = await self._reader.read(lambda connection: _select(connection, "name = ?", (name,), 1))
        return found[0][1] if found else None

    async def list(
        self,
        principal: str | None = None,
        board: str | None = None,
        limit: int = 100,
        page: int | None = None,
    ) -> tuple[list[RunRecord], int | None]:
        """Return runs, newest first, and the `page` that asks for those before them, None without any.

        Raises:
            StoreFailed: They cannot be read.
        """
        limit = max(1, min(limit, MOST_PER_PAGE))
        wanted = {"principal = ?": principal, "board = ?": board, "seq < ?": page}
        chosen = {clause: value for clause, value in wanted.items() if value is not None}
        where = " AND ".join(chosen) or "1"
        found = await self._reader.read(
            lambda connection: _select(connection, where, tuple(chosen.values()), limit + 1)
        )
        more = len(found) > limit
        return [run for _, run in found[:limit]], found[limit - 1][0] if more else None

    async def read(self, name: str, position: int = 0, most: int = MOST_READ_BYTES) -> Output:
        """Return what a run printed, from the first kept byte at or after `position` on.

        Without a gap, and whole rows until `most` is reached; b"" at the end of what there is.

        Raises:
            StoreFailed: It cannot be read.
        """
        return await self._reader.read(lambda connection: _output(connection, name, position, most))

    def _queue_output(self, name: str, position: int, data: bytes) -> None:
        growing = self._growing.get(name)
        if growing and not growing.write.taken and growing.write.cost + len(data) <= PIECE_BYTES:
            self._writer.grow(growing.write, len(data))
            growing.chunks.append(data)
            return
        chunks = [data]
        most = self._limits.output

        def work(connection: sqlite3.Connection) -> None:
            _append(connection, name, position, b"".join(chunks), most)

        self._growing[name] = _Growing(self._writer.put(work, cost=len(data)), chunks)


def lose_unfinished(connection: sqlite3.Connection, now: datetime) -> int:
    """Mark what had not ended when the daemon did as lost; return how many runs that were."""
    lost = connection.execute(
        "UPDATE runs SET state = 'lost', ended = ? WHERE state IN ('queued', 'running')", (to_micros(now),)
    )
    return lost.rowcount


def _append(connection: sqlite3.Connection, name: str, position: int, data: bytes, most: int) -> None:
    row = connection.execute("SELECT seq, output_kept FROM runs WHERE name = ?", (name,)).fetchone()
    if row is None:  # pruned, though it still ran when the daemon was killed
        return
    run, kept = row
    connection.execute("INSERT INTO run_output VALUES (?, ?, ?)", (run, position, data))
    kept += len(data)
    while kept > most:
        [[oldest, size]] = connection.execute(
            "SELECT position, length(data) FROM run_output WHERE run = ? ORDER BY position LIMIT 1", (run,)
        )
        connection.execute("DELETE FROM run_output WHERE run = ? AND position = ?", (run, oldest))
        kept -= size
    connection.execute(
        "UPDATE runs SET output_end = ?, output_kept = ? WHERE seq = ?", (position + len(data), kept, run)
    )


def _output(connection: sqlite3.Connection, name: str, position: int, most: int) -> Output:
    # From the row that `position` is in, if it is in one.
    rows = connection.execute(
        "SELECT position, data FROM run_output JOIN runs ON run = seq "
        "WHERE name = ? AND position + length(data) > ? ORDER BY position",
        (name, position),
    )
    found, begin, end = bytearray(), position, position
    for at, data in rows:
        if not found:
            begin, data = max(at, position), data[max(0, position - at) :]
        elif at != end:
            break
        found += data
        end = begin + len(found)
        if len(found) >= most:
            break
    rows.close()
    return Output(begin, bytes(found[:most]))


def _select(
    connection: sqlite3.Connection, where: str, values: tuple[object, ...], limit: int
) -> list[tuple[int, RunRecord]]:
    rows = connection.execute(
        "SELECT seq, name, board, principal, lease, what, created, state, started, ended, outcome, "
        f"output_end, output_kept FROM runs WHERE {where} ORDER BY seq DESC LIMIT ?",
        (*values, limit),
    )
    found = []
    for seq, name, board, principal, lease, what, created, state, started, ended, *rest in rows:
        began, over = (None if at is None else from_micros(at) for at in (started, ended))
        run = RunRecord(
            name, board, principal, lease, what, from_micros(created), RunState(state), began, over, *rest
        )
        found.append((seq, run))
    return found


def _prune(connection: sqlite3.Connection, principal: str, limits: RunLimits) -> None:
    rows = connection.execute(
        "SELECT seq, output_kept + length(coalesce(outcome, x'')) FROM runs "
        "WHERE principal = ? AND state IN ('ended', 'lost') ORDER BY seq DESC",
        (principal,),
    ).fetchall()
    total, doomed = 0, []
    for number, (seq, size) in enumerate(rows):
        total += size
        if number and (number >= limits.runs or total > limits.bytes):  # the latest always stays
            doomed.append(seq)
    _remove(connection, doomed)


def _remove(connection: sqlite3.Connection, runs: list[int]) -> None:
    for run in runs:
        connection.execute("DELETE FROM run_output WHERE run = ?", (run,))
        connection.execute("DELETE FROM runs WHERE seq = ?", (run,))
