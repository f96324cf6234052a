"""Where files from boards land here: below one folder, whatever a board calls them.

A name that is absolute, has ".." or a NUL, or would be taken apart by this system is
refused, and so is a link on the way: what stands in the folder already may be
another's work. A file that was there is replaced when the new one is complete.
Windows has no way to hold a folder while names in it are looked at; there a link that
somebody makes in that moment is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from io import RawIOBase
from pathlib import Path
from typing import Self

from belayd_client.errors import RequestInvalid

_HOLDS = {os.open, os.mkdir, os.unlink, os.stat, os.rename} <= os.supports_dir_fd
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def parts_below(top: str, path: str) -> tuple[str, ...]:
    """Return the names on the way from the board's folder `top` to `path`, which the board told.

    Raises:
        RequestInvalid: It does not lie there, or a name cannot be one here.
    """
    base = "" if top == "/" else top
    parts = tuple(path.removeprefix(f"{base}/").split("/"))
    if not path.startswith(f"{base}/") or not all(map(_is_name, parts)):
        raise RequestInvalid(
            f"the board tells of {path!r}, which would lie outside of what was asked for or cannot be a name "
            "here; nothing was written for it"
        )
    return parts


def pour(place: Path, chunks: Iterable[bytes]) -> None:
    """Write to what stands here and is neither file nor folder, such as /dev/null or a named pipe.

    Raises:
        RequestInvalid: It takes nothing, or not all.
    """
    with _told(place):
        file = place.open("wb", buffering=0)
    with file:
        for chunk in chunks:
            with _told(place):
                _write_all(file, chunk)


class Landing:
    """A folder here; use it as a context manager.

    `folder` is the caller's own word, so links on the way to it are followed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = -1

    def __enter__(self) -> Self:
        with _told(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if _HOLDS:
                self._held = os.open(self._folder, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        return self

    def __exit__(self, *ended: object) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def make_folder(self, parts: tuple[str, ...]) -> None:
        """Make a folder and those that lead to it, unless they are there.

        Raises:
            RequestInvalid: A link or a file is in the way.
            RequestInvalid: It cannot be made.
        """
        with self._inside(parts):
            pass

    def write(self, parts: tuple[str, ...], chunks: Iterable[bytes]) -> int:
        """Write a file, and make the folders that lead to it; return its size.

        Whatever breaks off, also `chunks`, leaves what was there.

        Raises:
            RequestInvalid: A link or a folder is in the way.
            RequestInvalid: It cannot be written.
        """
        *folders, name = parts
        if not all(map(_is_name, parts)):
            raise RequestInvalid(f"{'/'.join(parts)!r} cannot be a name here")
        with self._inside(tuple(folders)) as (holder, prefix):
            fresh = f".belayd-{secrets.token_hex(6)}"
            size = 0
            with _told(self._folder.joinpath(*parts)):
                self._refuse_in_the_way(name, holder, prefix, parts)
                descriptor = os.open(prefix + fresh, _FRESH, 0o666, dir_fd=holder)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    for chunk in chunks:
                        with _told(self._folder.joinpath(*parts)):
                            _write_all(file, chunk)
                        size += len(chunk)
                with _told(self._folder.joinpath(*parts)):
                    os.replace(prefix + fresh, prefix + name, src_dir_fd=holder, dst_dir_fd=holder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(prefix + fresh, dir_fd=holder)
                raise
            return size

    @contextlib.contextmanager
    def _inside(self, folders: tuple[str, ...]) -> Iterator[tuple[int | None, str]]:
        """Give what holds a folder, made if need be, and what stands before names in it."""
        if not all(map(_is_name, folders)):
            raise RequestInvalid(f"{'/'.join(folders)!r} cannot be a name here")
        if not _HOLDS:
            yield None, self._walk(folders)
            return
        held = os.dup(self._held)
        try:
            for depth, name in enumerate(folders, 1):
                inner = self._enter(held, name, folders[:depth])
                os.close(held)
                held = inner
            yield held, ""
        finally:
            os.close(held)

    def _enter(self, held: int, name: str, parts: tuple[str, ...]) -> int:
        place = self._folder.joinpath(*parts)
        with _told(place):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=held)
            try:
                return os.open(name, _FOLDER, dir_fd=held)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise _in_the_way(place) from None
                raise

    def _walk(self, folders: tuple[str, ...]) -> str:
        place = self._folder
        for name in folders:
            place /= name
            with _told(place):
                place.mkdir(exist_ok=True)
                if (
                    not stat.S_ISDIR(place.lstat().st_mode)
                    or place.resolve() != place.parent.resolve() / name
                ):
                    raise _in_the_way(place)
        return f"{place}{os.sep}"

    def _refuse_in_the_way(self, name: str, holder: int | None, prefix: str, parts: tuple[str, ...]) -> None:
        try:
            found = os.stat(prefix + name, dir_fd=holder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise _in_the_way(self._folder.joinpath(*parts))


def _write_all(file: RawIOBase, chunk: bytes) -> None:
    # Without a buffer: what a full disk does not take would come out when the file is closed.
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _is_name(name: str) -> bool:
    if name in ("", ".", "..") or "\0" in name or "/" in name:
        return False
    # Elsewhere backslashes and colons are letters; on Windows they lead away, to a drive or a stream.
    return os.sep == "/" or not any(mark in name for mark in '\\:*?"<>|')


def _in_the_way(place: Path) -> RequestInvalid:
    return RequestInvalid(f"{place} is a link, or not of the kind that comes from the board; remove it first")


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    """Raise what the system says as an error for the caller."""
    try:
        yield
    except OSError as error:
        raise RequestInvalid(f"cannot write {place}: {error.strerror}") from None
