"""WebREPL's frames, pure: terminal in text frames, file records in binary ones.

`websockets` does the framing, driven without its networking: WebREPL's text frames
carry any bytes, its pings are never answered, and a frame of 64 KiB or more makes
the board close.
Source: MicroPython's extmod/modwebsocket.c, extmod/modwebrepl.c.
"""

from __future__ import annotations

import logging

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

FRAME_BYTES = 4096
"""Payload of a frame: a board takes up to 65535, but has to hold none of it longer than this."""
_RECEIVED_BYTES = 65535  # of one frame; a board cannot send more
_RECORD_BYTES = 4096  # answers to one file record; more was not asked for


class WebreplCodec:
    """One WebSocket connection from the client's side; see `coded.Codec`.

    Attributes:
        record: What came in binary frames.
        refusal: Why the server's answer to the handshake will not do, None if it did.
    """

    __slots__ = ("_protocol", "_record_follows", "ended", "outgoing", "received", "record")

    def __init__(self, url: str) -> None:
        """Begin the handshake.

        Raises:
            ValueError: The URL is no WebSocket's.
        """
        try:
            uri = parse_uri(url)
        except InvalidURI as error:
            raise ValueError("write ws://HOST:8266") from error
        # A logger of its own that nobody hears: it would write the password at DEBUG.
        quiet = logging.Logger("belayd.transport.frames", logging.CRITICAL)
        self._protocol = ClientProtocol(uri, max_size=_RECEIVED_BYTES, logger=quiet)
        self._protocol.send_request(self._protocol.connect())
        self._record_follows = False
        self.received = bytearray()
        self.record = bytearray()
        self.outgoing = bytearray()
        self.ended = False
        self._collect()

    @property
    def open(self) -> bool:
        """Whether the handshake is done and the connection not closing."""
        return self._protocol.state is State.OPEN

    @property
    def refusal(self) -> Exception | None:
        """Why the handshake failed."""
        return self._protocol.handshake_exc

    def receive(self, wire: bytes) -> None:
        """Take bytes from the wire, cut anywhere."""
        self._protocol.receive_data(wire)
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._record_follows = event.opcode is Opcode.BINARY
            elif event.opcode is not Opcode.CONT:
                continue
            if not self._record_follows:
                self.received += event.data
            elif len(self.record) <= _RECORD_BYTES:
                self.record += event.data
        self._collect()
        self.ended = self.refusal is not None or self._protocol.state not in (State.CONNECTING, State.OPEN)

    def send(self, data: bytes) -> None:
        """Put a board's input on the wire."""
        for start in range(0, len(data), FRAME_BYTES):
            if self.open:
                self._protocol.send_text(data[start : start + FRAME_BYTES])
                self._collect()

    def send_record(self, data: bytes) -> None:
        """Put part of a file record on the wire, at most FRAME_BYTES."""
        if self.open:
            self._protocol.send_binary(data)
            self._collect()

    def send_goodbye(self) -> None:
        """Say that nothing follows."""
        if self.open:
            self._protocol.send_close()
            self._collect()

    def _collect(self) -> None:
        for data in self._protocol.data_to_send():
            self.outgoing += data  # b"" stands for the end, which closing tells
