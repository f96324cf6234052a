"""Input on its way to the interpreter, and the Ctrl-C among it.

The unix port takes an interrupt as a signal, a board as byte 03 in its input. So
each 03 becomes an interrupt if code runs that wants one, else it stays a byte, as
on boards. It keeps its place: what was sent before it is read first, unless the
code that runs does not read, which is seen by input standing still.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable

_ROOM_BYTES = 65536
_STANDSTILL = 0.02  # seconds without any input being read; code that reads takes microseconds
_RETRY = 0.001  # seconds between looks while a Ctrl-C waits, and only then


class Gate(enum.Enum):
    """What of the input may go to the interpreter."""

    SHUT = enum.auto()
    INTERRUPTS = enum.auto()
    OPEN = enum.auto()


class Keyboard:
    """A bounded queue of input in front of the interpreter's channel.

    Attributes:
        blocked: The channel is full; call `push` when it can be written.
    """

    __slots__ = (
        "_ahead",
        "_channel",
        "_clock",
        "_gate",
        "_interrupt",
        "_queue",
        "_still_since",
        "_unread",
        "blocked",
    )

    def __init__(
        self,
        channel: socket.socket,
        interrupt: Callable[[], bool],
        unread_bytes: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._channel = channel
        self._interrupt = interrupt
        self._unread = unread_bytes
        self._clock = clock
        self._gate = Gate.SHUT
        self._queue = bytearray()
        self._ahead: int | None = None
        self._still_since = 0.0
        self.blocked = False

    @property
    def room_bytes(self) -> int:
        """How much more input is taken now."""
        return max(0, _ROOM_BYTES - len(self._queue))

    @property
    def queued_bytes(self) -> int:
        """How much input waits here."""
        return len(self._queue)

    @property
    def retry(self) -> float | None:
        """Seconds after which `push` must be called again; None while nothing waits for that."""
        return None if self._ahead is None else _RETRY

    def type(self, data: bytes) -> None:
        """Take input from the terminal; at most `room_bytes`."""
        if self._gate is Gate.OPEN and not self._queue and b"\x03" not in data:
            # Nearly all input: straight through.
            data = data[self._write(data) :]
            if not data:
                return
        elif self._gate is Gate.INTERRUPTS:
            while b"\x03" in data and self._interrupt():
                data = data.replace(b"\x03", b"", 1)
        self._queue += data
        self.push()

    def put_back(self, data: bytes) -> None:
        """Take input that an ended interpreter has not read, ahead of all other."""
        self._queue[:0] = data

    def clear(self) -> None:
        """Forget all input."""
        self._queue.clear()

    def set_gate(self, gate: Gate) -> None:
        """Say what may pass from now on."""
        self._gate = gate
        self._ahead = None
        self.blocked = False
        self.push()

    def push(self) -> None:
        """Move on as much as goes."""
        while self._queue and self._gate is Gate.OPEN:
            at = self._queue.find(b"\x03")
            before = len(self._queue) if at < 0 else at
            if before:
                sent = self._write(bytes(self._queue[:before]))
                del self._queue[:sent]
                if sent == before:
                    continue
                self._ahead = None if at < 0 else self._ahead
                if at < 0 or self._moving(before - sent):
                    return
                before -= sent
            elif self._moving(0):
                return
            self._ahead = None
            if self._interrupt():
                del self._queue[before]
            elif before:
                return
            elif self._write(b"\x03"):
                del self._queue[0]
            else:
                return

    def _moving(self, queued: int) -> bool:
        """Return whether a Ctrl-C behind `queued` bytes should go on waiting for its turn."""
        ahead = queued + self._unread()
        if not ahead:
            return False
        now = self._clock()
        if ahead != self._ahead:
            self._ahead = ahead
            self._still_since = now
        return now - self._still_since < _STANDSTILL

    def _write(self, data: bytes) -> int:
        try:
            sent = self._channel.send(data)
        except BlockingIOError:
            sent = 0
        self.blocked = sent < len(data)
        return sent
