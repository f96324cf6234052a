from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from belayd.transport.contract import TransportError
from belayd.transport.tcp import open_tcp

Bridge = Callable[..., Any]


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """Somebody who listens on loopback and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


async def test_nobody_there_is_told_with_what_to_do(door: socket.socket) -> None:
    port = port_of(door)
    door.close()

    with pytest.raises(TransportError, match="nobody listens there"):
        await open_tcp(f"socket://127.0.0.1:{port}")


async def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(TransportError, match="IP address"):
        await open_tcp("socket://board.invalid:4000")


@pytest.mark.parametrize("url", ["socket://10.0.0.9", "http://10.0.0.9:1", "socket://h:99999", ""])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TransportError):
        await open_tcp(url)


async def test_a_server_without_rfc_2217_is_told(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    door.setblocking(False)
    opening = asyncio.create_task(open_tcp(f"rfc2217://127.0.0.1:{port_of(door)}"))
    served, _ = await loop.sock_accept(door)

    with served:
        await loop.sock_sendall(served, bytes((255, 254, 44)))  # IAC DONT COM-PORT
        with pytest.raises(TransportError, match="write socket://"):
            await opening


async def test_a_server_that_hangs_up_at_once_is_told(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    door.setblocking(False)
    opening = asyncio.create_task(open_tcp(f"rfc2217://127.0.0.1:{port_of(door)}"))
    served, _ = await loop.sock_accept(door)
    await loop.sock_recv(served, 100)

    served.close()

    with pytest.raises(TransportError, match="closed the connection"):
        await opening


async def test_the_bootloader_rate_is_refused(bridge: Bridge) -> None:
    served = bridge("rfc2217")

    with pytest.raises(TransportError, match="bootloader"):
        await open_tcp(served.url, baudrate=1200)


async def test_a_cancelled_opening_leaves_no_connection(door: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    door.setblocking(False)
    opening = asyncio.create_task(open_tcp(f"rfc2217://127.0.0.1:{port_of(door)}"))
    served, _ = await loop.sock_accept(door)
    await loop.sock_recv(served, 100)

    opening.cancel()
    await asyncio.wait([opening])

    with served:
        assert await loop.sock_recv(served, 100) == b""


async def test_a_port_is_there_again_for_the_next_client(bridge: Bridge) -> None:
    served = bridge("rfc2217")
    first = await open_tcp(served.url)
    await first.close()

    second = await open_tcp(served.url)
    await second.send(b"\x03")

    heard = b""
    while b">>> " not in heard:
        more = await second.receive()
        assert more, heard
        heard += more
    await second.close()


async def test_the_kernel_watches_an_idle_link(door: socket.socket) -> None:
    transport: Any = await open_tcp(f"socket://127.0.0.1:{port_of(door)}")
    connection = transport._connection

    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert transport.address == f"socket://127.0.0.1:{port_of(door)}"
    await transport.close()
