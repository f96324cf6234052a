"""What `repr()` prints on a board, read without evaluating anything.

A strict grammar: what MicroPython and CircuitPython print for typed values, and
nothing else. Bounded in depth and digits; the length is the caller's to bound.

Source: MicroPython, py/objstr.c and py/objstrunicode.c (the escapes it prints),
py/objcomplex.c, py/objrange.c; compared with the unix port 1.29-preview.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

MAX_DEPTH = 30
"""Containers within containers. As messages, dicts take 3 levels each; protobuf reads 100."""

MAX_DIGITS = 20_000
"""Decimal digits of an int, so that its conversion stays below about 1 ms."""


def parse(text: str) -> object:
    """Return the value whose `repr()` a board printed, nothing before or after it.

    Read are None, bool, int, float, complex, str, bytes, bytearray, range, list,
    tuple, dict, set and frozenset, nested up to MAX_DEPTH. Containers whose
    items cannot be told apart by what was printed (floats cut to the same 7
    digits as keys) and text that is not valid Unicode are refused, since they
    would arrive as something else.

    Raises:
        ValueError: The text is anything else, or exceeds a bound.
    """
    reader = _Reader(text)
    value = reader.read(0)
    if reader.at != len(text):
        raise reader.refusal()
    return value


def int_from_digits(digits: str) -> int:
    """Return the int of decimal digits with an optional leading '-', however CPython limits int().

    Raises:
        ValueError: It is anything else, or longer than MAX_DIGITS.
    """
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise ValueError(f"not an int of at most {MAX_DIGITS} decimal digits: {digits[:40]!r}")
    number = 0
    for start in range(0, len(digits), _CHUNK_DIGITS):
        chunk = digits[start : start + _CHUNK_DIGITS]
        number = number * 10 ** len(chunk) + int(chunk)
    return sign * number


def digits_from_int(number: int) -> str:
    """Return an int's decimal digits, however CPython limits str().

    Raises:
        ValueError: There are more than MAX_DIGITS.
    """
    if number.bit_length() > _MAX_BITS:
        raise ValueError(f"an int of more than {MAX_DIGITS} decimal digits")
    rest, chunks = abs(number), []
    while rest >= _CHUNK:
        rest, chunk = divmod(rest, _CHUNK)
        chunks.append(str(chunk).zfill(_CHUNK_DIGITS))
    chunks.append(str(rest))
    digits = "".join(reversed(chunks))
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an int of more than {MAX_DIGITS} decimal digits")
    return "-" * (number < 0) + digits


_CHUNK_DIGITS = 500  # below the lowest limit that CPython lets anybody set, 640
_CHUNK = 10**_CHUNK_DIGITS
_MAX_BITS = math.ceil(MAX_DIGITS * math.log2(10))

_NUMBER = r"(?:inf|nan|(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:e[-+]?[0-9]++)?)"
_WORD = "-?[0-9]{1,19}"
_ESCAPES = r"""\\(?:[\\'"nrt]|x[0-9a-f]{2}%s)"""
_WIDE = "|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"


def _quoted(quote: str, plain: str, escape: str) -> str:
    # Possessive: a megabyte of escapes must not leave a trail of backtracking points.
    run = rf"[^{quote}\\\x00-\x1f\x7f{plain}]*+"
    return rf"{quote}{run}(?:{escape}{run})*+{quote}"


_STR = "|".join(_quoted(quote, "", _ESCAPES % _WIDE) for quote in "'\"")
_BYTES = "|".join(_quoted(quote, r"\x80-\U0010ffff", _ESCAPES % "") for quote in "'\"")

# One alternative for each kind of token; the group that matched last names it.
_TOKEN = re.compile(
    rf"""
    (?P<int>-?(?:0|[1-9][0-9]*+))(?![.ej0-9])
  | (?P<word>None|True|False|(?:frozen)?set\(\))
  | (?P<str>{_STR})
  | b(?P<bytes>{_BYTES})
  | bytearray\(b(?P<bytearray>{_BYTES})\)
  | (?P<float>-?{_NUMBER})(?!j)
  | (?P<imaginary>-?{_NUMBER})j
  | \((?P<real>-?{_NUMBER})(?P<complex>[-+]{_NUMBER})j\)
  | (?P<list>\[)
  | (?P<tuple>\()
  | (?P<braces>\{{)
  | (?P<frozenset>frozenset\(\{{)
  | range\((?P<start>{_WORD}),[ ](?P<stop>{_WORD})(?:,[ ](?P<step>{_WORD}))?(?P<range>)\)
    """,
    re.VERBOSE,
)
_FLAT = re.compile(r"[-+.0-9e, ]++(?=[\])])")


class _Reader:
    """Reads one text from left to right; `at` is the next character."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def read(self, depth: int) -> object:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise self.refusal()
        kind = found.lastgroup or ""
        self.at = found.end()
        if kind in _SCALARS:
            return _SCALARS[kind](found)
        if depth == MAX_DEPTH:
            raise ValueError(f"a value nested deeper than {MAX_DEPTH} containers")
        return _CONTAINERS[kind](self, depth + 1)

    def read_list(self, depth: int) -> list[object]:
        return self._flat("]") or self._items("]", depth)

    def read_tuple(self, depth: int) -> tuple[object, ...]:
        items = self._flat(")") or self._items(")", depth)
        if len(items) == 1 and self.text[self.at - 2] != ",":
            raise self.refusal()
        return tuple(items)

    def read_braces(self, depth: int) -> dict[object, object] | set[object]:
        if self._skip("}"):
            return {}
        first = self.read(depth)
        if self._skip(":"):
            return self._pairs(first, depth)
        return _distinct(self._more([first], "}", depth))

    def read_frozenset(self, depth: int) -> frozenset[object]:
        items = _distinct(self._items("}", depth))
        self._expect(")")
        return frozenset(items)

    def _flat(self, close: str) -> list[object] | None:
        # Plain numbers in a row are JSON too, which C reads 10 times faster.
        found = _FLAT.match(self.text, self.at)
        if found is None or self.text[found.end()] != close or "," not in found[0]:
            return None
        try:
            numbers: list[object] = json.loads(f"[{found[0]}]")
        except ValueError:  # a trailing comma, or too many digits for it
            return None
        self.at = found.end() + 1
        return numbers

    def _items(self, close: str, depth: int) -> list[object]:
        return [] if self._skip(close) else self._more([self.read(depth)], close, depth)

    def _more(self, items: list[object], close: str, depth: int) -> list[object]:
        while self._skip(","):
            if self._skip(close):  # "(1,)"
                return items
            self._skip(" ")
            items.append(self.read(depth))
        self._expect(close)
        return items

    def _pairs(self, first: object, depth: int) -> dict[object, object]:
        self._skip(" ")
        keys, values = [first], [self.read(depth)]
        while self._skip(","):
            self._skip(" ")
            keys.append(self.read(depth))
            self._expect(":")
            self._skip(" ")
            values.append(self.read(depth))
        self._expect("}")
        _distinct(keys)
        return dict(zip(keys, values, strict=True))

    def _skip(self, character: str) -> bool:
        if not self.text.startswith(character, self.at):
            return False
        self.at += 1
        return True

    def _expect(self, character: str) -> None:
        if not self._skip(character):
            raise self.refusal()

    def refusal(self) -> ValueError:
        return ValueError(f"no typed value at character {self.at}: {self.text[self.at : self.at + 20]!r}")


_Match = re.Match[str]


def _distinct(items: list[object]) -> set[object]:
    try:
        distinct = set(items)
    except TypeError:
        raise ValueError("a key or an item of a set that cannot be hashed") from None
    if len(distinct) != len(items):
        raise ValueError("keys or items of a set that cannot be told apart as printed")
    return distinct


def _read_int(found: _Match) -> int:
    digits = found["int"]
    return int(digits) if len(digits) < _CHUNK_DIGITS else int_from_digits(digits)


def _read_word(found: _Match) -> object:
    word = found["word"]
    return {"None": None, "True": True, "False": False, "set()": set(), "frozenset()": frozenset()}[word]


def _read_str(found: _Match) -> str:
    body = found["str"][1:-1]
    if body.isascii() and "\\" not in body:
        return body
    text = body.encode("ascii", "backslashreplace").decode("unicode_escape")
    text.encode()  # raises ValueError for half a surrogate pair, which no client could be given
    return text


def _read_bytes(quoted: str) -> bytes:
    body = quoted[1:-1].encode("ascii")
    return body.decode("unicode_escape").encode("latin-1") if b"\\" in body else body


def _read_range(found: _Match) -> range:
    bounds = [int(found[name] or 1) for name in ("start", "stop", "step")]
    if not all(-(2**63) <= bound < 2**63 for bound in bounds):
        raise ValueError("a range beyond 64 bits")
    return range(*bounds)  # a step of 0 raises ValueError


_SCALARS: dict[str, Callable[[_Match], object]] = {
    "int": _read_int,
    "word": _read_word,
    "str": _read_str,
    "bytes": lambda found: _read_bytes(found["bytes"]),
    "bytearray": lambda found: bytearray(_read_bytes(found["bytearray"])),
    "float": lambda found: float(found["float"]),
    # Not as Python reads the text: there (1-0j) and -2j would lose and gain signs of zeros.
    "imaginary": lambda found: complex(0.0, float(found["imaginary"])),
    "complex": lambda found: complex(float(found["real"]), float(found["complex"])),
    "range": _read_range,
}
_CONTAINERS: dict[str, Callable[[_Reader, int], object]] = {
    "list": _Reader.read_list,
    "tuple": _Reader.read_tuple,
    "braces": _Reader.read_braces,
    "frozenset": _Reader.read_frozenset,
}
