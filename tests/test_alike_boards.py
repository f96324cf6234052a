"""Boards that USB cannot tell apart find their entries by their unique_id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from belayd.discovery import Discovery, Port
from belayd.events import BoardChanged, Event, Events
from belayd.fleet import Fleet
from belayd.inventory import BoardSpec, UsbLink
from belayd.leasing import Leasing
from belayd.snapshot import BoardState

PATIENCE = 60.0
IDS = ("aa11aa11aa11aa11", "bb22bb22bb22bb22", "cc33cc33cc33cc33")
ALIKE = UsbLink(vid=0x1A86, pid=0x7523)


class Lab:
    """A fleet whose boards are on ptys that all look like one kind of USB bridge."""

    def __init__(self, folder: Path) -> None:
        self.ports: list[Port] = []
        self.heard: list[Event] = []
        self._news = asyncio.Event()
        events = Events()
        events.listen(self._hear)
        self.leasing = Leasing(events, on_ended=lambda *_: None, max_hold=60, idle=60)
        self.fleet = Fleet(self.leasing, events, folder)

    def _hear(self, event: Event) -> None:
        self.heard.append(event)
        self._news.set()

    def look(self, names: Iterable[str]) -> asyncio.Task[None]:
        specs = [BoardSpec(f"bridge-{name[:2]}", ALIKE, unique_id=name) for name in names]
        self.fleet.add(specs)
        discovery = Discovery(
            specs, (), self.fleet.discovered, lister=lambda paths: list(self.ports), interval=0.1
        )
        self.fleet.tell_identities(discovery.identified)
        return asyncio.create_task(discovery.run())

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    def state(self, name: str) -> BoardState:
        return self.fleet.board(name).state


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    await lab.fleet.close()
    lab.leasing.close()


def alike(path: Path) -> Port:
    return Port(str(path), str(path), vid=0x1A86, pid=0x7523, location=f"1-{path.stem}")


async def test_each_entry_gets_the_board_with_its_unique_id(
    lab: Lab, simulated_pty: Callable[..., Any]
) -> None:
    # Listed against the order of the entries, so that the first guess is wrong for at least two.
    paths = {unique_id: simulated_pty(unique_id, "--unique-id", unique_id).path for unique_id in IDS}
    lab.ports = [alike(paths[unique_id]) for unique_id in (IDS[1], IDS[2], IDS[0])]
    looking = lab.look(IDS)
    try:
        await lab.until(lambda: all(lab.state(f"bridge-{one[:2]}") is BoardState.READY for one in IDS))
    finally:
        looking.cancel()

    for one in IDS:
        assert lab.fleet.board(f"bridge-{one[:2]}").snapshot().address == str(paths[one])
    assert not [e for e in lab.heard if isinstance(e, BoardChanged) and e.state is BoardState.QUARANTINED]


async def test_a_board_that_no_entry_knows_is_refused_and_the_known_one_found(
    lab: Lab, simulated_pty: Callable[..., Any]
) -> None:
    stranger = simulated_pty("stranger", "--unique-id", "ffffffffffffffff").path
    known = simulated_pty("known", "--unique-id", IDS[0]).path
    lab.ports = [alike(stranger), alike(known)]
    looking = lab.look(IDS[:1])
    try:
        await lab.until(lambda: lab.state("bridge-aa") is BoardState.READY)
    finally:
        looking.cancel()

    assert lab.fleet.board("bridge-aa").snapshot().address == str(known)


async def test_two_that_were_swapped_while_absent_are_found_again(
    lab: Lab, simulated_pty: Callable[..., Any]
) -> None:
    first, second = (simulated_pty(one, "--unique-id", one) for one in IDS[:2])
    lab.ports = [alike(first.path), alike(second.path)]
    looking = lab.look(IDS[:2])
    ready = lambda: all(lab.state(f"bridge-{one[:2]}") is BoardState.READY for one in IDS[:2])  # noqa: E731
    try:
        await lab.until(ready)
        ports, lab.ports = lab.ports, []
        for board in (first, second):
            board.process.terminate()
            board.process.wait(PATIENCE)
        await lab.until(lambda: not ready())
        await lab.until(lambda: all(lab.state(f"bridge-{one[:2]}") is BoardState.OFFLINE for one in IDS[:2]))
        # The same two places, each with the other's board.
        simulated_pty(IDS[0], "--unique-id", IDS[1])
        simulated_pty(IDS[1], "--unique-id", IDS[0])
        lab.ports = ports
        await lab.until(ready)
    finally:
        looking.cancel()

    assert lab.fleet.board("bridge-aa").snapshot().address == str(second.path)
    assert lab.fleet.board("bridge-bb").snapshot().address == str(first.path)
