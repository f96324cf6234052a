"""A serial port that another host serves over TCP: raw, or with RFC 2217.

Raw: the stream is the board's bytes (ser2net, an ESP bridge, QEMU's serial port).
RFC 2217: the server also sets the port up, which belayd asks for once, and empties
its buffers, as for a port of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from belayd.transport.coded import CodedTransport
from belayd.transport.connection import SocketPort, acknowledge_at_once, connect
from belayd.transport.contract import Transport, TransportError
from belayd.transport.descriptor import READ_BYTES, DescriptorTransport
from belayd.transport.telnet import TelnetCodec

_SET_UP = 10.0  # seconds for the server's answers, of which it gives some after opening its port


async def open_tcp(url: str, *, baudrate: int = 115200) -> Transport:
    """Connect to a served serial port.

    Args:
        url: `socket://HOST:PORT`, raw, or `rfc2217://HOST:PORT`.
        baudrate: Of the port, with RFC 2217; never 1200.

    Raises:
        TransportError: It cannot be opened now; the message says what to do.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TransportError(f"{url}: {error}") from error
    if parts.scheme not in ("socket", "rfc2217") or not host or not port:
        raise TransportError(f"{url}: write socket://HOST:PORT or rfc2217://HOST:PORT")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    connection = await connect(host, port, address)
    opened = SocketPort(connection, address)
    if parts.scheme == "socket":
        return _RawTransport(opened)
    try:
        codec = TelnetCodec()
        async with asyncio.timeout(_SET_UP):
            await _set_up(connection, codec, baudrate)
        return CodedTransport(opened, codec)
    except TimeoutError:
        opened.release()
        raise TransportError(
            f"{address}: does not answer as RFC 2217 within {_SET_UP:.0f} s; for a raw port write socket://"
        ) from None
    except (OSError, ValueError, _NotServed) as error:
        opened.release()
        raise TransportError(f"{address}: {error}") from error
    except BaseException:
        opened.release()
        raise


class _RawTransport(DescriptorTransport):
    """A transport over a connected socket."""

    __slots__ = ("_connection",)

    def __init__(self, port: SocketPort) -> None:
        self._connection = port.connection
        super().__init__(port)

    def _read(self) -> bool:
        there = super()._read()
        acknowledge_at_once(self._connection)
        return there


class _NotServed(Exception):
    """The server will not; the message says what to do."""


async def _set_up(connection: socket.socket, codec: TelnetCodec, baudrate: int) -> None:
    """Agree on RFC 2217, then on the port's settings."""
    codec.begin()
    await _converse(connection, codec, lambda: codec.com_port is not None)
    if not codec.com_port:
        raise _NotServed("does not speak RFC 2217; for a raw port write socket://")
    codec.configure(baudrate)
    await _converse(connection, codec, lambda: codec.configured)
    if codec.baudrate not in (0, baudrate):
        raise _NotServed(f"its port cannot do {baudrate} baud, only {codec.baudrate}")


async def _converse(connection: socket.socket, codec: TelnetCodec, agreed: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        if codec.outgoing:
            outgoing = bytes(codec.outgoing)
            codec.outgoing.clear()
            await loop.sock_sendall(connection, outgoing)
        if agreed():
            return
        wire = await loop.sock_recv(connection, READ_BYTES)
        if not wire or codec.ended:
            raise _NotServed("the server closed the connection; is its port in use or unplugged?")
        codec.receive(wire)
        if not codec.discarded:
            codec.received.clear()  # of before; and a flood must not fill the memory
