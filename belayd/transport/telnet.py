"""Telnet and RFC 2217, pure: a board's bytes and a serial port's settings in one stream.

The client's side. All data is binary: 0xff is doubled and nothing else touched.
What the far end asks for and belayd does not want is refused once; the far end's
notices of line and modem state are not asked for and ignored.
Source: RFC 854, 855, 856 (binary), 858 (suppress go ahead), 2217 (com port).
"""

from __future__ import annotations

import struct

_IAC, _DONT, _DO, _WONT, _WILL, _SB, _SE = 255, 254, 253, 252, 251, 250, 240
_BINARY, _SUPPRESS_GO_AHEAD, _COM_PORT = 0, 3, 44
_OURS = (_BINARY, _SUPPRESS_GO_AHEAD, _COM_PORT)
_THEIRS = (_BINARY, _SUPPRESS_GO_AHEAD)
_SET_BAUDRATE, _SET_DATASIZE, _SET_PARITY, _SET_STOPSIZE, _SET_CONTROL, _PURGE = 1, 2, 3, 4, 5, 12
_ANSWER = 100  # added to a command in its answer
_EIGHT_BITS, _NO_PARITY, _ONE_STOP_BIT, _NO_FLOW_CONTROL, _PURGE_BOTH = 8, 1, 1, 1, 3
_SUBNEGOTIATION_BYTES = 1024  # the longest of RFC 2217 is a signature; more is no answer
_BOOTLOADER_BAUDRATE = 1200


class TelnetCodec:
    """One connection to a serial port's server; see `coded.Codec`.

    Attributes:
        com_port: Whether the server speaks RFC 2217; None until it said so.
        baudrate: What the port runs at; 0 until the server said so.
        configured: The server has answered every setting.
        discarded: The server has emptied the port's buffers.
    """

    __slots__ = (
        "_raw",
        "_refused",
        "_unanswered",
        "baudrate",
        "com_port",
        "discarded",
        "ended",
        "outgoing",
        "received",
    )

    def __init__(self) -> None:
        self.received = bytearray()
        self.outgoing = bytearray()
        self.ended = False
        self.com_port: bool | None = None
        self.baudrate = 0
        self.discarded = False
        self._raw = bytearray()
        self._refused: set[tuple[int, int]] = set()
        self._unanswered: set[int] = set()

    @property
    def configured(self) -> bool:
        """Whether the server has answered every setting that was asked for."""
        return not self._unanswered

    def begin(self) -> None:
        """Offer and ask for what is needed; the first thing to send."""
        for option in _OURS:
            self.outgoing += bytes((_IAC, _WILL, option))
        for option in _THEIRS:
            self.outgoing += bytes((_IAC, _DO, option))

    def configure(self, baudrate: int) -> None:
        """Ask for 8N1 at `baudrate` without flow control, and for empty buffers.

        Raises:
            ValueError: For 1200 baud, which puts many boards into their bootloader.
        """
        if baudrate == _BOOTLOADER_BAUDRATE:
            raise ValueError("1200 baud puts boards into their bootloader")
        for command, value in (
            (_SET_BAUDRATE, struct.pack(">I", baudrate)),
            (_SET_DATASIZE, bytes((_EIGHT_BITS,))),
            (_SET_PARITY, bytes((_NO_PARITY,))),
            (_SET_STOPSIZE, bytes((_ONE_STOP_BIT,))),
            (_SET_CONTROL, bytes((_NO_FLOW_CONTROL,))),
            (_PURGE, bytes((_PURGE_BOTH,))),
        ):
            self._unanswered.add(command)
            self.outgoing += bytes((_IAC, _SB, _COM_PORT, command)) + _escaped(value) + bytes((_IAC, _SE))

    def send(self, data: bytes) -> None:
        """Put a board's input on the wire."""
        self.outgoing += _escaped(data)

    def receive(self, wire: bytes) -> None:
        """Take bytes from the wire, cut anywhere."""
        raw = self._raw
        raw += wire
        while raw and not self.ended:
            at = raw.find(_IAC)
            if at < 0:
                self.received += raw
                raw.clear()
                return
            self.received += raw[:at]
            del raw[:at]
            used = self._command(raw)
            if not used:
                return
            del raw[:used]

    def _command(self, raw: bytearray) -> int:
        """Do what the command at the front of `raw` says; return its length, 0 if more must come."""
        if len(raw) < 2:
            return 0
        match raw[1]:
            case 255:  # IAC
                self.received.append(_IAC)
                return 2
            case 251 | 252 | 253 | 254:  # WILL, WONT, DO, DONT
                if len(raw) < 3:
                    return 0
                self._negotiate(raw[1], raw[2])
                return 3
            case 250:  # SB
                return self._subnegotiation(raw)
            case _:  # no operation, go ahead, are you there...
                return 2

    def _negotiate(self, verb: int, option: int) -> None:
        match verb:
            case 251 if option not in _THEIRS:
                self._refuse(_DONT, option)
            case 253 if option == _COM_PORT:
                self.com_port = True
            case 253 if option not in _OURS:
                self._refuse(_WONT, option)
            case 254 if option == _COM_PORT:
                self.com_port = False
            case _:  # answers to what `begin` said
                pass

    def _refuse(self, verb: int, option: int) -> None:
        if (verb, option) not in self._refused:
            self._refused.add((verb, option))
            self.outgoing += bytes((_IAC, verb, option))

    def _subnegotiation(self, raw: bytearray) -> int:
        end = 2
        while True:
            end = raw.find(_IAC, end)
            if end < 0 or end + 1 >= len(raw):
                self.ended = len(raw) > _SUBNEGOTIATION_BYTES
                return 0
            if raw[end + 1] == _SE:
                break
            end += 2
        text = bytes(raw[2:end]).replace(b"\xff\xff", b"\xff")
        if len(text) >= 2 and text[0] == _COM_PORT:
            self._answer(text[1] - _ANSWER, text[2:])
        return end + 2

    def _answer(self, command: int, value: bytes) -> None:
        self._unanswered.discard(command)
        if command == _SET_BAUDRATE and len(value) == 4:
            (self.baudrate,) = struct.unpack(">I", value)
        if command == _PURGE:
            self.discarded = True
            self.received.clear()  # what came before is not of this connection


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\xff", b"\xff\xff")
