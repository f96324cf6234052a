"""The chain of audit records: what is hashed, how, and whether it still holds.

Each record's hash is SHA-256 over the hash before it and the record's own canonical
bytes, its number among them. Whoever changes, adds, moves or takes out a record
would have to compute all hashes after it anew, and the last one then differs from
any copy that was kept elsewhere. Pruning takes records of any one principal, so
what it leaves are gaps: a range of numbers with the hash that the chain had after
it, on which the rest still hangs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BEGINNING = bytes(32)
"""The hash before the first record."""
COLUMNS = "seq, at, principal, role, peer, action, board, lease, what, outcome, reason, seconds, detail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain holds.

    Attributes:
        records: Records looked at.
        pruned: Records that are gone by the rules of pruning.
        head: The hash after the last record; a copy of it elsewhere proves what was there.
        broken_at: Number of the first record that is missing or does not fit; None if all do.
    """

    records: int
    pruned: int
    head: bytes
    broken_at: int | None


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the chain was followed: the next number, and the hash before it."""

    seq: int = 1
    hash: bytes = BEGINNING
    records: int = 0
    pruned: int = 0
    done: bool = False
    broken: bool = False


def canonical(row: Sequence[object]) -> bytes:
    """Return the bytes of a record that are hashed: JSON of its columns, in the order of COLUMNS."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in row]
    return json.dumps(plain, separators=(",", ":")).encode("ascii")


def link(before: bytes, row: Sequence[object]) -> bytes:
    """Return the hash of a record."""
    return hashlib.sha256(before + canonical(row)).digest()


def follow(connection: sqlite3.Connection, walk: Walk, most: int) -> Walk:
    """Follow the chain over at most `most` records more."""
    [[last, head]] = connection.execute("SELECT seq, hash FROM audit_head")
    rows = connection.execute(
        f"SELECT {COLUMNS}, hash FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?", (walk.seq, most)
    ).fetchall()
    seq, before, pruned = walk.seq, walk.hash, walk.pruned
    looked_at = walk.records

    def stop(*, done: bool = False, broken: bool = False) -> Walk:
        return Walk(seq, before, looked_at, pruned, done, broken)

    for *row, kept in rows:
        if row[0] != seq:
            gap = _gap(connection, seq)
            if gap is None or gap[0] + 1 != row[0]:
                return stop(broken=True)
            pruned += row[0] - seq
            seq, before = row[0], gap[1]
        if link(before, row) != kept:
            return stop(broken=True)
        looked_at += 1
        seq, before = seq + 1, kept
    if len(rows) == most:
        return stop()
    if seq <= last:  # the newest are pruned
        gap = _gap(connection, seq)
        if gap is None or gap[0] != last:
            return stop(broken=True)
        pruned += last + 1 - seq
        seq, before = last + 1, gap[1]
    return stop(done=True, broken=before != head or seq != last + 1)


def _gap(connection: sqlite3.Connection, seq: int) -> tuple[int, bytes] | None:
    """Return the end of the gap that `seq` is in, and the hash after it."""
    # Pruning may have moved its beginning to before `seq` since the last look.
    rows = connection.execute(
        "SELECT last, hash FROM audit_gaps WHERE first <= ? AND last >= ? ORDER BY first DESC LIMIT 1",
        (seq, seq),
    )
    found: tuple[int, bytes] | None = rows.fetchone()
    return found


def cut(connection: sqlite3.Connection, doomed: Iterable[tuple[int, bytes, str, int]]) -> None:
    """Take records out, given as number, hash, principal and size in the order of their numbers."""
    ranges: list[tuple[int, int, bytes]] = []
    for seq, after, principal, size in doomed:
        connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))
        connection.execute(
            "UPDATE audit_kept SET records = records - 1, bytes = bytes - ? WHERE principal = ?",
            (size, principal),
        )
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq, after)
        else:
            ranges.append((seq, seq, after))
    for first, last, after in ranges:
        _add_gap(connection, first, last, after)
    connection.execute("DELETE FROM audit_kept WHERE records = 0")


def _add_gap(connection: sqlite3.Connection, first: int, last: int, after: bytes) -> None:
    """Keep a gap, as one with those it touches."""
    earlier = connection.execute("SELECT first FROM audit_gaps WHERE last = ?", (first - 1,)).fetchone()
    later = connection.execute("SELECT last, hash FROM audit_gaps WHERE first = ?", (last + 1,)).fetchone()
    if earlier is not None:
        [first] = earlier
        connection.execute("DELETE FROM audit_gaps WHERE first = ?", (first,))
    if later is not None:
        connection.execute("DELETE FROM audit_gaps WHERE first = ?", (last + 1,))
        last, after = later
    connection.execute("INSERT INTO audit_gaps VALUES (?, ?, ?)", (first, last, after))
