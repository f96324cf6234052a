"""What a board said, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that code printed: never empty, cut anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Framed:
    """What the runner put between two tokens.

    Attributes:
        kind: One of the runner's letters (`onboard/runner.py` lists them).
        payload: Up to the second token, its length removed and checked if it told one.
    """

    kind: bytes
    payload: bytes

    @property
    def inner(self) -> Framed:
        """The frame that this one's payload is."""
        return Framed(self.payload[:1], self.payload[1:])


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution ended and the raw prompt is back.

    Attributes:
        framed: Whether the token was seen, so that everything before it was output.
        error: The raw REPL's error section: a traceback, or b"".
        restarted: Whether the interpreter restarted before the prompt came back.
    """

    framed: bool
    error: bytes
    restarted: bool


@dataclass(frozen=True, slots=True)
class Entered:
    """The raw REPL's banner and prompt came."""


@dataclass(frozen=True, slots=True)
class PasteRefused:
    """The board knows no raw paste; it is back at the raw prompt."""


Event = Output | Framed | Ended | Entered | PasteRefused
