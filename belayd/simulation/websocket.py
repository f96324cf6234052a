"""MicroPython's WebSocket, seen from the board: handshake and frames, pure, with its manners.

Header names count case by case, lengths of 64 bits kill the connection, pings are
ignored, a mask may be missing, and text frames carry any bytes.
Source: MicroPython's webrepl.py and extmod/modwebsocket.c.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Iterator

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST_BYTES = 8192
_FRAME_BYTES = 65535
NOT_WEBSOCKET = (
    b"HTTP/1.0 200 OK\r\n\r\n"
    b'<base href="https://micropython.org/webrepl/"></base>\r\n'
    b'<script src="webrepl_content.js"></script>\r\n'
)


class Opcode(enum.IntEnum):
    """The frames that MicroPython knows."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8


class BrokenRules(Exception):
    """The connection cannot go on."""


def answer(request: bytes) -> tuple[bytes, bool, bytes] | None:
    """Answer a handshake: what to send, whether it is WebSocket, and what came after it.

    None while the request is not complete.

    Raises:
        BrokenRules: It has a header without a colon, or no end.
    """
    head, found, rest = request.partition(b"\r\n\r\n")
    if not found:
        if len(request) > _REQUEST_BYTES:
            raise BrokenRules("a request without end")
        return None
    key, upgrade, connection = b"", False, False
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise BrokenRules(f"the header {line!r} has no colon")
        match name.strip():
            case b"Sec-WebSocket-Key":
                key = value.strip()
            case b"Connection":
                connection = b"Upgrade" in value
            case b"Upgrade":
                upgrade = value.strip() == b"websocket"
            case _:
                pass
    if not (key and upgrade and connection):
        return NOT_WEBSOCKET, False, b""
    accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )
    return head, True, rest


def frame(opcode: Opcode, payload: bytes) -> Iterator[bytes]:
    """Yield the header and the payload of one frame; the board sends each by itself."""
    if len(payload) > _FRAME_BYTES:
        raise ValueError(f"{len(payload)} bytes do not fit into one of the board's frames")
    first = bytes((0x80 | opcode,))
    if len(payload) < 126:
        yield first + bytes((len(payload),))
    else:
        yield first + b"\x7e" + len(payload).to_bytes(2, "big")
    if payload:
        yield payload


class FrameReader:
    """Cuts what a client sends into data; at most one frame waits for its rest."""

    __slots__ = ("_buffer", "_data_opcode")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data_opcode = Opcode.TEXT

    def feed(self, data: bytes) -> None:
        """Take bytes from the client, cut anywhere."""
        self._buffer += data

    def read(self) -> tuple[Opcode, bytes] | None:
        """Return the next data or close frame, None while there is none.

        A continuation is of the kind of the data before it.

        Raises:
            BrokenRules: A frame's length takes 64 bits.
        """
        buffer = self._buffer
        while len(buffer) >= 2:
            length, start = buffer[1] & 0x7F, 2
            if length == 127:
                raise BrokenRules("a frame of 64 KiB or more")
            if length == 126:
                if len(buffer) < 4:
                    return None
                length, start = int.from_bytes(buffer[2:4], "big"), 4
            mask = b""
            if buffer[1] & 0x80:
                mask = bytes(buffer[start : start + 4])
                start += 4
            if len(buffer) < start + length:
                return None
            opcode = buffer[0] & 0x0F
            payload = _unmasked(bytes(buffer[start : start + length]), mask)
            del buffer[: start + length]
            if opcode == Opcode.CLOSE:
                return Opcode.CLOSE, payload
            if opcode in (Opcode.TEXT, Opcode.BINARY):
                self._data_opcode = Opcode(opcode)
            if opcode in (Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY):
                return self._data_opcode, payload
            # pings and all else are ignored
        return None


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(len(payload), "big")
