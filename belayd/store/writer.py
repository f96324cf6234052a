"""The one writer: writes queue on the loop and are committed together by one thread.

An urgent write is committed at once and outlasts a loss of power (fsync); the
others wait a little for company, and outlast a kill of the daemon at once but a
loss of power only when the next urgent one is committed. Everything queued while a
commit is under way shares the next: one fsync serves all who wait.

When the database cannot be written (a full disk), whoever waits is told so, and
what was queued is kept and tried again, in order, up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sqlite3
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from belayd.errors import StoreFailed

log = logging.getLogger(__name__)

LINGER = 0.02
"""Seconds that a write which is not urgent waits for others; bounds the commits to 50 a second."""
RETRY = 1.0
"""Seconds between two attempts while the database cannot be written."""
MOST_WRITES = 20_000
MOST_BYTES = 16 * 1024 * 1024
"""What may be queued; reached only when the database cannot be written for long."""

_FAULTS = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE}
"""Codes that tell of a fault of belayd, where trying again would not help."""

Work = Callable[[sqlite3.Connection], None]


@dataclass(slots=True, eq=False)
class Write:
    """One queued write; `taken` once it is being committed and may change no more."""

    work: Work
    urgent: bool
    cost: int
    taken: bool = False


class Writer:
    """Commits what is `put`, while `run` runs.

    Args:
        connection: Used by `thread` alone from now on.
        thread: With one worker.
        name: Of the database, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, name: str) -> None:
        self._connection = connection
        self._thread = thread
        self._name = name
        self._numbers = itertools.count()
        self._pending: dict[Hashable, Write] = {}
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._flight: dict[Hashable, Write] = {}
        self._flight_waiters: list[asyncio.Future[None]] = []
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failing = False
        self._closing = False
        self._over = False

    def put(self, work: Work, *, key: Hashable = None, urgent: bool = False, cost: int = 0) -> Write:
        """Queue a write; `work` runs in the writer's thread, inside a transaction, perhaps again.

        Args:
            key: A later write of the same key replaces one that is still queued; None for none.
                Writes with a key are as few as their keys, and never refused.
            cost: Bytes that it keeps in memory.

        Raises:
            StoreFailed: Too much is queued already.
        """
        if key is None:
            self._refuse_if_full(cost)
            key = next(self._numbers)
        else:
            self.withdraw(key)
        write = self._pending[key] = Write(work, urgent, cost)
        self._bytes += cost
        self._news.set()
        if urgent:
            self._hurry.set()
        return write

    def withdraw(self, key: Hashable) -> None:
        """Take a write back if it is still queued."""
        write = self._pending.pop(key, None)
        if write is not None:
            self._bytes -= write.cost

    def grow(self, write: Write, cost: int) -> None:
        """Note that a queued write, not taken yet, keeps `cost` more bytes.

        Raises:
            StoreFailed: Too much is queued already.
        """
        self._refuse_if_full(cost)
        write.cost += cost
        self._bytes += cost

    async def settled(self) -> None:
        """Return when every urgent write queued so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """
        if self._over:
            raise self._failure("it was closed")
        if any(write.urgent for write in self._pending.values()):
            await self._next_attempt()
        elif any(write.urgent for write in self._flight.values()):
            await self._wait(self._flight_waiters)

    async def written(self) -> None:
        """Return when everything queued so far can be read, or could not be written."""
        with contextlib.suppress(StoreFailed):
            if self._over:
                return
            if self._pending:
                await self._next_attempt()
            elif self._flight:
                await self._wait(self._flight_waiters)

    async def run(self) -> None:
        """Commit what is queued until `close` and everything is written, or cannot be."""
        try:
            while not (self._closing and not self._pending):
                await self._news.wait()
                if not self._hurry.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LINGER):
                            await self._hurry.wait()
                self._news.clear()
                self._hurry.clear()
                await self._attempt()
                if self._closing and self._failing:
                    log.error("%d records are lost with the end of the daemon", len(self._pending))
                    return
        finally:
            self._over = True
            self._tell([*self._flight_waiters, *self._waiters], self._failure("its writer ended"))

    def close(self) -> None:
        """Let `run` write what is queued, once, and return."""
        self._closing = True
        self._news.set()
        self._hurry.set()

    async def _next_attempt(self) -> None:
        self._news.set()
        self._hurry.set()
        await self._wait(self._waiters)

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        await waiter

    async def _attempt(self) -> None:
        self._flight, self._pending = self._pending, {}
        self._flight_waiters, self._waiters = self._waiters, []
        for write in self._flight.values():
            write.taken = True
        failure: StoreFailed | None = None
        if self._flight:
            failure = await self._commit()
        waiters, self._flight_waiters = self._flight_waiters, []
        if failure is None:
            self._bytes -= sum(write.cost for write in self._flight.values())
        else:
            self._keep()
            asyncio.get_running_loop().call_later(RETRY, self._news.set)
        self._flight = {}
        self._tell(waiters, failure)

    async def _commit(self) -> StoreFailed | None:
        writes = list(self._flight.values())
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._perform, writes)
        except sqlite3.DatabaseError as error:
            code = getattr(
                error, "sqlite_errorcode", sqlite3.SQLITE_ERROR
            )  # none: the module's own complaint
            if code & 0xFF in _FAULTS:
                raise
            if not self._failing:
                log.error("%s cannot be written: %s; trying again every %g s", self._name, error, RETRY)
            self._failing = True
            return self._failure(str(error))
        if self._failing:
            log.info("%s can be written again", self._name)
        self._failing = False
        return None

    def _perform(self, writes: list[Write]) -> None:
        """Commit, in the thread."""
        durable = any(write.urgent for write in writes)
        connection = self._connection
        # Without fsync a commit of a run's output costs 0.03 ms, with it 0.3 ms and more on a disk that turns.
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for write in writes:
                write.work(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _keep(self) -> None:
        """Put what could not be written before what was queued since."""
        kept: dict[Hashable, Write] = {}
        for key, write in self._flight.items():
            if key in self._pending:
                self._bytes -= write.cost
            else:
                kept[key] = write
        self._pending = {**kept, **self._pending}

    def _refuse_if_full(self, cost: int) -> None:
        if self._over or self._bytes + cost > MOST_BYTES or len(self._pending) >= MOST_WRITES:
            raise self._failure("too much waits to be written already")

    def _failure(self, why: str) -> StoreFailed:
        return StoreFailed(
            f"{self._name} cannot be written: {why}; an operator has to make room or mend the disk, "
            "then try again",
            cause=why,
        )

    def _tell(self, waiters: list[asyncio.Future[None]], failure: StoreFailed | None) -> None:
        for waiter in waiters:
            if waiter.done():  # whoever waited has left
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)
