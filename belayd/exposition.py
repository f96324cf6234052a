"""The daemon's two HTTP paths: /metrics for Prometheus, /healthz for supervisors.

GET and HEAD of these, one request a connection, and nothing else of HTTP: no
body is read, no other path exists. Beyond loopback it speaks TLS, and /metrics asks
for a viewer's token (`Authorization: Bearer ...`) or certificate; `access` has each
path's permission. A client costs a bounded request, a bounded
time and one of a bounded number of connections. The numbers are taken on the
loop and rendered in a thread, one scrape at a time: rendering 200 boards takes
tens of milliseconds that no board should wait for.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from prometheus_client import generate_latest

from belayd.access import HTTP_PERMISSIONS, require_role
from belayd.attempts import origin
from belayd.entrance import LOOPBACK, Caller, Door, Entrance, bearer
from belayd.errors import PermissionDenied, Unauthenticated
from belayd.metrics import Metrics
from belayd.tls import ServerCertificate

log = logging.getLogger(__name__)

MOST_REQUEST_BYTES = 8192  # request line and headers; a Prometheus sends some 300
MOST_CONNECTIONS = 32
# The format without names beyond ASCII, which every Prometheus reads.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PLAIN_TYPE = "text/plain; charset=utf-8"


class Exposition:
    """Serves `metrics` from `start` to `close`.

    Args:
        healthy: Answers /healthz; False, as while draining, is 503.
        patience: Seconds a client has to send its request, and to take the answer.
        entrance: Who may come in; None for everybody who reaches it.
        door: Which way.
        certificate: What TLS is served with; None serves in the clear.
    """

    def __init__(
        self,
        metrics: Metrics,
        healthy: Callable[[], bool] = lambda: True,
        patience: float = 10.0,
        *,
        entrance: Entrance | None = None,
        door: Door = LOOPBACK,
        certificate: ServerCertificate | None = None,
    ) -> None:
        self._metrics = metrics
        self._entrance = entrance
        self._door = door
        self._certificate = certificate
        self._tls = certificate.context() if certificate else None
        self._healthy = healthy
        self._patience = patience
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._renderer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the host and the port taken, a free one where `port` is 0.

        A name that stands for several addresses, as localhost does, is served on
        each that this machine has, on one port.

        Raises:
            OSError: Nothing can listen there; nothing is left open.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((entry[0], str(entry[4][0])) for entry in found):
                listening = _listen(family, (address, port))
                if listening:
                    port = listening.getsockname()[1]
                    server = await asyncio.start_server(
                        self._accept,
                        sock=listening,
                        limit=MOST_REQUEST_BYTES,
                        ssl=self._tls,
                        ssl_handshake_timeout=self._patience if self._tls else None,
                    )
                    self._servers.append(server)
            if not self._servers:
                raise OSError(errno.EADDRNOTAVAIL, f"this machine has no address of {host}")
        except OSError:
            await self.close()
            raise
        return host, port

    def renew(self) -> None:
        """Use the certificate as it is now for whoever comes next."""
        if self._certificate is not None and self._tls is not None:
            self._certificate.load(self._tls)

    async def close(self) -> None:
        """Stop listening and end every connection; idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._renderer.shutdown(wait=False, cancel_futures=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="metrics client")
        self._connections.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a metrics client could not be served", exc_info=error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._patience):
                request = await reader.readuntil(b"\r\n\r\n")
            answer = await self._answer(request, writer)
            async with asyncio.timeout(self._patience):
                writer.write(answer)
                await writer.drain()
                if writer.can_write_eof():
                    writer.write_eof()
                    await reader.read(1)  # the client's end: closing earlier could cut the answer short
                else:  # TLS says its end itself
                    writer.close()
                    await writer.wait_closed()
        except asyncio.LimitOverrunError:
            writer.write(_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"request too large\n"))
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            log.debug("a metrics client went away or was too slow")
        finally:
            writer.transport.abort()  # a client that does not read must not hold the rest in memory

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bytes:
        method, _, rest = request.partition(b"\r\n")[0].partition(b" ")
        target, _, protocol = rest.partition(b" ")
        path = target.partition(b"?")[0]
        if not protocol.startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, b"not HTTP/1\n")
        if path.decode("latin-1") not in HTTP_PERMISSIONS:
            return _response(HTTPStatus.NOT_FOUND, b"/metrics and /healthz only\n")
        if method not in (b"GET", b"HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"GET and HEAD only\n", "Allow: GET, HEAD")
        if refusal := await self._refusal(path.decode("ascii"), request, writer):
            return refusal
        response = await self._scrape() if path == b"/metrics" else self._health()
        return response if method == b"GET" else response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def _refusal(self, path: str, request: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Return what whoever asks is turned away with; b"" where it may have its answer."""
        needed = HTTP_PERMISSIONS[path]
        if needed is None or self._entrance is None:
            return b""
        try:
            principal = await self._entrance.admit(self._door, _caller(request, writer))
            require_role(principal, needed, path)
            if principal.selector.terms:
                raise PermissionDenied(f"{path} tells of every board; use a token without a selector")
        except Unauthenticated as error:
            return _response(HTTPStatus.UNAUTHORIZED, f"{error}\n".encode(), "WWW-Authenticate: Bearer")
        except PermissionDenied as error:
            return _response(HTTPStatus.FORBIDDEN, f"{error}\n".encode())
        return b""

    async def _scrape(self) -> bytes:
        reading = self._metrics.reading()
        body = await asyncio.get_running_loop().run_in_executor(self._renderer, generate_latest, reading)
        return _response(HTTPStatus.OK, body, content_type=METRICS_TYPE)

    def _health(self) -> bytes:
        if self._healthy():
            return _response(HTTPStatus.OK, b"ok\n")
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"draining\n")


def _listen(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket | None:
    """Listen on one address; None where the machine lacks the family, as IPv6 in a container."""
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise


def _caller(request: bytes, writer: asyncio.StreamWriter) -> Caller:
    lines = [line.partition(b":") for line in request.split(b"\r\n")[1:]]
    headers = [value.decode("latin-1") for key, _, value in lines if key.lower() == b"authorization"]
    token, problem = bearer(headers)
    peer: Any = writer.get_extra_info("peername")
    certificate: Any = writer.get_extra_info("peercert") or {}
    shown = certificate.get("subjectAltName", ())
    names = tuple(name for wanted in ("email", "DNS") for kind, name in shown if kind == wanted)
    return Caller(origin(str(peer[0])) if peer else "", token, names, problem)


def _response(status: HTTPStatus, body: bytes, *headers: str, content_type: str = PLAIN_TYPE) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    )
    return "\r\n".join((*head, "", "")).encode() + body
