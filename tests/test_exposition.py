"""The HTTP side of the metrics, asked by raw sockets and by a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen

import pytest
import trustme

from belayd.access import Role
from belayd.entrance import Door, Entrance
from belayd.exposition import Exposition
from belayd.metrics import Metrics
from belayd.selector import Selector
from belayd.snapshot import BoardSnapshot, BoardState
from belayd.tls import ServerCertificate
from belayd.tokens import Tokens, Wanted

BOARD = BoardSnapshot(
    name="pico-1",
    state=BoardState.READY,
    reason="",
    version=1,
    labels={},
    transport="usb",
    address="/dev/ttyACM0",
    facts=None,
    lease=None,
    queue_length=0,
    lease_queue_length=0,
    last_seen=None,
    received_bytes=0,
    sent_bytes=0,
)


@asynccontextmanager
async def serving(healthy: bool = True, patience: float = 60.0) -> AsyncIterator[int]:
    exposition = Exposition(Metrics(lambda: [BOARD]), lambda: healthy, patience)
    _, port = await exposition.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await exposition.close()


async def ask(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """Send bytes and return everything up to the end of the answer."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    async with serving() as port:
        head, _, body = (await ask(port, get("/metrics"))).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'\nbelayd_board_up{board="pico-1"} 1.0\n' in body


async def test_a_head_request_gets_the_head_alone() -> None:
    async with serving() as port:
        answer = await ask(port, get("/healthz", "HEAD"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("healthy", "status", "body"),
    [
        (True, b"HTTP/1.1 200 OK\r\n", b"\r\n\r\nok\n"),
        (False, b"HTTP/1.1 503 Service", b"\r\n\r\ndraining\n"),
    ],
    ids=["serving", "draining"],
)
async def test_health_says_whether_the_daemon_takes_work(healthy: bool, status: bytes, body: bytes) -> None:
    async with serving(healthy) as port:
        answer = await ask(port, get("/healthz"))

    assert answer.startswith(status)
    assert answer.endswith(body)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), b"404 Not Found"),
        (get("/metrics/../debug"), b"404 Not Found"),
        (get("/metricsx"), b"404 Not Found"),
        (get("/metrics", "POST"), b"405 Method Not Allowed"),
        (get("/healthz", "DELETE"), b"405 Method Not Allowed"),
        (get("/metrics?name=up"), b"200 OK"),
        (b"hello\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"431 Request Header"),
    ],
    ids=["root", "dots", "longer", "post", "delete", "query", "no http", "tls", "http 2", "large"],
)
async def test_only_two_paths_and_two_methods_exist(request_: bytes, status: bytes) -> None:
    async with serving() as port:
        answer = await ask(port, request_)

    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_a_client_that_leaves_in_the_middle_hurts_nobody() -> None:
    async with serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metr")
        writer.close()
        answer = await ask(port, get("/healthz"))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_that_says_nothing_is_left_after_its_time() -> None:
    async with serving(patience=0.1) as port:
        answer = await ask(port, b"GET /metrics HTTP/1.1\r\n")

    assert answer == b""


async def test_connections_are_bounded_and_those_inside_are_served() -> None:
    async with serving() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(32)]
        refused = await asyncio.gather(ask(port, get("/healthz")), return_exceptions=True)
        for _, writer in idle:
            writer.write(get("/healthz"))
        served = [await reader.read() for reader, _ in idle]
        for _, writer in idle:
            writer.close()

    assert b"HTTP/1.1" not in b"".join(answer for answer in refused if isinstance(answer, bytes))
    assert [answer[:15] for answer in served] == [b"HTTP/1.1 200 OK"] * 32


async def test_close_ends_open_connections_and_listening() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ask(port, get("/healthz"))  # so that the first connection has been accepted, too

    ended = await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()

    assert ended == [b""] or isinstance(ended[0], ConnectionResetError)
    with pytest.raises(ConnectionRefusedError):
        await ask(port, get("/healthz"))


async def test_a_name_is_served_on_each_of_its_addresses_on_one_port() -> None:
    exposition = Exposition(Metrics(list))
    host, port = await exposition.start("localhost", 0)
    found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    answers = [await ask(port, get("/healthz"), str(entry[4][0])) for entry in found]
    await exposition.close()

    assert host == "localhost"
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * len(found)


async def test_a_port_in_use_is_refused() -> None:
    async with serving() as port:
        exposition = Exposition(Metrics(list))

        with pytest.raises(OSError, match="in use"):
            await exposition.start("127.0.0.1", port)


async def test_a_host_that_is_not_this_machine_is_refused() -> None:
    exposition = Exposition(Metrics(list))

    with pytest.raises(OSError, match="no address"):
        await exposition.start("192.0.2.1", 0)


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """Run a Prometheus that scrapes the port; yields the address of its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "belayd", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with Popen(
        ["prometheus", *flags, f"--web.listen-address={address}"],
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=STDOUT,
    ) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def query(api: str, expression: str) -> list[float]:
    parameters = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{api}/api/v1/query?{parameters}", timeout=60) as answer:
        return [float(series["value"][1]) for series in json.load(answer)["data"]["result"]]


async def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    scrapes: asyncio.Queue[None] = asyncio.Queue()

    def snapshots() -> list[BoardSnapshot]:
        scrapes.put_nowait(None)
        return [BOARD]

    exposition = Exposition(Metrics(snapshots))
    _, port = await exposition.start("127.0.0.1", 0)
    with prometheus(tmp_path, port) as api:
        async with asyncio.timeout(60):
            for _ in range(3):  # what the first two brought is stored when the third begins
                await scrapes.get()
        up = await asyncio.to_thread(query, api, 'up{job="belayd"}')
        boards = await asyncio.to_thread(query, api, 'belayd_boards{state="ready"}')
    await exposition.close()

    assert up == [1.0]
    assert boards == [1.0]


class Guarded:
    """An exposition beyond loopback: TLS, and whoever it lets in."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        made = self.authority.issue_cert("localhost")
        (folder / "key.pem").touch(0o600)
        made.private_key_pem.write_to_path(folder / "key.pem")
        made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.tokens = Tokens(folder / "access.sqlite")
        self.failures: list[str] = []
        self.exposition = Exposition(
            Metrics(lambda: [BOARD]),
            entrance=Entrance(self.tokens, self.failures.append),
            door=Door(loopback=False, encrypted=True),
            certificate=ServerCertificate(folder / "cert.pem", folder / "key.pem", folder / "ca.pem"),
        )
        self.port = 0

    def token(self, name: str, role: Role, selector: str = "") -> str:
        [text] = self.tokens.create([Wanted(name, role, Selector.parse(selector))], datetime.now(UTC))
        return f"Authorization: Bearer {text}\r\n"

    async def ask(self, path: str, header: str = "", certificate: str = "") -> str:
        """Return the status line's code and the body's first line."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if certificate:
            self.authority.issue_cert(certificate).configure_cert(context)
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("localhost", self.port, ssl=context)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
            answer = (await reader.read()).decode()
            writer.close()
            await writer.wait_closed()
        return answer.split(" ")[1]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    guarded = Guarded(tmp_path)
    _, guarded.port = await guarded.exposition.start("localhost", 0)
    yield guarded
    await guarded.exposition.close()


async def test_beyond_loopback_metrics_are_for_viewers_and_health_for_everybody(guarded: Guarded) -> None:
    viewer = guarded.token("eye", Role.VIEWER)

    assert await guarded.ask("/metrics") == "401"
    assert await guarded.ask("/metrics", "authorization: bearer wrong\r\n") == "401"
    assert await guarded.ask("/metrics", viewer) == "200"
    assert await guarded.ask("/healthz") == "200"
    assert guarded.failures == ["missing", "unknown"]


async def test_a_certificate_opens_metrics_too(guarded: Guarded) -> None:
    assert await guarded.ask("/metrics", certificate="prometheus.example") == "200"


async def test_metrics_tell_of_every_board_and_a_tokens_selector_does_not_cover_that(
    guarded: Guarded,
) -> None:
    assert await guarded.ask("/metrics", guarded.token("ann", Role.ADMIN, "chip=rp2")) == "403"


async def test_whoever_speaks_no_tls_gets_nothing(guarded: Guarded) -> None:
    assert await ask(guarded.port, get("/metrics"), "localhost") == b""


async def test_every_path_that_is_served_has_a_permission(guarded: Guarded) -> None:
    assert await guarded.ask("/other", guarded.token("root", Role.ADMIN)) == "404"
