"""Reloading against a real fleet and discovery: what adopt rules brought, and who hears how it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from belayd.discovery import Discovery, Port
from belayd.errors import BelaydError, BoardNotFound, RequestInvalid
from belayd.events import Events
from belayd.fleet import Fleet
from belayd.inventory import Inventory, load
from belayd.leasing import Leasing
from belayd.reload import MOST_TOLD, Reload

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULE = 'adopt:\n  - {usb: {vid: 2e8a}, name: "pico-{serial_number}"%s}\n'
PORT = Port("/dev/null", "/dev/null", 0x2E8A, 5, "a", "MicroPython", "Board", "1-1:1.0")


class Lab:
    """A daemon's parts around a reload; one device is on USB, that is no board."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lab.yaml"
        self.heard: list[tuple[str, datetime]] = []
        self.labels: tuple[str, ...] = ()
        self.refusals: list[str] = []
        self.events = Events()
        self.leasing = Leasing(self.events, on_ended=self._lease_ended, max_hold=3600, idle=3600)
        self.fleet = Fleet(self.leasing, self.events, folder / "boards")

    async def start(self, text: str) -> None:
        self.write(text)
        inventory = load(self.path)
        boards = inventory.boards.values()
        self.fleet.add(boards)
        self.discovery = Discovery(boards, inventory.adopt, self.fleet.discovered, lister=self._list)
        self.reload = Reload(
            inventory,
            self.fleet,
            self.discovery,
            self.leasing,
            refuse=lambda inventory: self.refusals,
            show_labels=self._show_labels,
            tell=lambda outcome, at: self.heard.append((outcome, at)),
            now=lambda: NOON,
        )
        await self.discovery.poll()

    def write(self, text: str) -> None:
        self.path.write_text(f"version: 1\n{text}")
        self.path.chmod(0o600)

    async def apply(self, text: str) -> list[str]:
        """Reload this, look at the ports, and return what changed."""
        self.write(text)
        reloaded = await self.reload.reload("ann")
        await self.discovery.poll()
        return [f"{change.kind.value} {change.key}" for change in reloaded.changes]

    def _list(self, paths: Sequence[str]) -> list[Port]:
        return [PORT]

    def _lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        self.fleet.lease_ended(board, fence, error)

    def _show_labels(self, labels: tuple[str, ...]) -> None:
        self.labels = labels


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    await lab.fleet.close()
    lab.leasing.close()


async def test_an_adopted_board_stays_itself_while_its_rule_changes_only_labels(lab: Lab) -> None:
    await lab.start(RULE % "")
    board = lab.fleet.board("pico-a")

    changes = await lab.apply(RULE % ", labels: {chip: rp2}, max: 3")

    assert changes == ["changed adopt.pico-{serial_number}"]
    assert lab.fleet.board("pico-a") is board
    assert board.snapshot().labels == {"chip": "rp2"}


async def test_an_adopted_board_leaves_with_its_rule(lab: Lab) -> None:
    await lab.start(RULE % "")

    await lab.apply("boards:\n  sim: {simulated: {}}\n")

    with pytest.raises(BoardNotFound):
        lab.fleet.board("pico-a")


async def test_a_board_that_is_listed_now_takes_the_adopted_ones_place(lab: Lab) -> None:
    await lab.start(RULE % "")
    adopted = lab.fleet.board("pico-a")

    await lab.apply("boards:\n  pico-a: {usb: {serial_number: a}, labels: {mine: yes}}\n" + RULE % "")

    assert lab.fleet.board("pico-a") is not adopted
    assert lab.fleet.board("pico-a").identity.labels == {"mine": "yes"}
    assert len(lab.fleet) == 1


async def test_a_board_that_is_listed_no_more_is_adopted_under_its_name(lab: Lab) -> None:
    await lab.start("boards:\n  pico-a: {usb: {serial_number: a}}\n" + RULE % "")
    listed = lab.fleet.board("pico-a")

    changes = await lab.apply(RULE % ", labels: {chip: rp2}")

    assert changes == ["removed boards.pico-a", "changed adopt.pico-{serial_number}"]
    assert lab.fleet.board("pico-a") is not listed
    assert lab.fleet.board("pico-a").identity.labels == {"chip": "rp2"}


async def test_how_each_reload_ended_is_told_and_of_a_dry_run_nothing(lab: Lab) -> None:
    await lab.start("boards: {}\n")

    await lab.apply("server: {metric_labels: [chip]}\nboards: {}\n")
    await lab.reload.reload("ann", dry_run=True)
    lab.write("boards: 5\n")
    for dry_run in (True, False):
        with pytest.raises(RequestInvalid):
            await lab.reload.reload("ann", dry_run)

    assert lab.heard == [("ok", NOON), ("failed", NOON)]
    assert lab.labels == ("chip",)


async def test_a_file_that_is_gone_changes_nothing(lab: Lab) -> None:
    await lab.start("boards:\n  sim: {simulated: {}}\n")
    lab.path.unlink()

    with pytest.raises(RequestInvalid, match=r"lab\.yaml"):
        await lab.reload.reload("ann")

    assert len(lab.fleet) == 1


async def test_what_this_daemon_cannot_serve_is_refused(lab: Lab) -> None:
    await lab.start("boards: {}\n")
    lab.refusals = ["others could reach it"]

    with pytest.raises(RequestInvalid, match="others could reach it"):
        await lab.apply("boards:\n  sim: {simulated: {}}\n")

    assert len(lab.fleet) == 0


async def test_a_hundred_mistakes_fit_a_status(lab: Lab) -> None:
    await lab.start("boards: {}\n")
    lab.write("boards:\n" + "".join(f"  B{number}: {{simulated: {{}}}}\n" for number in range(100)))

    with pytest.raises(RequestInvalid) as told:
        await lab.reload.reload("ann")

    assert told.value.fields["problems"] == "100"
    assert sum(name.startswith("problem_") for name in told.value.fields) == MOST_TOLD
    assert sum(map(len, told.value.fields.values())) < 3000


async def test_two_reloads_at_once_are_one_after_the_other(lab: Lab) -> None:
    await lab.start("boards: {}\n")
    lab.write("boards:\n  sim: {simulated: {}}\n")

    both = await asyncio.gather(lab.reload.reload("ann"), lab.reload.reload("bob"))

    assert [len(reloaded.changes) for reloaded in both] == [1, 0]
    assert isinstance(load(lab.path), Inventory)
