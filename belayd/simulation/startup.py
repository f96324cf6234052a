"""Output between a start and the prompt: what a board would not show is hidden.

firmware/start.py prints a token before boot.py and another after the scripts.
Before the first the interpreter is only loading. After the second comes the
friendly banner, which a board that was reset at the raw prompt does not show:
it is hidden until Ctrl-A, sent by the board's loop, brings the raw one.
"""

from __future__ import annotations

import enum

from belayd.simulation.mode import RAW_BANNER, ReplMode

_NOISE_BYTES = 4096  # of what the interpreter says before it is up, kept to explain a failure


class Stage(enum.Enum):
    """How far a start has come."""

    LOADING = enum.auto()
    SCRIPTS = enum.auto()
    ENTERING_RAW = enum.auto()
    RUNNING = enum.auto()


class Startup:
    """Filters one start's output.

    Attributes:
        stage: Where it is after what was received so far.
        noise: The last of what was hidden while loading.
    """

    __slots__ = ("_held", "_mode", "_token", "noise", "stage")

    def __init__(self, mode: ReplMode, token: bytes) -> None:
        self.stage = Stage.LOADING
        self.noise = b""
        self._mode = mode
        self._token = token
        self._held = b""

    def receive(self, data: bytes) -> bytes:
        """Return what of `data`, and of what was held back before it, is for the terminal."""
        if self.stage is Stage.RUNNING:
            return data
        text, self._held = self._held + data, b""
        if self.stage is Stage.LOADING:
            hidden, found, text = text.partition(self._token)
            if not found:
                self._held = hidden[-len(self._token) :]
                self.noise = (self.noise + data)[-_NOISE_BYTES:]
                return b""
            self.stage = Stage.SCRIPTS
        shown = b""
        if self.stage is Stage.SCRIPTS:
            shown, found, text = text.partition(self._token)
            if not found:
                keep = _overlap(shown, self._token)
                self._held = shown[len(shown) - keep :]
                return shown[: len(shown) - keep]
            if self._mode is ReplMode.FRIENDLY:
                self.stage = Stage.RUNNING
                return shown + text
            self.stage = Stage.ENTERING_RAW
        _, found, prompt = text.partition(RAW_BANNER)
        if not found:
            self._held = text[-len(RAW_BANNER) :]
            return shown
        self.stage = Stage.RUNNING
        return shown + found + prompt


def _overlap(text: bytes, token: bytes) -> int:
    """Return how many bytes at the end of `text` may be the beginning of `token`."""
    start = text.rfind(token[:1], max(0, len(text) - len(token) + 1))
    while start >= 0:
        if token.startswith(text[start:]):
            return len(text) - start
        start = text.rfind(token[:1], max(0, len(text) - len(token) + 1), start)
    return 0
