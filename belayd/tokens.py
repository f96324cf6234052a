"""The file of names that may come in: STATE/access.sqlite, written by `belayd token`, read by the daemon.

A token is 256 random bits, shown once; the file keeps their SHA-256, for which no
salt or slow hash is needed, since nobody can guess them. An entry without a hash
gives its role and selector to the holder of a certificate of its name. Entries of
the past stay, so that an old token is told what became of it.

Only one file's mode 0600 guards it: others who can write it could make themselves
administrators.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from belayd.access import EVERY_BOARD, Principal, Role, check_name
from belayd.selector import Selector

FILE = "access.sqlite"
PREFIX = "bt_"
"""Of every token, so that scanners for leaked secrets know one; a lease's token has another."""
MOST_ENTRIES = 100_000
MOST_TOKEN = 256
"""Characters of what is taken for a token at all; ours have 46."""
_LAYOUT = 1  # PRAGMA user_version
_APPLICATION = 0x62_65_6C_61  # "bela", PRAGMA application_id
_PATIENCE = 5.0  # seconds to wait for another writer
_SCHEMA = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    selector TEXT NOT NULL,
    digest BLOB UNIQUE,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
)
"""
_COLUMNS = "name, role, selector, digest, created, expires, revoked"


class TokensFailed(Exception):
    """The file cannot be used, or what was asked of it cannot be done; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry to make; `expires` None is never, and `certificate` makes one without a token."""

    name: str
    role: Role
    selector: Selector = EVERY_BOARD
    expires: datetime | None = None
    certificate: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One name's rights; `digest` is None where only a certificate of the name counts."""

    name: str
    role: Role
    selector: Selector
    digest: bytes | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None

    def state(self, now: datetime) -> str:
        """Return "valid", "expired" or "revoked"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    @property
    def principal(self) -> Principal:
        """Who comes in with it."""
        return Principal(self.name, self.role, self.selector)


def digest(text: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).digest()


class Table:
    """The entries of one reading, found by token or by name."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_digest = {}
        self._by_name = {}
        for entry in entries:  # the latest of a name wins
            self._by_name[entry.name] = entry
            if entry.digest is not None:
                self._by_digest[entry.digest] = entry

    def of_token(self, shown: bytes) -> Entry | None:
        """Return the entry whose token has this digest, whatever its state."""
        entry = self._by_digest.get(shown)
        # The look-up compares digests, of which an attacker chooses none; this holds even so.
        if entry is None or entry.digest is None or not hmac.compare_digest(entry.digest, shown):
            return None
        return entry

    def of_name(self, name: str) -> Entry | None:
        """Return the latest entry of this name, whatever its state."""
        return self._by_name.get(name)

    def any_valid(self, now: datetime) -> bool:
        """Return whether anybody could come in with a token."""
        return any(entry.state(now) == "valid" for entry in self._by_digest.values())


class Tokens:
    """The file at `path`, which need not exist; each method opens and closes it and blocks meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def signature(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file does; None where there is none. A single stat."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def read(self) -> list[Entry]:
        """Return every entry, the oldest first.

        Raises:
            TokensFailed: It cannot be read, or is of another belayd.
        """
        if not self._path.exists():
            return []
        with self._open() as database:
            return _entries(database)

    def create(self, wanted: Sequence[Wanted], now: datetime) -> list[str]:
        """Add entries, all or none, and return their tokens, "" for those of certificates.

        Raises:
            TokensFailed: A name is in use; or as `read`.
            RequestInvalid: A name is none.
        """
        for each in wanted:
            check_name(each.name)
        texts = ["" if each.certificate else PREFIX + secrets.token_urlsafe(32) for each in wanted]
        self._make()
        with self._changing() as database:
            used = {entry.name for entry in _entries(database) if entry.state(now) == "valid"}
            for each, text in zip(wanted, texts, strict=True):
                if each.name in used:
                    raise TokensFailed(
                        f"{each.name!r} has a token or an entry already; choose another name, or first run: "
                        f"belayd token revoke {each.name}"
                    )
                used.add(each.name)
                database.execute(
                    f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL)",
                    (
                        *(each.name, each.role.name.lower(), str(each.selector)),
                        digest(text) if text else None,
                        _stamp(now),
                        _stamp(each.expires) if each.expires else None,
                    ),
                )
            if database.execute("SELECT count(*) FROM entries").fetchone()[0] > MOST_ENTRIES:
                raise TokensFailed(f"{self._path} holds {MOST_ENTRIES} entries; no more fit")
        return texts

    def revoke(self, name: str, now: datetime, *, certificate: bool = False) -> None:
        """End every entry of a name; with `certificate`, one that has none is kept out as well.

        Raises:
            TokensFailed: There is none; or as `read`.
        """
        self._make()
        with self._changing() as database:
            changed = database.execute(
                "UPDATE entries SET revoked = ? WHERE name = ? AND revoked IS NULL", (_stamp(now), name)
            ).rowcount
            if not changed and certificate:
                check_name(name)
                row = (name, Role.VIEWER.name.lower(), "", None, _stamp(now), None, _stamp(now))
                database.execute(f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            elif not changed:
                raise TokensFailed(
                    f"there is no token {name!r} that could be revoked; belayd token list shows them. To keep "
                    f"out a certificate of this name: belayd token revoke --certificate {name}"
                )

    def _make(self) -> None:
        """Make the file, of the folder's owner, so that root can write what the daemon's user reads."""
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise TokensFailed(f"{self._path}: {error.strerror}; is --state the daemon's folder?") from error
        try:
            folder = self._path.parent.stat()
            if os.geteuid() == 0 and os.fstat(handle).st_uid != folder.st_uid:
                os.fchown(handle, folder.st_uid, folder.st_gid)
        finally:
            os.close(handle)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        # The kernel's own stamps are milliseconds apart: two changes within one tick would look like one.
        now = time.time_ns()
        os.utime(self._path, ns=(now, now))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open and check the file; what is not committed is rolled back."""
        try:
            mode = self._path.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise TokensFailed(f"{self._path} is open to others; run: chmod 600 {self._path}")
            with closing(sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)) as database:
                # Not WAL: its changes would not show in the file's own stamp.
                layout = database.execute("PRAGMA user_version").fetchone()[0]
                if layout == 0 and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    _lay_out(database)
                elif database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                    raise TokensFailed(f"{self._path} is not belayd's; move it away")
                elif layout != _LAYOUT:
                    raise TokensFailed(
                        f"{self._path} was written by another version of belayd (layout {layout}, this one "
                        f"knows {_LAYOUT}); run that version"
                    )
                yield database
        except (sqlite3.Error, OSError, KeyError) as error:
            raise TokensFailed(f"{self._path} cannot be used: {error}") from error


def _lay_out(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    # Another may have been first between the look and the lock.
    if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_LAYOUT}")
    database.execute("COMMIT")


def _entries(database: sqlite3.Connection) -> list[Entry]:
    return [_entry(row) for row in database.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY id")]


def _entry(row: tuple[str, str, str, bytes | None, int, int | None, int | None]) -> Entry:
    name, role, selector, kept, created, expires, revoked = row
    return Entry(
        name=name,
        role=Role[role.upper()],
        selector=Selector.parse(selector),
        digest=kept,
        created=_time(created),
        expires=None if expires is None else _time(expires),
        revoked=None if revoked is None else _time(revoked),
    )


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp())


def _time(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)
