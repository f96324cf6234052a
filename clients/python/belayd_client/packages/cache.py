"""Contents that were fetched, by SHA-256, so that none is fetched twice.

A folder of the user's, ~/.cache/belayd/packages or below XDG_CACHE_HOME. What is
in it is believed only if its hash says so. Beyond its bound the contents that
were used longest ago go.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from belayd_client.errors import PreparationFailed

MOST_BYTES = 512 * 2**20


class Cache:
    """A folder of contents; made when something is first kept."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self._most_bytes = most_bytes

    @classmethod
    def of_user(cls) -> Cache:
        """Return the user's own.

        Raises:
            PreparationFailed: There is no home folder.
        """
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:
            raise PreparationFailed(
                "there is no home folder to keep packages in; set XDG_CACHE_HOME"
            ) from None
        return cls(home / "belayd" / "packages")

    def find(self, sha256: bytes) -> Path | None:
        """Return the file with a content, as used now; one that was damaged is removed."""
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                sound = hashlib.file_digest(file, "sha256").digest() == sha256
            if not sound:
                path.unlink()
                return None
            os.utime(path)
        except OSError:
            return None
        return path

    def keep(self, content: bytes) -> Path:
        """Keep a content; return its file.

        Raises:
            PreparationFailed: The folder cannot be written.
        """
        path = self._path(hashlib.sha256(content).digest())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, fresh = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                Path(fresh).replace(path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise PreparationFailed(f"cannot keep packages in {self.folder}: {error.strerror}") from None
        return path

    def trim(self, used: Collection[bytes]) -> None:
        """Remove what was used longest ago until the bound is kept; never what is in `used`."""
        spared = {self._path(sha256) for sha256 in used}
        found: list[tuple[float, int, Path]] = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:  # Another belayctl removed it.
                continue
            found.append((status.st_mtime, status.st_size, path))
        size = sum(entry[1] for entry in found)
        for _, bytes_of_it, path in sorted(found):
            if size <= self._most_bytes:
                return
            if path not in spared:
                path.unlink(missing_ok=True)
                size -= bytes_of_it

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self.folder / name[:2] / name
