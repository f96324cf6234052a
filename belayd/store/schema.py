"""The database's tables, as the ordered list of steps that made them.

A step once released never changes; what is to be different is a further step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x62656C61
"""Marks the file as belayd's: "bela"."""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """CREATE TABLE leases (
            board TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            principal TEXT NOT NULL,
            holder TEXT NOT NULL,
            reason TEXT NOT NULL,
            ttl REAL NOT NULL,
            token_hash BLOB NOT NULL,
            fence INTEGER NOT NULL,
            acquired INTEGER NOT NULL,
            expires INTEGER NOT NULL,
            held REAL NOT NULL,
            ended INTEGER NOT NULL,
            boot TEXT NOT NULL,
            saved REAL NOT NULL,
            notice_by TEXT,
            notice_why TEXT,
            notice_ends INTEGER,
            notice_left REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE fences (board TEXT PRIMARY KEY, fence INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE disabled (
            board TEXT PRIMARY KEY,
            by_whom TEXT NOT NULL,
            why TEXT NOT NULL,
            since INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE audit (
            seq INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            principal TEXT NOT NULL,
            role TEXT NOT NULL,
            peer TEXT NOT NULL,
            action TEXT NOT NULL,
            board TEXT NOT NULL,
            lease TEXT NOT NULL,
            what BLOB NOT NULL,
            outcome TEXT NOT NULL,
            reason TEXT NOT NULL,
            seconds REAL NOT NULL,
            detail TEXT NOT NULL,
            size INTEGER NOT NULL,
            hash BLOB NOT NULL
        )""",
        "CREATE INDEX audit_of_principal ON audit (principal, seq)",
        "CREATE INDEX audit_of_board ON audit (board, seq)",
        "CREATE INDEX audit_at ON audit (at)",
        # What was pruned: records `first` to `last`, and the chain's hash after them.
        """CREATE TABLE audit_gaps (
            first INTEGER PRIMARY KEY,
            last INTEGER NOT NULL UNIQUE,
            hash BLOB NOT NULL
        )""",
        "CREATE TABLE audit_head (seq INTEGER NOT NULL, hash BLOB NOT NULL)",
        "INSERT INTO audit_head VALUES (0, zeroblob(32))",
        """CREATE TABLE audit_kept (
            principal TEXT PRIMARY KEY,
            records INTEGER NOT NULL,
            bytes INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE runs (
            seq INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            board TEXT NOT NULL,
            principal TEXT NOT NULL,
            lease TEXT NOT NULL,
            what BLOB NOT NULL,
            state TEXT NOT NULL,
            created INTEGER NOT NULL,
            started INTEGER,
            ended INTEGER,
            outcome BLOB,
            output_end INTEGER NOT NULL,
            output_kept INTEGER NOT NULL
        )""",
        "CREATE INDEX runs_of_principal ON runs (principal, seq)",
        "CREATE INDEX runs_of_board ON runs (board, seq)",
        "CREATE INDEX runs_of_state ON runs (state)",
        """CREATE TABLE run_output (
            run INTEGER NOT NULL,
            position INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (run, position)
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE deployments (
            seq INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            board TEXT NOT NULL,
            principal TEXT NOT NULL,
            created INTEGER NOT NULL,
            destination TEXT NOT NULL,
            outcome TEXT NOT NULL,
            in_place INTEGER NOT NULL,
            files_written INTEGER NOT NULL,
            files_deleted INTEGER NOT NULL,
            payload_bytes INTEGER NOT NULL,
            changed INTEGER NOT NULL,
            refusal TEXT NOT NULL,
            rolls_back TEXT NOT NULL
        )""",
        "CREATE INDEX deployments_of_board ON deployments (board, seq)",
        # Digests are NULL where there is nothing, and empty for a folder.
        """CREATE TABLE deployment_files (
            deployment INTEGER NOT NULL,
            path BLOB NOT NULL,
            before BLOB,
            before_size INTEGER NOT NULL,
            after BLOB,
            after_size INTEGER NOT NULL,
            PRIMARY KEY (deployment, path)
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE rollouts (
            seq INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            principal TEXT NOT NULL,
            role INTEGER NOT NULL,
            selector TEXT NOT NULL,
            reason TEXT NOT NULL,
            created INTEGER NOT NULL,
            canary INTEGER NOT NULL,
            wave INTEGER NOT NULL,
            parallel INTEGER NOT NULL,
            max_failures INTEGER NOT NULL,
            state TEXT NOT NULL,
            state_reason TEXT NOT NULL,
            ended INTEGER,
            intent BLOB NOT NULL
        )""",
        "CREATE INDEX rollouts_of_principal ON rollouts (principal, seq)",
        "CREATE INDEX rollouts_ended ON rollouts (ended)",
        """CREATE TABLE rollout_boards (
            rollout TEXT NOT NULL,
            position INTEGER NOT NULL,
            board TEXT NOT NULL,
            wave INTEGER NOT NULL,
            step TEXT NOT NULL,
            message TEXT NOT NULL,
            lease TEXT NOT NULL,
            since TEXT NOT NULL,
            written_bytes INTEGER NOT NULL,
            total_bytes INTEGER NOT NULL,
            wire_bytes INTEGER NOT NULL,
            ran REAL NOT NULL,
            PRIMARY KEY (rollout, position)
        ) WITHOUT ROWID""",
    ),
)


def version_of(connection: sqlite3.Connection) -> int:
    """Return how many steps the database has; 0 for an empty one.

    Raises:
        sqlite3.DatabaseError: It is no database, or damaged.
        NotOurs: It is another program's.
    """
    [[tables]] = connection.execute("SELECT count(*) FROM sqlite_schema")
    if tables == 0:
        return 0
    [[application]] = connection.execute("PRAGMA application_id")
    if application != APPLICATION_ID:
        raise NotOurs
    found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall()
    if not (found and isinstance(found[0][0], int)):
        raise sqlite3.DatabaseError("it does not tell its schema")
    return found[0][0]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the database to the newest step, wholly or not at all; it must not be newer."""
    version = version_of(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
        for step in migrations[version:]:
            for statement in step:
                connection.execute(statement)
        # Written at every start: whether the disk takes it is known before anybody depends on it.
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (len(migrations),))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class NotOurs(Exception):
    """The database is another program's."""
