"""One call of a function on a board, rendered once for whichever way it will go.

Arguments are rendered as literals here, so no argument can become code. Where all
of them mean the same in JSON, the board need not compile anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword

from belayd import values
from belayd.errors import RequestInvalid

MOST_NAME = 200
MOST_BYTES = 1 << 20
"""Of a call as source; no board has memory for as many."""
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SURROGATES = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
_SMALLEST, _LARGEST = -(1 << 62), 1 << 62


@dataclass(frozen=True, slots=True)
class Call:
    """A call that can be sent.

    Attributes:
        expression: As MicroPython source, without control characters, and in ASCII but for its names.
        body: As a JSON list of name and arguments, None where JSON would change a value.
    """

    expression: str
    body: str | None

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, about."""
        return len(self.expression) + len(self.body or "")


def prepare(function: str, arguments: Sequence[object], keywords: Mapping[str, object]) -> Call:
    """Render a call of `function`, a name such as "add" or "sensor.read".

    Raises:
        RequestInvalid: A name is none, an argument has no literal, or the call is
            longer than MOST_BYTES; `field` says which.
    """
    if len(function) > MOST_NAME or not _NAME.fullmatch(function) or any(map(iskeyword, function.split("."))):
        raise RequestInvalid(
            f"function: {function[:MOST_NAME]!r} is not the name of a function, such as add or sensor.read",
            field="function",
        )
    for keyword in keywords:
        if len(keyword) > MOST_NAME or not keyword.isidentifier() or iskeyword(keyword):
            raise RequestInvalid(f"keywords: {keyword[:MOST_NAME]!r} is not a name", field="keywords")
    expression = f"{function}({','.join(_bounded(_parts(arguments, keywords)))})"
    if keywords or not (function.isascii() and function.isidentifier() and all(map(_is_json, arguments))):
        return Call(expression, None)
    return Call(expression, json.dumps([function, *arguments], separators=(",", ":")))


def _parts(arguments: Sequence[object], keywords: Mapping[str, object]) -> Iterator[str]:
    for position, value in enumerate(arguments):
        yield _render(value, f"arguments[{position}]")
    for keyword, value in keywords.items():
        yield f"{keyword}={_render(value, f'keywords[{keyword!r}]')}"


def _bounded(parts: Iterable[str]) -> Iterator[str]:
    # Looked at one by one: each alone may be as long as all may be together.
    room = MOST_BYTES - MOST_NAME
    for part in parts:
        room -= len(part) + 1
        if room < 0:
            raise RequestInvalid(
                f"arguments: together longer than {MOST_BYTES} bytes as source; send them in several calls",
                field="arguments",
            )
        yield part


def _render(value: object, field: str) -> str:
    try:
        return values.render(value, field)
    except (ValueError, TypeError) as error:
        raise RequestInvalid(str(error), field=field) from error


def _is_json(value: object) -> bool:
    """Tell whether MicroPython's json reads the very same value from JSON.

    Its loads joins no surrogate pairs; tuples have no JSON; floats may be read
    differently from literals.
    """
    if type(value) is int:
        return _SMALLEST < value < _LARGEST
    if type(value) is str:
        return not _SURROGATES.search(value)
    if type(value) is list:
        return all(map(_is_json, value))
    return value is None or type(value) is bool
