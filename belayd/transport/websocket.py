"""A board's WebREPL: its terminal over WebSocket, and files past whatever runs.

The board serves one client at a time and does so in the clear: a password is no
more than a latch. Rules that are kept here: no pings, since a board answers none;
text frames undecoded, since raw paste sends `80 00 01`; acknowledgement at once,
since a board writes a frame in two parts and waits between them (44 ms).
Source: MicroPython's webrepl.py, modwebrepl.c and webrepl_cli.py; issues 2497, 6912.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from belayd.transport.coded import CodedTransport
from belayd.transport.connection import SocketPort, acknowledge_at_once, connect
from belayd.transport.contract import TransportDenied, TransportError
from belayd.transport.descriptor import BUFFER_BYTES, READ_BYTES, wake
from belayd.transport.frames import FRAME_BYTES, WebreplCodec

_LOGIN = 10.0  # seconds from the connection to the prompt; a board does it in milliseconds
_PORT = 8266
_PASSWORD_BYTES = 9  # a board stores no longer one
_ASKS = b"Password: "
_CONNECTED = b"WebREPL connected\r\n>>> "  # said at whatever prompt the board is
_DENIED = b"Access denied"

_RECORD = struct.Struct("<2sBBQLH64s")
_PUT, _GET = 1, 2
_NAME_BYTES = 63
_PUT_BYTES = 1024 * 1024
_DONE = b"WB\0\0"

_T = TypeVar("_T")


async def open_webrepl(url: str, *, password: str) -> WebreplTransport:
    """Connect to a board's WebREPL and log in.

    Args:
        url: `ws://HOST` or `ws://HOST:PORT`; the port is 8266 otherwise.
        password: The board's; it appears in no message.

    Raises:
        TransportDenied: The board does not accept the password.
        TransportError: It cannot be opened now; the message says what to do.
    """
    host, port, address = _parse(url)
    secret = password.encode()
    if len(secret) > _PASSWORD_BYTES or not secret.isascii() or any(byte < 32 for byte in secret):
        raise TransportDenied(
            f"{address}: no WebREPL has this password: it has at most {_PASSWORD_BYTES} ASCII characters; "
            "correct what password_env or password_file gives"
        )
    codec = WebreplCodec(f"ws://{address.partition('//')[2]}/")
    connection = await connect(host, port, address)
    try:
        async with asyncio.timeout(_LOGIN):
            await _log_in(connection, codec, address, secret)
        return WebreplTransport(SocketPort(connection, address), codec)
    except TimeoutError:
        connection.close()
        raise TransportError(
            f"{address}: the WebREPL does not answer within {_LOGIN:.0f} s; "
            "a program that never waits may keep it busy: reset the board"
        ) from None
    except OSError as error:
        connection.close()
        raise TransportError(
            f"{address}: the connection failed: {error}; is the board restarting?"
        ) from error
    except BaseException:
        connection.close()
        raise


class WebreplTransport(CodedTransport):
    """A transport over a WebREPL; see `contract.Transport`."""

    __slots__ = ("_answer", "_frames", "_putting")

    def __init__(self, port: SocketPort, codec: WebreplCodec) -> None:
        """Take over a connection that is logged in."""
        self._frames = codec
        self._putting = False
        self._answer: asyncio.Future[None] | None = None
        super().__init__(port, codec)
        # dupterm_notify moves all of a message into a ring of 259 bytes, and drops the rest.
        self.traffic.bulky = False

    async def put(self, path: str, data: bytes, *, limit: float = 30.0) -> None:
        """Write a file on the board, whatever runs there and even if that cannot be interrupted.

        The last way to a board whose program is stuck: a harmless main.py takes
        effect when its power comes back. A board says nothing of a full
        filesystem, so compare the file through the REPL when there is one again.
        What the program prints meanwhile may be lost. A failure closes the link,
        and the file may be there in part.

        Args:
            path: On the board, at most 63 bytes; its folder must exist.
            data: The whole content, at most 1 MiB.
            limit: Seconds for all of it.

        Raises:
            ValueError: Path or data are too long.
            TransportError: The board does not confirm it; the link is closed.
        """
        name = _record_name(path)
        if len(data) > _PUT_BYTES:
            raise ValueError(f"{path}: {len(data)} bytes are more than a put takes ({_PUT_BYTES})")
        await self._alone(self._put(name, data), f"{path} was not written", limit)

    async def get(self, path: str, *, most: int, limit: float = 30.0) -> bytes:
        """Return a file of the board, as `put` past whatever runs there; a failure closes the link.

        Args:
            path: As for `put`.
            most: Bytes that it may have; one with more is a failure.
            limit: Seconds for all of it; each 256 bytes are a round trip.

        Raises:
            ValueError: The path is too long.
            TransportError: There is no such file, or it is longer; the link is closed.
        """
        return await self._alone(self._get(_record_name(path), most), f"{path} was not read", limit)

    async def close(self) -> None:
        """Give the port back; idempotent. A waiting `receive` returns b""."""
        if not self._gone and not self._frames.outgoing:
            self._frames.send_goodbye()  # the board makes room for the next client at once
            with contextlib.suppress(OSError):
                os.write(self._fd, self._frames.outgoing)
        await super().close()

    async def _alone(self, work: Coroutine[Any, Any, _T], failure: str, limit: float) -> _T:
        """Exchange one file's records; what the program prints meanwhile may be lost."""
        if self._putting:
            work.close()
            raise RuntimeError("one file at a time")
        self._putting = True
        self._frames.record.clear()
        complete = False
        try:
            async with asyncio.timeout(limit):
                result = await work
            complete = True
            return result
        except TimeoutError:
            raise TransportError(
                f"{self.address}: {failure} within {limit:.0f} s; power the board off and on"
            ) from None
        finally:
            self._putting = False
            if not complete:  # the board takes what follows for the file's content
                self._end()
                self._tell()

    async def _put(self, name: bytes, data: bytes) -> None:
        await self._send_record(_RECORD.pack(b"WA", _PUT, 0, 0, len(data), len(name), name))
        await self._confirmed(name, "write")
        for start in range(0, len(data), FRAME_BYTES):
            await self._send_record(data[start : start + FRAME_BYTES])
        await self._confirmed(name, "write")

    async def _get(self, name: bytes, most: int) -> bytes:
        await self._send_record(_RECORD.pack(b"WA", _GET, 0, 0, 0, len(name), name))
        await self._confirmed(name, "read")
        content = bytearray()
        while True:
            await self._send_record(b"\0")  # asks for one block; one too many would spoil what follows
            length = int.from_bytes(await self._answered(2), "little")
            if not length:
                break
            content += await self._answered(length)
            if len(content) > most:
                raise TransportError(f"{self.address}: {name.decode()} is longer than {most} bytes")
        await self._confirmed(name, "read")
        return bytes(content)

    async def _send_record(self, data: bytes) -> None:
        async with self._sending:
            await self._flushed()
            self._frames.send_record(data)
            await self._flushed()

    async def _confirmed(self, name: bytes, verb: str) -> None:
        """Take the board's word that it does, or did, what it was asked for."""
        if await self._answered(len(_DONE)) != _DONE:
            raise TransportError(
                f"{self.address}: the board does not {verb} {name.decode()}; does its folder exist?"
            )

    async def _answered(self, length: int) -> bytes:
        """Return so many bytes of the board's answer, fewer only if it is gone.

        What fills the buffer meanwhile is thrown away.
        """
        record = self._frames.record
        while len(record) < length and not self._gone:
            self._answer = self._loop.create_future()
            if len(self._buffer) >= BUFFER_BYTES:
                del self._buffer[BUFFER_BYTES // 2 :]
                self._resume()
            try:
                await self._answer
            finally:
                self._answer = None
        answer = bytes(record[:length])
        del record[:length]
        return answer

    def _read(self) -> bool:
        there = super()._read()
        if self._answer is not None and (self._frames.record or not there):
            wake(self._answer)
        return there

    def _accept(self, received: bytearray) -> None:
        if self._putting:
            del received[max(0, BUFFER_BYTES - 1 - len(self._buffer)) :]
        super()._accept(received)

    def _end(self) -> asyncio.Future[None]:
        if self._answer is not None:
            wake(self._answer)
        return super()._end()


def _record_name(path: str) -> bytes:
    name = path.encode()
    if not 0 < len(name) <= _NAME_BYTES or b"\0" in name:
        raise ValueError(f"{path!r}: a WebREPL takes paths of 1 to {_NAME_BYTES} bytes")
    return name


def _parse(url: str) -> tuple[str, int, str]:
    """Return host, port, and the URL to show, which holds no user and no path."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or _PORT
    except ValueError as error:
        raise TransportError(f"the WebREPL's URL: {error}") from error
    if parts.scheme == "wss":
        raise TransportError(
            f"wss://{host}: no WebREPL speaks TLS; write ws:// and the address of a tunnel's near end"
        )
    if parts.scheme != "ws" or not host:
        raise TransportError("the WebREPL's URL: write ws://HOST:8266")
    shown = f"[{host}]" if ":" in host else host
    return host, port, f"ws://{shown}:{port}"


async def _log_in(connection: socket.socket, codec: WebreplCodec, address: str, secret: bytes) -> None:
    """Shake hands and pass the password; leaves what the board said after it in the codec."""
    await _converse(connection, codec, lambda: codec.open or codec.refusal is not None)
    if not codec.open:
        raise TransportError(
            f"{address}: answers, but not as a WebREPL ({codec.refusal}); is the port right?"
        )
    await _converse(connection, codec, lambda: _ASKS in codec.received)
    if _ASKS not in codec.received:
        raise TransportError(
            f"{address}: the board serves one WebREPL client at a time and has one; "
            "close that one, or reset the board if it vanished"
        )
    del codec.received[: codec.received.index(_ASKS) + len(_ASKS)]
    codec.send(secret + b"\r")
    await _converse(connection, codec, lambda: _CONNECTED in codec.received or _DENIED in codec.received)
    at = codec.received.find(_CONNECTED)
    if at < 0:
        if _DENIED in codec.received:
            raise TransportDenied(
                f"{address}: the board does not accept the password; "
                "correct what password_env or password_file gives, or the board's webrepl_cfg.py"
            )
        raise TransportError(f"{address}: the board closed the connection at the login; try again")
    del codec.received[: at + len(_CONNECTED)]


async def _converse(connection: socket.socket, codec: WebreplCodec, enough: Callable[[], bool]) -> None:
    """Exchange bytes until `enough` or the end."""
    loop = asyncio.get_running_loop()
    while True:
        if codec.outgoing:
            outgoing = bytes(codec.outgoing)
            codec.outgoing.clear()
            await loop.sock_sendall(connection, outgoing)
        if enough() or codec.ended or len(codec.received) > READ_BYTES:
            return
        wire = await loop.sock_recv(connection, READ_BYTES)
        if not wire:
            return
        acknowledge_at_once(connection)
        codec.receive(wire)
