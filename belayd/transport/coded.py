"""Bytes through a codec: a transport whose wire carries more than the board's bytes.

The codec is pure; this drives it over a socket. What a codec has made for the wire
is sent whole, whatever happens to who asked for it, since half a frame would spoil
all that follows. The contract's limit holds for the board's bytes; beyond it at
most what was read in one go waits in the codec.
"""

from __future__ import annotations

import os
from typing import Protocol

from belayd.transport.connection import SocketPort, acknowledge_at_once
from belayd.transport.descriptor import BUFFER_BYTES, READ_BYTES, DescriptorTransport, wake

_PIECE_BYTES = 32 * 1024  # encoded at a time
_OUTGOING_BYTES = 256 * 1024  # far above a piece: only replies nobody reads get there


class Codec(Protocol):
    """Between a board's bytes and the wire's.

    Attributes:
        received: Bytes of the board that nobody took yet; `CodedTransport` takes them.
        outgoing: Bytes for the wire: what `send` made, and replies.
        ended: The far end said goodbye, or broke the rules.
    """

    received: bytearray
    outgoing: bytearray
    ended: bool

    def receive(self, wire: bytes) -> None:
        """Take bytes from the wire, cut anywhere."""

    def send(self, data: bytes) -> None:
        """Make bytes of `data` for the wire."""


class CodedTransport(DescriptorTransport):
    """A transport over a connected socket with a codec; see `contract.Transport`."""

    __slots__ = ("_codec", "_connection", "_flushing")

    def __init__(self, port: SocketPort, codec: Codec) -> None:
        """Take over a connection and what its codec has received already."""
        self._codec = codec
        self._connection = port.connection
        self._flushing = False
        super().__init__(port)

    async def send(self, data: bytes) -> None:
        """Send all of `data`; whatever fits goes out in one write, before the first await."""
        async with self._sending:
            rest = memoryview(data)
            await self._flushed()  # what a cancelled send has left
            while rest and not self._gone:
                piece, rest = rest[:_PIECE_BYTES], rest[_PIECE_BYTES:]
                self._codec.send(bytes(piece))
                self.traffic.sent(len(piece))
                self._flush()
                await self._flushed()

    async def _flushed(self) -> None:
        """Wait until the system has all that the codec has made, or the board is gone."""
        while self._codec.outgoing and not self._gone:
            self._writer = self._loop.create_future()
            self._flush()
            try:
                if self._codec.outgoing and not self._gone:
                    await self._writer
            finally:
                self._writer = None

    def _flush(self) -> None:
        """Write what the system takes now; the rest goes by itself when it takes more."""
        outgoing = self._codec.outgoing
        if outgoing and not self._gone:
            try:
                del outgoing[: os.write(self._fd, outgoing)]
            except BlockingIOError:
                pass
            except OSError:
                outgoing.clear()  # nobody takes it any more
                self._end_after_the_last_bytes()
                return
        if bool(outgoing) is not self._flushing and not self._gone:
            self._flushing = bool(outgoing)
            if outgoing:
                self._loop.add_writer(self._fd, self._flush)
            else:
                self._loop.remove_writer(self._fd)
        if not outgoing and self._writer is not None:
            wake(self._writer)

    def _resume(self) -> None:
        super()._resume()
        if (self._codec.received or self._codec.ended) and not self._gone:
            # They arrive now; the descriptor does not tell, it has given them already.
            self._loop.call_soon(self._on_readable)

    def _on_readable(self) -> None:
        if not self._gone:
            super()._on_readable()

    def _read(self) -> bool:
        codec = self._codec
        if not codec.received and not codec.ended:
            try:
                wire = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not wire:
                return False
            acknowledge_at_once(self._connection)
            codec.receive(wire)
            if codec.outgoing:
                self._flush()
                if self._gone:
                    return False
        self._accept(codec.received)
        return not (codec.ended and not codec.received) and len(codec.outgoing) < _OUTGOING_BYTES

    def _accept(self, received: bytearray) -> None:
        """Move into the buffer what has room there."""
        taken = received[: BUFFER_BYTES - len(self._buffer)]
        del received[: len(taken)]
        self.traffic.received(len(taken))
        self._buffer += taken
