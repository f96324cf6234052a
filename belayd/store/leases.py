"""Leases that survive a restart of the daemon: the seam, one that keeps nothing, one in the database.

Times of day are for people: they are aware UTC and may jump. What a lease has been
held is counted in seconds of the host's own clock, which goes on while the daemon
is away and starts anew with the host; that is why each row names the boot it is of.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from belayd.snapshot import LeaseView, NoticeView
from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Writer


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as it is stored: what everybody may see, whose it is, and its token's hash.

    Attributes:
        held: Seconds since its grant, when it was saved.
        ended: Whether only its board's cleaning was left of it.
        notice_left: Seconds until an operator's notice ends it, when it was saved; 0.0 without one.
        away: Seconds from its saving to its loading; None where the host started anew between.
    """

    view: LeaseView
    principal: str
    token_hash: bytes
    held: float = 0.0
    ended: bool = False
    notice_left: float = 0.0
    away: float | None = None


@dataclass(frozen=True, slots=True)
class StoredLeases:
    """What was stored: the leases, and each board's highest fence, both by board."""

    leases: Mapping[str, LeaseRecord] = field(default_factory=dict)
    fences: Mapping[str, int] = field(default_factory=dict)


class LeaseStore(Protocol):
    """Keeps leases; called on the loop, so none of it may block."""

    def load(self) -> StoredLeases:
        """Return what is stored; called once, before anything else."""

    def save(self, record: LeaseRecord) -> None:
        """Keep a lease in place of what its board had; its fence is its board's highest."""

    def end(self, board: str) -> None:
        """Note that a board's lease has ended and its board is to be cleaned; nothing if it has none."""

    def remove(self, board: str) -> None:
        """Forget a board's lease but not its fence; does nothing if it has none."""

    async def settled(self) -> None:
        """Return when everything asked for so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """


class MemoryStore:
    """A LeaseStore that lives as long as the process."""

    def __init__(self) -> None:
        self._leases: dict[str, LeaseRecord] = {}
        self._fences: dict[str, int] = {}

    def load(self) -> StoredLeases:
        """Return what is stored."""
        return StoredLeases(dict(self._leases), dict(self._fences))

    def save(self, record: LeaseRecord) -> None:
        """Keep a lease in place of what its board had."""
        self._leases[record.view.board] = record
        self._fences[record.view.board] = record.view.fence

    def end(self, board: str) -> None:
        """Note that a board's lease has ended."""
        if board in self._leases:
            self._leases[board] = replace(self._leases[board], ended=True)

    def remove(self, board: str) -> None:
        """Forget a board's lease but not its fence."""
        self._leases.pop(board, None)

    async def settled(self) -> None:
        """Return at once."""


class Leases:
    """A LeaseStore in the database.

    Args:
        stored: What `load` returns; from `load_leases`.
        boot: Names the host's present boot; "" where it cannot be told.
        monotonic: Seconds since that boot.
    """

    def __init__(
        self, writer: Writer, stored: StoredLeases, boot: str, monotonic: Callable[[], float]
    ) -> None:
        self._writer = writer
        self._stored = stored
        self._boot = boot
        self._monotonic = monotonic
        self._fences = dict(stored.fences)

    def load(self) -> StoredLeases:
        """Return what was stored when the database was opened."""
        return self._stored

    def save(self, record: LeaseRecord) -> None:
        """Queue a lease in place of what its board had."""
        view = record.view
        if view.fence > self._fences.get(view.board, 0):
            self._fences[view.board] = view.fence
            # Beside the lease, which may end before it was written: a fence must not be given twice.
            self._put("fence", view.board, _KEEP_FENCE, (view.board, view.fence))
        row = (
            view.board,
            view.name,
            record.principal,
            view.holder,
            view.reason,
            view.ttl,
            record.token_hash,
            view.fence,
            to_micros(view.acquired),
            to_micros(view.expires),
            record.held,
            record.ended,
            self._boot,
            self._monotonic(),
            view.notice.by if view.notice else None,
            view.notice.why if view.notice else None,
            to_micros(view.notice.ends) if view.notice else None,
            record.notice_left,
        )
        self._put("lease", view.board, _SAVE, row)

    def end(self, board: str) -> None:
        """Queue that a board's lease has ended."""
        # Under a key of its own: the lease may be queued still, and must be there to be cleaned after.
        self._put("end", board, _END, (board,))

    def remove(self, board: str) -> None:
        """Queue the end of a board's row."""
        self._writer.withdraw(("end", board))
        self._put("lease", board, _REMOVE, (board,))

    async def settled(self) -> None:
        """Return when everything queued so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """
        await self._writer.settled()

    def _put(self, kind: str, board: str, statement: str, row: Iterable[object]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute(statement, tuple(row))

        self._writer.put(work, key=(kind, board), urgent=True)


def load_leases(connection: sqlite3.Connection, boot: str, now: float) -> StoredLeases:
    """Read what is stored.

    Args:
        boot: Names the host's present boot; "" where it cannot be told.
        now: Seconds since that boot.
    """
    leases = {}
    for row in connection.execute(f"SELECT {_COLUMNS} FROM leases"):
        board, name, principal, holder, reason, ttl, token_hash, fence, acquired, expires, *rest = row
        held, ended, saved_boot, saved, by, why, ends, notice_left = rest
        same_boot = bool(boot) and boot == saved_boot and saved <= now
        view = LeaseView(
            name=name,
            board=board,
            holder=holder,
            reason=reason,
            fence=fence,
            acquired=from_micros(acquired),
            expires=from_micros(expires),
            ttl=ttl,
            notice=None if by is None else NoticeView(by, why, from_micros(ends)),
        )
        away = now - saved if same_boot else None
        leases[board] = LeaseRecord(view, principal, token_hash, held, bool(ended), notice_left, away)
    return StoredLeases(leases, dict(connection.execute("SELECT board, fence FROM fences")))


_COLUMNS = (
    "board, name, principal, holder, reason, ttl, token_hash, fence, acquired, expires, held, ended, boot, saved, "
    "notice_by, notice_why, notice_ends, notice_left"
)
_SAVE = f"INSERT OR REPLACE INTO leases ({_COLUMNS}) VALUES ({', '.join('?' * 18)})"
_END = "UPDATE leases SET ended = 1 WHERE board = ?"
_REMOVE = "DELETE FROM leases WHERE board = ?"
_KEEP_FENCE = (
    "INSERT INTO fences (board, fence) VALUES (?, ?) "
    "ON CONFLICT (board) DO UPDATE SET fence = max(fence, excluded.fence)"
)
