"""How code on a board ended: a value, or what it raised. Never a lost answer.

Decodes what the runner framed (`onboard/runner.py` lists its letters) and what
the raw REPL reports by itself.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from types import MappingProxyType

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
    text = "" if framed.kind in (b"A", b"B") else framed.payload.decode("utf-8", "backslashreplace")
    match framed.kind:
        case b"N":
            return Returned(None)
        case b"B":
            return Returned(framed.payload)
        case b"A":
            return Returned(bytearray(framed.payload))
        case b"V":
            return Returned(_typed(framed.payload.strip(b"\r\n")))
        case b"v":
            value = _typed(framed.payload)
            if isinstance(value, tuple):
                return Returned(value[0])
            shown = text.removeprefix("(").removesuffix(")").removesuffix(",")
            return Returned(values.Repr(_type_name(shown), shown))
        case b"O":
            type_name, _, shown = text.replace("\r\n", "\n").partition("\n")
            type_name = type_name.removeprefix("<class '").removesuffix("'>")
            return Returned(values.Repr(type_name or _NAMELESS.get(shown, "unknown"), shown))
        case b"X":
            arguments = _typed(framed.payload)
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


def _typed(printed: bytes) -> object:
    try:
        return values.parse(printed.decode())
    except ValueError:
        # Text that is no Unicode, an int beyond all bounds, a number format of a
        # firmware we do not know: say what came rather than guess.
        text = printed.decode("utf-8", "backslashreplace")
        return values.Repr(_type_name(text), text)


def _type_name(text: str) -> str:
    """Return the type whose `repr()` begins so; the board vouches that it is one of them."""
    if text.startswith("{"):
        return "dict" if _is_dict(text) else "set"
    found = _BEGINNING.match(text)
    return (found and found.lastgroup) or "unknown"


def _is_dict(text: str) -> bool:
    depth = 0
    for mark in _QUOTED.sub("", text):
        depth += (mark in "([{") - (mark in ")]}")
        if depth == 1 and mark in ":,":
            return mark == ":"
    return text == "{}"


# MicroPython's types of these have empty names; CPython's have these.
_NAMELESS = MappingProxyType({"Ellipsis": "ellipsis", "NotImplemented": "NotImplementedType"})
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""", re.DOTALL)


_BEGINNING = re.compile(
    r"""(?P<str>['"])|b['"](?P<bytes>)|(?P<bytearray>bytearray\()|(?P<list>\[)|(?P<tuple>\()
    |set\((?P<set>)|(?P<frozenset>frozenset\()|(?P<range>range\()|-?[0-9]+\Z(?P<int>)|-?[0-9.](?P<float>)""",
    re.VERBOSE,
)
