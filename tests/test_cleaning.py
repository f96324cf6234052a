"""A board between two holders: as often as it takes, never handed over before, on a real MicroPython."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from belayd.backoff import Backoff
from belayd.board import Board
from belayd.cleaning import ROUNDS
from belayd.errors import BoardFull, TransportLost
from belayd.events import BoardAdded, Booted, Event, Events
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.run import Order, Run
from belayd.session import Session
from belayd.snapshot import BoardState, Disabled
from belayd.transport.process import open_simulated

PATIENCE = 60.0


class Bench:
    """A board whose state between holders is what the test says; `answers` are used up one by one."""

    def __init__(self, folder: Path) -> None:
        self.answers: list[bool | Exception] = []
        self.tidied = 0
        self.happened: list[Event] = []
        self._news = asyncio.Event()
        events = Events()
        events.listen(self._hear)
        self.leasing = Leasing(
            events, on_ended=lambda *ended: self.board.lease_ended(*ended[1:]), max_hold=60, idle=60
        )
        self.board = Board(
            Identity("sim", "simulated", {}, None),
            self.leasing,
            events,
            lambda n: secrets.token_hex(n)[:n],
            Backoff(lambda: 1.0),
            tidy=self.tidy,
        )
        events.publish(BoardAdded("sim"))
        self.task = asyncio.create_task(self.board.live())
        self.board.attach(partial(open_simulated, folder), "simulated:sim")

    async def tidy(self, session: Session) -> bool:
        self.tidied += 1
        self._news.set()
        answer = self.answers.pop(0) if self.answers else False
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def resets(self) -> int:
        return sum(isinstance(event, Booted) and event.cause == "reset" for event in self.happened)

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    async def use(self, source: str = "x = 1") -> None:
        """Hold the board for a moment."""
        ticket = self.leasing.request(["sim"], "ann", ttl=60)
        await self.until(lambda: ticket.granted is not None)
        assert ticket.granted is not None
        await self.run(source, ticket.granted.view.fence).outcome
        self.leasing.release(ticket.granted.token, "ann")

    def run(self, source: str, fence: int | None) -> Run[object]:
        async def emit(data: bytes) -> None:
            pass

        return self.board.submit(
            Order("run", fence, PATIENCE, emit), lambda session, emit: session.run(source, emit)
        )

    def granted(self) -> Callable[[], bool]:
        """Ask for the board; return what tells whether it was granted."""
        ticket = self.leasing.request(["sim"], "bob", ttl=60)
        return lambda: ticket.granted is not None

    def _hear(self, event: Event) -> None:
        self.happened.append(event)
        self._news.set()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "sim")
    await bench.until(lambda: bench.board.state is BoardState.READY)
    yield bench
    await bench.board.close()
    await bench.task
    bench.leasing.close()


async def test_a_board_is_tidied_after_a_reset_until_it_finds_nothing_to_do(bench: Bench) -> None:
    bench.answers = [True, True, False]

    await bench.use()
    await bench.until(bench.granted())

    assert (bench.tidied, bench.resets) == (3, 3)


async def test_a_lease_without_work_leaves_nothing_to_clean(bench: Bench) -> None:
    ticket = bench.leasing.request(["sim"], "ann", ttl=60)
    assert ticket.granted is not None

    bench.leasing.release(ticket.granted.token, "ann")

    await bench.until(bench.granted())
    assert (bench.tidied, bench.resets) == (0, 0)


async def test_a_board_that_never_comes_to_rest_is_quarantined_and_tried_again(bench: Bench) -> None:
    bench.answers = [True] * (ROUNDS + 1)
    await bench.use()
    granted = bench.granted()
    await bench.until(lambda: bench.board.state is BoardState.QUARANTINED)

    assert bench.tidied == ROUNDS + 1
    assert not granted()
    assert "changed again after each of 3 soft resets" in bench.board.snapshot().reason
    assert bench.board.snapshot().quarantine == "between"

    await bench.until(granted)
    assert bench.board.state.up


async def test_what_failed_is_tried_again_at_once_when_it_is_mended(bench: Bench) -> None:
    bench.answers = [BoardFull("it needs 9 bytes")] * 4
    await bench.use()
    await bench.until(lambda: bench.board.state is BoardState.QUARANTINED)
    mended = asyncio.Event()

    async def tidy(session: Session) -> bool:
        mended.set()
        return False

    bench.board.change({}, tidy)

    async with asyncio.timeout(PATIENCE):
        await mended.wait()
    await bench.until(bench.granted())


async def test_a_link_that_is_lost_meanwhile_costs_nothing_but_time(bench: Bench) -> None:
    bench.answers = [True, TransportLost("gone"), False]

    await bench.use()
    await bench.until(bench.granted())

    assert bench.tidied == 3
    assert bench.board.state.up


async def test_a_board_whose_process_dies_under_its_holder_is_cleaned_when_it_is_back(bench: Bench) -> None:
    with pytest.raises(TransportLost):
        await bench.use("import os\nos.system('kill -9 $PPID')\nwhile True: pass")
    [lease] = bench.leasing.list()

    bench.leasing.break_("sim", "ann", "it died")
    await bench.until(bench.granted())

    assert bench.tidied == 1
    assert lease.holder == "ann"


async def test_a_board_disabled_while_it_is_held_is_cleaned_before_it_is_closed(bench: Bench) -> None:
    bench.answers = [True, False]
    ticket = bench.leasing.request(["sim"], "ann", ttl=60)
    assert ticket.granted is not None
    await bench.run("x = 1", ticket.granted.view.fence).outcome

    bench.board.disable(Disabled("ann", "rack moves", datetime.now(UTC)))
    granted = bench.granted()
    bench.leasing.release(ticket.granted.token, "ann")
    await bench.until(lambda: bench.board.state is BoardState.DISABLED)

    assert bench.tidied == 2
    assert not granted()
    bench.board.enable()
    await bench.until(granted)
