"""Reads off the loop: a connection of its own, that writes nothing, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from belayd.errors import StoreFailed
from belayd.store.writer import Writer

T = TypeVar("T")


class Reader:
    """Reads one at a time, while the writer writes.

    Args:
        connection: Used by `thread` alone from now on.
        thread: With one worker.
        writer: What it has queued is seen.
        name: Of the database, for messages.
    """

    def __init__(
        self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, writer: Writer, name: str
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._writer = writer
        self._name = name

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `query` makes of the database as it is with everything queued so far.

        While the database cannot be written it is read as it was before.

        Raises:
            StoreFailed: It cannot be read.
        """
        await self._writer.written()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._perform, query)
        except sqlite3.DatabaseError as error:
            raise StoreFailed(f"{self._name} cannot be read: {error}", cause=str(error)) from error

    def _perform(self, query: Callable[[sqlite3.Connection], T]) -> T:
        # One transaction, so that all statements of a query see one state.
        self._connection.execute("BEGIN")
        try:
            return query(self._connection)
        finally:
            self._connection.execute("ROLLBACK")
