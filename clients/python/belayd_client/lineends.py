"""A board's line ends as this machine has them.

A board's REPL sends "\\r\\n" for each "\\n" that is printed, and a message may end
between the two. A "\\r" without "\\n" is the program's own and stays.
Source: MicroPython, shared/runtime/stdout_helpers.c, mp_hal_stdout_tx_strn_cooked.
"""

from __future__ import annotations


class LineEnds:
    """Turns "\\r\\n" into "\\n" in bytes that come in parts."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be told so far; a last "\\r" waits for what follows it."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n")

    def end(self) -> bytes:
        """Return what was held back."""
        held, self._held = self._held, b""
        return held
