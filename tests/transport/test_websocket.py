from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from belayd.transport.contract import TransportDenied, TransportError
from belayd.transport.websocket import WebreplTransport, open_webrepl

PASSWORD = "roof-4711"
PATIENCE = 30.0
STUBBORN = "import micropython\nmicropython.kbd_intr(-1)\nprint('stuck')\nwhile True: pass\n"
NOISY = "import micropython\nmicropython.kbd_intr(-1)\nwhile True: print('noise' * 20)\n"

Webrepl = Callable[..., Any]


async def hear(transport: WebreplTransport, end: bytes) -> bytes:
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while end not in heard:
            more = await transport.receive()
            assert more, heard
            heard += more
    return heard


async def hear_all(transport: WebreplTransport) -> bytes:
    heard = b""
    async with asyncio.timeout(PATIENCE):
        while more := await transport.receive():
            heard += more
    return heard


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """Somebody who listens on loopback and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def url_of(listening: socket.socket) -> str:
    return f"ws://127.0.0.1:{listening.getsockname()[1]}"


async def test_the_login_leaves_nothing_of_itself(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    await transport.send(b"40+2\r")
    heard = await hear(transport, b"\n42\n>>> ")

    assert b"WebREPL" not in heard
    assert b"assword" not in heard
    await transport.close()


@pytest.mark.parametrize("password", ["wrong", "", "longer than nine", "gr\u00fc\u00dfe", "a\rb"])
async def test_a_wrong_password_is_denied_and_appears_nowhere(
    webrepl: Webrepl, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served = webrepl()

    with pytest.raises(TransportDenied) as caught:
        await open_webrepl(served.url, password=password)

    shown = str(caught.value) + caplog.text
    assert "password_file" in shown
    assert not password or password not in shown


async def test_a_right_password_appears_nowhere(webrepl: Webrepl, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    transport = await open_webrepl(webrepl().url, password=PASSWORD)
    await transport.close()

    assert PASSWORD not in caplog.text + repr(transport) + transport.address


async def test_a_second_client_is_told_that_there_is_one(webrepl: Webrepl) -> None:
    served = webrepl()
    first = await open_webrepl(served.url, password=PASSWORD)

    with pytest.raises(TransportError, match="one WebREPL client at a time"):
        await open_webrepl(served.url, password=PASSWORD)

    assert b"Concurrent WebREPL connection from (" in await hear(first, b"rejected\r\n")
    await first.close()


async def test_a_client_that_closes_makes_room_for_the_next(webrepl: Webrepl) -> None:
    served = webrepl()

    for _ in range(5):
        transport = await open_webrepl(served.url, password=PASSWORD)
        await transport.close()
        await asyncio.to_thread(served.wait_for_no_client)


async def test_somebody_else_on_the_port_is_told(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(open_webrepl(url_of(door), password=PASSWORD))
    served, _ = await loop.sock_accept(door)

    with served:
        await loop.sock_sendall(served, b"HTTP/1.0 200 OK\r\n\r\n<html>")
        with pytest.raises(TransportError, match="not as a WebREPL"):
            await opening


async def test_nobody_there_is_told(door: socket.socket) -> None:
    url = url_of(door)
    door.close()

    with pytest.raises(TransportError, match="nobody listens there"):
        await open_webrepl(url, password=PASSWORD)


@pytest.mark.parametrize("url", ["wss://10.0.0.7:8266", "http://10.0.0.7", "ws://", "ws://h:99999"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TransportError):
        await open_webrepl(url, password=PASSWORD)


async def test_bytes_that_are_no_text_pass_both_ways(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)
    await transport.send(b"\x01")
    await hear(transport, b"exit\r\n>")

    await transport.send(b"\x05A\x01")
    window = await hear(transport, b"\x01")
    await transport.send(b"import sys; sys.stdout.buffer.write(b'\\xff\\x80\\x00' + '\xc3\xa9'.encode())\x04")

    assert window == b"R\x01\x80\x00\x01"
    assert b"\xff\x80\x00\xc3\xa9" in await hear(transport, b"\x04>")
    await transport.close()


async def test_a_soft_reset_ends_the_link_after_its_last_words(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    await transport.send(b"\x04")

    assert (await hear_all(transport)).endswith(b"MPY: soft reboot\r\n")


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
async def test_a_file_is_put_whole(webrepl: Webrepl, size: int) -> None:
    served = webrepl()
    transport = await open_webrepl(served.url, password=PASSWORD)
    content = bytes(range(256)) * (size // 256) + b"\x00" * (size % 256)

    await transport.put("/data.bin", content)

    assert (served.folder / "data.bin").read_bytes() == content
    await transport.send(b"1+1\r")
    assert b"2\n" in await hear(transport, b"2\n")
    await transport.close()


@pytest.mark.parametrize("program", [STUBBORN, NOISY], ids=["silent", "printing without end"])
async def test_a_board_that_cannot_be_interrupted_takes_a_file(webrepl: Webrepl, program: str) -> None:
    served = webrepl(files={"main.py": program})
    transport = await open_webrepl(served.url, password=PASSWORD)
    await transport.send(b"\x03\x03")

    await transport.put("/main.py", b"print('harmless')\n")

    assert (served.folder / "main.py").read_bytes() == b"print('harmless')\n"
    await transport.close()


async def test_a_put_works_though_the_buffer_is_full(webrepl: Webrepl) -> None:
    served = webrepl(files={"main.py": NOISY})
    transport = await open_webrepl(served.url, password=PASSWORD)
    while transport.traffic.received_bytes < 256 * 1024:  # noqa: ASYNC110 - nobody receives
        await asyncio.sleep(0)

    await transport.put("/main.py", b"pass\n")

    assert (served.folder / "main.py").read_bytes() == b"pass\n"
    await transport.close()


async def test_a_file_in_a_folder_that_is_missing_ends_the_link(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    with pytest.raises(TransportError, match="does its folder exist"):
        await transport.put("/nowhere/x.py", b"pass\n")

    assert await hear_all(transport) == b""


async def test_a_put_that_takes_too_long_ends_the_link_and_tells_its_owner(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(open_webrepl(url_of(door), password=PASSWORD))
    served, _ = await loop.sock_accept(door)
    await play_the_login(served)
    transport = await opening
    told = asyncio.Event()
    transport.on_pending = told.set

    with served, pytest.raises(TransportError, match="not written within"):
        await transport.put("/x.py", b"pass\n", limit=0.05)

    await told.wait()
    assert await transport.receive() == b""


async def play_the_login(served: socket.socket) -> None:
    """Let a client in as a board does, and do nothing more."""
    loop = asyncio.get_running_loop()
    request = b""
    while b"\r\n\r\n" not in request:
        request += await loop.sock_recv(served, 4096)
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accepted = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    await loop.sock_sendall(
        served,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n\x81\x0aPassword: ",
    )
    await loop.sock_recv(served, 100)
    connected = b"\r\nWebREPL connected\r\n>>> "
    await loop.sock_sendall(served, bytes((0x81, len(connected))) + connected)


@pytest.mark.parametrize("path", ["", "x" * 64, "a\0b"])
async def test_a_path_that_no_record_holds_is_refused(webrepl: Webrepl, path: str) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    with pytest.raises(ValueError, match="bytes"):
        await transport.put(path, b"")

    await transport.close()


async def test_what_comes_is_acknowledged_at_once_and_what_goes_is_not_held_back(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(open_webrepl(url_of(door), password=PASSWORD))
    served, _ = await loop.sock_accept(door)
    await play_the_login(served)
    transport = await opening
    connection = transport._connection
    at_once = []

    with served:
        for _ in range(50):  # a conversation, after which the kernel would wait to acknowledge
            await transport.send(b"x")
            await loop.sock_recv(served, 100)
            await loop.sock_sendall(served, b"\x81\x01y")
            assert await transport.receive() == b"y"
            at_once.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))
        nodelay = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await transport.close()

    assert nodelay
    assert at_once == [1] * 50


async def test_an_idle_link_is_pinged_by_nobody_and_each_send_is_one_text_frame(
    door: socket.socket,
) -> None:
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(open_webrepl(url_of(door), password=PASSWORD))
    served, _ = await loop.sock_accept(door)
    await play_the_login(served)
    transport = await opening

    await transport.send(b"\xff" * 100)

    with served:
        frame = await loop.sock_recv(served, 1000)
        assert frame[:2] == bytes((0x81, 0x80 | 100))
        assert len(frame) == 2 + 4 + 100
        await transport.close()
        rest = await loop.sock_recv(served, 1000)
        assert rest[:1] == b"\x88"
