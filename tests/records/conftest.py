"""A simulated board in a session, with a store and an archive that remember what was deployed to it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from belayd.archive import Archive
from belayd.deployment.plan import ManifestFile, Plan
from belayd.deployment.transfer import Options, Progress
from belayd.files import read_file
from belayd.records import Asked, Deployed, RecordLimits, Records
from belayd.session import Session
from belayd.store import Store
from belayd.transport.process import open_simulated

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
Files = Mapping[str, bytes]


class Bench:
    """One board called "a" and the records of it; `now` goes when told.

    Attributes:
        read: Paths that were read from the board.
    """

    def __init__(self, session: Session, root: Path, folder: Path, store: Store) -> None:
        self.now = NOON
        self.read: list[str] = []
        self.session = session
        self.store = store
        self._root = root
        self._folder = folder
        self.records = self.remember()

    def remember(self, limit_bytes: int = 1 << 20, most: int = 5) -> Records:
        """Make records anew, as the next daemon does."""
        self.archive = Archive(self._folder / "snapshots", limit_bytes)
        limits = RecordLimits(most, timedelta(days=30))

        async def read(session: Session, path: str, take: Any) -> bytes:
            self.read.append(path)
            return await read_file(session, path, take)

        self.records = Records(self.store.deployments, self.archive, read, limits, lambda: self.now)
        return self.records

    @property
    def file(self) -> Path:
        """The store's."""
        return self._folder / "belayd.sqlite"

    async def deploy(self, files: Files, asked: Asked | None = None, **options: Any) -> Deployed:
        """Deploy contents by path, which are files of the host."""
        contents = {digest(data): data for data in files.values()}
        for sha, data in contents.items():
            (self._folder / sha.hex()).write_bytes(data)

        async def content(sha: bytes) -> bytes:
            return contents[sha]

        def locate(sha: bytes) -> Path:
            return self._folder / sha.hex()

        manifest = [ManifestFile(path, digest(data), len(data)) for path, data in files.items()]
        return await self.records.deploy(
            self.session, asked or Asked("a", "ann"), manifest, content, Options(**options), unheard, locate
        )

    async def roll_back(self, name: str = "") -> Deployed:
        """Roll back the last deployment, or one."""
        return await self.records.roll_back(self.session, Asked("a", "ann"), name, unheard)

    def files(self) -> dict[str, bytes]:
        """What the board has."""
        return {
            path.relative_to(self._root).as_posix(): path.read_bytes()
            for path in sorted(self._root.rglob("*"))
            if path.is_file()
        }

    def write(self, path: str, data: bytes | None) -> None:
        """Write a file as somebody at the board would, or with None delete it."""
        if data is None:
            (self._root / path).unlink()
            return
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).write_bytes(data)


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


async def unheard(step: Plan | Progress) -> None:
    """Hear of no step."""


async def unseen(data: bytes) -> None:
    """Look at no output."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        store = await Store.open(tmp_path)
        stack.push_async_callback(store.close)
        transport = await open_simulated(tmp_path / "root", heap_kib=4096)
        stack.push_async_callback(transport.close)
        session = Session("a", transport, lambda letters: secrets.token_hex(letters)[:letters])
        await session.start(unseen)
        yield Bench(session, tmp_path / "root", tmp_path, store)
