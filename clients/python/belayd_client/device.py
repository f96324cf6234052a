"""One board as Belay's programs know it: `Device("pico-1")` and `@device.task`.

A device holds a lease from construction to `close`, renewed in the background.
When the lease is lost the next call raises LeaseLost: what the program had set
up on the board is gone, and nothing is set up again silently.
Source of the names: Belay 0.30, `Device`, `Device.task`, `PyboardException`.
"""

from __future__ import annotations

import atexit
import codecs
import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType, TracebackType
from typing import ParamSpec, Self, TextIO, TypeVar, cast, overload

from belayd_client.client import Client
from belayd_client.errors import BelaydError, BoardException
from belayd_client.function import Function
from belayd_client.lease import Lease
from belayd_client.lineends import LineEnds
from belayd_client.source import function_source, is_expression, statements, takes_values

PyboardException = BoardException

WINDOW = 64
"""Items of a generator task that may be on their way before they are asked for."""

P = ParamSpec("P")
R = TypeVar("R")

# Long enough for a network blip, short enough that a killed program's board is free within the minute.
DEVICE_TTL = 60.0


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """Which board: `daemon` None is the default one; exactly one of `board` and `selector`."""

    daemon: str | None
    board: str | None
    selector: str | None


def parse_address(text: str) -> DeviceAddress:
    """Read "pico-1", "label:chip=rp2", "host:port/pico-1" or "host:port/label:chip=rp2".

    Raises:
        ValueError: It is none of these.
    """
    daemon, slash, rest = text.rpartition("/")
    target = rest if slash else text
    if not target or (slash and not daemon):
        raise ValueError(f'not a board: {text!r}; write "pico-1", "label:chip=rp2" or "host:port/pico-1"')
    if target.startswith("label:"):
        return DeviceAddress(daemon or None, None, target.removeprefix("label:"))
    return DeviceAddress(daemon or None, target, None)


class Device:
    """One leased board. Leaving its `with` block, `close` and interpreter exit give it up."""

    def __init__(
        self,
        address: str,
        *,
        ttl: float = DEVICE_TTL,
        wait: float | None = None,
        timeout: float | None = None,
        reason: str = "",
        token_file: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Acquire the board.

        Args:
            address: "pico-1", "label:chip=rp2" for any board with the label, or
                either after a daemon's address and "/".
            ttl: Seconds the lease outlives a program that is killed or cut off.
            wait: Seconds to wait while somebody has it; None waits as long as it takes.
            timeout: Seconds for each call, unless it says otherwise; None is no limit.
            reason: Why, for others to read.
            token_file: As for Client; so are `ca`, `cert` and `key`.

        Raises:
            BoardLeased: It was not free in time.
        """
        where = parse_address(address)
        self._timeout = timeout
        self._closed = False
        self._client = Client(where.daemon, token_file=token_file, ca=ca, cert=cert, key=key)
        try:
            self._lease = self._client.acquire(
                where.board, selector=where.selector, ttl=ttl, wait=wait, reason=reason
            ).keep()
        except BaseException:
            self._client.close()
            raise
        atexit.register(self._close_at_exit)

    @property
    def name(self) -> str:
        """The board's name."""
        return self._lease.board

    @property
    def lease(self) -> Lease:
        """The lease it holds."""
        return self._lease

    def __call__(
        self,
        cmd: str,
        *,
        stream_out: TextIO | EllipsisType | None = ...,
        timeout: float | None = None,
        minify: bool = True,
        record: bool = True,
        trusted: bool = False,
    ) -> object:
        """Return the value of an expression, or run statements and return None.

        Args:
            cmd: Code for the board's global namespace; a margin that all of it has does not count.
            stream_out: Where its prints go, live; left out is sys.stdout, None drops them.
            timeout: Seconds; None is the device's.
            minify: Taken for Belay's programs; code is sent as written.
            record: Taken for Belay's programs; nothing is replayed.
            trusted: Taken for Belay's programs; values are typed, never evaluated here.

        Raises:
            PyboardException: The code raised.
            LeaseLost: The lease has ended.
        """
        limit = self._timeout if timeout is None else timeout
        with _Prints(stream_out) as prints:
            if is_expression(cmd):
                return self._client.evaluate(
                    self.name, cmd.strip(), lease=self._lease, timeout=limit, output=prints.write
                )
            self._client.run(
                self.name, statements(cmd), lease=self._lease, timeout=limit, output=prints.write
            )
            return None

    @overload
    def task(self, function: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        minify: bool = True,
        register: bool = True,
        record: bool = True,
        trusted: bool = False,
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    def task(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        minify: bool = True,
        register: bool = True,
        record: bool = True,
        trusted: bool = False,
    ) -> Function[P, R] | Callable[[Callable[P, R]], Function[P, R]]:
        """Define a function on the board, once and now; calling it then runs it there.

        Many calls are on their way at once with `submit`, `map` and `starmap` of what is
        returned: see Function.

        A generator's items come as they are asked for, some in advance unless values
        are sent into it. Arguments and results are typed values: numbers, text, bytes, and lists,
        tuples, sets and dicts of them. What it prints appears here. `register`
        makes it an attribute of the device too; the other options are taken for
        Belay's programs and change nothing.

        Raises:
            PyboardException: The board cannot compile it.
        """
        if function is None:
            return functools.partial(self._define, register=register)
        return self._define(function, register=register)

    def close(self) -> None:
        """Give the board up, interrupting what still runs there. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        try:
            self._lease.release()
        finally:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BelaydError:
            if error is None:  # Else the block's own exception is what the caller must see.
                raise

    def _define(self, function: Callable[P, R], *, register: bool = True) -> Function[P, R]:
        source = function_source(function)
        name = function.__name__
        self._client.run(self.name, source, lease=self._lease, timeout=self._timeout)

        if inspect.isgeneratorfunction(function):
            window = 1 if takes_values(source) else WINDOW

            @functools.wraps(function)
            def iterate(*args: P.args, **kwargs: P.kwargs) -> R:
                items = self._client.iterate(
                    self.name, name, args, kwargs, window=window, lease=self._lease, output=_Prints(...).write
                )
                return cast(R, items)

            return self._register(name, iterate, register)

        call = self._client.function(self.name, name, lease=self._lease, timeout=self._timeout, output=_print)
        return self._register(name, functools.update_wrapper(call, function), register)

    def _register(self, name: str, call: object, register: bool) -> Function[P, R]:
        if register and not hasattr(self, name):
            setattr(self, name, call)
        return cast(Function[P, R], call)

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except BelaydError:
            return  # The lease ends at its expiry, and there is nobody left to tell.


def _print(data: bytes) -> None:
    """Show what a call printed."""
    with _Prints(...) as prints:
        prints.write(data)


class _Prints:
    """Writes a board's bytes to a text stream as they come; a split character waits for its rest."""

    def __init__(self, stream: TextIO | EllipsisType | None) -> None:
        self._stream = sys.stdout if isinstance(stream, EllipsisType) else stream
        self._lines = LineEnds()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put(self._decoder.decode(self._lines.end(), final=True))

    def write(self, data: bytes) -> None:
        self._put(self._decoder.decode(self._lines.feed(data)))

    def _put(self, text: str) -> None:
        if text and self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
