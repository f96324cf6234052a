"""Board values and Python values: read what `repr()` prints on a board, write what a board reads.

`parse` never evaluates anything; what it cannot read exactly it refuses, and the
caller keeps the text as a `Repr`. `render` writes an expression that means the
same value on the board, in printable ASCII only, so that no argument becomes
code and no byte of it is a control character of the REPL.

What a board itself loses is outside both: one that computes with 32-bit floats
keeps about 7 digits of a float (and prints as many), one with 64-bit floats
misses the last bit now and then (reading and printing, 1 in 7,000 random floats
on the unix port 1.29-preview), one without long integers refuses those beyond
its words, and MicroPython prints no sign for a complex number's zeros. A board's
class whose `__repr__` prints a literal is read as that literal: whoever must know
asks the board for the type too.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from belayd.literals import MAX_DEPTH, MAX_DIGITS, digits_from_int, int_from_digits, parse

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_RENDERED",
    "PLACED_BYTES",
    "PLACE_MARK",
    "Misfit",
    "Repr",
    "digits_from_int",
    "int_from_digits",
    "key_step",
    "parse",
    "render",
]

MAX_RENDERED = 1 << 20
"""Characters of one rendered value; no board has memory for as many."""


PLACED_BYTES = 128
"""Bytes from which on a literal, up to four times as long, costs more than sending them apart."""
PLACE_MARK = "\N{PILCROW SIGN}"
"""Stands in no name and in no literal that `render` writes."""


@dataclass(frozen=True, slots=True)
class Repr:
    """A board's object that has no typed form: its type's name and what repr() printed."""

    type_name: str
    text: str


def render(value: object, name: str = "value", contents: list[bytes | bytearray] | None = None) -> str:
    """Return an expression that means `value` on a board; `name` stands for it in messages.

    With `contents`, bytes and bytearrays of more than PLACED_BYTES are appended to
    it, and a PLACE_MARK stands for each in the expression.

    Types are exact: an IntEnum or a numpy number is refused rather than sent as
    something it is not.

    Raises:
        TypeError: The value or one in it has no literal form; its path and type are named.
        ValueError: It is nested deeper than MAX_DEPTH or longer than MAX_RENDERED.
    """
    writer = _Writer(contents)
    try:
        writer.write(value, 0)
    except Misfit as misfit:
        raise misfit.error(name) from None
    return "".join(writer.parts)


class Misfit(Exception):
    """A value in a tree does not fit; `path` grows from the inside out while it is raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.path: list[str] = []

    def within(self, step: str) -> Misfit:
        """Note that the value lies at `step` of its container, such as "[2]"."""
        self.path.append(step)
        return self

    def error(self, name: str) -> Exception:
        """Return the error for the caller, of the cause's type, with the path from `name` on."""
        return type(self.cause)(f"{name}{''.join(reversed(self.path))}: {self.cause}")


def key_step(key: object) -> str:
    """Return a dict key as a step of a path, shortened."""
    if type(key) is str or type(key) is bytes:
        return f"[{key[:40]!r}]"
    if (type(key) is int or type(key) is bool) and key.bit_length() <= 64:
        return f"[{key!r}]"
    return f"[<{type(key).__name__} key>]"


class _Writer:
    """Writes one expression into `parts`."""

    __slots__ = ("contents", "parts", "room")

    def __init__(self, contents: list[bytes | bytearray] | None) -> None:
        self.contents = contents
        self.parts: list[str] = []
        self.room = MAX_RENDERED

    def write(self, value: object, depth: int) -> None:
        if type(value) not in _EXACT:
            raise Misfit(TypeError(f"a value of type {type(value).__name__!r} cannot be sent to a board"))
        if value is None or isinstance(value, int):  # bool too
            self.put(hex(value) if value and value.bit_length() > 128 else str(value))
        elif isinstance(value, float):
            self.put(_write_float(value))
        elif isinstance(value, str):
            self.check(len(value))
            self.put(ascii(value))
        elif isinstance(value, (bytes, bytearray)):
            if self.contents is not None and len(value) > PLACED_BYTES:
                self.contents.append(value)
                self.put(PLACE_MARK)
                return
            self.check(len(value))
            self.put(repr(value))
        elif isinstance(value, (complex, range)):
            self.put(_write_complex(value) if isinstance(value, complex) else repr(value))
        elif depth == MAX_DEPTH:
            raise Misfit(ValueError(f"nested deeper than {MAX_DEPTH} containers"))
        elif isinstance(value, dict):
            self.write_pairs(value, depth + 1)
        elif isinstance(value, (list, tuple, set, frozenset)):
            self.write_items(value, depth + 1)

    def write_items(self, items: Collection[object], depth: int) -> None:
        opening, closing = _BRACKETS[type(items)]
        if not items and opening.endswith("{"):
            opening, closing = "set(" if opening == "{" else "frozenset(", ")"  # {} is a dict
        self.put(opening)
        for index, item in enumerate(items):
            if index:
                self.put(",")
            try:
                self.write(item, depth)
            except Misfit as misfit:
                raise misfit.within(f"[{index}]") from None
        self.put("," + closing if type(items) is tuple and len(items) == 1 else closing)

    def write_pairs(self, items: dict[object, object], depth: int) -> None:
        self.put("{")
        for index, (key, value) in enumerate(items.items()):
            if index:
                self.put(",")
            try:
                self.write(key, depth)
                self.put(":")
                self.write(value, depth)
            except Misfit as misfit:
                raise misfit.within(key_step(key)) from None
        self.put("}")

    def put(self, text: str) -> None:
        self.check(len(text))
        self.room -= len(text)
        self.parts.append(text)

    def check(self, length: int) -> None:
        if length > self.room:
            raise Misfit(ValueError(f"longer than {MAX_RENDERED} characters as source"))


_EXACT = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, range, list, tuple, dict, set, frozenset}
)
_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def _write_float(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"float('{value}')"


def _write_complex(value: complex) -> str:
    # complex() on a board adds its second argument to 0.0, which loses the sign of -0.0.
    if value.imag == 0 and math.copysign(1, value.imag) < 0:
        return f"-complex({_write_float(-value.real)},0.0)"
    return f"complex({_write_float(value.real)},{_write_float(value.imag)})"
