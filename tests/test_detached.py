"""Detached runs beside their board and their store: what is on record, and when."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from belayd.audit import Trail
from belayd.backoff import Backoff
from belayd.board import Board
from belayd.detached import Asked, Detached
from belayd.errors import BelaydError, LeaseExpired, QuotaExceeded, RunCancelled, StoreFailed
from belayd.events import BoardAdded, BoardChanged, Event, Events
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.outcome import Outcome, Returned
from belayd.run import Order
from belayd.session import Emit, Session
from belayd.snapshot import BoardState
from belayd.store import AuditRecord, RunRecord, RunState, Store
from belayd.transport.process import open_simulated

PATIENCE = 60.0
CANCELLED = RunCancelled("enough")


def spelled(outcome: Outcome | BelaydError, queued: float, ran: float) -> bytes:
    """Spell an outcome in a way of our own: what it means is not the room's business."""
    return (outcome.reason if isinstance(outcome, BelaydError) else repr(outcome)).encode()


class Bench:
    """A board, its leases, a store and the room, as the daemon puts them together."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        self.file = folder / "belayd.sqlite"
        self.heard: list[AuditRecord] = []
        events = Events()
        self._news = asyncio.Event()
        events.listen(self._hear)
        self.leasing = Leasing(events, on_ended=self._lease_ended, max_hold=3600, idle=1800)
        identity = Identity("sim", "simulated", {}, None)
        self.board = Board(
            identity, self.leasing, events, lambda n: secrets.token_hex(n)[:n], Backoff(lambda: 1.0)
        )
        events.publish(BoardAdded("sim"))
        self.task = asyncio.create_task(self.board.live())
        self.board.attach(partial(open_simulated, folder / "sim"), "simulated:sim")
        self.detached = Detached(self.leasing, store.runs, Trail(self.heard.append), spelled, most=3)

    def asked(self, source: str, *, principal: str = "ann", token: str = "", release: bool = False) -> Asked:
        async def job(session: Session, emit: Emit) -> Outcome:
            return await session.run(source, emit)

        return Asked(principal, token, job, b"sha", len(source), release=release)

    async def start(self, source: str, **how: str) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self.detached.start(self.board, self.asked(source, **how))

    async def ended(self, name: str) -> RunRecord:
        """Wait for a run's end to be on record, and return that."""
        if live := self.detached.live(name):
            async with asyncio.timeout(PATIENCE):
                await live.ended.wait()
        record = await self.store.runs.get(name)
        assert record is not None
        return record

    async def value(self, expression: str) -> Outcome:
        async def nowhere(data: bytes) -> None:
            pass

        order = Order("run", None, PATIENCE, nowhere)
        run = self.board.submit(order, lambda session, emit: session.evaluate(expression, emit))
        return await run.outcome

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    def _hear(self, event: Event) -> None:
        if isinstance(event, BoardChanged):
            self._news.set()

    def _lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        self.board.lease_ended(fence, error)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = await Store.open(tmp_path)
    bench = Bench(tmp_path, store)
    try:
        await bench.until(lambda: bench.board.state is BoardState.READY)
        yield bench
    finally:
        await bench.board.close()
        await bench.detached.close()
        await bench.task
        bench.leasing.close()
        await store.close()


@contextlib.contextmanager
def unwritable(file: Path) -> Iterator[None]:
    """Keep the store from writing, as another program on its file would."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_what_cannot_be_put_on_record_does_not_run(bench: Bench) -> None:
    await bench.ended(await bench.start("trace = []"))

    with unwritable(bench.file), pytest.raises(StoreFailed):
        await bench.start("trace.append(1)")

    assert await bench.value("trace") == Returned([])
    [refused, _], _ = await bench.store.runs.list()
    assert (await bench.ended(refused.name)).outcome == b"STORE_FAILED"


async def test_a_run_whose_client_leaves_before_it_is_on_record_does_not_run(bench: Bench) -> None:
    await bench.ended(await bench.start("trace = []"))

    with unwritable(bench.file):
        starting = asyncio.create_task(bench.start("trace.append(1)"))
        await bench.until(lambda: bench.board.state is BoardState.BUSY)
        starting.cancel()
        await asyncio.wait([starting])

    assert starting.cancelled()
    assert await bench.value("trace") == Returned([])
    [left, _], _ = await bench.store.runs.list()
    assert (await bench.ended(left.name)).outcome == b"RUN_CANCELLED"


async def test_an_end_that_cannot_be_put_on_record_is_there_when_it_can(bench: Bench) -> None:
    name = await bench.start("while True: pass")
    with unwritable(bench.file):
        cancelling = asyncio.create_task(bench.detached.cancel(name, CANCELLED))
        await bench.until(lambda: bench.board.state is BoardState.READY)
        done, _ = await asyncio.wait([cancelling], timeout=0.1)
        assert not done  # nobody is told before

    await cancelling

    assert (await bench.ended(name)).outcome == b"RUN_CANCELLED"


async def test_one_has_so_many_runs_at_once_and_not_at_the_expense_of_others(bench: Bench) -> None:
    names = [await bench.start("while True: pass") for _ in range(3)]

    with pytest.raises(QuotaExceeded, match="may have 3") as refused:
        await bench.start("pass")
    other = await bench.start("pass", principal="bob")
    for name in names:
        await bench.detached.cancel(name, CANCELLED)
    again = await bench.start("pass")

    assert refused.value.fields == {"limit": "3", "running": "3"}
    assert (await bench.ended(other)).state is (await bench.ended(again)).state is RunState.ENDED


async def test_the_trail_tells_how_a_run_ended_and_whose_it_was(bench: Bench) -> None:
    good = await bench.start("pass")
    await bench.ended(good)
    bad = await bench.start("1 / 0", principal="bob")
    await bench.ended(bad)
    ugly = await bench.start("while True: pass")
    await bench.detached.cancel(ugly, CANCELLED)

    told = [(one.principal, one.action, one.board, one.outcome, one.detail) for one in bench.heard]
    assert told == [
        ("ann", "run/ended", "sim", "ok", f"runs/{good}"),
        ("bob", "run/ended", "sim", "board_error", f"runs/{bad}"),
        ("ann", "run/ended", "sim", "cancelled", f"runs/{ugly}"),
    ]
    assert [one.what for one in bench.heard] == [b"sha"] * 3
    assert (bench.heard[2].reason, bench.heard[2].seconds > 0) == ("RUN_CANCELLED", True)


async def test_a_lease_that_has_ended_begins_nothing(bench: Bench) -> None:
    ticket = bench.leasing.request(["sim"], "ann")
    await bench.until(lambda: ticket.granted is not None)
    assert ticket.granted is not None
    ticket.deliver()
    token = ticket.granted.token
    bench.leasing.release(token, "ann")

    with pytest.raises(LeaseExpired):
        await bench.start("pass", token=token)

    assert await bench.store.runs.list() == ([], None)


async def test_cancelling_what_has_ended_or_never_was_does_nothing(bench: Bench) -> None:
    name = await bench.start("pass")
    before = await bench.ended(name)

    await bench.detached.cancel(name, CANCELLED)
    await bench.detached.cancel("nothing", CANCELLED)

    assert await bench.ended(name) == before
    assert bench.detached.live(name) is None


async def test_closing_ends_what_goes_on_and_puts_that_on_record(bench: Bench) -> None:
    running = await bench.start("while True: pass")
    queued = await bench.start("pass")

    async with asyncio.timeout(PATIENCE):
        await bench.detached.close()

    records = [await bench.store.runs.get(name) for name in (running, queued)]
    assert [record and record.outcome for record in records] == [b"DRAINING"] * 2
