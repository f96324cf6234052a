"""Opening the database: one daemon a folder, and nothing is touched that cannot be trusted.

The file is looked at by a connection that can only read before anything writes to
it. Source of what a connection that can only read leaves alone: SQLite
documentation, "Write-Ahead Logging", "Read-Only Databases".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from belayd.store.schema import MIGRATIONS, NotOurs, migrate, version_of

DATABASE = "belayd.sqlite"
LOCK = "lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_OF_THE_DISK = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_BUSY = 5.0  # seconds; only a person's own sqlite3 shell ever holds it


class StoreUnusable(Exception):
    """The state folder cannot be used; the message says why and what to do."""


def lock(folder: Path) -> int:
    """Take a state folder for this process; return the descriptor that holds it.

    Raises:
        StoreUnusable: Another daemon has it, or it cannot be written.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(unwritable(path, error.strerror or str(error))) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreUnusable(
            f"another belayd (process {holder or 'unknown'}) runs on {folder}; "
            "stop it, or name another folder with --state"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise StoreUnusable(
            f"{path} cannot be locked: {error.strerror}; name a folder on a local disk with --state"
        ) from error
    with contextlib.suppress(OSError):  # who holds it is only for the message above; a disk may be full
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def open_database(
    folder: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Open the database of a folder that is locked, made if there is none.

    Returns one connection that writes and one that only reads, each for one thread
    at a time.

    Raises:
        StoreUnusable: It is newer, damaged, another program's, or cannot be written;
            it is as it was.
    """
    path = folder / DATABASE
    try:
        # Its companions (-wal, -shm) get its mode; what others could read must not be written first.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        _sync(folder)
    except OSError as error:
        raise StoreUnusable(unwritable(path, error.strerror or str(error))) from error
    _examine(path, len(migrations))
    writing = reading = None
    try:
        writing = _connect(path, "rw")
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("PRAGMA synchronous = FULL")
        migrate(writing, migrations)
        reading = _connect(path, "ro")
    except sqlite3.DatabaseError as error:
        for connection in (writing, reading):
            if connection is not None:
                connection.close()
        raise StoreUnusable(unwritable(path, str(error))) from error
    return writing, reading


def unwritable(path: Path, why: str) -> str:
    """Return what to say of a file that cannot be written."""
    return (
        f"{path} cannot be written: {why}; make room or mend its rights, or name another folder with --state"
    )


def boot_id() -> str:
    """Return what names the host's present boot; "" where it cannot be told."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _sync(folder: Path) -> None:
    """Let the names of the files in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _examine(path: Path, newest: int) -> None:
    """Raise StoreUnusable unless the file is sound and not newer than `newest`."""
    connection = None
    try:
        connection = _connect(path, "ro")
        faults = [fault for (fault,) in connection.execute("PRAGMA quick_check(3)") if fault != "ok"]
        version = 0 if faults else version_of(connection)
    except NotOurs:
        raise StoreUnusable(f"{path} is another program's; name another folder with --state") from None
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _OF_THE_DISK:
            raise StoreUnusable(unwritable(path, str(error))) from error
        faults = [str(error)]
    finally:
        if connection is not None:
            connection.close()
    if faults:
        told = " ".join("; ".join(faults).split())
        raise StoreUnusable(
            f"{path} is damaged ({told}); it was left as it is: put a copy back, or move it away to start "
            "without its leases and records"
        )
    if version > newest:
        raise StoreUnusable(
            f"{path} is of a newer belayd (schema {version}, this one knows {newest}); it was left as it is: "
            "start that version, or name another folder with --state"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=_BUSY,
        isolation_level=None,  # transactions are begun and ended here, by name
        check_same_thread=False,
    )
