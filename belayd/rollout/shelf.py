"""A rollout's contents on their way to many boards: each read once while several want it.

Bounded: what was wanted longest ago goes first. A content larger than the shelf is
read for each board anew.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from belayd.archive import Archive

SHELF_BYTES = 8 * 1024 * 1024


class Shelf:
    """Contents of an archive, some of them at hand."""

    def __init__(self, archive: Archive, limit_bytes: int = SHELF_BYTES) -> None:
        self._archive = archive
        self._limit = limit_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._reading: dict[bytes, asyncio.Lock] = {}

    async def read(self, sha256: bytes) -> bytes:
        """Return a content; raises as `Archive.read`."""
        if (data := self._find(sha256)) is not None:
            return data
        lock = self._reading.setdefault(sha256, asyncio.Lock())
        try:
            async with lock:
                if (data := self._find(sha256)) is None:
                    data = await self._archive.read(sha256)
                    self._keep(sha256, data)
                return data
        finally:
            if not lock.locked():
                self._reading.pop(sha256, None)

    def _find(self, sha256: bytes) -> bytes | None:
        data = self._kept.get(sha256)
        if data is not None:
            self._kept.move_to_end(sha256)
        return data

    def _keep(self, sha256: bytes, data: bytes) -> None:
        if len(data) > self._limit:
            return
        self._kept[sha256] = data
        self._size += len(data)
        while self._size > self._limit:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped)
