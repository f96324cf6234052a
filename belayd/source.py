"""Callers' source as literals of one line, whole or in pieces, without bytes that a REPL acts on.

UTF-8 goes as it is: escapes would cost bytes, and some firmware knows none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CONTROL = re.compile("[\x00-\x1f\x7f]")


def literal(text: str) -> str:
    """Return `text` as a Python literal."""
    return f"'{_escaped(text)}'"


def pieces(text: str, most_bytes: int) -> Iterator[str]:
    """Cut `text` into the insides of literals of at most so many bytes, never within a character."""
    piece, size = "", 0
    for character in text:
        escaped = _escaped(character)
        length = len(escaped.encode())
        if size + length > most_bytes:
            yield piece
            piece, size = "", 0
        piece += escaped
        size += length
    yield piece


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", escaped)
