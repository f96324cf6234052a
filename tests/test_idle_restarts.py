"""A board that restarts while it waits in the loop, its link staying: the next call is told, and hangs nowhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from belayd.errors import TransportLost
from belayd.outcome import Returned
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated

PATIENCE = 30.0
SOURCE = """
import _thread, time
def add(a, b):
    time.sleep(0.5)
    return a + b
def print_later(text):
    def work():
        time.sleep(0.2)
        print(text, end='')
    _thread.start_new_thread(work, ())
"""


class Bridge:
    """A link as a UART bridge is: it stays while the interpreter behind it becomes another."""

    def __init__(self, board: Transport) -> None:
        self.board = board
        self.address: str = board.address
        self.traffic: Traffic = board.traffic
        self.on_pending: Callable[[], None] | None = None

    async def send(self, data: bytes) -> None:
        await self.board.send(data)

    async def receive(self) -> bytes:
        return await self.board.receive()

    def receive_pending(self) -> bytes | None:
        return self.board.receive_pending()

    async def close(self) -> None:
        await self.board.close()


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    made = Bridge(await open_simulated(tmp_path / "before"))
    yield made
    await made.close()


@pytest.fixture
async def session(bridge: Bridge) -> Session:
    made = Session("uart", bridge, lambda length: secrets.token_hex(length)[:length])
    await made.start(_discard)
    await made.run(SOURCE, _discard)
    assert await made.evaluate("add(1, 2)", _discard) == Returned(3)
    return made


async def heard(session: Session, mark: bytes) -> None:
    """Let the board print, nothing running, up to `mark`."""
    came = bytearray()

    async def hear(data: bytes) -> None:
        came.extend(data)

    async with asyncio.timeout(PATIENCE):
        while mark not in came:
            await session.drain(hear)
            await asyncio.sleep(0.01)


async def test_a_call_after_a_restart_that_left_the_link_is_told(
    bridge: Bridge, session: Session, tmp_path: Path
) -> None:
    await bridge.close()
    bridge.board = await open_simulated(tmp_path / "after")
    await heard(session, b">>> ")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TransportLost, match="restarted while nothing ran"):
            await session.evaluate("add(1, 2)", _discard)


@pytest.mark.parametrize("text", ["tick", "\r\n>>> "], ids=["anything", "a prompt"])
async def test_a_thread_that_prints_meanwhile_is_no_restart(session: Session, text: str) -> None:
    printed: list[bytes] = []

    async def emit(data: bytes) -> None:
        printed.append(data)

    await session.evaluate(f"print_later({text!r})", _discard)
    await heard(session, text.strip().encode())
    async with asyncio.timeout(PATIENCE):
        assert await session.evaluate("add(1, 2)", emit) == Returned(3)
        assert await session.evaluate("add(3, 4)", emit) == Returned(7)
    assert printed == []
    assert session.restarts == 0


async def _discard(data: bytes) -> None:
    """Take no output."""
