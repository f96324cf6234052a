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
MOST_CONTENT_BYTES = 8 << 20
"""Of the bytes that a call brings beside its source: half of what a message may have, and of the queue's."""
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SURROGATES = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
_SMALLEST, _LARGEST = -(1 << 62), 1 << 62


@dataclass(frozen=True, slots=True)
class Call:
    """A call that can be sent.

    Attributes:
        expression: As MicroPython source, without control characters, and in ASCII but for its
            names and for the marks in place of `contents`.
        body: As a JSON list of name and arguments, None where JSON would change a value.
        contents: Bytes too long for source, in the order of their marks.
    """

    expression: str
    body: str | None
    contents: tuple[bytes | bytearray, ...] = ()

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, about."""
        return len(self.expression) + len(self.body or "") + sum(map(len, self.contents))

    @property
    def placed(self) -> str:
        """The expression, or with contents a function of a list of them that does the call."""
        if not self.contents:
            return self.expression
        # The one name in the expression that is the caller's, which must not be hidden.
        name = "_q" if self.expression.startswith(("_p(", "_p.")) else "_p"
        return f"lambda {name}:{self._with(f'{name}[{index}]' for index in range(len(self.contents)))}"

    @property
    def spelled_bytes(self) -> int:
        """At most how long `spelled_out` is."""
        return len(self.expression) + sum(4 * len(content) + 14 for content in self.contents)

    def spelled_out(self) -> str:
        """Return the expression with the contents as literals in it."""
        return self._with(map(repr, self.contents)) if self.contents else self.expression

    def _with(self, spelled: Iterable[str]) -> str:
        first, *rest = self.expression.split(values.PLACE_MARK)
        return first + "".join(text + after for text, after in zip(spelled, rest, strict=True))


def prepare(function: str, arguments: Sequence[object], keywords: Mapping[str, object]) -> Call:
    """Render a call of `function`, a name such as "add" or "sensor.read".

    Raises:
        RequestInvalid: A name is none, an argument has no literal, or the call is longer
            than MOST_BYTES or brings more than MOST_CONTENT_BYTES; `field` says which.
    """
    if len(function) > MOST_NAME or not _NAME.fullmatch(function) or any(map(iskeyword, function.split("."))):
        raise RequestInvalid(
            f"function: {function[:MOST_NAME]!r} is not the name of a function, such as add or sensor.read",
            field="function",
        )
    for keyword in keywords:
        if len(keyword) > MOST_NAME or not keyword.isidentifier() or iskeyword(keyword):
            raise RequestInvalid(f"keywords: {keyword[:MOST_NAME]!r} is not a name", field="keywords")
    contents: list[bytes | bytearray] = []
    expression = f"{function}({','.join(_bounded(_parts(arguments, keywords, contents), contents))})"
    if contents:
        return Call(expression, None, tuple(contents))
    if keywords or not (function.isascii() and function.isidentifier() and all(map(_is_json, arguments))):
        return Call(expression, None)
    return Call(expression, json.dumps([function, *arguments], separators=(",", ":")))


def _parts(
    arguments: Sequence[object], keywords: Mapping[str, object], contents: list[bytes | bytearray]
) -> Iterator[str]:
    for position, value in enumerate(arguments):
        yield _render(value, f"arguments[{position}]", contents)
    for keyword, value in keywords.items():
        yield f"{keyword}={_render(value, f'keywords[{keyword!r}]', contents)}"


def _bounded(parts: Iterable[str], contents: list[bytes | bytearray]) -> Iterator[str]:
    # Looked at one by one: each alone may be as long as all may be together.
    room = MOST_BYTES - MOST_NAME
    for part in parts:
        room -= len(part) + 1
        if room < 0:
            raise RequestInvalid(
                f"arguments: together longer than {MOST_BYTES} bytes as source; send them in several calls",
                field="arguments",
            )
        if sum(map(len, contents)) > MOST_CONTENT_BYTES:
            raise RequestInvalid(
                f"arguments: together more than {MOST_CONTENT_BYTES} bytes; send them in several calls",
                field="arguments",
            )
        yield part


def _render(value: object, field: str, contents: list[bytes | bytearray]) -> str:
    try:
        return values.render(value, field, contents)
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
