"""Whole conversations over every transport, and over links that do all that links do.

What is asked is answered rightly, or refused with an error that has a name; a wrong
value never arrives.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from belayd.call import prepare
from belayd.errors import BoardUnresponsive, TransportLost
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial
from belayd.transport.tcp import open_tcp
from belayd.transport.websocket import open_webrepl

PATIENCE = 60.0
PASSWORD = "roof-4711"
HELD_BYTES = 16 * 1024

DEFINITIONS = """\
def add(a, b):
    return a + b

def shout(count):
    for number in range(count):
        print('line', number)
    return count

def fail():
    raise ValueError('as asked')
"""
LONG = "\n".join(f"v{number} = {number} * 2" for number in range(800))
PRINTED = b"".join(b"line %d\n" % number for number in range(300))
EVERY_BYTE = bytes(range(256)) * 64
NOISE = random.Random(3).randbytes(3000)
NUMBERS = list(range(-200, 200))

Pieces = Callable[[bytes], AsyncIterator[bytes]]


class Gone(Exception):
    """The link vanishes here."""


class BadLink:
    """A transport that passes on what another one receives, in the pieces and at the times of `weather`."""

    def __init__(self, inner: Transport, weather: Pieces) -> None:
        self.address = inner.address
        self.on_pending: Callable[[], None] | None = None
        self._inner = inner
        self._weather = weather
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._gone = False
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._pump = asyncio.create_task(self._carry())

    @property
    def traffic(self) -> Traffic:
        return self._inner.traffic

    async def receive(self) -> bytes:
        while (data := self.receive_pending()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return data

    def receive_pending(self) -> bytes | None:
        if not self._held:
            return b"" if self._gone else None
        data = self._held.popleft()
        self._held_bytes -= len(data)
        self._taken.set()
        return data

    async def send(self, data: bytes) -> None:
        if not self._gone:
            await self._inner.send(data)

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.wait([self._pump])
        self._end()
        await self._inner.close()

    async def _carry(self) -> None:
        try:
            while data := await self._inner.receive():
                async for piece in self._weather(data):
                    self._held.append(piece)
                    self._held_bytes += len(piece)
                    self._tell()
                    while self._held_bytes > HELD_BYTES:
                        self._taken.clear()
                        await self._taken.wait()
        except Gone:
            pass
        self._end()

    def _end(self) -> None:
        self._gone = True
        self._tell()

    def _tell(self) -> None:
        self._arrived.set()
        if self.on_pending is not None:
            self.on_pending()


async def byte_by_byte(data: bytes) -> AsyncIterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def torn_and_late(seed: int) -> Pieces:
    chance = random.Random(seed)

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        while data:
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.01)))
            cut = chance.randint(1, max(1, min(len(data), chance.choice((3, 60, 8000)))))
            yield data[:cut]
            data = data[cut:]

    return pieces


def stalling(seed: int) -> Pieces:
    """Now and then nothing comes for longer than a prompt takes to settle."""
    chance = random.Random(seed)
    stalls = 4

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        nonlocal stalls
        cut = chance.randint(0, len(data))
        if cut:
            yield data[:cut]
        if stalls and chance.random() < 0.15:
            stalls -= 1
            await asyncio.sleep(chance.uniform(0.3, 1.2))
        if cut < len(data):
            yield data[cut:]

    return pieces


def vanishing(after: int) -> Pieces:
    left = after

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        nonlocal left
        if data[:left]:
            yield data[:left]
        left -= len(data)
        if left <= 0:
            raise Gone

    return pieces


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


class Conversation:
    """A session, what its board printed, and the questions that every link must answer."""

    def __init__(self, transport: Transport) -> None:
        self.session = Session("board", transport, letters)
        self.printed = bytearray()

    async def emit(self, data: bytes) -> None:
        self.printed += data

    async def within(self, operation: Awaitable[Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await operation

    async def start(self) -> None:
        await self.within(self.session.start(self.emit))
        self.printed.clear()

    async def run(self, source: str) -> Outcome:
        return await self.within(self.session.run(source, self.emit))

    async def evaluate(self, expression: str) -> Outcome:
        return await self.within(self.session.evaluate(expression, self.emit))

    async def call(self, function: str, *arguments: object) -> Outcome:
        return await self.within(self.session.call(prepare(function, arguments, {}), self.emit))

    async def fail(self) -> bool:
        outcome = await self.call("fail")
        return isinstance(outcome, Raised) and outcome.exception.message == "as asked"

    async def shout(self) -> tuple[Outcome, bytes]:
        self.printed.clear()
        outcome = await self.call("shout", 300)
        return outcome, bytes(self.printed).replace(b"\r", b"")

    async def all_answers(self) -> list[object]:
        return [await question() for question, _ in self.questions()]

    def questions(self) -> list[tuple[Callable[[], Awaitable[object]], object]]:
        """Return what is asked, in order, with the right answers."""
        return [
            (lambda: self.run(DEFINITIONS), Returned(None)),
            (lambda: self.call("add", 20, 22), Returned(42)),
            (lambda: self.call("add", "grüße ", "🐍"), Returned("grüße 🐍")),
            (self.fail, True),
            (self.shout, (Returned(300), PRINTED)),
            (lambda: self.evaluate("bytes(range(256)) * 64"), Returned(EVERY_BYTE)),
            (lambda: self.call("add", NOISE, b"!"), Returned(NOISE + b"!")),
            (lambda: self.call("add", [bytearray(NOISE)], [NOISE]), Returned([bytearray(NOISE), NOISE])),
            (lambda: self.call("add", NUMBERS, [1]), Returned([*NUMBERS, 1])),
            (lambda: self.call("add", "1.5" * 300, "x"), Returned("1.5" * 300 + "x")),
            (lambda: self.run(LONG), Returned(None)),
            (lambda: self.evaluate("v799"), Returned(1598)),
            (lambda: self.call("add", [1, (2,)], [{3: b"\x03\x04"}]), Returned([1, (2,), {3: b"\x03\x04"}])),
        ]

    async def recover(self) -> str:
        """Bring the board back by the first step of the ladder that does."""
        for step in self.session.recovery(self.emit):
            try:
                await self.within(step.action())
            except BoardUnresponsive:
                continue
            return step.name
        raise AssertionError("no step brought the board back")


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Transport], Conversation]]:
    """Makes a conversation of a transport, and closes it at the end."""
    async with AsyncExitStack() as stack:

        def converse(transport: Transport) -> Conversation:
            conversation = Conversation(transport)
            stack.push_async_callback(conversation.session.close)
            return conversation

        yield converse


Open = Callable[[Transport], Conversation]


@pytest.fixture(params=["process", "serial", "webrepl", "socket", "rfc2217"])
async def transport(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    simulated_pty: Callable[..., Any],
    webrepl: Callable[..., Any],
    bridge: Callable[..., Any],
) -> Transport:
    """An open link of each kind to a simulated board."""
    match request.param:
        case "process":
            return await open_simulated(tmp_path / "board")
        case "serial":
            return await open_serial(str(simulated_pty("board").path))
        case "webrepl":
            return await open_webrepl(webrepl("board").url, password=PASSWORD)
        case scheme:
            return await open_tcp(bridge(scheme).url)


async def test_every_question_is_answered_rightly(transport: Transport, opened: Open) -> None:
    conversation = opened(transport)
    await conversation.start()

    answers = await conversation.all_answers()

    assert answers == [answer for _, answer in conversation.questions()]


async def test_bytes_cost_few_more_on_every_wire(transport: Transport, opened: Open) -> None:
    conversation = opened(transport)
    await conversation.start()
    await conversation.run("import os\nnoise = os.urandom(100000)\ndef same(value): return value == noise")
    await conversation.evaluate("1")
    received, sent = transport.traffic.received_bytes, transport.traffic.sent_bytes

    outcome = await conversation.evaluate("noise")
    received = transport.traffic.received_bytes - received
    same = await conversation.call("same", outcome.value if isinstance(outcome, Returned) else None)
    sent = transport.traffic.sent_bytes - sent

    assert same == Returned(True)
    assert received <= 110_000
    assert sent <= 110_000


async def test_an_endless_loop_is_interrupted_and_names_stay(transport: Transport, opened: Open) -> None:
    conversation = opened(transport)
    await conversation.start()
    await conversation.run("n = 1")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await conversation.session.run("while True: pass", conversation.emit)
    step = await conversation.recover()

    assert step == "interrupt"
    assert await conversation.evaluate("n + 1") == Returned(2)


async def test_a_loop_that_prints_without_end_is_interrupted(transport: Transport, opened: Open) -> None:
    conversation = opened(transport)
    await conversation.start()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await conversation.session.run("while True: print('again and again')", conversation.emit)
    await conversation.recover()

    assert await conversation.evaluate("1 + 1") == Returned(2)


async def test_a_soft_reset_over_webrepl_ends_the_link_and_the_next_finds_a_fresh_board(
    webrepl: Callable[..., Any], opened: Open
) -> None:
    board = webrepl("board", files={"boot.py": "booted = 1\n"})
    first = opened(await open_webrepl(board.url, password=PASSWORD))
    await first.start()
    await first.run("n = 1")

    with pytest.raises(TransportLost):
        await first.within(first.session.soft_reset(first.emit))
    second = opened(await open_webrepl(board.url, password=PASSWORD))
    await second.start()

    assert isinstance(await second.evaluate("n"), Raised)
    assert await second.evaluate("booted") == Returned(1)


@pytest.mark.parametrize(
    "options",
    [["--ring", "259"], ["--ring", "259", "--baud", "921600"]],
    ids=["at once", "at 921600 baud"],
)
async def test_a_board_with_a_lossy_ring_answers_rightly(
    simulated_pty: Callable[..., Any], opened: Open, options: list[str]
) -> None:
    board = simulated_pty("board", *options)
    conversation = opened(await open_serial(str(board.path)))
    await conversation.start()

    answers = await conversation.all_answers()

    assert answers == [answer for _, answer in conversation.questions()]


async def test_a_slow_line_answers_rightly(simulated_pty: Callable[..., Any], opened: Open) -> None:
    board = simulated_pty("board", "--baud", "115200")
    conversation = opened(await open_serial(str(board.path)))
    await conversation.start()

    answers = await conversation.all_answers()

    assert answers == [answer for _, answer in conversation.questions()]


WEATHER = {
    "byte by byte": lambda seed: byte_by_byte,
    "torn and late": torn_and_late,
    "stalling": stalling,
}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("weather", WEATHER)
async def test_bad_links_change_no_answer(tmp_path: Path, opened: Open, weather: str, seed: int) -> None:
    inner = await open_simulated(tmp_path / "board")
    conversation = opened(BadLink(inner, WEATHER[weather](seed)))
    await conversation.start()

    answers = await conversation.all_answers()

    assert answers == [answer for _, answer in conversation.questions()]


@pytest.mark.parametrize("weather", WEATHER)
async def test_an_endless_loop_is_interrupted_over_a_bad_link(
    tmp_path: Path, opened: Open, weather: str
) -> None:
    inner = await open_simulated(tmp_path / "board")
    conversation = opened(BadLink(inner, WEATHER[weather](7)))
    await conversation.start()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await conversation.session.run(
                "import time\nwhile True:\n print('x' * 50)\n time.sleep_ms(2)", conversation.emit
            )
    await conversation.recover()

    assert await conversation.evaluate("1 + 1") == Returned(2)


async def answers_until_the_end(conversation: Conversation) -> list[object]:
    """Ask until the board goes; return the answers up to there."""
    answers: list[object] = []
    try:
        await conversation.start()
        for question, _ in conversation.questions():
            answers.append(await question())
    except TransportLost:
        pass
    return answers


@pytest.mark.parametrize("seed", range(24))
async def test_a_link_that_vanishes_ends_in_an_error_and_never_in_a_wrong_answer(
    tmp_path: Path, opened: Open, seed: int
) -> None:
    after = int(10 ** random.Random(seed).uniform(0.3, 5))
    inner = await open_simulated(tmp_path / "board")
    conversation = opened(BadLink(inner, vanishing(after)))

    answers = await answers_until_the_end(conversation)

    right = [answer for _, answer in conversation.questions()]
    assert answers == right[: len(answers)]
    assert len(answers) == len(right) or not conversation.session.proven


async def test_a_plug_that_is_pulled_ends_in_an_error_and_the_board_comes_back_fresh(
    simulated_pty: Callable[..., Any], opened: Open
) -> None:
    board = simulated_pty("board", "--unplug-after", "6000", "--absence", "0.1")
    conversation = opened(await open_serial(str(board.path)))

    answers = await answers_until_the_end(conversation)
    assert board.process.stdout is not None
    await asyncio.to_thread(board.process.stdout.readline)
    again = opened(await open_serial(str(board.path)))
    await again.start()

    right = [answer for _, answer in conversation.questions()]
    assert answers == right[: len(answers)]
    assert len(answers) < len(right)
    assert await again.all_answers() == right
