"""What joins a board's loop to one way in and out: for now to a terminal.

A board has one or several links. All show the same output, and what is typed at
any of them reaches the same prompt, as on boards with a serial port and WebREPL.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Mapping
from typing import Protocol

from belayd.simulation.pace import Pace
from belayd.simulation.terminal import Terminal

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_READ_BYTES = 65536


class Link(Protocol):
    """A way to the board's prompt.

    Attributes:
        absence: Seconds that it is away after a hard reset; None if it never
            comes back.
        lossless: Input waits at the far end while nobody reads at a prompt;
            it has no ring of its own to fill there.
    """

    absence: float | None
    lossless: bool

    @property
    def full(self) -> bool:
        """Whether output waits here; the board's is not read until it is gone."""

    @property
    def ended(self) -> bool:
        """Whether the far end is gone for good, and the board with it."""

    def open(self) -> str:
        """Make it available; return the line that announces it on standard output."""

    def interest(self, room: int) -> Mapping[int, int]:
        """Return what to wait for now by descriptor, with room for so many bytes of input."""

    def wait(self) -> float | None:
        """Return after how many seconds `interest` changes by itself, None if it does not."""

    def ready(self, fd: int, events: int, room: int) -> bytes:
        """Do what is due at a descriptor; return what was typed, at most `room` bytes."""

    def show(self, data: bytes) -> None:
        """Show output; what does not fit waits."""

    def soft_reset(self) -> None:
        """Do what the start of a new interpreter means for it."""

    def close(self) -> None:
        """Take it away, with all that waits; idempotent."""


class TerminalLink:
    """A terminal as a link, at the speed of its line."""

    def __init__(self, terminal: Terminal, inward: Pace, outward: Pace) -> None:
        self.absence = terminal.absence
        self.lossless = False
        self._terminal = terminal
        self._inward = inward
        self._outward = outward
        self._output = b""
        self._present = False
        self._ended = False
        self._room = True
        self._wait: float | None = None

    @property
    def full(self) -> bool:
        """Whether output waits here."""
        return bool(self._output)

    @property
    def ended(self) -> bool:
        """Whether the far end is gone for good."""
        if self._present and not self._room and self._terminal.hung_up():
            self._ended = True
        return self._ended

    def open(self) -> str:
        """Make the terminal available; return the line that announces it."""
        line = self._terminal.open()
        self._present = True
        return line

    def interest(self, room: int) -> Mapping[int, int]:
        """Return what to wait for at the terminal."""
        self._room = bool(room)
        self._wait = None
        if not self._present:
            return {}
        events = 0
        for event, pace, due in ((READ, self._inward, room), (WRITE, self._outward, self._output)):
            if due and pace.allowed():
                events |= event
            elif due:  # the line is busy
                wait = pace.wait()
                self._wait = wait if self._wait is None else min(wait, self._wait)
        return {self._terminal.fileno(): events} if events else {}

    def wait(self) -> float | None:
        """Return when the line carries more, if `interest` found it busy."""
        return self._wait

    def ready(self, fd: int, events: int, room: int) -> bytes:
        """Write what waits, read what was typed."""
        if not self._present or fd != self._terminal.fileno():
            return b""
        if self._output and events & WRITE:
            self.show(b"")
        if not events & READ or self._ended:
            return b""
        size = min(_READ_BYTES, room, self._inward.allowed())
        if not size:
            return b""
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self._ended = not data
        self._inward.passed(len(data))
        return data

    def show(self, data: bytes) -> None:
        """Write output at the line's speed; what does not fit waits."""
        if not self._present:
            return
        data = self._output + data if self._output else data
        allowed = self._outward.allowed()
        sent = 0
        try:
            if data and allowed:
                sent = os.write(self._terminal.fileno(), data[:allowed] if allowed < len(data) else data)
        except BlockingIOError:
            pass
        except OSError:  # the far end is gone
            self._ended = True
            sent = len(data)
        self._outward.passed(sent)
        self._output = data[sent:]

    def soft_reset(self) -> None:
        """Stay: a terminal knows nothing of interpreters."""

    def close(self) -> None:
        """Take the terminal away."""
        self._terminal.close()
        self._present = False
        self._output = b""
