"""A store in a folder of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from belayd.store import AuditLimits, RunLimits, Store

T = TypeVar("T")
PATIENCE = 30.0
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Wall:
    """A time of day that goes when told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go(self, **how: float) -> datetime:
        self.now += timedelta(**how)
        return self.now


class Place:
    """A state folder; `open` gives its store, closed with the test at the latest."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.wall = Wall()
        self._stack = stack

    @property
    def file(self) -> Path:
        return self.folder / "belayd.sqlite"

    async def open(self, audit: AuditLimits | None = None, runs: RunLimits | None = None) -> Store:
        store = await Store.open(self.folder, wall=self.wall, audit=audit, runs=runs)
        self._stack.push_async_callback(store.close)
        return store


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(tmp_path, stack)


@pytest.fixture
def within() -> Callable[[Awaitable[T]], Awaitable[T]]:
    """Wait for something, but not for ever."""

    async def wait(awaitable: Awaitable[T]) -> T:
        async with asyncio.timeout(PATIENCE):
            return await awaitable

    return wait
