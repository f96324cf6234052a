"""Contents from the web, within limits of size and time.

Nothing but http and https, no redirect from https to http, and no content that
is shorter than its server said. Proxies are those of the environment.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from belayd_client.errors import PreparationFailed

CHUNK_BYTES = 64 * 1024
MOST_REDIRECTS = 5
ABSENT = (404, 410)


@dataclass(frozen=True, slots=True)
class Limits:
    """What packages may cost; more is refused, since no board has room for it.

    Attributes:
        file_bytes: One file.
        total_bytes: All files of one resolution.
        manifest_bytes: One package.json.
        files: How many files.
        packages: How many packages, dependencies of dependencies included.
        silence: Seconds without a byte.
        duration: Seconds for one file.
    """

    file_bytes: int = 16 * 2**20
    total_bytes: int = 64 * 2**20
    manifest_bytes: int = 2**20
    files: int = 2_000
    packages: int = 200
    silence: float = 30.0
    duration: float = 300.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """How far one download is; `total_bytes` is None where the server did not say."""

    url: str
    received_bytes: int
    total_bytes: int | None


class Absent(PreparationFailed):
    """The server has nothing there."""


class Web:
    """Reads URLs. Holds no connection between two of them."""

    def __init__(self, limits: Limits, on_fetch: Callable[[Fetch], object] | None = None) -> None:
        self._limits = limits
        self._on_fetch = on_fetch
        self._connection: _Connection | None = None
        self._cut_off = False
        self._opener = OpenerDirector()
        self._opener.addheaders = [("User-Agent", "belayctl mip")]
        for part in (
            ProxyHandler(),
            _Http(self._watch),
            _Https(self._watch),
            _Redirects(),
            HTTPErrorProcessor(),
            HTTPDefaultErrorHandler(),
            UnknownHandler(),
        ):
            self._opener.add_handler(part)

    def read(self, url: str, most_bytes: int) -> bytes:
        """Return what is at a URL.

        Raises:
            Absent: There is nothing.
            PreparationFailed: It cannot be fetched, is larger than `most_bytes`, or
                takes longer than the limits allow.
        """
        deadline = time.monotonic() + self._limits.duration
        try:
            with self._open(url) as response:
                return self._content(response, url, most_bytes, deadline)
        except HTTPError as error:
            error.close()
            if error.code in ABSENT:
                raise Absent(f"there is nothing at {url}") from None
            raise PreparationFailed(
                f"cannot fetch {url}: the server says {error.code} {error.reason}"
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            if self._is_late(deadline):
                raise self._late(url) from None
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise PreparationFailed(
                    f"cannot fetch {url}: no answer for {self._limits.silence:g} s"
                ) from None
            raise PreparationFailed(f"cannot fetch {url}: {cause or type(cause).__name__}") from None

    @contextlib.contextmanager
    def _open(self, url: str) -> Iterator[HTTPResponse]:
        """Ask for a URL; a server that has not said all in time is cut off, whatever is read just then."""
        self._cut_off = False
        timer = threading.Timer(self._limits.duration, self._cut)
        timer.start()
        try:
            with self._opener.open(Request(url), timeout=self._limits.silence) as response:
                yield response
        finally:
            timer.cancel()
            timer.join()
            self._connection = None

    def _watch(self, connection: _Connection) -> None:
        self._connection = connection

    def _is_late(self, deadline: float) -> bool:
        return self._cut_off or time.monotonic() > deadline

    def _cut(self) -> None:
        # Runs in the timer's thread.
        self._cut_off = True
        connection = self._connection
        opened = None if connection is None else connection.sock or connection.held
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    def _content(self, response: HTTPResponse, url: str, most_bytes: int, deadline: float) -> bytes:
        total, content = response.length, bytearray()
        while True:
            # First of all: headers that were cut off look like headers that said no length.
            if self._is_late(deadline):
                raise self._late(url)
            self._tell(url, len(content), total)
            if max(total or 0, len(content)) > most_bytes:
                raise PreparationFailed(f"{url} is larger than {most_bytes} bytes")
            # read1: what has come, so that one that drips is noticed.
            chunk = response.read1(CHUNK_BYTES)
            if not chunk:
                break
            content += chunk
        if self._is_late(deadline):  # so does a content's end
            raise self._late(url)
        if total is not None and len(content) != total:
            raise PreparationFailed(f"{url} broke off after {len(content)} of {total} bytes; try again")
        return bytes(content)

    def _late(self, url: str) -> PreparationFailed:
        return PreparationFailed(f"{url} took longer than {self._limits.duration:g} s")

    def _tell(self, url: str, received: int, total: int | None) -> None:
        if self._on_fetch is not None:
            self._on_fetch(Fetch(url, received, total))


class _Plain(HTTPConnection):
    held: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self.held = self.sock  # urllib takes `sock` away once the headers are read


class _Secure(HTTPSConnection):
    held: socket.socket | None = None

    def connect(self) -> None:
        super().connect()
        self.held = self.sock


_Connection = _Plain | _Secure


class _Http(HTTPHandler):
    def __init__(self, watch: Callable[[_Connection], None]) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._connect, req)

    def _connect(self, host: str, /, **options: Any) -> HTTPConnection:
        connection = _Plain(host, **options)
        self._watch(connection)
        return connection


class _Https(HTTPSHandler):
    def __init__(self, watch: Callable[[_Connection], None]) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self._connect, req)

    def _connect(self, host: str, /, **options: Any) -> HTTPConnection:
        connection = _Secure(host, **options)
        self._watch(connection)
        return connection


class _Redirects(HTTPRedirectHandler):
    max_redirections = MOST_REDIRECTS

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        fp.close()  # Else urllib reads all of it, however much that is.
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise PreparationFailed(
                f"cannot fetch {req.full_url}: it leads to {newurl}, which is not {' or '.join(allowed)}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
