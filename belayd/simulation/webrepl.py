"""A board's WebREPL: a door to the same prompt for one client at a time.

As on boards: a second client gets a handshake and the end, the first one's output
tells it so; a soft reset closes the connection; whoever does not read stops the
board. Listens on loopback only, and again after each reset, as if boot.py saw to it.
Source: MicroPython's webrepl.py and extmod/modwebrepl.c.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from belayd.simulation.link import READ, WRITE
from belayd.simulation.records import RecordFailed, Records
from belayd.simulation.websocket import BrokenRules, FrameReader, Opcode, answer, frame

PASSWORD_BYTES = 9
_TYPED_BYTES = 10
_READ_BYTES = 16384
_FRAME_BYTES = 65535


class DoorTaken(Exception):
    """Somebody else listens on the port; the message says so."""


class Webrepl:
    """The door; see `link.Link`.

    `tell` prints on all of the board's links, this one included.
    """

    def __init__(
        self,
        port: int,
        password: bytes,
        folder: Path | None,
        absence: float | None,
        tell: Callable[[bytes], None],
    ) -> None:
        """`port` may be 0 for any; `folder` is where file records act, None for nowhere."""
        self.absence = absence
        self.lossless = True
        self._port = port
        self._password = password
        self._folder = folder
        self._tell = tell
        self._door: socket.socket | None = None
        self._guest: _Guest | None = None
        self._client: _Client | None = None

    @property
    def full(self) -> bool:
        """Whether the client does not read what is shown."""
        client = self._client
        return client is not None and bool(client.outgoing) and not client.leaving

    @property
    def ended(self) -> bool:
        """Return False: other clients may come."""
        return False

    def open(self) -> str:
        """Listen; return the URL.

        Raises:
            DoorTaken: The port cannot be had.
        """
        try:
            self._door = socket.create_server(("127.0.0.1", self._port), backlog=8)
        except OSError as error:
            raise DoorTaken(f"the WebREPL cannot listen on port {self._port}: {error.strerror}") from error
        self._door.setblocking(False)
        self._port = self._door.getsockname()[1]
        return f"ws://127.0.0.1:{self._port}"

    def interest(self, room: int) -> Mapping[int, int]:
        """Return what to wait for."""
        found: dict[int, int] = {}
        if self._guest is not None:
            found[self._guest.connection.fileno()] = READ
        elif self._door is not None:  # as the board, one handshake after the other
            found[self._door.fileno()] = READ
        if self._client is not None:
            events = (READ if room and not self._client.leaving else 0) | (
                WRITE if self._client.outgoing else 0
            )
            if events:
                found[self._client.connection.fileno()] = events
        return found

    def wait(self) -> float | None:
        """Return None."""
        return None

    def ready(self, fd: int, events: int, room: int) -> bytes:
        """Let in, or serve the client; return what it typed."""
        if self._door is not None and fd == self._door.fileno():
            with contextlib.suppress(OSError):
                self._guest = _Guest(*self._door.accept())
        elif self._guest is not None and fd == self._guest.connection.fileno():
            return self._welcome(self._guest)
        elif self._client is not None and fd == self._client.connection.fileno():
            return self._serve(self._client, events, room)
        return b""

    def show(self, data: bytes) -> None:
        """Send output to a client that is logged in."""
        client = self._client
        if client is not None and client.logged_in and not client.leaving:
            for start in range(0, len(data), _FRAME_BYTES):
                client.put(Opcode.TEXT, data[start : start + _FRAME_BYTES])
            self._flush(client)

    def soft_reset(self) -> None:
        """Close the connection when all is said."""
        if self._client is not None:
            self._client.leaving = True
            self._flush(self._client)

    def close(self) -> None:
        """Close everything at once."""
        self._drop()
        if self._guest is not None:
            self._guest.connection.close()
            self._guest = None
        if self._door is not None:
            self._door.close()
            self._door = None

    def _welcome(self, guest: _Guest) -> bytes:
        """Go on with a handshake; return what was typed with it."""
        try:
            data = guest.connection.recv(_READ_BYTES)
            guest.request += data
            done = answer(bytes(guest.request)) if data else None
            if done is None and data:
                return b""
            reply, spoken, rest = done or (b"", False, b"")
            guest.connection.send(reply)
        except BlockingIOError:
            return b""
        except (BrokenRules, OSError):
            spoken, rest = False, b""
        self._guest = None
        if not spoken:
            guest.connection.close()
        elif self._client is not None:
            guest.connection.close()
            self._tell(b"\r\nConcurrent WebREPL connection from %r rejected\r\n" % (guest.address,))
        else:
            self._tell(b"\r\nWebREPL connection from: %r\r\n" % (guest.address,))
            client = self._client = _Client(guest.connection, self._folder)
            client.put(Opcode.TEXT, b"Password: ")
            self._flush(client)
            return self._obey(client, rest)
        return b""

    def _serve(self, client: _Client, events: int, room: int) -> bytes:
        if events & WRITE:
            self._flush(client)
        if not events & READ or not room or client is not self._client or client.leaving:
            return b""
        try:
            data = client.connection.recv(min(_READ_BYTES, room))
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._deactivate(b"EOF received, deactivating")
        return self._obey(client, data)

    def _obey(self, client: _Client, data: bytes) -> bytes:
        """Do what a client's bytes say; return what they type at the prompt."""
        typed = b""
        client.frames.feed(data)
        try:
            while client is self._client and not client.leaving and (found := client.frames.read()):
                typed += self._take(client, *found)
        except RecordFailed as error:
            self._deactivate(b"Exception in read() method, deactivating: %s" % str(error).encode())
        except BrokenRules:
            self._deactivate(b"EOF received, deactivating")
        if client is self._client:
            self._flush(client)
        return typed

    def _deactivate(self, why: bytes) -> None:
        self._drop()
        self._tell(b"dupterm: %s\r\n" % why)

    def _take(self, client: _Client, opcode: Opcode, payload: bytes) -> bytes:
        """Do what a frame asks for; return what it types at the prompt."""
        if opcode is Opcode.CLOSE:
            client.put(Opcode.CLOSE, b"")
            client.leaving = True
            return b""
        if not client.logged_in:
            payload = self._log_in(client, payload)
        if opcode is Opcode.TEXT or not payload:
            return payload
        for answered in client.records.receive(payload):
            client.put(Opcode.BINARY, answered)
        return b""

    def _log_in(self, client: _Client, payload: bytes) -> bytes:
        """Take a password's characters; return what follows them."""
        for at, character in enumerate(payload):
            if character not in b"\r\n":
                client.typed += bytes((character,)) if len(client.typed) < _TYPED_BYTES else b""
            elif client.typed == self._password:
                client.logged_in = True
                client.put(Opcode.TEXT, b"\r\nWebREPL connected\r\n>>> ")
                return payload[at + 1 :]
            else:
                client.put(Opcode.TEXT, b"\r\nAccess denied\r\n")
                client.leaving = True
                return b""
        return b""

    def _flush(self, client: _Client) -> None:
        """Send what the client takes, each part by itself as the board's C code does."""
        try:
            while client.outgoing:
                sent = client.connection.send(client.outgoing[0])
                if sent < len(client.outgoing[0]):
                    client.outgoing[0] = client.outgoing[0][sent:]
                    return
                client.outgoing.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._drop()
            return
        if client.leaving:
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.records.close()
            self._client.connection.close()
            self._client = None


class _Guest:
    """Somebody who shakes hands."""

    def __init__(self, connection: socket.socket, address: tuple[str, int]) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.address = address
        self.request = bytearray()


class _Client:
    """Somebody who shook hands; with Nagle's algorithm on, as on boards."""

    def __init__(self, connection: socket.socket, folder: Path | None) -> None:
        self.connection = connection
        self.frames = FrameReader()
        self.records = Records(folder)
        self.outgoing: deque[bytes] = deque()
        self.typed = b""
        self.logged_in = False
        self.leaving = False

    def put(self, opcode: Opcode, payload: bytes) -> None:
        """Queue one frame."""
        self.outgoing.extend(frame(opcode, payload))
