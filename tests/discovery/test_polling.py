from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from belayd.discovery import (
    Adopted,
    Attached,
    Detached,
    Discovery,
    DiscoveryEvent,
    Forgotten,
    ListingFailed,
    Port,
    Readopted,
    list_ports,
)
from belayd.inventory import AdoptRule, BoardSpec, SerialLink, SimulatedLink, UsbLink

MakePort = Callable[..., Port]
RULE = AdoptRule(UsbLink(vid=0x2E8A), "pico-{serial_number}")
PICO = BoardSpec("pico", UsbLink(serial_number="A"))
SIM = BoardSpec("sim", SimulatedLink())
NO_PICO = "no USB device with serial_number A is present"


class Bench:
    """A bench where boards are plugged in by hand, and what was told about it."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.failing = False
        self.now = 1000.0
        self.looks = 0
        self.asked: list[Sequence[str]] = []
        self.events: list[DiscoveryEvent] = []
        self.heard = asyncio.Event()

    def list(self, paths: Sequence[str]) -> list[Port]:
        self.looks += 1
        self.asked.append(paths)
        if self.failing:
            raise ListingFailed("no")
        return list(self.ports)

    def listen(self, event: DiscoveryEvent) -> None:
        self.events.append(event)
        self.heard.set()

    def clock(self) -> float:
        return self.now

    def discovery(
        self, *specs: BoardSpec, rules: Sequence[AdoptRule] = (), interval: float = 60.0
    ) -> Discovery:
        return Discovery(specs, rules, self.listen, lister=self.list, interval=interval, clock=self.clock)

    def take(self) -> list[DiscoveryEvent]:
        events, self.events = self.events, []
        self.heard.clear()
        return events


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_the_first_look_tells_of_every_board(bench: Bench) -> None:
    await bench.discovery(PICO, SIM).poll()

    assert bench.take() == [Detached("pico", NO_PICO), Attached("sim", Port("simulated"))]


async def test_a_look_at_the_same_tells_nothing(bench: Bench, pico: MakePort) -> None:
    bench.ports = [pico()]
    discovery = bench.discovery(PICO, SIM, rules=[RULE])
    await discovery.poll()
    bench.take()

    await discovery.poll()

    assert bench.take() == []


async def test_plugging_in_moving_and_unplugging_are_told(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(PICO)
    await discovery.poll()
    bench.take()

    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.ports = [pico("A", 1)]
    await discovery.poll()
    bench.ports = []
    await discovery.poll()

    assert bench.take() == [
        Attached("pico", pico("A", 0)),
        Attached("pico", pico("A", 1)),
        Detached("pico", NO_PICO),
    ]


async def test_another_device_on_the_same_port_is_another_port(bench: Bench, pico: MakePort) -> None:
    link = UsbLink(vid=0x2E8A)
    discovery = bench.discovery(BoardSpec("a", link))
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.ports = [pico("B", 0)]
    await discovery.poll()

    assert bench.take() == [Attached("a", pico("A", 0)), Attached("a", pico("B", 0))]


async def test_a_reason_that_changes_is_told_again(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(BoardSpec("a", UsbLink(vid=0x2E8A)))
    await discovery.poll()
    bench.ports = [pico("A", 0), pico("B", 1)]
    await discovery.poll()

    first, second = bench.take()
    assert first == Detached("a", "no USB device with vid 2e8a is present")
    assert isinstance(second, Detached)
    assert second.reason.startswith("2 devices match")


async def test_a_listing_that_fails_changes_nothing_and_is_logged_once(
    bench: Bench, pico: MakePort, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = bench.discovery(PICO)
    bench.ports = [pico()]
    await discovery.poll()
    bench.take()

    bench.failing = True
    with caplog.at_level(logging.WARNING):
        await discovery.poll()
        await discovery.poll()
    bench.failing = False
    await discovery.poll()

    assert bench.take() == []
    assert [record.getMessage() for record in caplog.records] == ["no; trying again each 60 s"]


async def test_an_adopted_board_is_told_before_it_is_attached(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]

    await discovery.poll()

    adopted, attached = bench.take()
    assert isinstance(adopted, Adopted)
    assert adopted.spec.name == "pico-a"
    assert attached == Attached("pico-a", pico("A", 0))


async def test_an_adopted_board_is_remembered_for_an_hour_and_then_forgotten(
    bench: Bench, pico: MakePort
) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.ports = []
    await discovery.poll()
    bench.take()

    bench.now += 3599
    await discovery.poll()
    still = bench.take()
    bench.now += 2
    await discovery.poll()

    assert still == []
    assert bench.take() == [Forgotten("pico-a")]
    assert discovery.matching.adoptions == {}


async def test_an_adopted_board_that_comes_back_keeps_its_name(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.ports = []
    await discovery.poll()
    bench.take()

    bench.now += 3000
    bench.ports = [pico("A", 3)]
    await discovery.poll()
    bench.now += 3000
    await discovery.poll()

    assert bench.take() == [Attached("pico-a", pico("A", 3))]


async def test_a_rule_with_other_labels_keeps_its_boards(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    adopted, _ = bench.take()

    relabelled = AdoptRule(UsbLink(vid=0x2E8A), "pico-{serial_number}", labels={"new": "yes"})
    discovery.update([], [relabelled])
    await discovery.poll()
    discovery.update([], [relabelled])
    await discovery.poll()

    assert isinstance(adopted, Adopted)
    assert bench.take() == [Readopted(replace(adopted.spec, labels={"new": "yes"}))]


async def test_a_rule_for_other_devices_makes_new_boards_of_the_old(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.take()

    discovery.update([], [AdoptRule(UsbLink(vid=0x2E8A, pid=5), "pico-{serial_number}")])
    await discovery.poll()

    forgotten, adopted, attached = bench.take()
    assert forgotten == Forgotten("pico-a")
    assert isinstance(adopted, Adopted)
    assert attached == Attached("pico-a", pico("A", 0))


async def test_a_board_that_is_listed_under_its_adopted_name_is_not_forgotten(
    bench: Bench, pico: MakePort
) -> None:
    discovery = bench.discovery(rules=[RULE])
    bench.ports = [pico("A", 0)]
    await discovery.poll()
    bench.take()

    discovery.update([BoardSpec("pico-a", UsbLink(serial_number="A"))], [RULE])
    await discovery.poll()

    assert bench.take() == [Attached("pico-a", pico("A", 0))]


async def test_after_an_update_only_what_has_another_link_is_told(bench: Bench) -> None:
    other = BoardSpec("other", SimulatedLink(heap_kib=64))
    discovery = bench.discovery(SIM, other)
    await discovery.poll()
    bench.take()

    discovery.update(
        [
            BoardSpec("sim", SimulatedLink(), labels={"new": "yes"}),
            BoardSpec("other", SimulatedLink(heap_kib=128)),
            PICO,
        ],
        [],
    )
    await discovery.poll()

    assert bench.take() == [Detached("pico", NO_PICO), Attached("other", Port("simulated"))]


async def test_a_board_that_leaves_the_inventory_and_returns_is_told_again(bench: Bench) -> None:
    discovery = bench.discovery(SIM)
    await discovery.poll()
    bench.take()

    discovery.update([], [])
    discovery.update([SIM], [])
    await discovery.poll()

    assert bench.take() == [Attached("sim", Port("simulated"))]


async def test_boards_that_share_a_match_are_sorted_out_by_what_they_say(
    bench: Bench, pico: MakePort
) -> None:
    link = UsbLink(vid=0x2E8A)
    discovery = bench.discovery(BoardSpec("a", link, unique_id="aa"), BoardSpec("b", link, unique_id="bb"))
    bench.ports = [pico(None, 0), pico(None, 1)]
    await discovery.poll()
    bench.take()

    discovery.identified(pico(None, 0), "BB")
    await discovery.poll()

    assert sorted(bench.take(), key=lambda event: event.board if isinstance(event, Attached) else "") == [
        Attached("a", pico(None, 1)),
        Attached("b", pico(None, 0)),
    ]


async def test_what_a_board_said_is_forgotten_with_its_port(bench: Bench, pico: MakePort) -> None:
    link = UsbLink(vid=0x2E8A)
    discovery = bench.discovery(BoardSpec("a", link, unique_id="aa"), BoardSpec("b", link, unique_id="bb"))
    bench.ports = [pico(None, 0)]
    await discovery.poll()
    discovery.identified(pico(None, 0), "bb")
    await discovery.poll()
    with_b = discovery.matching
    bench.ports = []
    await discovery.poll()
    bench.ports = [pico(None, 0)]
    await discovery.poll()

    assert set(with_b.attached) == {"b"}
    assert set(discovery.matching.attached) == {"a"}


async def test_only_the_paths_of_serial_boards_are_asked_for(bench: Bench) -> None:
    await bench.discovery(PICO, SIM, BoardSpec("tty", SerialLink("/dev/x"))).poll()

    assert bench.asked == [["/dev/x"]]


async def test_running_looks_at_once_and_then_when_asked(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(PICO, interval=3600.0)
    running = asyncio.create_task(discovery.run())

    await asyncio.wait_for(bench.heard.wait(), 30)
    first = bench.take()
    bench.ports = [pico("A", 0)]
    discovery.look_soon()
    await asyncio.wait_for(bench.heard.wait(), 30)
    second = bench.take()
    bench.ports = []
    discovery.update([PICO], [])
    await asyncio.wait_for(bench.heard.wait(), 30)
    third = bench.take()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert first == [Detached("pico", NO_PICO)]
    assert second == [Attached("pico", pico("A", 0))]
    assert third == [Detached("pico", NO_PICO)]
    assert bench.looks == 3


async def test_running_looks_again_at_each_interval(bench: Bench, pico: MakePort) -> None:
    discovery = bench.discovery(PICO, interval=0.01)
    running = asyncio.create_task(discovery.run())
    await asyncio.wait_for(bench.heard.wait(), 30)
    bench.take()

    bench.ports = [pico("A", 0)]
    await asyncio.wait_for(bench.heard.wait(), 30)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert bench.take() == [Attached("pico", pico("A", 0))]


async def test_a_pty_appears_and_vanishes_for_the_real_lister(bench: Bench, tmp_path: Path) -> None:
    link = tmp_path / "board"
    spec = BoardSpec("tty", SerialLink(str(link)))
    discovery = Discovery([spec], [], bench.listen, lister=list_ports, interval=0.01)
    running = asyncio.create_task(discovery.run())
    await asyncio.wait_for(bench.heard.wait(), 30)
    absent = bench.take()

    ours, theirs = os.openpty()
    link.symlink_to(os.ttyname(theirs))
    await asyncio.wait_for(bench.heard.wait(), 30)
    present = bench.take()
    name = os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)
    await asyncio.wait_for(bench.heard.wait(), 30)
    gone = bench.take()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert absent == [Detached("tty", f"{link} does not exist")]
    assert present == [Attached("tty", Port(str(link), name))]
    assert gone == absent
