"""The border of every RPC: who calls, whether they may, what it cost, how it ended.

One interceptor wraps each handler of belayd's services. Errors of the tree become
statuses here and nowhere else; anything unexpected is logged under an id and
becomes INTERNAL. A cancelled handler stays cancelled.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import grpc

from belayd import access
from belayd.errors import BelaydError, InternalError
from belayd.rpc import auth
from belayd.rpc.status import abort

log = logging.getLogger(__name__)

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
    """Wraps each handler; one for the whole server."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        crossing = _Crossing(self._tally, handler_call_details.method.lstrip("/"), handler)
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        body = crossing.stream if handler.response_streaming else crossing.unary
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(body, handler.request_deserializer, handler.response_serializer)


class _Crossing:
    """One RPC's way in and out."""

    def __init__(self, tally: Tally, method: str, handler: Any) -> None:
        self._tally = tally
        self._method = method
        self._service, _, self._name = method.partition("/")
        self._streams_in = bool(handler.request_streaming)
        self._kind = _KINDS[self._streams_in, bool(handler.response_streaming)]
        self._body = (
            (handler.stream_stream if self._streams_in else handler.unary_stream)
            if handler.response_streaming
            else (handler.stream_unary if self._streams_in else handler.unary_unary)
        )

    async def unary(self, request: Any, context: Context) -> Any:
        async def body() -> Any:
            response = await self._body(self._counted(request), context)
            self._tally.grpc_sent(self._service, self._name, self._kind)
            return response

        return await self._cross(body, context)

    async def stream(self, request: Any, context: Context) -> None:
        counted = _CountingContext(
            context, lambda: self._tally.grpc_sent(self._service, self._name, self._kind)
        )

        async def body() -> None:
            answer = self._body(self._counted(request), counted)
            if hasattr(answer, "__aiter__"):  # services of libraries are generators
                async for message in answer:
                    await counted.write(message)
            else:
                await answer

        await self._cross(body, context)

    async def _cross(self, body: Callable[[], Awaitable[Any]], context: Context) -> Any:
        self._tally.grpc_started(self._service, self._name, self._kind)
        began = time.perf_counter()
        code = "CANCELLED"
        try:
            try:
                access.require(auth.principal(context), self._method)
                result = await body()
            except BelaydError as error:
                await abort(context, error)
            except grpc.aio.AbortError:
                raise
            except Exception:
                incident = uuid.uuid4().hex[:12]
                log.exception("rpc %s failed (%s)", self._method, incident)
                message = f"belayd failed; report it with the trace that its log has under {incident}"
                await abort(context, InternalError(message, incident=incident))
            code = "OK"
            return result
        except grpc.aio.AbortError:
            code = _code_of(context)
            raise
        finally:
            self._tally.grpc_handled(self._service, self._name, self._kind, code, time.perf_counter() - began)

    def _counted(self, request: Any) -> Any:
        if not self._streams_in:
            self._tally.grpc_received(self._service, self._name, self._kind)
            return request
        return self._count_each(request)

    async def _count_each(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._tally.grpc_received(self._service, self._name, self._kind)
            yield request


class _CountingContext:
    """A servicer's context that counts what is written; the rest is the real one's."""

    def __init__(self, context: Context, count: Callable[[], None]) -> None:
        self._context = context
        self._count = count

    async def write(self, message: Any) -> None:
        await self._context.write(message)
        self._count()

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
