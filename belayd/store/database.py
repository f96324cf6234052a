"""The store: the database opened once a daemon, and everything that is kept in it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from belayd.store import opening
from belayd.store.audit import Audit, AuditLimits
from belayd.store.deployments import Deployments
from belayd.store.disabled import Disabled, DisabledBoard, load_disabled
from belayd.store.leases import Leases, StoredLeases, load_leases
from belayd.store.reader import Reader
from belayd.store.rollouts import RolloutLimits, Rollouts
from belayd.store.runs import RunLimits, Runs, lose_unfinished
from belayd.store.writer import Writer

log = logging.getLogger(__name__)

SWEEP = 3600.0
"""Seconds between two looks for what is too old to be kept."""


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """What survives the daemon, from `open` to `close`.

    Attributes:
        leases, audit, runs, disabled, deployments: What is kept, each for itself.
    """

    def __init__(
        self,
        opened: _Opened,
        wall: Callable[[], datetime],
        audit: AuditLimits | None,
        runs: RunLimits | None,
        rollouts: RolloutLimits | None,
    ) -> None:
        self._opened = opened
        self._threads = [ThreadPoolExecutor(1, f"store {what}") for what in ("writer", "reader")]
        self._writer = Writer(opened.writing, self._threads[0], opened.name)
        reader = Reader(opened.reading, self._threads[1], self._writer, opened.name)
        self.leases = Leases(self._writer, opened.leases, opened.boot, time.monotonic)
        self.audit = Audit(self._writer, reader, wall, audit)
        self.runs = Runs(self._writer, reader, wall, runs)
        self.rollouts = Rollouts(self._writer, reader, wall, rollouts)
        self.disabled = Disabled(self._writer, opened.disabled)
        self.deployments = Deployments(self._writer, reader)
        self._closed = False
        self._writing = asyncio.get_running_loop().create_task(self._writer.run(), name="store writer")

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        wall: Callable[[], datetime] = _now,
        audit: AuditLimits | None = None,
        runs: RunLimits | None = None,
        rollouts: RolloutLimits | None = None,
    ) -> Self:
        """Open the store of a state folder, made if there is none.

        What ran when the last daemon ended is lost from here on.

        Raises:
            StoreUnusable: It cannot be used; it is as it was.
        """
        return cls(await asyncio.to_thread(_open, folder, wall), wall, audit, runs, rollouts)

    async def watch(self) -> None:
        """Drop what is too old, again and again; raise what the writer failed of, if it ever does."""
        while True:
            self.audit.expire()
            self.runs.expire()
            self.rollouts.expire()
            done, _ = await asyncio.wait([self._writing], timeout=SWEEP)
            for writing in done:
                writing.result()
                return

    async def settled(self) -> None:
        """Return when everything urgent so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """
        await self._writer.settled()

    async def close(self) -> None:
        """Write what is queued and give the folder back; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        await asyncio.wait([self._writing])  # what it failed of is raised by `watch`
        for thread in self._threads:
            thread.shutdown()
        self._opened.reading.close()
        self._opened.writing.close()
        os.close(self._opened.lock)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What opening found."""

    name: str
    lock: int
    writing: sqlite3.Connection
    reading: sqlite3.Connection
    boot: str
    leases: StoredLeases
    disabled: list[DisabledBoard]


def _open(folder: Path, wall: Callable[[], datetime]) -> _Opened:
    path = folder / opening.DATABASE
    lock = opening.lock(folder)
    try:
        writing, reading = opening.open_database(folder)
        if lost := lose_unfinished(writing, wall()):
            log.warning("%d detached runs had not ended when the last daemon did; they are lost", lost)
        boot = opening.boot_id()
        leases = load_leases(reading, boot, time.monotonic())
        return _Opened(str(path), lock, writing, reading, boot, leases, load_disabled(reading))
    except opening.StoreUnusable:
        os.close(lock)
        raise
    except sqlite3.DatabaseError as error:
        os.close(lock)
        raise opening.StoreUnusable(opening.unwritable(path, str(error))) from error
