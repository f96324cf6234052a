"""Boards that an operator took out of service: by whom, why, since when."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from belayd.store.times import from_micros, to_micros
from belayd.store.writer import Writer


@dataclass(frozen=True, slots=True)
class DisabledBoard:
    """One board out of service."""

    board: str
    by: str
    why: str
    since: datetime


class Disabled:
    """The boards out of service; called on the loop, so none of it blocks.

    Args:
        stored: From `load_disabled`.
    """

    def __init__(self, writer: Writer, stored: Iterable[DisabledBoard]) -> None:
        self._writer = writer
        self._boards = {each.board: each for each in stored}

    @property
    def boards(self) -> Mapping[str, DisabledBoard]:
        """All of them, by name; boards that the inventory lacks may be among them."""
        return MappingProxyType(self._boards)

    def disable(self, disabled: DisabledBoard) -> None:
        """Keep a board as out of service, in place of what was said of it before.

        Answer an operator only after `settled`.
        """
        self._boards[disabled.board] = disabled
        row = (disabled.board, disabled.by, disabled.why, to_micros(disabled.since))

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO disabled VALUES (?, ?, ?, ?)", row)

        self._writer.put(work, key=("disabled", disabled.board), urgent=True)

    def enable(self, board: str) -> None:
        """Keep a board as in service; does nothing if it is."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM disabled WHERE board = ?", (board,))

        if self._boards.pop(board, None) is not None:
            self._writer.put(work, key=("disabled", board), urgent=True)

    async def settled(self) -> None:
        """Return when everything said so far outlasts a loss of power.

        Raises:
            StoreFailed: It could not be written; it is tried again by itself.
        """
        await self._writer.settled()


def load_disabled(connection: sqlite3.Connection) -> list[DisabledBoard]:
    """Read what is stored."""
    rows = connection.execute("SELECT board, by_whom, why, since FROM disabled ORDER BY board")
    return [DisabledBoard(board, by, why, from_micros(since)) for board, by, why, since in rows]
