from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from belayd_client.errors import PreparationFailed
from belayd_client.packages.download import Absent, Fetch, Limits, Web

MOST = 1000


def answer(*headers: tuple[str, str], code: int = 200, body: bytes = b"") -> Callable[..., None]:
    def say(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers:
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return say


def drip(request: BaseHTTPRequestHandler, drop: bytes = b".") -> None:
    """Send a little now and then, without an end."""
    if drop == b".":
        answer()(request)
    try:
        while True:
            request.wfile.write(drop)
            time.sleep(0.01)
    except OSError:
        pass  # The client had enough.


def read(web: Any, path: str, limits: Limits | None = None) -> bytes:
    return Web(limits or Limits()).read(web.url + path, MOST)


def test_a_content_is_read_and_its_progress_told(web) -> None:
    web.contents["/a"] = b"x" * MOST
    told: list[Fetch] = []

    content = Web(Limits(), told.append).read(web.url + "/a", MOST)

    assert content == b"x" * MOST
    assert told[0] == Fetch(web.url + "/a", 0, MOST)
    assert told[-1] == Fetch(web.url + "/a", MOST, MOST)


def test_what_is_not_there_is_told_apart(web) -> None:
    with pytest.raises(Absent):
        read(web, "/a")


@pytest.mark.parametrize("headers", [[("Content-Length", str(MOST + 1))], []], ids=["said", "unsaid"])
def test_what_is_too_large_is_refused(web, headers: list[tuple[str, str]]) -> None:
    web.contents["/a"] = answer(*headers, body=b"x" * (MOST + 1))

    with pytest.raises(PreparationFailed, match=f"larger than {MOST} bytes"):
        read(web, "/a")


def test_what_breaks_off_is_refused(web) -> None:
    web.contents["/a"] = answer(("Content-Length", "10"), body=b"12345")

    with pytest.raises(PreparationFailed, match="broke off after 5 of 10 bytes"):
        read(web, "/a")


def test_a_chunked_content_is_read_whole_or_refused(web) -> None:
    chunked = ("Transfer-Encoding", "chunked")
    web.contents["/a"] = answer(chunked, body=b"5\r\n12345\r\n3\r\n678\r\n0\r\n\r\n")
    web.contents["/b"] = answer(chunked, body=b"5\r\n12345\r\n3\r\n6")
    web.contents["/c"] = answer(chunked, body=b"5\r\n12345\r\n")

    assert read(web, "/a") == b"12345678"
    for path in ("/b", "/c"):
        with pytest.raises(PreparationFailed, match="cannot fetch"):
            read(web, path)


def test_a_server_that_fails_is_said(web) -> None:
    web.contents["/a"] = answer(code=503)

    with pytest.raises(PreparationFailed, match="the server says 503"):
        read(web, "/a")


def test_what_is_no_http_is_said(web) -> None:
    web.contents["/a"] = lambda request: request.wfile.write(b"SSH-2.0-x\r\n")

    with pytest.raises(PreparationFailed, match="cannot fetch"):
        read(web, "/a")


def test_nobody_there_is_said() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]

    with pytest.raises(PreparationFailed, match="cannot fetch"):
        Web(Limits()).read(f"http://127.0.0.1:{port}/a", MOST)


def test_silence_ends(web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"

        with pytest.raises(PreparationFailed, match=r"no answer for 0\.2 s"):
            Web(Limits(silence=0.2)).read(url, MOST)


def test_silence_in_the_middle_ends(web) -> None:
    def begin(request: BaseHTTPRequestHandler) -> None:
        answer(("Content-Length", "10"), body=b"12345")(request)
        request.wfile.flush()
        request.rfile.read(1)  # until the client has gone

    web.contents["/a"] = begin

    with pytest.raises(PreparationFailed, match=r"no answer for 0\.2 s"):
        read(web, "/a", Limits(silence=0.2))


def test_a_server_that_drips_is_left(web) -> None:
    web.contents["/a"] = drip

    with pytest.raises(PreparationFailed, match=r"took longer than 0\.2 s"):
        read(web, "/a", Limits(duration=0.2))


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1"])
def test_a_server_that_drips_its_headers_is_left(web, beginning: bytes) -> None:
    def say(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(beginning)
        drip(request, b"x" if b"X" in beginning else b"A: b\r\n" if b"OK" in beginning else b" ")

    web.contents["/a"] = say

    with pytest.raises(PreparationFailed, match=r"took longer than 0\.2 s"):
        read(web, "/a", Limits(duration=0.2))


@pytest.mark.parametrize(
    "beginning", [b"", b"5\r\nthere\r\n", b"0\r\n"], ids=["size", "later size", "trailer"]
)
def test_a_server_that_drips_what_stands_between_chunks_is_left(web, beginning: bytes) -> None:
    def say(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        answer(("Transfer-Encoding", "chunked"), body=beginning)(request)
        drip(request, b"A: b\r\n" if beginning.startswith(b"0") else b"0")

    web.contents["/a"] = say

    with pytest.raises(PreparationFailed, match=r"took longer than 0\.2 s"):
        read(web, "/a", Limits(duration=0.2))


def test_redirects_are_followed(web) -> None:
    web.contents["/a"] = answer(("Location", "/b"), code=302)
    web.contents["/b"] = b"there"

    assert read(web, "/a") == b"there"


def test_what_a_redirect_says_besides_is_not_read(web) -> None:
    def say(request: BaseHTTPRequestHandler) -> None:
        answer(("Location", "/b"), code=302)(request)
        drip(request, b"x" * 10_000)

    web.contents["/a"] = say
    web.contents["/b"] = b"there"

    assert read(web, "/a") == b"there"


def test_redirects_without_an_end_are_refused(web) -> None:
    web.contents["/a"] = answer(("Location", "/a"), code=302)

    with pytest.raises(PreparationFailed, match="the server says 302"):
        read(web, "/a")
    assert len(web.asked) <= 10


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_leads_nowhere_but_to_http(web, place: str) -> None:
    web.contents["/a"] = answer(("Location", place), code=302)

    with pytest.raises(PreparationFailed, match="cannot fetch"):
        read(web, "/a")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "x", "http://a b/"])
def test_nothing_but_http_is_read(url: str) -> None:
    with pytest.raises(PreparationFailed, match="cannot fetch"):
        Web(Limits(silence=1)).read(url, MOST)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[str]:
    """The URL of a server with a certificate; it leads to the path that follows, whatever the scheme."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(("Location", self.path[1:]), code=302 if "://" in self.path else 200, body=b"safe")(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # A client that does not trust it leaves in the middle.

    server = Server(("127.0.0.1", 0), Requests)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_content_comes_over_tls(secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    assert Web(Limits()).read(f"{secure}/{secure}/a", MOST) == b"safe"


def test_a_server_that_nobody_vouches_for_is_refused(secure: str) -> None:
    with pytest.raises(PreparationFailed, match="CERTIFICATE_VERIFY_FAILED"):
        Web(Limits()).read(f"{secure}/a", MOST)


def test_a_redirect_from_https_to_http_is_refused(
    web, secure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    web.contents["/a"] = b"changed on its way"

    with pytest.raises(PreparationFailed, match="which is not https"):
        Web(Limits()).read(f"{secure}/{web.url}/a", MOST)
    assert web.asked == []
