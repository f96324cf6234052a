"""What was made before, by the content that it was made from.

Files below ~/.cache/belayd, or XDG_CACHE_HOME: each is its own SHA-256 and then the
result, so that one which a crash cut short counts as absent. A cache that cannot
be written costs time and nothing else. Beyond its bound, the oldest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

MOST_FILES = 20_000
"""A tree has at most 10,000: two of the largest. Each is a few kB."""

_DIGEST_BYTES = 32


class Cache:
    """Results below one folder. Safe to share between threads and processes."""

    def __init__(self, folder: Path, most_files: int = MOST_FILES) -> None:
        self.folder = folder
        self._most_files = most_files

    @classmethod
    def of_user(cls) -> Cache:
        """Return the user's own."""
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (no error without a home)
        return cls(Path(home) / "belayd" / "preparation")

    def find(self, key: bytes) -> bytes | None:
        """Return what was kept under a key of 32 bytes; None if nothing whole is there."""
        try:
            stored = self._path(key).read_bytes()
        except OSError:
            return None
        digest, result = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        return result if hashlib.sha256(result).digest() == digest else None

    def keep(self, key: bytes, result: bytes) -> None:
        """Keep a result, if that can be done."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(number, "wb") as file:
                file.write(hashlib.sha256(result).digest() + result)
            Path(name).replace(path)
            self._trim(path.parent)

    def _trim(self, folder: Path) -> None:
        """Forget the oldest of one of the 256 folders, when that has its share."""
        share = max(self._most_files // 256, 2)
        files = list(folder.iterdir())
        if len(files) > share:
            files.sort(key=lambda path: path.stat().st_mtime)
            for path in files[: len(files) - share // 2]:
                path.unlink(missing_ok=True)

    def _path(self, key: bytes) -> Path:
        return self.folder / key[:1].hex() / key[1:].hex()


def key_of(*parts: str | bytes) -> bytes:
    """Return the key of what is made from these parts, in this order; 32 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
