"""Rollouts: what was asked for, and how far each board of each is.

Those that have not ended outlast the daemon, which goes on with them; of those that
have, so many are kept of each principal, none for longer than a certain age. What
the states, the steps and `intent` mean is the caller's business.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from belayd.store.reader import Reader
from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Writer

MOST_PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class RolloutBoardRecord:
    """One board of a rollout.

    Attributes:
        lease: The name of the lease that it was last asked for; "" before.
        since: The deployment that it had last when its turn came; "" before that.
        ran: Seconds.
    """

    board: str
    wave: int
    step: str
    message: str = ""
    lease: str = ""
    since: str = ""
    written_bytes: int = 0
    total_bytes: int = 0
    wire_bytes: int = 0
    ran: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A rollout.

    Attributes:
        name: Without "rollouts/".
        selector: Bounds the principal's boards; `role` is the principal's.
        intent: Bytes whose meaning is the caller's.
    """

    name: str
    principal: str
    role: int
    selector: str
    reason: str
    created: datetime
    canary: int
    wave: int
    parallel: int
    max_failures: int
    state: str
    state_reason: str
    ended: datetime | None
    boards: tuple[RolloutBoardRecord, ...]
    intent: bytes = b""


@dataclass(frozen=True, slots=True)
class RolloutLimits:
    """What is kept of those that have ended: of a principal so many, so long."""

    rollouts: int = 100
    age: timedelta = timedelta(days=90)


class Rollouts:
    """The rollouts; what writes is called on the loop and does not block."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        wall: Callable[[], datetime],
        limits: RolloutLimits | None = None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._wall = wall
        self._limits = limits or RolloutLimits()

    def create(self, record: RolloutRecord) -> None:
        """Queue a new rollout; tell its name only after `settled`.

        Raises:
            StoreFailed: Too much waits to be written already.
        """
        row = _row(record)
        boards = [_board_row(record.name, at, board) for at, board in enumerate(record.boards)]
        limits = self._limits

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"INSERT INTO rollouts ({_COLUMNS}) VALUES ({_marks(row)})", row)
            connection.executemany(f"INSERT INTO rollout_boards VALUES ({_marks(boards[0])})", boards)
            _prune(connection, record.principal, limits)

        self._writer.put(work, urgent=True, cost=len(record.intent) + 200 * len(boards))

    def change(self, name: str, state: str, why: str, ended: datetime | None) -> None:
        """Queue what a rollout is doing; tell it to whoever asked for it only after `settled`."""
        values = (state, why, to_micros(ended) if ended else None, name)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE rollouts SET state = ?, state_reason = ?, ended = ? WHERE name = ?", values
            )

        self._writer.put(work, key=("rollout", name), urgent=True)

    def change_board(self, name: str, at: int, board: RolloutBoardRecord) -> None:
        """Queue how far the board at a position of a rollout is."""
        row = _board_row(name, at, board)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"INSERT OR REPLACE INTO rollout_boards VALUES ({_marks(row)})", row)

        self._writer.put(work, key=("rollout", name, at))

    def expire(self) -> None:
        """Queue the end of what is too old."""
        before = to_micros(self._wall() - self._limits.age)

        def work(connection: sqlite3.Connection) -> None:
            doomed = connection.execute("SELECT name FROM rollouts WHERE ended < ?", (before,)).fetchall()
            _remove(connection, [name for (name,) in doomed])

        self._writer.put(work, key="rollouts age")

    async def settled(self) -> None:
        """Return when everything urgent so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """
        await self._writer.settled()

    async def get(self, name: str) -> RolloutRecord | None:
        """Return a rollout without its intent; None if there is none, or no more.

        Raises:
            StoreFailed: It cannot be read.
        """
        found = await self._reader.read(
            lambda connection: _select(connection, "name = ?", (name,), limit=1, whole=False)
        )
        return found[0][1] if found else None

    async def unended(self) -> list[RolloutRecord]:
        """Return those that have not ended, oldest first, whole.

        Raises:
            StoreFailed: They cannot be read.
        """
        found = await self._reader.read(
            lambda connection: _select(connection, "ended IS NULL", (), limit=-1, whole=True)
        )
        return [record for _, record in reversed(found)]

    async def list(
        self, limit: int = MOST_PER_PAGE, page: int | None = None
    ) -> tuple[list[RolloutRecord], int | None]:
        """Return rollouts without their intents, newest first, and the `page` of those before them, or None.

        Raises:
            StoreFailed: They cannot be read.
        """
        limit = max(1, min(limit, MOST_PER_PAGE))
        where, values = ("seq < ?", (page,)) if page is not None else ("1", ())
        found = await self._reader.read(
            lambda connection: _select(connection, where, values, limit=limit + 1, whole=False)
        )
        more = len(found) > limit
        return [record for _, record in found[:limit]], found[limit - 1][0] if more else None


_COLUMNS = (
    "name, principal, role, selector, reason, created, canary, wave, parallel, max_failures, "
    "state, state_reason, ended, intent"
)


def _row(record: RolloutRecord) -> tuple[object, ...]:
    return (
        record.name,
        record.principal,
        record.role,
        record.selector,
        record.reason,
        to_micros(record.created),
        record.canary,
        record.wave,
        record.parallel,
        record.max_failures,
        record.state,
        record.state_reason,
        to_micros(record.ended) if record.ended else None,
        record.intent,
    )


def _board_row(rollout: str, at: int, board: RolloutBoardRecord) -> tuple[object, ...]:
    return (
        rollout,
        at,
        board.board,
        board.wave,
        board.step,
        board.message,
        board.lease,
        board.since,
        board.written_bytes,
        board.total_bytes,
        board.wire_bytes,
        board.ran,
    )


def _marks(row: tuple[object, ...]) -> str:
    return ", ".join("?" * len(row))


def _select(
    connection: sqlite3.Connection, where: str, values: tuple[object, ...], *, limit: int, whole: bool
) -> list[tuple[int, RolloutRecord]]:
    columns = _COLUMNS if whole else _COLUMNS.replace("intent", "x''")
    rows = connection.execute(
        f"SELECT seq, {columns} FROM rollouts WHERE {where} ORDER BY seq DESC LIMIT ?", (*values, limit)
    ).fetchall()
    found = []
    for seq, name, principal, role, selector, reason, created, *pace, state, why, ended, intent in rows:
        canary, wave, parallel, max_failures = pace
        record = RolloutRecord(
            name,
            principal,
            role,
            selector,
            reason,
            from_micros(created),
            canary,
            wave,
            parallel,
            max_failures,
            state,
            why,
            from_micros(ended) if ended is not None else None,
            _boards(connection, name),
            intent,
        )
        found.append((seq, record))
    return found


def _boards(connection: sqlite3.Connection, rollout: str) -> tuple[RolloutBoardRecord, ...]:
    rows = connection.execute(
        "SELECT board, wave, step, message, lease, since, written_bytes, total_bytes, wire_bytes, ran "
        "FROM rollout_boards WHERE rollout = ? ORDER BY position",
        (rollout,),
    )
    return tuple(RolloutBoardRecord(*row) for row in rows)


def _prune(connection: sqlite3.Connection, principal: str, limits: RolloutLimits) -> None:
    doomed = connection.execute(
        "SELECT name FROM rollouts WHERE principal = ? AND ended IS NOT NULL ORDER BY seq DESC LIMIT -1 OFFSET ?",
        (principal, limits.rollouts),
    ).fetchall()
    _remove(connection, [name for (name,) in doomed])


def _remove(connection: sqlite3.Connection, names: list[str]) -> None:
    for name in names:
        connection.execute("DELETE FROM rollout_boards WHERE rollout = ?", (name,))
        connection.execute("DELETE FROM rollouts WHERE name = ?", (name,))
