"""A board's input ring, which loses what comes while it is full and nobody reads.

UART ports and the classic USB port of STM32 boards have no way to make the far end
wait. Ctrl-C is taken out before the ring, by the interrupt that fills it.
"""

from __future__ import annotations

from collections.abc import Callable


class Ring:
    """So many bytes between the line and the interpreter.

    Attributes:
        lost_bytes: What was dropped so far.
    """

    __slots__ = ("_size", "_unread", "lost_bytes")

    def __init__(self, size: int, unread: Callable[[], int]) -> None:
        """`unread` tells how many bytes the interpreter has not read yet."""
        self._size = size
        self._unread = unread
        self.lost_bytes = 0

    def keep(self, data: bytes) -> bytes:
        """Return what of `data` finds room, with every Ctrl-C in its place."""
        room = max(0, self._size - self._unread())
        if len(data) <= room:
            return data
        kept = data[:room] + b"\x03" * data.count(b"\x03", room)
        self.lost_bytes += len(data) - len(kept)
        return kept
