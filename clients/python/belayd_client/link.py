"""One daemon as the client's parts call it: a channel, what every call on it carries, and Ctrl-C.

A KeyboardInterrupt may leave grpcio's channel with one of its locks held, if it
comes while the main thread is inside `Condition.__enter__`; later calls of other
threads then wait for ever (grpcio 1.85, CPython 3.11: 2 of 25 when the signal
came just as the request had left). So a Ctrl-C during a call ends that channel
and every call on it, and the next call opens another. For the same reason what
must go on meanwhile, such as renewing a lease, calls through a `twin`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import grpc

from belayd_client.status import from_rpc_error

S = TypeVar("S")


class Link:
    """Calls to one daemon. Safe to use from several threads.

    `address` is for messages; `metadata` goes with every call.
    """

    def __init__(
        self, address: str, open_channel: Callable[[], grpc.Channel], metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self.address = address
        self.metadata = metadata
        self._open_channel = open_channel
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: dict[object, object] = {}
        self._closed = False
        self._process = os.getpid()

    def stub(self, kind: Callable[[grpc.Channel], S]) -> S:
        """Return a service's stub on the channel there is now; the first call on it connects.

        Raises:
            ValueError: The link was closed.
            RuntimeError: As `refuse_forked`.
        """
        stub = self._stubs.get(kind)
        return cast(S, stub) if stub is not None else self._make_stub(kind)

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that made the link: grpcio's threads are not here."""
        return os.getpid() != self._process

    def refuse_forked(self) -> None:
        """Raise RuntimeError if `forked`: what is sent here would wait for ever."""
        if self.forked:
            raise RuntimeError(
                f"this process was forked from the one that made the client of {self.address}; make another here"
            )

    def twin(self) -> Link:
        """Return a link to the same daemon with a channel of its own."""
        return Link(self.address, self._open_channel, self.metadata)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Raise what a failed RPC inside means, and survive a Ctrl-C inside."""
        self.refuse_forked()
        try:
            yield
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.address) from None
        except KeyboardInterrupt:
            self._drop_channel()
            raise

    def close(self) -> None:
        """End the channel and every call on it; those of other threads end as cancelled."""
        self._closed = True
        self._drop_channel()

    def _make_stub(self, kind: Callable[[grpc.Channel], S]) -> S:
        with self._lock:
            if self._closed:
                raise ValueError(f"the client of {self.address} was closed")
            if self._channel is None:
                self._channel = self._open_channel()
            stub = self._stubs[kind] = kind(self._channel)
            return stub

    def _drop_channel(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
            self._stubs = {}
        if channel is not None:
            channel.close()
