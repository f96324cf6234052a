"""What a deployment that broke off left on a board is settled before anything else runs there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from belayd.backoff import Backoff
from belayd.board import Board
from belayd.deployment.journal import STAGING, journal_path, records, staged
from belayd.deployment.plan import ManifestFile, Plan, Write
from belayd.deployment.transfer import Options, Progress, Summary, deploy
from belayd.errors import RunTimeout
from belayd.events import BoardAdded, DeploymentSettled, Event, Events, RecoveryStepTaken
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.outcome import Returned
from belayd.run import Job, Order, Run, Transcript
from belayd.session import Emit, Session
from belayd.snapshot import BoardState
from belayd.transport.process import open_simulated

PATIENCE = 60.0
OLD, NEW = b"print('old')\n", b"print('new')\n"


class Bench:
    """A board in its task, whose files are a folder here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.happened: list[Event] = []
        self._news = asyncio.Event()
        self._events = Events()
        self._events.listen(self._hear)
        self.leasing = Leasing(self._events, on_ended=self._lease_ended, max_hold=3600, idle=1800)
        self.board: Board | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, passive: bool = False) -> None:
        """Make the board and look after it."""
        identity = Identity("sim", "simulated", {}, None, passive)
        self.board = Board(
            identity, self.leasing, self._events, lambda n: secrets.token_hex(n)[:n], Backoff(lambda: 1.0)
        )
        self._task = asyncio.create_task(self.board.live())
        self._events.publish(BoardAdded("sim"))
        self.board.attach(partial(open_simulated, self.folder), "simulated:sim")

    async def end(self) -> None:
        """End it."""
        if self.board is not None and self._task is not None:
            await self.board.close()
            await self._task
        self.leasing.close()

    @property
    def settled(self) -> list[str]:
        """What was told of settling."""
        return [event.outcome for event in self.happened if isinstance(event, DeploymentSettled)]

    def submit(
        self, operation: str, job: Job[Any], timeout: float = PATIENCE, fence: int | None = None
    ) -> Run[Any]:
        """Queue a job."""
        assert self.board is not None
        return self.board.submit(Order(operation, fence, timeout, Transcript().write), job)

    async def value(self, expression: str, fence: int | None = None) -> object:
        """Evaluate on the board."""
        run = self.submit("run", lambda session, emit: session.evaluate(expression, emit), fence=fence)
        outcome = await run.outcome
        assert isinstance(outcome, Returned), outcome
        return outcome.value

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait for events until the claim is true."""
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    async def ready(self) -> None:
        """Wait until the board is READY."""
        await self.until(lambda: self.board is not None and self.board.state is BoardState.READY)

    def leave_staged(self, journalled: bool, path: str = "/main.py") -> None:
        """Leave on the board what a deployment that broke off would."""
        (self.folder / STAGING).mkdir()
        self._write(staged("", 0), NEW)
        wanted = Plan("/", (), (), (Write(path, sha256(NEW).digest(), len(NEW), None),), (), (), 0, (), ())
        journal = records(wanted, "")
        self._write(journal_path(""), journal if journalled else journal[:-1])

    def _write(self, path: str, data: bytes) -> None:
        (self.folder / path[1:]).write_bytes(data)

    def _hear(self, event: Event) -> None:
        self.happened.append(event)
        self._news.set()

    def _lease_ended(self, board: str, fence: int, error: Any) -> None:
        assert self.board is not None
        self.board.lease_ended(fence, error)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A board that has an old main.py and is not connected yet."""
    made = Bench(tmp_path / "sim")
    made.folder.mkdir()
    (made.folder / "main.py").write_bytes(OLD)
    try:
        yield made
    finally:
        await made.end()


@pytest.mark.parametrize(
    ("journalled", "told", "left"), [(True, "completed", NEW), (False, "undone", OLD)], ids=["whole", "half"]
)
async def test_what_broke_off_is_settled_before_the_board_is_ready(
    bench: Bench, journalled: bool, told: str, left: bytes
) -> None:
    bench.leave_staged(journalled)

    bench.begin()
    await bench.ready()

    assert bench.settled == [told]
    assert await bench.value("open('main.py').read()") == left.decode()
    assert [entry.name for entry in bench.folder.iterdir()] == ["main.py"]


async def test_a_passive_board_is_settled_when_a_job_takes_it_over(bench: Bench) -> None:
    bench.leave_staged(journalled=True)
    bench.begin(passive=True)
    await bench.ready()
    before = list(bench.settled)
    ticket = bench.leasing.request(["sim"], "ann", ttl=600.0)
    assert ticket.granted is not None

    value = await bench.value("open('main.py').read()", fence=ticket.granted.view.fence)

    assert before == []
    assert value == NEW.decode()
    assert bench.settled == ["completed"]


async def test_a_board_with_nothing_left_is_not_asked(bench: Bench) -> None:
    bench.begin()
    await bench.ready()

    with contextlib.suppress(RunTimeout):
        await bench.submit("run", lambda session, emit: session.run("while 1: pass", emit), 0.2).outcome
    await bench.value("1")

    assert bench.settled == []


async def test_a_deployment_that_times_out_is_undone_before_the_next_job(bench: Bench) -> None:
    bench.begin()
    await bench.ready()
    stuck = deployment(
        {"a.bin": b"a", "b.bin": random.Random(3).randbytes(50_000), "main.py": NEW}, stuck_after=2
    )

    run = bench.submit("deploy", stuck, timeout=1.0)
    following = bench.submit(
        "run", lambda session, emit: session.evaluate("__import__('os').listdir('/')", emit)
    )
    with pytest.raises(RunTimeout):
        await run.outcome
    names = await following.outcome

    assert names.value == ["main.py"]
    assert bench.settled == ["undone"]
    assert any(isinstance(event, RecoveryStepTaken) for event in bench.happened)
    assert (bench.folder / "main.py").read_bytes() == OLD


async def test_what_cannot_be_settled_is_told_and_the_next_deployment_begins_with_it(bench: Bench) -> None:
    (bench.folder / "taken" / "by").mkdir(parents=True)
    bench.leave_staged(journalled=True, path="/taken")

    bench.begin()
    await bench.ready()
    first = await bench.value("1 + 1")
    await bench.value("[__import__('os').rmdir(p) for p in ('/taken/by', '/taken')]")
    summary = await bench.submit("deploy", deployment({"main.py": NEW}, stuck_after=9)).outcome

    assert bench.settled == ["failed"]
    assert first == 2
    assert summary.settled is not None
    assert (bench.folder / "taken").read_bytes() == NEW
    assert (bench.folder / "main.py").read_bytes() == NEW


def deployment(files: dict[str, bytes], stuck_after: int) -> Job[Summary]:
    """Return a job that deploys, and waits for ever for the content that comes after so many."""
    contents = {sha256(data).digest(): data for data in files.values()}
    manifest = [ManifestFile(path, sha256(data).digest(), len(data)) for path, data in files.items()]
    asked = 0

    async def content(digest: bytes) -> bytes:
        nonlocal asked
        asked += 1
        if asked > stuck_after:
            await asyncio.Event().wait()
        return contents[digest]

    async def report(step: Plan | Progress) -> None:
        pass

    async def job(session: Session, emit: Emit) -> Summary:
        return await deploy(session, manifest, content, Options(), report)

    return job
