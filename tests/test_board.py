"""One board and its task: jobs, leases, recovery and stopping, on a real MicroPython."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from belayd.backoff import Backoff
from belayd.board import Board
from belayd.call import prepare
from belayd.errors import BoardLeased, Draining, LeaseExpired, RunTimeout, TransportLost
from belayd.events import BoardAdded, Event, Events, OperationEnded, RecoveryStepTaken
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.outcome import Outcome, Raised, Returned
from belayd.run import Job, Order, Run, Transcript
from belayd.snapshot import BoardState
from belayd.transport.process import open_simulated

PATIENCE = 60.0


class Bench:
    """A board with everything around it that a daemon would have."""

    def __init__(self, folder: Path, unique_id: str | None) -> None:
        self.folder = folder
        self.happened: list[Event] = []
        events = Events()
        events.listen(self.happened.append)
        self._news = asyncio.Event()
        events.listen(lambda _: self._news.set())
        self.leasing = Leasing(events, on_ended=self._lease_ended, max_hold=3600, idle=1800)
        identity = Identity("sim", "simulated", {}, unique_id)
        self.board = Board(
            identity, self.leasing, events, lambda n: secrets.token_hex(n)[:n], Backoff(lambda: 1.0)
        )
        events.publish(BoardAdded("sim"))
        self.task = asyncio.create_task(self.board.live())
        self.board.attach(partial(open_simulated, folder), "simulated:sim")

    def run(self, source: str, *, timeout: float | None = None, fence: int | None = None) -> Run[Outcome]:
        return self.submit(lambda session, emit: session.run(source, emit), timeout, fence)

    def evaluate(self, expression: str, *, fence: int | None = None) -> Run[Outcome]:
        return self.submit(lambda session, emit: session.evaluate(expression, emit), PATIENCE, fence)

    def submit(self, job: Job[Any], timeout: float | None = None, fence: int | None = None) -> Run[Any]:
        self.transcript = Transcript()
        return self.board.submit(Order("run", fence, timeout, self.transcript.write), job)

    async def value(self, expression: str) -> object:
        outcome = await self.evaluate(expression).outcome
        assert isinstance(outcome, Returned), outcome
        return outcome.value

    async def lease(self, ttl: float = 600.0) -> tuple[int, str]:
        ticket = self.leasing.request(["sim"], "ann", ttl=ttl)
        while ticket.granted is None:
            await ticket.changed()
        ticket.deliver()
        return ticket.granted.view.fence, ticket.granted.token

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until something that happens, or bytes that come, make the claim true."""
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()

    def _lease_ended(self, board: str, fence: int, error: Any) -> None:
        self.board.lease_ended(fence, error)


@contextlib.asynccontextmanager
async def bench_at(folder: Path, unique_id: str | None = None) -> AsyncIterator[Bench]:
    bench = Bench(folder, unique_id)
    try:
        yield bench
    finally:
        await bench.board.close()
        await bench.task
        bench.leasing.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path / "sim") as made:
        await made.until(lambda: made.board.state is BoardState.READY)
        yield made


async def test_jobs_run_one_at_a_time_in_their_order(bench: Bench) -> None:
    await bench.run("seen = []").outcome
    runs = [bench.run(f"seen.append({number})") for number in range(50)]
    await asyncio.gather(*(run.outcome for run in runs))
    assert await bench.value("seen") == list(range(50))


async def test_a_job_that_overruns_is_interrupted_and_the_next_is_right(bench: Bench) -> None:
    late = bench.run("while True: pass", timeout=0.3)
    after = bench.evaluate("6 * 7")
    with pytest.raises(RunTimeout, match="interrupted"):
        await late.outcome
    assert await after.outcome == Returned(42)
    steps = [event.step for event in bench.happened if isinstance(event, RecoveryStepTaken)]
    assert steps == ["interrupt"]


async def test_a_job_that_waits_too_long_never_runs(bench: Bench) -> None:
    busy = bench.run("import time\ntime.sleep(0.6)")
    late = bench.run("never = 1", timeout=0.1)
    with pytest.raises(RunTimeout, match="queued"):
        await late.outcome
    await busy.outcome
    assert await bench.value("'never' in globals()") is False


@pytest.mark.parametrize(
    "shadow",
    ["print = 5", "type = map = set = list = 5", "repr = 1", "globals = {}", "_B = None", "_B = _L = 3"],
)
async def test_callers_names_do_not_stand_in_belayds_way(bench: Bench, shadow: str) -> None:
    await bench.run(f"def double(x): return 2 * x\n{shadow}").outcome
    call = prepare("double", [21], {})
    assert await bench.submit(lambda session, emit: session.call(call, emit)).outcome == Returned(42)
    assert await bench.value("[1, {2: (3,)}]") == [1, {2: (3,)}]
    assert isinstance(await bench.run("1/0").outcome, Raised)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("globals = {}\nwhile True: pass", id="a builtin is gone"),
        pytest.param(
            "x = []\ntry:\n while True: x.append(bytearray(16))\nexcept MemoryError: pass\nwhile True: pass",
            id="memory is full",
        ),
        pytest.param("_B = _L = 3\nwhile True: pass", id="the runner is gone"),
    ],
)
async def test_a_board_comes_back_however_it_was_left(bench: Bench, source: str) -> None:
    with pytest.raises(RunTimeout):
        await bench.run(source, timeout=3).outcome
    assert await bench.value("6 * 7") == 42
    assert not bench.task.done()


async def test_a_program_that_cannot_be_interrupted_costs_the_link_and_no_more(bench: Bench) -> None:
    endless = "import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass"
    with pytest.raises(RunTimeout):
        await bench.run(endless, timeout=0.3).outcome
    assert await bench.value("6 * 7") == 42
    steps = [event.step for event in bench.happened if isinstance(event, RecoveryStepTaken)]
    assert steps == ["interrupt", "reenter", "soft_reset", "reopen"]


async def test_stopping_does_not_wait_for_a_board_that_resists(tmp_path: Path) -> None:
    async with bench_at(tmp_path / "sim") as bench:
        await bench.until(lambda: bench.board.state is BoardState.READY)
        run = bench.run("while True:\n try:\n  while True: pass\n except BaseException: pass")
        await bench.until(lambda: bench.board.state is BoardState.BUSY)
        await bench.board.close()
        async with asyncio.timeout(PATIENCE / 4):
            await bench.task
        with pytest.raises(Draining):
            await run.outcome


async def test_a_board_whose_program_was_killed_serves_the_next(bench: Bench) -> None:
    with pytest.raises(TransportLost):
        await bench.run("import os\nos.system('kill -9 $PPID')\nwhile True: pass").outcome
    await bench.until(lambda: bench.board.state is BoardState.READY)
    assert await bench.value("6 * 7") == 42


async def test_a_stranger_is_quarantined(tmp_path: Path) -> None:
    async with bench_at(tmp_path / "sim", unique_id="0011223344556677") as bench:
        await bench.until(lambda: bench.board.state is BoardState.QUARANTINED)
        assert "0011223344556677" in bench.board.snapshot().reason


async def test_work_without_a_lease_is_refused_while_somebody_holds_one(bench: Bench) -> None:
    fence, _ = await bench.lease()
    with pytest.raises(BoardLeased):
        bench.evaluate("1")
    assert await bench.evaluate("1", fence=fence).outcome == Returned(1)
    rejected = [event for event in bench.happened if isinstance(event, OperationEnded) and event.reason]
    assert [(event.outcome, event.reason) for event in rejected] == [("rejected", "BOARD_LEASED")]


async def test_what_ran_before_a_lease_makes_way_for_its_holder(bench: Bench) -> None:
    stranger = bench.run("while True: pass")
    await bench.until(lambda: bench.board.state is BoardState.BUSY)
    fence, _ = await bench.lease()
    mine = bench.evaluate("6 * 7", fence=fence)
    with pytest.raises(BoardLeased, match="acquire one"):
        await stranger.outcome
    assert await mine.outcome == Returned(42)


async def test_the_end_of_a_lease_interrupts_its_work_and_forgets_its_names(bench: Bench) -> None:
    fence, token = await bench.lease()
    await bench.run("mine = 1", fence=fence).outcome
    running, queued = bench.run("while True: pass", fence=fence), bench.run("mine = 2", fence=fence)
    await bench.until(lambda: bench.board.state is BoardState.BUSY)
    bench.leasing.release(token, "ann")
    for run in (running, queued):
        with pytest.raises(LeaseExpired):
            await run.outcome
    await bench.lease()
    await bench.until(lambda: bench.board.state is BoardState.READY)
    assert bench.leasing.view("sim") is not None


async def test_idle_output_is_not_the_next_callers(bench: Bench) -> None:
    thread = (
        "import _thread, time\ndef f():\n time.sleep(0.2)\n print('SECRET')\n_thread.start_new_thread(f, ())"
    )
    await bench.run(thread).outcome
    received = bench.board.snapshot().received_bytes
    await bench.until(lambda: bench.board.snapshot().received_bytes >= received + len("SECRET"))
    assert await bench.value("1") == 1
    assert b"SECRET" not in bench.transcript.kept


async def test_an_exception_is_named_by_its_type_whatever_it_says(bench: Bench) -> None:
    outcome = await bench.run("raise ValueError('bad\\n  File x\\nKeyError: z')").outcome
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "ValueError"
    assert outcome.exception.message.startswith("bad\n")
