"""Requests to the resident loop as bytes, whole or in pieces that any board's input holds.

Pure. What `onboard/loop.py` reads is made here: nothing in it is a byte that a REPL
acts on, so that Ctrl-C stays Ctrl-C and what is left unread can never run. A piece
waits until the board asks for it, since a board's input may drop what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from belayd.call import Call

IN_FLIGHT_BYTES = 250
"""Bytes sent while the board may be busy: below the smallest ring of a port (255)."""
MOST_BODY_BYTES = 0xFFFF
"""Of text that the loop takes: raw paste compiles longer one as it comes and holds none of it."""
PIECE_BYTES = 240
NAME_LENGTH = 8
"""Letters and digits that name an iteration: never one that was before, also after a restart."""
_SUBSTITUTED = b"\x01\x02\x03\x04\x05"
_HEADER_BYTES = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the loop: a letter of onboard/loop.py, its body, and bytes that go before it."""

    letter: str
    body: bytes
    contents: tuple[bytes | bytearray, ...] = ()

    def encode(self) -> bytes:
        """Return it as the board reads it; for one that is not `long`."""
        return b"%04x%s%s" % (len(self.body), self.letter.encode("ascii"), self.body)

    @property
    def fits(self) -> bool:
        """Whether the loop can take it: short enough, and without bytes that a REPL acts on."""
        within = len(self.body) <= MOST_BODY_BYTES or bool(self.contents)
        return within and not any(byte in self.body for byte in _SUBSTITUTED)

    @property
    def long(self) -> bool:
        """Whether it goes in `parts`, by itself."""
        return bool(self.contents) or len(self.body) + _HEADER_BYTES > IN_FLIGHT_BYTES

    @property
    def size(self) -> int:
        """How many bytes of a board's input it takes while it waits there."""
        return IN_FLIGHT_BYTES if self.long else len(self.body) + _HEADER_BYTES

    def parts(self) -> Iterator[bytes]:
        """Return what a `long` one is sent as, each for a write of its own.

        The first goes at once, each other when the board asks for it.
        """
        for content in self.contents:
            yield from _announced(b"b" if isinstance(content, bytes) else b"a", content)
        if len(self.body) + _HEADER_BYTES > IN_FLIGHT_BYTES:
            yield from _announced(self.letter.encode("ascii"), self.body)
        else:
            yield self.encode()


def request_for(call: Call | str) -> Request:
    """Return the request that does a call, or evaluates an expression."""
    if isinstance(call, str):
        return Request("e", call.strip().encode())
    if call.body is not None:
        return Request("j", call.body.encode())
    return Request("e", call.placed.encode(), call.contents)


def iteration_of(call: Call, name: str, credit: int) -> Request:
    """Return the request that pushes the items of a call's result, so many at first.

    `name` is of NAME_LENGTH letters and digits, and no other iteration's on this board.
    """
    return Request("g", f"{name}{credit:04x}{call.placed}".encode(), call.contents)


def order_of(letter: str, name: str, body: str) -> Request:
    """Return the request that orders something of an iteration that has begun."""
    return Request(letter, f"{name}{body}".encode())


def _announced(kind: bytes, data: bytes | bytearray) -> Iterator[bytes]:
    yield Request("l", b"%x%s" % (len(data), kind)).encode()
    for start in range(0, len(data), PIECE_BYTES):
        yield _piece(bytes(data[start : start + PIECE_BYTES]))


def _piece(data: bytes) -> bytes:
    """Return five bytes that stand for 01 to 05 in what follows, and that; 0 for what does not occur.

    In 240 bytes always enough of the 256 values are missing.
    """
    absent = (byte for byte in range(6, 256) if byte not in data)
    stand_ins = bytes(next(absent) if byte in data else 0 for byte in _SUBSTITUTED)
    for byte, stand_in in zip(_SUBSTITUTED, stand_ins, strict=True):
        if stand_in:
            data = data.replace(bytes((byte,)), bytes((stand_in,)))
    return stand_ins + data
