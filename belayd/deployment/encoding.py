"""Bytes and names as MicroPython source, as short as the board can take them.

Source goes through the REPL as text, so it may hold neither the bytes 01 to 05,
which the REPL takes for commands, nor a line's end.
Measured: 4 kB of Python source as deflate and base64 are 0.42 wire bytes a byte,
as repr 1.04, as base64 1.35; random bytes are 1.35 in base64, 2.9 as repr.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace

from belayd.snapshot import Facts

SMALLEST_COMMAND_BYTES = 512
LARGEST_COMMAND_BYTES = 8192
"""At 115,200 baud 0.7 s: progress is told, and a cancellation heard, that often."""
SMALLEST_PIECE_BYTES = 128

_ESCAPES = {chr(code): f"\\x{code:02x}" for code in (*range(32), 127)} | {'"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True, slots=True)
class Means:
    """How contents can be sent to one board.

    Attributes:
        base64: Whether it can decode that.
        window_bits: Of raw deflate; 0 where it cannot inflate.
        piece_bytes: The most content one step may carry.
        command_bytes: About how much source one exec may have.
    """

    base64: bool
    window_bits: int
    piece_bytes: int
    command_bytes: int

    def smaller(self) -> Means | None:
        """Return what to try when the board ran out of memory, None if nothing is left."""
        if self.command_bytes > SMALLEST_COMMAND_BYTES:
            return replace(self, command_bytes=max(self.command_bytes // 2, SMALLEST_COMMAND_BYTES))
        if self.window_bits:
            return replace(self, window_bits=0)
        return None


def means(facts: Facts) -> Means:
    """Choose by a board's modules and free memory.

    The source stands in its memory up to three times (as received, as literal,
    decoded) and more while that grows: a sixteenth of what is free is safe.
    """
    free = facts.memory_free_bytes
    inflates = "binascii" in facts.modules and ("deflate" in facts.modules or "zlib" in facts.modules)
    roomy = free is None or free >= 48 * 1024
    command = 4096 if free is None else free // 16
    return Means(
        base64="binascii" in facts.modules,
        window_bits=(12 if roomy else 10) if inflates else 0,
        # deflate is read in small steps; zlib gives all of a piece at once.
        piece_bytes=(16 if "deflate" in facts.modules and roomy else 2) * 1024,
        command_bytes=min(max(command, SMALLEST_COMMAND_BYTES), LARGEST_COMMAND_BYTES),
    )


def text_literal(text: str) -> str:
    """Return a string literal; beyond ASCII nothing is escaped, since small firmwares know no \\u."""
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def bytes_literal(data: bytes, means: Means) -> str:
    """Return the shorter of a bytes literal and a string literal of base64."""
    plain = repr(data)
    if not means.base64:
        return plain
    encoded = base64.b64encode(data).decode()
    return f"'{encoded}'" if len(encoded) + 2 < len(plain) else plain


def shorten(source: str, facts: Facts) -> str:
    """Return `source`, or a shorter text that inflates and runs it where the board can."""
    chosen = means(facts)
    if not chosen.window_bits or "deflate" not in facts.modules:
        return source
    # No imports: they would leave names among the user's.
    packed = base64.b64encode(_deflate(source.encode(), chosen.window_bits)).decode()
    content = f"__import__('io').BytesIO(__import__('binascii').a2b_base64('{packed}'))"
    short = f"exec(__import__('deflate').DeflateIO({content},1,{chosen.window_bits}).read())\n"
    return min(source, short, key=len)


def write_step(data: bytes, means: Means) -> str:
    """Return the step that appends `data` to the file being written, as short as possible."""
    plain = f"('w',{bytes_literal(data, means)})"
    if not means.window_bits:
        return plain
    packed = bytes_literal(_deflate(data, means.window_bits), means)
    step = f"('z',{packed},{means.window_bits})"
    return step if len(step) < len(plain) else plain


def cut(data: bytes, start: int, means: Means, room: int) -> tuple[str, int]:
    """Return the step that writes the next piece of `data` from `start`, and the piece's length.

    The step is about `room` bytes long at most, but a piece is never empty.
    """
    length = min(means.piece_bytes, len(data) - start)
    step = write_step(data[start : start + length], means)
    while len(step) > room and length > SMALLEST_PIECE_BYTES:
        length = max(min(length // 2, length * room // len(step)), SMALLEST_PIECE_BYTES)
        step = write_step(data[start : start + length], means)
    return step, length


def _deflate(data: bytes, window_bits: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -window_bits)
    return compressor.compress(data) + compressor.flush()
