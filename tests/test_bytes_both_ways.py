"""Bytes as arguments and results: the very same ones, few more on the wire, and never wrong ones."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from belayd.call import prepare
from belayd.errors import BoardUnresponsive, OutOfMemory
from belayd.iteration import Orders
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

PATIENCE = 60.0
CHANCE = random.Random(11)
NOISE = CHANCE.randbytes(100_000)
MEGABYTE = CHANCE.randbytes(1 << 20)
DEFINITIONS = """\
import gc
def echo(value):
    return value
def size(value):
    return len(value)
def fail(value):
    raise ValueError(len(value))
def each(*values):
    yield from values
def mirror(first):
    while True:
        first = yield first
def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()
"""

Mangle = Callable[[bytes], bytes]


class ManglingLink:
    """A link that does what `mangle` says to what it receives; nothing until then."""

    def __init__(self, inner: Transport) -> None:
        self.address = inner.address
        self.mangle: Mangle | None = None
        self._inner = inner

    @property
    def on_pending(self) -> Callable[[], None] | None:
        return self._inner.on_pending

    @on_pending.setter
    def on_pending(self, tell: Callable[[], None] | None) -> None:
        self._inner.on_pending = tell

    @property
    def traffic(self) -> Traffic:
        return self._inner.traffic

    async def receive(self) -> bytes:
        while True:
            data = await self._inner.receive()
            mangled = self.mangle(data) if self.mangle and data else data
            if mangled or not data:
                return mangled

    def receive_pending(self) -> bytes | None:
        data = self._inner.receive_pending()
        return self.mangle(data) if self.mangle and data else data

    async def send(self, data: bytes) -> None:
        await self._inner.send(data)

    async def close(self) -> None:
        await self._inner.close()


def once(after: int, change: Mangle) -> Mangle:
    """Change the rest of what is received, once, after so many bytes."""
    left: int | None = after

    def mangle(data: bytes) -> bytes:
        nonlocal left
        if left is None:
            return data
        if len(data) <= left:
            left -= len(data)
            return data
        at, left = left, None
        return data[:at] + change(data[at:])

    return mangle


class Conversation:
    """A started session with a board that knows DEFINITIONS."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.printed = bytearray()

    async def emit(self, data: bytes) -> None:
        self.printed += data

    async def start(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.session.start(self.emit)
            assert await self.session.run(DEFINITIONS, self.emit) == Returned(None)
            assert await self.session.evaluate("1", self.emit) == Returned(1)

    async def call(self, function: str, *arguments: object, **keywords: object) -> Outcome:
        return await self.within(self.session.call(prepare(function, arguments, keywords), self.emit))

    async def evaluate(self, expression: str) -> Outcome:
        return await self.within(self.session.evaluate(expression, self.emit))

    async def within(self, operation: Awaitable[Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await operation

    async def recover(self) -> str:
        """Bring the board back by the first step of the ladder that does."""
        for step in self.session.recovery(self.emit):
            try:
                await self.within(step.action())
            except BoardUnresponsive:
                continue
            return step.name
        raise AssertionError("no step brought the board back")

    async def used(self) -> int:
        outcome = await self.call("used")
        assert isinstance(outcome, Returned)
        assert isinstance(outcome.value, int)
        return outcome.value


Open = Callable[[Transport], Awaitable[Conversation]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Makes a started conversation of a transport, and closes it at the end."""
    async with AsyncExitStack() as stack:

        async def converse(transport: Transport) -> Conversation:
            session = Session("board", transport, lambda length: secrets.token_hex(length)[:length])
            stack.push_async_callback(session.close)
            conversation = Conversation(session)
            await conversation.start()
            return conversation

        yield converse


@pytest.fixture
async def board(opened: Open, tmp_path: Path) -> Conversation:
    return await opened(await open_simulated(tmp_path / "board", heap_kib=8192))


@pytest.fixture
async def small(opened: Open, tmp_path: Path) -> Conversation:
    return await opened(await open_simulated(tmp_path / "small", heap_kib=512))


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_a_megabyte_goes_and_comes_as_the_very_same_bytes(board: Conversation, kind: type) -> None:
    outcome = await board.call("echo", kind(MEGABYTE))

    assert isinstance(outcome, Returned)
    assert type(outcome.value) is kind
    assert outcome.value == MEGABYTE


async def test_a_hundred_thousand_bytes_of_result_cost_hardly_more_on_the_wire(board: Conversation) -> None:
    await board.evaluate("exec('import os; noise = os.urandom(100000)')")
    before = board.session.traffic.received_bytes

    outcome = await board.evaluate("noise")
    received = board.session.traffic.received_bytes - before

    assert isinstance(outcome, Returned)
    assert await board.call("echo", outcome.value) == outcome
    assert received < 100_100


async def test_an_argument_of_bytes_costs_hardly_more_on_the_wire(board: Conversation) -> None:
    before = board.session.traffic.sent_bytes

    assert await board.call("size", NOISE) == Returned(100_000)

    assert board.session.traffic.sent_bytes - before < 105_000


async def test_a_small_call_is_as_short_as_ever(board: Conversation) -> None:
    await board.call("size", b"")
    sent, received = board.session.traffic.sent_bytes, board.session.traffic.received_bytes

    assert await board.call("size", [1, 2]) == Returned(2)

    assert board.session.traffic.sent_bytes - sent == len('["size",[1,2]]') + 5
    assert board.session.traffic.received_bytes - received == 24


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 5,
        b"\x01\x02\x03\x04\x05" * 100,
        b"\n" * 999,
        b"\x1e#=;" * 99,
        *map(bytes, range(240, 250)),
    ]
    + [NOISE[:length] for length in (63, 64, 65, 127, 128, 129, 239, 240, 241, 480, 481, 1023, 1024, 1025)],
    ids=lambda data: f"{data[:3]!r} {len(data)}",
)
async def test_any_bytes_of_any_length_pass(board: Conversation, data: bytes) -> None:
    assert await board.call("echo", data) == Returned(data)
    assert await board.call("echo", [{"a": bytearray(data)}, data]) == Returned(
        [{"a": bytearray(data)}, data]
    )


async def test_a_function_may_have_the_name_that_belayd_gives_its_argument(board: Conversation) -> None:
    await board.within(board.session.run("_p = size\n_q = echo", board.emit))

    assert await board.call("_p", NOISE) == Returned(100_000)
    assert await board.call("_q", NOISE) == Returned(NOISE)


async def test_items_of_a_generator_and_what_is_sent_into_it_may_be_bytes(board: Conversation) -> None:
    found: list[object] = []
    orders = Orders(2)
    sent = NOISE[:1000]

    async def item(value: object) -> None:
        found.append(value)
        if len(found) == 1:
            orders.send("None")
            orders.send(repr(sent))
            orders.close()

    call = prepare("mirror", [NOISE[:5000]], {})
    ended = await board.within(board.session.iterate(call, orders, board.emit, item))
    assert ended == Returned(None)
    assert found == [NOISE[:5000], None, None, sent]

    found = []
    call = prepare("each", [NOISE, bytearray(NOISE), "text", NOISE[:70]], {})
    ended = await board.within(board.session.iterate(call, Orders(9), board.emit, item))
    assert ended == Returned(None)
    assert found == [NOISE, bytearray(NOISE), "text", NOISE[:70]]


async def test_calls_that_bring_bytes_keep_their_place_among_others(board: Conversation) -> None:
    values = [1, NOISE[:3000], "x" * 1000, 2, b"", bytearray(NOISE[:500]), *range(50), NOISE[:200]]
    outcomes: list[tuple[int, Outcome]] = []

    async def emit(number: int, data: bytes) -> None:
        raise AssertionError(data)

    async def settle(number: int, outcome: Outcome) -> None:
        outcomes.append((number, outcome))

    calls = [prepare("echo", [value], {}) for value in values]
    await board.within(board.session.converse(calls, emit, settle))

    assert outcomes == [(number, Returned(value)) for number, value in enumerate(values)]


async def test_nothing_of_a_calls_bytes_stays_on_the_board(board: Conversation) -> None:
    await board.call("size", NOISE)
    before = await board.used()

    assert await board.call("size", 2 * NOISE) == Returned(200_000)
    assert isinstance(await board.call("fail", NOISE), Raised)
    assert isinstance(await board.call("no_such_function", NOISE), Raised)
    assert isinstance(await board.call("size", NOISE, bytearray(NOISE)), Raised)

    assert await board.used() - before < 4096
    assert await board.evaluate("[name for name in globals() if name in ('_p', '_q')]") == Returned([])


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_too_little_memory_is_said_before_anything_runs(small: Conversation, kind: type) -> None:
    await small.within(small.session.run("ran = []\ndef note(value): ran.append(1)", small.emit))
    await small.call("echo", 1)
    sent = small.session.traffic.sent_bytes

    with pytest.raises(OutOfMemory, match="nothing of it ran"):
        await small.call("note", kind(MEGABYTE))

    assert small.session.traffic.sent_bytes - sent < 100
    assert small.session.proven
    assert await small.evaluate("ran") == Returned([])
    assert await small.call("echo", NOISE[:5000]) == Returned(NOISE[:5000])


async def test_the_second_of_two_that_finds_no_room_leaves_nothing_of_the_first(small: Conversation) -> None:
    before = await small.used()

    with pytest.raises(OutOfMemory):
        await small.call("size", NOISE, MEGABYTE)

    assert await small.used() - before < 4096
    assert await small.evaluate("6 * 7") == Returned(42)


async def test_a_result_that_leaves_no_memory_free_goes_out_all_the_same(small: Conversation) -> None:
    await small.within(small.session.run("import gc", small.emit))

    outcome = await small.evaluate("bytearray((gc.collect(), gc.mem_free() * 3 // 4)[1])")

    assert isinstance(outcome, Returned)
    assert isinstance(outcome.value, bytearray)
    assert len(outcome.value) > 200_000


LONG_TEXT = "'abc' * 100"
FAULTS: dict[str, Mangle] = {
    "more": lambda rest: b"bg\r\n" + rest,
    "fewer": lambda rest: rest[5:],
    "line ends cooked": lambda rest: rest.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("fault", ["more", "line ends cooked"])
@pytest.mark.parametrize("expression", ["b'\\n' * 100000", "bytearray(b'x\\n' * 50)"])
async def test_bytes_with_others_among_them_are_an_error_and_no_value(
    opened: Open, tmp_path: Path, expression: str, fault: str
) -> None:
    link = ManglingLink(await open_simulated(tmp_path / "board"))
    board = await opened(link)

    link.mangle = once(60, FAULTS[fault])
    with pytest.raises(BoardUnresponsive, match="bytes came with more or with fewer"):
        await board.evaluate(expression)
    link.mangle = None

    assert await board.recover() == "interrupt"
    assert await board.call("echo", NOISE[:5000]) == Returned(NOISE[:5000])


@pytest.mark.parametrize(
    "after", [60, 50_000, 100_020], ids=["at the beginning", "in the middle", "at the end"]
)
async def test_bytes_that_the_link_loses_are_an_error_and_no_value(
    opened: Open, tmp_path: Path, after: int
) -> None:
    link = ManglingLink(await open_simulated(tmp_path / "board"))
    board = await opened(link)

    link.mangle = once(after, FAULTS["fewer"])
    with pytest.raises(BoardUnresponsive, match="fewer bytes"):
        await board.evaluate("bytes(100000)")
    link.mangle = None

    assert await board.recover() == "interrupt"
    assert await board.call("echo", NOISE[:5000]) == Returned(NOISE[:5000])


@pytest.mark.parametrize("fault", ["more", "fewer"])
async def test_text_with_others_among_it_is_an_error_and_no_value(
    opened: Open, tmp_path: Path, fault: str
) -> None:
    link = ManglingLink(await open_simulated(tmp_path / "board"))
    board = await opened(link)

    link.mangle = once(60, FAULTS[fault])
    with pytest.raises(BoardUnresponsive, match="characters came with others"):
        await board.evaluate("[12345] * 100")
    link.mangle = None

    assert await board.recover() == "interrupt"
    assert await board.evaluate("[12345] * 100") == Returned([12345] * 100)


async def test_a_link_that_cooks_line_ends_gets_bytes_as_text(opened: Open, tmp_path: Path) -> None:
    link = ManglingLink(await open_simulated(tmp_path / "board"))
    link.mangle = lambda data: re.sub(rb"(?<!\r)\n", b"\r\n", data)
    board = await opened(link)

    assert not board.session.facts.clear
    assert await board.call("echo", NOISE[:5000]) == Returned(NOISE[:5000])


async def test_a_thread_that_prints_all_the_while_makes_no_value_wrong(opened: Open, tmp_path: Path) -> None:
    board = await opened(await open_simulated(tmp_path / "board", heap_kib=2048))
    source = "import _thread\non = True\ndef chat():\n while on: print('~', end='')\n"
    await board.within(board.session.run(source + "_thread.start_new_thread(chat, ())", board.emit))

    right = wrong = 0
    for _ in range(20):
        try:
            assert await board.evaluate("bytes(range(256)) * 100") == Returned(bytes(range(256)) * 100)
            right += 1
        except BoardUnresponsive:
            wrong += 1
            await board.recover()

    assert right + wrong == 20


async def test_a_result_cut_off_half_way_leaves_the_board_as_it_was(
    opened: Open, simulated_pty: Callable[..., Any]
) -> None:
    board = await opened(await open_serial(str(simulated_pty("board", "--baud", "2000000").path)))
    await board.within(board.session.run("n = 41", board.emit))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await board.session.evaluate("b'\\x04>' * 100000", board.emit)

    await board.recover()
    assert await board.evaluate("n + 1") == Returned(42)


async def test_an_argument_cut_off_half_way_leaves_the_board_as_it_was(
    opened: Open, simulated_pty: Callable[..., Any]
) -> None:
    board = await opened(await open_serial(str(simulated_pty("board", "--baud", "115200").path)))
    await board.call("size", b"x" * 5000)
    before = await board.used()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await board.session.call(prepare("size", [NOISE], {}), board.emit)

    assert await board.recover() == "interrupt"
    assert await board.used() - before < 4096
    assert await board.call("echo", NOISE[:3000]) == Returned(NOISE[:3000])
    assert board.session.restarts == 0


async def test_a_board_without_room_for_the_loop_takes_bytes_as_source(opened: Open, tmp_path: Path) -> None:
    board = await opened(await open_simulated(tmp_path / "board", heap_kib=28))
    assert board.session.facts.memory_free_bytes is not None
    assert board.session.facts.memory_free_bytes < 24 * 1024

    assert await board.call("size", NOISE[:1000]) == Returned(1000)
    assert await board.call("echo", NOISE[:1000]) == Returned(NOISE[:1000])
    with pytest.raises(OutOfMemory):
        await board.call("size", MEGABYTE)
    assert await board.evaluate("1") == Returned(1)
