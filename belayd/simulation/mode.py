"""Which prompt the interpreter is at, followed from outside.

A soft reset returns to the prompt it came from. The process that knew is gone by
then, so the two banners are looked for in its output, but only after somebody
sent the byte that switches: a program that prints a banner changes nothing.
"""

from __future__ import annotations

import enum

RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_FRIENDLY_BANNER = b"\r\n>>> "
_TAIL_BYTES = len(RAW_BANNER) - 1


class ReplMode(enum.Enum):
    """The two prompts; the values are what firmware/start.py takes."""

    FRIENDLY = "friendly"
    RAW = "raw"


class ModeTracker:
    """Follows the prompt through what is sent and received."""

    __slots__ = ("_tail", "_to_friendly", "_to_raw", "mode")

    def __init__(self, mode: ReplMode) -> None:
        self.mode = mode
        self._to_raw = False
        self._to_friendly = False
        self._tail = b""

    def sent(self, data: bytes) -> None:
        """Note bytes on their way to the interpreter."""
        if b"\x01" in data:
            self._to_raw = True
        if b"\x02" in data:
            self._to_friendly = True

    def received(self, data: bytes) -> None:
        """Note bytes that the interpreter wrote."""
        if not (self._to_raw or self._to_friendly):
            return
        text = self._tail + data
        raw = text.rfind(RAW_BANNER) if self._to_raw else -1
        friendly = text.rfind(_FRIENDLY_BANNER) if self._to_friendly else -1
        if raw >= 0:
            self._to_raw = False
        if friendly >= 0:
            self._to_friendly = False
        if raw >= 0 or friendly >= 0:
            self.mode = ReplMode.RAW if raw > friendly else ReplMode.FRIENDLY
            text = text[max(raw, friendly) + 1 :]
        self._tail = text[-_TAIL_BYTES:] if self._to_raw or self._to_friendly else b""
