"""A conversation that is interrupted, on real boards with the loop and without: how far it came is known."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belayd.call import prepare
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

PATIENCE = 30.0
SOURCE = """
ran = []
def note(n):
    ran.append(n)
    return n
def stuck():
    ran.append('stuck')
    print('here')
    while True:
        pass
def stubborn():
    try:
        stuck()
    except KeyboardInterrupt:
        return 'went on'
"""


class Talk:
    """A started session with functions, what each call ended with, and what it printed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ended: dict[int, Outcome] = {}
        self.printing = asyncio.Event()
        self.unwanted: set[int] = set()
        self.awaited = 0
        self.reached = asyncio.Event()

    async def emit(self, number: int, data: bytes) -> None:
        self.printing.set()

    async def settle(self, number: int, outcome: Outcome) -> None:
        self.ended[number] = outcome
        if len(self.ended) > self.awaited:
            self.reached.set()

    async def converse(self, *calls: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.session.converse(
                calls, self.emit, self.settle, lambda number: number not in self.unwanted
            )

    async def until_stuck(self, *calls: str) -> None:
        """Converse, and cancel it once a call printed."""
        talking = asyncio.create_task(self.converse(*calls))
        async with asyncio.timeout(PATIENCE):
            await self.printing.wait()
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking

    async def halt(self) -> int | None:
        async with asyncio.timeout(PATIENCE):
            return await self.session.halt(self.emit, self.settle)

    async def evaluate(self, expression: str) -> Outcome:
        async with asyncio.timeout(PATIENCE):
            return await self.session.evaluate(expression, _discard)

    async def ran(self) -> object:
        outcome = await self.evaluate("ran")
        assert isinstance(outcome, Returned), outcome
        return outcome.value


async def talk(session: Session) -> AsyncIterator[Talk]:
    await session.start(_discard)
    await session.run(SOURCE, _discard)
    yield Talk(session)
    await session.close()


@pytest.fixture
async def loop(tmp_path: Path) -> AsyncIterator[Talk]:
    async for made in talk(Session("unix", await open_simulated(tmp_path / "unix"), _letters)):
        yield made


@pytest.fixture
async def raw(microbit_port: Path) -> AsyncIterator[Talk]:
    async for made in talk(Session("microbit", await open_serial(str(microbit_port)), _letters)):
        yield made


@pytest.fixture(params=["loop", "raw"])
def board(request: pytest.FixtureRequest) -> Talk:
    made = request.getfixturevalue(request.param)
    assert isinstance(made, Talk)
    return made


async def test_the_call_that_the_interrupt_met_is_told_and_those_behind_it_never_ran(board: Talk) -> None:
    await board.until_stuck("note(0)", "stuck()", *(f"note({n})" for n in range(2, 30)))
    assert await board.halt() == 1
    assert board.ended == {0: Returned(0)}
    assert board.session.proven
    assert await board.ran() == [0, "stuck"]


async def test_the_rest_runs_afterwards_and_what_is_not_wanted_is_left_out(board: Talk) -> None:
    await board.until_stuck("stuck()", "note(1)", "note(2)")
    assert await board.halt() == 0
    board.unwanted = {0}
    await board.converse("note(1)", "note(2)")
    assert board.ended == {1: Returned(2)}
    assert await board.ran() == ["stuck", 2]


async def test_when_nothing_is_wanted_the_board_is_left_as_it_was(board: Talk) -> None:
    board.unwanted = {1, 2}
    await board.converse("note(0)", "note(1)", "note(2)")
    assert board.session.proven
    assert await board.ran() == [0]


async def test_a_call_that_swallows_its_interrupt_has_its_result(loop: Talk) -> None:
    await loop.until_stuck("stubborn()", "note(1)")
    assert await loop.halt() is None
    assert loop.ended == {0: Returned("went on"), 1: Returned(1)}
    assert loop.session.proven
    assert await loop.ran() == ["stuck", 1]


async def test_a_conversation_that_sent_nothing_yet_is_halted_at_once(loop: Talk) -> None:
    assert await loop.halt() is None
    assert await loop.ran() == []


async def test_at_whatever_moment_it_comes_each_call_ran_once_or_never(loop: Talk) -> None:
    told = set()
    for turn in range(20):
        calls = [f"note({turn * 100 + n})" for n in range(100)]
        loop.ended.clear()
        loop.reached.clear()
        loop.awaited = 4 * turn
        talking = asyncio.create_task(loop.converse(*calls))
        async with asyncio.timeout(PATIENCE):
            await loop.reached.wait()
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking
        met = await loop.halt()
        told |= {turn * 100 + n for n in loop.ended}
        assert all(loop.ended[n] == Returned(turn * 100 + n) for n in loop.ended)
        unclear = set() if met is None else {turn * 100 + met}
        ran = await loop.ran()
        assert isinstance(ran, list)
        assert ran == sorted(set(ran))
        assert told <= set(ran) <= told | unclear
        told = set(ran)


async def test_an_interrupt_of_its_own_ends_a_conversation_as_before(loop: Talk) -> None:
    await loop.converse("note(0)", "exec('raise KeyboardInterrupt')", "note(2)")
    assert loop.ended[0] == Returned(0)
    assert isinstance(loop.ended[1], Raised)
    assert 2 not in loop.ended


async def test_bytes_of_a_call_that_was_interrupted_on_its_way_reach_no_other(loop: Talk) -> None:
    first, second = b"1" * 1000, b"2" * 100_000
    both = prepare("tuple", [[first, second]], {})
    await loop.evaluate("ran")
    sent = loop.session.traffic.sent_bytes
    calling = asyncio.create_task(loop.session.converse([both], loop.emit, loop.settle))
    while loop.session.traffic.sent_bytes < sent + 20_000:  # in the midst of the second
        assert not calling.done()
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await loop.halt() is None

    assert await loop.evaluate("[1.5, 2]") == Returned([1.5, 2])
    await loop.session.converse([both], loop.emit, loop.settle)
    assert loop.ended == {0: Returned((first, second))}


def _letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


async def _discard(data: bytes) -> None:
    """Take no output."""
