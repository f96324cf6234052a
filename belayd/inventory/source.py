"""The inventory file: read whole, within a limit, and only if nobody else may write it; replaced whole.

Whoever can write the inventory names the commands that belayd runs (power
hooks), so a file or folder open to others is refused like a wrong password.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from belayd.inventory.problems import InventoryError, Problem

MAX_BYTES = 4 * 1024 * 1024  # 200 boards take 40 KiB


def read_text(path: Path) -> str:
    """Return the file's text, without a byte order mark.

    Raises:
        InventoryError: It cannot be read, is too large, is not UTF-8, or others may write it.
    """
    try:
        with os.fdopen(_open_regular(path), "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or error}") from error
    _refuse_open_to_others(path, status)
    if len(data) > MAX_BYTES:
        raise _refusal(
            path, f"is larger than {MAX_BYTES // 1024 // 1024} MiB", "an inventory is small; is it one?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InventoryError(
            [Problem(str(path), line, "", "is not UTF-8", "save the file as UTF-8")]
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Put `text` in place of the file, or make it: whole or not at all, with the old one's mode and owner.

    Raises:
        OSError: It cannot be written; the old one stands.
    """
    path = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _adopt_status(file.fileno(), path)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _adopt_status(descriptor: int, path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)
        return
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _open_regular(path: Path) -> int:
    # A FIFO would block the reload until somebody writes; O_NONBLOCK changes nothing for files.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError("is a folder" if stat.S_ISDIR(mode) else "is not a regular file")
    return descriptor


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    if status.st_mode & stat.S_IWOTH:
        raise _refusal(path, "can be written by everybody on this host", f"run: chmod o-w {path}")
    folder = path.resolve().parent
    mode = folder.stat().st_mode
    # In a sticky folder such as /tmp others cannot replace the file, which is all that matters.
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise _refusal(
            path, f"its folder {folder} can be written by everybody on this host", f"run: chmod o-w {folder}"
        )


def _refusal(path: Path, message: str, suggestion: str = "") -> InventoryError:
    return InventoryError([Problem(str(path), 1, "", message, suggestion)])
