"""Bytes through a file descriptor: the engine of every transport that has one.

Reading is always on, so that the end is noticed while a board idles, except while
the buffer is full. b"" or OSError means that the board is gone: the descriptor is
given back at once, since a port that is kept open comes back under another name.
What giving back means (a lock, a process) is the `Port`'s; it may block, so it
runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from belayd.transport.contract import Traffic

BUFFER_BYTES = 256 * 1024
"""Held for a caller that does not come; the contract's limit."""
READ_BYTES = 64 * 1024
"""Read at a time."""


class Port(Protocol):
    """What was opened.

    Attributes:
        fd: To read and write; does not block.
        address: For people.
        steady: As `contract.Traffic` has it.
    """

    fd: int
    address: str
    steady: bool

    def release(self) -> None:
        """Give everything back; called once, in a thread, and never raises."""


async def open_in_thread(open_port: Callable[[], Port]) -> DescriptorTransport:
    """Return a transport over the port that `open_port` opens, which may block.

    After a cancellation nothing stays open: what is opened later is given back.
    """
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(None, open_port)
    try:
        port = await asyncio.shield(opening)
    except asyncio.CancelledError:

        def give_back(opened: asyncio.Future[Port]) -> None:
            if not opened.cancelled() and opened.exception() is None:
                loop.run_in_executor(None, opened.result().release)

        opening.add_done_callback(give_back)
        raise
    return DescriptorTransport(port)


class DescriptorTransport:
    """A transport over a port's descriptor; see `contract.Transport` for what it promises."""

    __slots__ = (
        "_buffer",
        "_fd",
        "_gone",
        "_loop",
        "_notified",
        "_port",
        "_reading",
        "_receiver",
        "_released",
        "_sending",
        "_writer",
        "address",
        "on_pending",
        "traffic",
    )

    def __init__(self, port: Port) -> None:
        """Take over an open port; must be called on the loop."""
        self.address = port.address
        self.traffic = Traffic(steady=port.steady)
        self.on_pending: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._fd = port.fd
        self._buffer = bytearray()
        self._gone = False
        self._notified = False
        self._reading = False
        self._receiver: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._released: asyncio.Future[None] | None = None
        self._resume()

    async def receive(self) -> bytes:
        """Return the next bytes, or b"" if and only if the board is gone."""
        if self._receiver is not None:
            raise RuntimeError("receive is already waiting; one caller at a time")
        self._notified = False
        if not self._buffer and not self._gone:
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            except asyncio.CancelledError:
                if self._buffer or self._gone:  # it came together with the cancellation
                    self._notify()
                raise
            finally:
                self._receiver = None
        return self._take()

    def receive_pending(self) -> bytes | None:
        """Return what `receive` would return at once, or None where it would wait."""
        self._notified = False
        return self._take() if self._buffer or self._gone else None

    async def send(self, data: bytes) -> None:
        """Send all of `data`; whatever fits goes out in one write, before the first await."""
        async with self._sending:
            rest = memoryview(data)
            while rest and not self._gone:
                try:
                    sent = os.write(self._fd, rest)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._end_after_the_last_bytes()
                    return
                self.traffic.sent(sent)
                rest = rest[sent:]
                if rest:
                    await self._writable()

    async def close(self) -> None:
        """Give the port back; idempotent. A waiting `receive` returns b""."""
        self._buffer.clear()
        released = self._end()
        await asyncio.shield(released)

    async def _writable(self) -> None:
        """Wait until the descriptor takes more, or the board is gone."""
        writer = self._writer = self._loop.create_future()
        self._loop.add_writer(self._fd, wake, writer)
        try:
            await writer
        finally:
            self._writer = None
            if not self._gone:  # else the number may already be another file's
                self._loop.remove_writer(self._fd)

    def _take(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._resume()
        return data

    def _resume(self) -> None:
        if not self._reading and not self._gone:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        if not self._read():
            self._end()
        elif len(self._buffer) >= BUFFER_BYTES:
            self._reading = False
            self._loop.remove_reader(self._fd)
        if self._buffer or self._gone:
            self._tell()

    def _read(self) -> bool:
        """Read once into the buffer; return False if the board is gone."""
        try:
            data = os.read(self._fd, min(READ_BYTES, BUFFER_BYTES - len(self._buffer)))
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.traffic.received(len(data))
        self._buffer += data
        return bool(data)

    def _tell(self) -> None:
        if self._receiver is not None:
            wake(self._receiver)
        else:
            self._notify()

    def _notify(self) -> None:
        if self.on_pending is not None and not self._notified:
            self._notified = True
            self.on_pending()

    def _end_after_the_last_bytes(self) -> None:
        """End because nothing can be sent any more; what the board said before counts."""
        size = -1
        while len(self._buffer) not in (size, BUFFER_BYTES):
            size = len(self._buffer)
            if not self._read():
                break
        self._end()
        self._tell()

    def _end(self) -> asyncio.Future[None]:
        """Let go of the descriptor; return what is done when the port is given back."""
        if self._released is None:
            self._gone = True
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            for waiting in (self._receiver, self._writer):
                if waiting is not None:
                    wake(waiting)
            self._released = self._loop.run_in_executor(None, self._port.release)
        return self._released


def wake(waiting: asyncio.Future[None]) -> None:
    """Let whoever waits go on, unless that was cancelled."""
    if not waiting.done():
        waiting.set_result(None)
