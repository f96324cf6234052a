"""What goes to a board never exceeds what its input surely holds: on boards that drop the rest."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from belayd.call import prepare
from belayd.deployment.plan import ManifestFile
from belayd.deployment.transfer import Options, Plan, Progress, deploy
from belayd.errors import Unsupported
from belayd.iteration import Orders
from belayd.outcome import Outcome, Returned
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial
from belayd.transport.websocket import open_webrepl

PASSWORD = "roof-4711"
PATIENCE = 60.0
LONG = "\n".join(f"v{number} = {number} * 2" for number in range(400)) + "\n"
WINDOW = 32  # of raw paste on small nRF boards, whose input holds two


class SmallWindow:
    """A transport to a board that takes raw paste in windows of 32 bytes.

    Attributes:
        most: The most bytes that were ever sent without anything having come back.
    """

    def __init__(self, inner: Transport) -> None:
        self.address = inner.address
        self.most = 0
        self._inner = inner
        self._unanswered = 0
        self._source: bytearray | None = None
        self._said = bytearray()
        self._drop_ok = b""

    @property
    def traffic(self) -> Traffic:
        return self._inner.traffic

    @property
    def on_pending(self) -> Callable[[], None] | None:
        return self._inner.on_pending

    @on_pending.setter
    def on_pending(self, told: Callable[[], None] | None) -> None:
        self._inner.on_pending = told

    async def send(self, data: bytes) -> None:
        self._unanswered += len(data)
        self.most = max(self.most, self._unanswered)
        if data.startswith(b"\x05A\x01"):
            self._source = bytearray()
            self._said += b"R\x01" + WINDOW.to_bytes(2, "little") + b"\x01"
            data = data[3:]
        if self._source is None:
            await self._inner.send(data)
            return
        for byte in data:
            if byte == 4:
                await self._run()
                return
            self._source.append(byte)
            if len(self._source) % WINDOW == 0:
                self._said += b"\x01"

    async def _run(self) -> None:
        source, self._source = self._source, None
        self._said += b"\x04"
        if not source:
            self._said += b"\x04\x04>"
            return
        self._drop_ok = b"OK"
        await self._inner.send(bytes(source) + b"\x04")

    async def receive(self) -> bytes:
        while (data := self.receive_pending()) is None:
            arrived = self._heard(await self._inner.receive())
            if arrived is not None:
                return arrived
        return data

    def receive_pending(self) -> bytes | None:
        if self._said:
            data = bytes(self._said)
            self._said.clear()
            self._unanswered = 0
            return data
        arrived = self._inner.receive_pending()
        return None if arrived is None else self._heard(arrived)

    def _heard(self, data: bytes) -> bytes | None:
        if not data:
            return data
        self._unanswered = 0
        while self._drop_ok and data:
            assert data[:1] == self._drop_ok[:1], data
            data, self._drop_ok = data[1:], self._drop_ok[1:]
        return data or None

    async def close(self) -> None:
        await self._inner.close()


async def discard(data: bytes) -> None:
    pass


async def within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await work


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


Open = Callable[[Transport], Awaitable[Session]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens a session over a transport, and closes it at the end."""
    async with AsyncExitStack() as stack:

        async def start(transport: Transport) -> Session:
            session = Session("board", transport, letters)
            stack.push_async_callback(session.close)
            await within(session.start(discard))
            return session

        yield start


async def put(session: Session, content: bytes) -> None:
    digest = hashlib.sha256(content).digest()

    async def read(_: bytes) -> bytes:
        return content

    async def report(step: Plan | Progress) -> None:
        pass

    await deploy(session, [ManifestFile("data.bin", digest, len(content))], read, Options(), report)


async def questions(session: Session) -> list[Outcome]:
    """Ask in every way that there is."""
    await within(session.run("def add(a, b):\n    return a + b\n", discard))
    answers = [
        await within(session.run(LONG, discard)),
        await within(session.evaluate("v399", discard)),
        await within(session.evaluate(f"len({'x' * 3000!r})", discard)),
        await within(session.call(prepare("add", (1, 2), {}), discard)),
        await within(session.call(prepare("add", ("a" * 2000, "b" * 2000), {}), discard)),
        await within(session.call(prepare("add", (b"\x03" * 1500, b"\xff\x04" * 700), {}), discard)),
    ]

    async def emit(number: int, data: bytes) -> None:
        pass

    async def settle(number: int, outcome: Outcome) -> None:
        answers.append(outcome)

    calls = [prepare("add", ("x" * 40 * number, "y"), {}) for number in range(12)]
    await within(session.converse(calls, emit, settle))
    return answers


RIGHT: list[Outcome] = [
    Returned(None),
    Returned(798),
    Returned(3000),
    Returned(3),
    Returned("a" * 2000 + "b" * 2000),
    Returned(b"\x03" * 1500 + b"\xff\x04" * 700),
    *(Returned("x" * 40 * number + "y") for number in range(12)),
]

RINGS = {
    "255 bytes, at once": ["--ring", "255"],
    "255 bytes, at 115200 baud": ["--ring", "255", "--baud", "115200"],
    "255 bytes, at 921600 baud": ["--ring", "255", "--baud", "921600"],
    "64 bytes, without raw paste": [
        *("--ring", "64", "--no-raw-paste", "--heap", "256"),
    ],
    "63 bytes, at 115200 baud, likewise": [
        *("--ring", "63", "--no-raw-paste", "--heap", "256", "--baud", "115200"),
    ],
    "255 bytes, without raw paste": ["--ring", "255", "--no-raw-paste"],
}


@pytest.mark.parametrize("ring", RINGS)
async def test_no_byte_is_lost_in_a_ring_that_drops(
    simulated_pty: Callable[..., Any], opened: Open, ring: str
) -> None:
    board = simulated_pty("board", *RINGS[ring])
    session = await opened(await open_serial(str(board.path)))

    answers = await questions(session)

    assert answers == RIGHT


async def test_no_byte_is_lost_over_webrepl_while_code_runs(
    webrepl: Callable[..., Any], opened: Open
) -> None:
    session = await opened(await open_webrepl(webrepl("board", "--ring", "255").url, password=PASSWORD))

    answers = await questions(session)

    assert answers == RIGHT


@pytest.mark.parametrize("ring", ["255 bytes, at once", "255 bytes, at 921600 baud"])
async def test_a_file_comes_whole_through_a_ring_that_drops(
    simulated_pty: Callable[..., Any], opened: Open, ring: str
) -> None:
    board = simulated_pty("board", *RINGS[ring])
    session = await opened(await open_serial(str(board.path)))
    content = secrets.token_bytes(20_000)

    await within(put(session, content))

    assert (board.folder / "data.bin").read_bytes() == content


async def test_a_board_with_a_small_window_is_never_sent_more_than_two(tmp_path: Path, opened: Open) -> None:
    small = SmallWindow(await open_simulated(tmp_path / "board"))
    small.traffic.steady = small.traffic.bulky = False
    session = await opened(small)

    answers = await questions(session)
    await within(put(session, secrets.token_bytes(5000)))

    assert answers == RIGHT
    assert small.most <= 2 * WINDOW + 3  # the paste's own request, which is read at once


async def test_a_board_with_a_small_window_runs_no_loop(tmp_path: Path, opened: Open) -> None:
    session = await opened(SmallWindow(await open_simulated(tmp_path / "board")))

    async def item(value: object) -> None:
        pass

    with pytest.raises(Unsupported):
        await within(session.iterate(prepare("range", (3,), {}), Orders(1), discard, item))


async def test_a_board_that_lost_its_runner_runs_long_code_all_the_same(
    simulated_pty: Callable[..., Any], opened: Open
) -> None:
    board = simulated_pty("board", *RINGS["64 bytes, without raw paste"])
    session = await opened(await open_serial(str(board.path)))
    await within(session.run("del _B", discard))

    outcome = await within(session.run(LONG, discard))

    assert outcome == Returned(None)
