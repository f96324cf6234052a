"""Contents for many boards: read once while several want them, in bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from belayd.archive import Archive
from belayd.errors import StoreFailed
from belayd.rollout.shelf import Shelf


async def kept(archive: Archive, data: bytes) -> bytes:
    sha256 = hashlib.sha256(data).digest()
    await archive.keep(sha256, data)
    return sha256


async def test_a_content_that_many_want_is_read_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "contents")
    sha256 = await kept(archive, b"app")
    shelf = Shelf(archive)

    found = await asyncio.gather(*(shelf.read(sha256) for _ in range(20)))

    assert found == [b"app"] * 20
    assert all(data is found[0] for data in found)


async def test_what_was_wanted_longest_ago_goes_first(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "contents")
    names = [await kept(archive, bytes([number]) * 40) for number in range(3)]
    shelf = Shelf(archive, limit_bytes=100)
    for sha256 in (names[0], names[1], names[0], names[2]):
        await shelf.read(sha256)

    await archive.retain(set())

    assert await shelf.read(names[0]) == bytes([0]) * 40
    assert await shelf.read(names[2]) == bytes([2]) * 40
    with pytest.raises(StoreFailed):
        await shelf.read(names[1])


async def test_what_is_larger_than_the_shelf_is_passed_on(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "contents")
    sha256 = await kept(archive, b"x" * 101)
    shelf = Shelf(archive, limit_bytes=100)

    assert await shelf.read(sha256) == b"x" * 101
    await archive.retain(set())
    with pytest.raises(StoreFailed):
        await shelf.read(sha256)
