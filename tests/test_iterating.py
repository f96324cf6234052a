"""Iterations of a session that wait on a real board: what they survive, what takes them away, what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from belayd.call import prepare
from belayd.iteration import IterationLost, Orders
from belayd.loop import MOST_IN_TURN
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.process import open_simulated

PATIENCE = 30.0
SOURCE = """
begun = []
closed = []
def count(tag, n):
    begun.append(tag)
    try:
        for i in range(n):
            yield i
    finally:
        closed.append(tag)
def mirror(tag):
    got = None
    while True:
        got = yield got
def fails(tag):
    yield 1
    raise ValueError(tag)
"""


class Pushing:
    """One iteration of a session: its orders and what came."""

    def __init__(self, session: Session, function: str, *arguments: object, credit: int) -> None:
        self.orders = Orders(credit)
        self.items: list[object] = []
        self.session = session
        self._call = prepare(function, arguments, {})

    async def go_on(self, credit: int = 0) -> Outcome | None:
        self.orders.grant(credit)
        call = None if self.orders.name else self._call
        async with asyncio.timeout(PATIENCE):
            return await self.session.iterate(call, self.orders, discard, self._take)

    async def close(self) -> Outcome | None:
        self.orders.close(at_once=True)
        return await self.go_on()

    async def _take(self, item: object) -> None:
        self.items.append(item)


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    session = Session("unix", await open_simulated(tmp_path / "unix"), letters)
    await session.start(discard)
    await session.run(SOURCE, discard)
    yield session
    await session.close()


async def value(session: Session, expression: str) -> object:
    async with asyncio.timeout(PATIENCE):
        outcome = await session.evaluate(expression, discard)
    assert isinstance(outcome, Returned), outcome
    return outcome.value


async def test_an_iteration_out_of_orders_leaves_the_board_to_others(session: Session) -> None:
    counting, mirror = Pushing(session, "count", 1, 9, credit=3), Pushing(session, "mirror", 2, credit=1)
    assert await counting.go_on() is None
    assert await mirror.go_on() is None
    assert session.proven
    assert await value(session, "6 * 7") == 42
    await session.run("x = 1", discard)  # out of the loop and back
    mirror.orders.send("'so'")
    assert await mirror.go_on() is None
    assert await counting.go_on(99) == Returned(None)
    assert (counting.items, mirror.items) == (list(range(9)), [None, "so"])
    assert await value(session, "closed") == [1]
    assert await mirror.close() == Returned(None)


async def test_one_that_fails_is_gone(session: Session) -> None:
    failing = Pushing(session, "fails", 7, credit=1)
    assert await failing.go_on() is None
    outcome = await failing.go_on(1)
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "ValueError"
    with pytest.raises(IterationLost):
        await failing.go_on(1)
    assert session.proven


@pytest.mark.parametrize(
    "take_away",
    [
        lambda session: session.soft_reset(discard),
        lambda session: session.evaluate("__import__('sys').exit()", discard),
        lambda session: session.run("del _L", discard),
        lambda session: session.run("_L = lambda *a: None", discard),
        lambda session: session.recovery(discard)[2].action(),
    ],
    ids=["a reset", "an exit", "a deleted loop", "a loop of somebody's", "a recovery by reset"],
)
async def test_what_takes_the_loop_away_takes_the_iterations_along(
    session: Session, take_away: Callable[[Session], Awaitable[object]]
) -> None:
    counting = Pushing(session, "count", 1, 9, credit=3)
    await counting.go_on()
    await take_away(session)
    with pytest.raises(IterationLost):
        await counting.go_on(3)
    assert session.proven
    assert counting.items == [0, 1, 2]
    assert await value(session, "6 * 7") == 42
    again = Pushing(session, "range", 2, credit=3)
    assert (await again.go_on(), again.items) == (Returned(None), [0, 1])


async def test_a_session_knows_nothing_of_the_iterations_of_the_one_before(tmp_path: Path) -> None:
    transport = await open_simulated(tmp_path / "unix")
    first, second = (Session("unix", transport, letters) for _ in range(2))
    await first.start(discard)
    await first.run(SOURCE, discard)
    counting = Pushing(first, "count", 1, 9, credit=3)
    await counting.go_on()
    await second.start(discard)
    other = Pushing(second, "count", 2, 9, credit=1)
    await other.go_on()
    counting.session = second
    with pytest.raises(IterationLost):
        await counting.go_on(3)
    assert await other.go_on(99) == Returned(None)
    await second.close()


async def test_an_interrupt_of_another_call_leaves_it_alone(session: Session) -> None:
    counting = Pushing(session, "count", 1, 9, credit=3)
    await counting.go_on()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await session.evaluate("exec('while True: pass')", discard)
    await session.recovery(discard)[0].action()
    assert await counting.go_on(99) == Returned(None)
    assert counting.items == list(range(9))


async def test_one_with_many_orders_lets_others_have_their_turn(session: Session) -> None:
    counting = Pushing(session, "count", 1, 3 * MOST_IN_TURN, credit=9 * MOST_IN_TURN)
    turns = 1
    while await counting.go_on() is None:
        turns += 1
        assert counting.orders
    assert turns == 4
    assert counting.items == list(range(3 * MOST_IN_TURN))


async def test_at_whatever_moment_it_is_interrupted_it_is_closed_once(session: Session) -> None:
    chance = random.Random(3)
    for tag in range(40):
        counting = Pushing(session, "count", tag, 100_000, credit=90_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(chance.uniform(0, 0.02)):
                while await counting.go_on() is None:
                    pass
        await session.recovery(discard)[0].action()
        with contextlib.suppress(IterationLost):
            await counting.close()
        assert counting.items == list(range(len(counting.items)))
    assert await value(session, "closed == begun == sorted(set(begun))") is True
    assert await value(session, "len(begun)") > 10  # type: ignore[operator]


async def test_many_that_wait_take_memory_only_while_they_do(session: Session) -> None:
    await session.run("import gc\ndef free():\n gc.collect()\n return gc.mem_free()", discard)

    async def turn() -> int:
        waiting = [Pushing(session, "mirror", tag, credit=1) for tag in range(100)]
        for each in waiting:
            await each.go_on()
        for each in waiting:
            assert await each.close() == Returned(None)
        free = await value(session, "free()")
        assert isinstance(free, int)
        return free

    await turn()
    before = await turn()
    for _ in range(3):
        after = await turn()
    assert before - after < 1000


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


async def discard(data: bytes) -> None:
    """Take no output."""
