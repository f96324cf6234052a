"""The border of every RPC: who calls, whether they may, what it cost, how it ended.

One interceptor wraps each handler of belayd's services. Errors of the tree become
statuses here and nowhere else; anything unexpected is logged under an id and
becomes INTERNAL. A cancelled handler stays cancelled. Whoever's token is revoked
or expires while an RPC goes on is ended within `LOOK`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from belayd import access
from belayd.access import LOCAL, Principal
from belayd.audit import Trail
from belayd.entrance import Door, Entrance
from belayd.errors import BelaydError, InternalError, QuotaExceeded
from belayd.rpc import auth
from belayd.rpc.account import open_account
from belayd.rpc.status import abort

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at whether those inside may stay."""
MOST_STREAMS = 512
"""Of one principal at once; each costs some 50 KB."""
MOST_STREAMS_UNNAMED = 4096
"""Likewise of those without credentials, who share a name."""

Context = grpc.aio.ServicerContext[Any, Any]


class Tally(Protocol):
    """Where RPCs are counted; `belayd.metrics.Metrics` is one."""

    def grpc_started(self, service: str, method: str, kind: str) -> None:
        """Count an RPC's start."""

    def grpc_handled(self, service: str, method: str, kind: str, code: str, seconds: float) -> None:
        """Count its end."""

    def grpc_received(self, service: str, method: str, kind: str, messages: int = 1) -> None:
        """Count messages from the client."""

    def grpc_sent(self, service: str, method: str, kind: str, messages: int = 1) -> None:
        """Count messages to the client."""


class Border(grpc.aio.ServerInterceptor):
    """Wraps each handler; one for the whole server, whose doors are told before it starts."""

    def __init__(self, tally: Tally, entrance: Entrance, trail: Trail) -> None:
        self.tally = tally
        self.entrance = entrance
        self.trail = trail
        self.tcp = Door(loopback=False)
        self.unix = Door(loopback=True)
        self._inside: set[_Crossing] = set()
        self._streams: Counter[str] = Counter()

    async def watch(self) -> None:
        """End, until cancelled, the RPCs of those who may stay no longer."""
        while True:
            await asyncio.sleep(LOOK)
            await self.entrance.watch()
            for crossing in list(self._inside):
                crossing.recheck()

    def enter(self, crossing: _Crossing, principal: Principal) -> None:
        """Note that an RPC goes on; `leave` must follow.

        Raises:
            QuotaExceeded: It streams, and the principal has too many streams.
        """
        if crossing.streams:
            most = MOST_STREAMS_UNNAMED if principal is LOCAL else MOST_STREAMS
            if self._streams[principal.name] >= most:
                raise QuotaExceeded(
                    f"{principal.name!r} has {most} streams open already; end some first", most=most
                )
            self._streams[principal.name] += 1
        self._inside.add(crossing)

    def leave(self, crossing: _Crossing, principal: Principal) -> None:
        """Note its end."""
        self._inside.discard(crossing)
        if crossing.streams:
            self._streams[principal.name] -= 1
            if not self._streams[principal.name]:
                del self._streams[principal.name]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        crossing = _Crossing(self, handler_call_details.method.lstrip("/"), handler)
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        body = crossing.stream if handler.response_streaming else crossing.unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(body, handler.request_deserializer, handler.response_serializer)


class _Crossing:
    """One RPC's way in and out."""

    def __init__(self, border: Border, method: str, handler: Any) -> None:
        self._border = border
        self._tally = border.tally
        self._method = method
        self._service, _, self._name = method.partition("/")
        self._streams_in = bool(handler.request_streaming)
        self.streams = self._streams_in or bool(handler.response_streaming)
        self._kind = _KINDS[self._streams_in, bool(handler.response_streaming)]
        self._body = (
            (handler.stream_stream if self._streams_in else handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary if self._streams_in else handler.unary_unary)
        )
        self._account = open_account(method, border.trail.lease)
        self._caller: tuple[Principal, str] | None = None  # whoever was let in, and where
        self._stay: Callable[[], BelaydError | None] = lambda: None
        self._task: asyncio.Task[Any] | None = None
        self._writing = False
        self._cancelled = False
        self._ended_by: BelaydError | None = None

    def recheck(self) -> None:
        """End the RPC if its caller may stay no longer.

        One that writes ends after that: an RPC whose write was cancelled cannot tell
        its end. A caller who has not read until the next look is not told it.
        """
        if self._ended_by is None:
            self._ended_by = self._stay()
            if self._ended_by is None or self._writing:
                return
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    async def write(self, context: Context, message: Any) -> None:
        """Send a message; the RPC ends with it if its caller may stay no longer."""
        # Before: a client that has what it wanted may leave before the write returns.
        self._account.told(message)
        self._writing = True
        try:
            await context.write(message)
        finally:
            self._writing = False
        self._tally.grpc_sent(self._service, self._name, self._kind)
        if self._ended_by is not None:
            raise self._ended_by

    async def unary(self, request: Any, context: Context) -> Any:
        async def body() -> Any:
            response = await self._body(self._counted(request), context)
            self._tally.grpc_sent(self._service, self._name, self._kind)
            self._account.told(response)
            return response

        return await self._cross(body, request, context)

    async def stream(self, request: Any, context: Context) -> None:
        watched = _WatchedContext(context, self)

        async def body() -> None:
            answer = self._body(self._counted(request), watched)
            if hasattr(answer, "__aiter__"):  # services of libraries are generators
                async for message in answer:
                    await watched.write(message)
            else:
                await answer

        await self._cross(body, request, context)

    async def _cross(self, body: Callable[[], Awaitable[Any]], request: Any, context: Context) -> Any:
        self._tally.grpc_started(self._service, self._name, self._kind)
        began = time.perf_counter()
        code = "CANCELLED"
        failure: BelaydError | None = None
        try:
            try:
                result = await self._pass(body, request, context)
            except BelaydError as error:
                failure = error
                await abort(context, error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._ended_by is None or task is None:
                    raise
                task.uncancel()
                failure = self._ended_by
                await abort(context, failure)
            except grpc.aio.AbortError:
                raise
            except Exception:
                incident = uuid.uuid4().hex[:12]
                log.exception("rpc %s failed (%s)", self._method, incident)
                message = f"belayd failed; report it with the trace that its log has under {incident}"
                failure = InternalError(message, incident=incident)
                await abort(context, failure)
            code = "OK"
            return result
        except grpc.aio.AbortError:
            code = _code_of(context)
            raise
        finally:
            took = time.perf_counter() - began
            self._tally.grpc_handled(self._service, self._name, self._kind, code, took)
            deed = self._account.deed(failure, code == "OK") if self._caller else None
            if deed is not None and self._caller:
                self._border.trail.did(*self._caller, deed, took)

    async def _pass(self, body: Callable[[], Awaitable[Any]], request: Any, context: Context) -> Any:
        """Let the caller in, if it may, and serve it."""
        border = self._border
        door = border.unix if context.peer().startswith("unix:") else border.tcp
        caller = auth.caller(context, door)
        principal = await border.entrance.admit(door, caller)
        self._caller = principal, door.kind
        if not self._streams_in:
            self._account.heard(request)
        access.require(principal, self._method)
        auth.enter(principal)
        border.enter(self, principal)
        try:
            if caller.token is not None or caller.names:
                self._stay = functools.partial(border.entrance.recheck, door, caller, principal)
                auth.let_stay(self._stay)
            self._task = asyncio.current_task()
            return await body()
        finally:
            self._task = None
            border.leave(self, principal)

    def _counted(self, request: Any) -> Any:
        if not self._streams_in:
            self._tally.grpc_received(self._service, self._name, self._kind)
            return request
        return self._count_each(request)

    async def _count_each(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._tally.grpc_received(self._service, self._name, self._kind)
            self._account.heard(request)
            yield request


class _WatchedContext:
    """A servicer's context whose writes the border sees; the rest is the real one's."""

    def __init__(self, context: Context, crossing: _Crossing) -> None:
        self._context = context
        self._crossing = crossing

    async def write(self, message: Any) -> None:
        await self._crossing.write(self._context, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


_KINDS = {
    (False, False): "unary",
    (False, True): "server_stream",
    (True, False): "client_stream",
    (True, True): "bidi_stream",
}


def _code_of(context: Context) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN.name
