"""How code on a board ended: a value, or what it raised. Never a lost answer.

Decodes what the runner framed (`onboard/runner.py` lists its letters) and what
the raw REPL reports by itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from belayd import values
from belayd.protocol.events import Framed


@dataclass(frozen=True, slots=True)
class BoardException:
    """What code on a board raised.

    Attributes:
        message: What follows the type's name on the last line; may be "".
        traceback: Lines ended by a newline, belayd's own frames removed.
    """

    type_name: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Code ended; `value` is None for statements, a `values.Repr` where it has no typed form."""

    value: object


@dataclass(frozen=True, slots=True)
class Raised:
    """Code raised."""

    exception: BoardException


Outcome = Returned | Raised


class BoardRaised(Exception):
    """belayd's own text raised on a board; whoever sent it says what that means."""

    def __init__(self, exception: BoardException) -> None:
        super().__init__(exception.traceback or f"{exception.type_name}: {exception.message}")
        self.exception = exception
        self.type_name = exception.type_name
        self.traceback = exception.traceback


def decode(framed: Framed) -> Outcome:
    """Return what one of the runner's frames means."""
    text = framed.payload.decode("utf-8", "backslashreplace")
    match framed.kind:
        case b"N":
            return Returned(None)
        case b"V":
            return Returned(_typed(text.strip("\r\n")))
        case b"v":
            value = _typed(text)
            return Returned(value[0] if isinstance(value, tuple) else value)
        case b"O":
            type_name, _, shown = text.replace("\r\n", "\n").partition("\n")
            return Returned(values.Repr(type_name.removeprefix("<class '").removesuffix("'>"), shown))
        case b"X":
            arguments = _typed(text)
            code = arguments[0] if isinstance(arguments, tuple) and arguments else None
            if not code:  # sys.exit() and sys.exit(0) end a program well
                return Returned(None)
            return Raised(BoardException("SystemExit", str(code), f"SystemExit: {code}\n"))
        case _:
            return Raised(raised_from(framed.payload))


def raised_from(traceback: bytes) -> BoardException:
    """Return the exception that a board's traceback tells of."""
    text = traceback.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    header, *rest = text.split("\n")
    if not header.startswith("Traceback"):
        header, rest = "", [header, *rest]
    # Frames are indented; the message, which may have lines that look like frames, is not.
    frames = list(itertools.takewhile(lambda line: line.startswith("  "), rest))
    last = "\n".join(rest[len(frames) :])
    lines = [*([header] if header else []), *(line for line in frames if not _is_ours(line)), last]
    type_name, _, message = last.strip("\n").partition(":")
    return BoardException(type_name.strip() or "Exception", message.strip(), "\n".join(lines))


def _is_ours(line: str) -> bool:
    # Callers' code is compiled from strings; only belayd's own comes from "<stdin>",
    # and the small runner, which is put on a board in pieces, from a string as well.
    in_pieces = line.startswith('  File "<string>"') and line.endswith((", in _B", ", in _K"))
    return line.startswith('  File "<stdin>"') or in_pieces


def _typed(text: str) -> object:
    try:
        return values.parse(text)
    except ValueError:
        # The board vouches for the type, so this is a number format of a firmware
        # we do not know: say what came rather than guess.
        return values.Repr("unknown", text)
