"""The board's end of its link: what the daemon or any other tool holds the far end of.

Every terminal is a file descriptor that does not block. Going away is what an
unplugged board looks like to the far end.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import tty
from pathlib import Path
from typing import Protocol


class Terminal(Protocol):
    """A link, seen from the board.

    Attributes:
        absence: Seconds that the link is away after a hard reset; None if it
            never comes back.
    """

    absence: float | None

    def open(self) -> str:
        """Make the link available; return the line that announces it on standard output."""

    def fileno(self) -> int:
        """Return the descriptor to read and write."""

    def hung_up(self) -> bool:
        """Return whether the far end is gone for good, without reading."""

    def close(self) -> None:
        """Take the link away; idempotent."""


class InheritedTerminal:
    """A socket whose other end the daemon holds; its end is the daemon's end."""

    __slots__ = ("_fd", "absence")

    def __init__(self, fd: int) -> None:
        self.absence: float | None = None
        os.set_inheritable(fd, False)
        self._fd = fd

    def open(self) -> str:
        """Return "ready"; the link exists already."""
        os.set_blocking(self._fd, False)
        return "ready"

    def fileno(self) -> int:
        """Return the inherited descriptor."""
        return self._fd

    def hung_up(self) -> bool:
        """Return whether the daemon has closed its end, also while nothing is read here."""
        look = select.poll()
        look.register(self._fd, 0)  # a hangup is reported without being asked for
        return bool(look.poll(0))

    def close(self) -> None:
        """Close this end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PtyTerminal:
    """A pseudo terminal that any tool may open, readable by its owner only.

    This side keeps the far end open too, so that tools may come and go; output
    waits while none is there, as on a USB board whose port is open and not read.
    """

    __slots__ = ("_far", "_fd", "_link", "_path", "absence")

    def __init__(self, link: Path | None, absence: float) -> None:
        """Prepare it.

        Args:
            link: Where a symbolic link to it is kept while it exists; the one
                stable name, since each opening has another path. None for none.
            absence: Seconds between a hard reset and the new terminal.
        """
        self.absence: float | None = absence
        self._link = link
        self._fd = self._far = -1
        self._path = ""

    def open(self) -> str:
        """Make a new pty and point the link at it; return its path."""
        self._fd, self._far = pty.openpty()
        tty.setraw(self._far)
        os.fchmod(self._far, 0o600)
        os.set_blocking(self._fd, False)
        self._path = os.ttyname(self._far)
        if self._link is not None:
            fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._path)
            fresh.replace(self._link)
        return self._path

    def fileno(self) -> int:
        """Return the master's descriptor."""
        return self._fd

    def hung_up(self) -> bool:
        """Return False: other tools may come."""
        return False

    def close(self) -> None:
        """Remove link and pty; whoever has it open sees the end."""
        if self._fd < 0:
            return
        if self._link is not None:
            with contextlib.suppress(OSError):
                if str(self._link.readlink()) == self._path:
                    self._link.unlink()
        os.close(self._far)
        os.close(self._fd)
        self._fd = self._far = -1
