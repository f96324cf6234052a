"""A board's console: its raw bytes for the holder of its lease, what it prints for observers.

    with client.attach("pico-1", lease) as console:
        console.write(b"print(1 + 1)\\r")
        print(console.read())

A console may be read by one thread while another writes to it.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from types import TracebackType
from typing import Self, cast

import grpc

from belayd.v1 import consoles_pb2, consoles_pb2_grpc
from belayd_client.link import Link

_MOST_PENDING = 64
"""Writes that may wait for the daemon; beyond it `write` waits."""


class Console:
    """A caller joined to one board; made by `Client.attach` or `Client.observe`.

    Attributes:
        dropped_bytes: What an observer was too slow for.
    """

    def __init__(self, link: Link, start: consoles_pb2.AttachStart) -> None:
        """Join; returns when bytes go through, and raises what refuses it."""
        self.dropped_bytes = 0
        self._link = link
        self._requests: queue.Queue[consoles_pb2.AttachRequest | None] = queue.Queue(_MOST_PENDING)
        self._requests.put(consoles_pb2.AttachRequest(start=start))
        with link.calling():
            self._call = link.stub(consoles_pb2_grpc.ConsoleServiceStub).Attach(
                iter(self._requests.get, None), metadata=link.metadata
            )
            next(self._call, None)

    def read(self) -> bytes:
        """Wait for bytes from the board and return them; b"" when the console has ended.

        Raises:
            LeaseLost: The lease ended.
            TransportLost: The board went away.
        """
        with self._link.calling():
            for response in self._call:
                if response.WhichOneof("event") == "output":
                    return response.output
                self.dropped_bytes += response.dropped_bytes
        return b""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def write(self, data: bytes) -> None:
        """Give the board bytes as they are; waits while too many are on their way."""
        self._put(consoles_pb2.AttachRequest(input=data))

    def leave(self) -> None:
        """Type no more; `read` gives what still comes and then b"", the board free for other jobs."""
        self._put(None)

    def _put(self, request: consoles_pb2.AttachRequest | None) -> None:
        while True:
            try:
                self._requests.put(request, timeout=0.5)
                return
            except queue.Full:
                if not self._call.is_active():
                    return  # `read` tells why

    def close(self) -> None:
        """End it at once; idempotent."""
        cast(grpc.Call, self._call).cancel()
        with contextlib.suppress(queue.Full):  # what waits for the next request shall end too
            self._requests.put_nowait(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
