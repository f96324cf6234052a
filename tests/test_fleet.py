"""A fleet of simulated boards that come and go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from belayd.discovery import Adopted, Attached, Detached, Forgotten, Port
from belayd.errors import BelaydError, BoardNotFound, LeaseBroken
from belayd.events import BoardAdded, BoardChanged, BoardRemoved, Event, Events
from belayd.fleet import Fleet
from belayd.inventory import BoardSpec, SerialLink, SimulatedLink, WebreplLink
from belayd.leasing import Leasing
from belayd.outcome import Outcome, Returned
from belayd.run import Order, Run
from belayd.session import Emit, Session
from belayd.snapshot import BoardState

PATIENCE = 30.0
T = TypeVar("T")
SIMULATED = Port("simulated")


class Lab:
    """A fleet with all that it told, and who holds its boards."""

    def __init__(self, folder: Path) -> None:
        self.events = Events()
        self.heard: list[Event] = []
        self._news = asyncio.Event()
        self.leasing = Leasing(self.events, on_ended=self._lease_ended, max_hold=3600.0, idle=3600.0)
        self.fleet = Fleet(self.leasing, self.events, folder)
        self.events.listen(self._hear)

    def _hear(self, event: Event) -> None:
        self.heard.append(event)
        self._news.set()

    def _lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        self.fleet.lease_ended(board, fence, error)

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until `claim` is true, looking at each event."""
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    def adopt(self, *names: str) -> None:
        for name in names:
            self.fleet.discovered(Adopted(BoardSpec(name, SimulatedLink())))
            self.fleet.discovered(Attached(name, SIMULATED))

    async def ready(self, *names: str) -> None:
        await self.until(lambda: all(self.state(name) is BoardState.READY for name in names))

    def state(self, name: str) -> BoardState:
        return self.fleet.board(name).state

    def states(self, name: str) -> list[BoardState]:
        """Return which states a board had, in order."""
        return [e.state for e in self.heard if isinstance(e, BoardChanged) and e.board == name]

    def evaluate(self, name: str, expression: str) -> Run[Outcome]:
        async def job(session: Session, emit: Emit) -> Outcome:
            return await session.evaluate(expression, emit)

        return self.fleet.board(name).submit(Order("run", None, PATIENCE, discard), job)


class Reluctant:
    """A job that begins, and after it was stopped holds its board until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.stopped = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, session: Session, emit: Emit) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
            await self.let_go.wait()

    async def begin(self, lab: Lab, name: str, fence: int | None = None) -> Run[None]:
        run: Run[None] = lab.fleet.board(name).submit(Order("run", fence, None, discard), self)
        await within(self.began.wait())
        return run


async def discard(data: bytes) -> None:
    pass


async def within(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await awaitable


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    await within(lab.fleet.close())
    lab.leasing.close()


async def test_a_board_forgotten_and_adopted_in_one_breath_is_the_new_one(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    old = lab.fleet.board("a")
    lab.heard.clear()

    lab.fleet.discovered(Forgotten("a"))
    lab.adopt("a")

    assert lab.heard == [BoardRemoved("a"), BoardAdded("a")]
    assert lab.fleet.board("a") is not old
    await lab.ready("a")
    assert await within(lab.evaluate("a", "6 * 7").outcome) == Returned(42)
    assert len(lab.fleet) == 1


async def test_a_new_board_is_not_opened_before_the_old_one_of_its_name_is_closed(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    job = Reluctant()
    await job.begin(lab, "a")

    lab.fleet.discovered(Forgotten("a"))
    lab.adopt("a")
    for other in ("b", "c"):  # each has its start while the new "a" could have had its own
        lab.adopt(other)
        await lab.ready(other)

    assert job.stopped.is_set()
    assert lab.state("a") is BoardState.CONNECTING
    job.let_go.set()
    await lab.ready("a")


async def test_a_board_that_changes_its_name_is_opened_when_its_port_is_free(
    lab: Lab, simulated_pty: Callable[..., Any]
) -> None:
    path: Path = simulated_pty().path
    port = Port(str(path))
    lab.fleet.discovered(Adopted(BoardSpec("adopted", SerialLink(path))))
    lab.fleet.discovered(Attached("adopted", port))
    await lab.ready("adopted")
    job = Reluctant()
    await job.begin(lab, "adopted")

    lab.fleet.discovered(Forgotten("adopted"))
    lab.fleet.add([BoardSpec("listed", SerialLink(path))])
    lab.fleet.discovered(Attached("listed", port))
    await within(job.stopped.wait())
    job.let_go.set()
    await lab.ready("listed")

    assert lab.states("listed") == [BoardState.CONNECTING, BoardState.READY]  # at the first attempt


async def test_a_held_board_that_changes_its_name_is_cleaned_before_anybody_gets_it(
    lab: Lab, simulated_pty: Callable[..., Any]
) -> None:
    path: Path = simulated_pty().path
    lab.fleet.add([BoardSpec("old", SerialLink(path))])
    lab.fleet.discovered(Attached("old", Port(str(path))))
    await lab.ready("old")
    ticket = lab.leasing.request(["old"], "ann", ttl=60.0)
    assert ticket.granted is not None

    async def job(session: Session, emit: Emit) -> Outcome:
        return await session.run("secret = 1", emit)

    order = Order("run", ticket.granted.view.fence, PATIENCE, discard)
    await within(lab.fleet.board("old").submit(order, job).outcome)

    lab.fleet.discovered(Forgotten("old"))
    lab.fleet.add([BoardSpec("new", SerialLink(path))])
    lab.fleet.discovered(Attached("new", Port(str(path))))
    await lab.ready("new")

    assert await within(lab.evaluate("new", "'secret' in globals()").outcome) == Returned(False)


async def test_what_runs_under_a_lease_ends_with_it_when_its_board_leaves(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    ticket = lab.leasing.request(["a"], "ann", ttl=60.0)
    assert ticket.granted is not None
    job = Reluctant()
    job.let_go.set()
    run = await job.begin(lab, "a", ticket.granted.view.fence)

    lab.fleet.discovered(Forgotten("a"))

    with pytest.raises(LeaseBroken, match="left the inventory"):
        await within(run.outcome)
    with pytest.raises(BoardNotFound):
        lab.fleet.board("a")


async def test_what_runs_and_waits_without_a_lease_on_a_board_that_leaves_hears_that(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    job = Reluctant()
    job.let_go.set()
    run = await job.begin(lab, "a")
    waiting = lab.evaluate("a", "1")

    lab.fleet.discovered(Forgotten("a"))

    for ended in (run, waiting):
        with pytest.raises(BoardNotFound, match="'a' left the inventory"):
            await within(ended.outcome)


async def test_whoever_watches_a_board_that_leaves_gets_its_last_output_and_hears_that(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    board = lab.fleet.board("a")
    observer = board.audience.join("ann")
    board.audience.show(b"the last")

    lab.fleet.discovered(Forgotten("a"))
    [leaving] = [task for task in asyncio.all_tasks() if task.get_name() == "forget a"]
    await within(leaving)

    assert await within(observer.read()) == (b"the last", 0)
    for _ in range(2):
        with pytest.raises(BoardNotFound, match="'a' left the inventory"):
            await within(observer.read())
    with pytest.raises(BoardNotFound):
        board.audience.join("ben")


async def test_the_last_states_of_an_old_board_make_the_new_one_available_to_nobody(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    job = Reluctant()
    await job.begin(lab, "a")

    lab.fleet.discovered(Forgotten("a"))
    lab.fleet.discovered(Adopted(BoardSpec("a", SimulatedLink())))
    lab.fleet.discovered(Detached("a", "not plugged in"))
    await lab.until(lambda: lab.state("a") is BoardState.OFFLINE)
    await within(job.stopped.wait())
    [leaving] = [task for task in asyncio.all_tasks() if task.get_name() == "forget a"]
    job.let_go.set()
    await within(leaving)

    assert lab.states("a")[-1] is BoardState.READY  # of the old one
    assert lab.leasing.request(["a"], "ann", ttl=60.0).granted is None


async def test_closing_waits_for_boards_that_are_just_leaving(lab: Lab) -> None:
    lab.adopt("a", "b")
    await lab.ready("a", "b")
    job = Reluctant()
    await job.begin(lab, "a")
    job.let_go.set()

    lab.fleet.discovered(Forgotten("a"))
    await within(lab.fleet.close())

    assert job.stopped.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_leaves_alone_a_leaving_board_that_does_not_let_itself_be_stopped(lab: Lab) -> None:
    lab.adopt("a")
    await lab.ready("a")
    job = Reluctant()
    await job.begin(lab, "a")

    lab.fleet.discovered(Forgotten("a"))
    await within(lab.fleet.close())

    assert not job.let_go.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[str]:
    """The WebREPL address of a simulated board whose password is roof-4711."""
    secret = tmp_path / "password"
    secret.write_text("roof-4711")
    command = [sys.executable, "-m", "belayd.simulation", str(tmp_path / "roof"), "--webrepl=0"]
    process = subprocess.Popen(
        [*command, f"--password-file={secret}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.communicate()


async def test_a_webrepl_password_is_read_from_the_environment(
    lab: Lab, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOF_PASSWORD", "roof-4711")
    lab.fleet.add([BoardSpec("roof", WebreplLink(door, password_env="ROOF_PASSWORD"))])

    lab.fleet.discovered(Attached("roof", Port(door)))

    await lab.ready("roof")
    assert await within(lab.evaluate("roof", "6 * 7").outcome) == Returned(42)


async def test_a_webrepl_password_that_is_not_set_is_named_and_nothing_of_it_shown(
    lab: Lab, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROOF_PASSWORD", raising=False)
    lab.fleet.add([BoardSpec("roof", WebreplLink(door, password_env="ROOF_PASSWORD"))])

    lab.fleet.discovered(Attached("roof", Port(door)))

    await lab.until(
        lambda: "ROOF_PASSWORD with its password is not set" in lab.fleet.board("roof").snapshot().reason
    )
