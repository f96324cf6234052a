from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from belayd.chronicle import MOST_BEHIND, MOST_KEPT, Chronicle, Watcher
from belayd.events import BoardAdded, BoardChanged, Event, LeaseQueueChanged, OperationEnded, Reconnected
from belayd.snapshot import BoardState

PATIENCE = 30.0
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUSY = BoardChanged("a", BoardState.READY, BoardState.BUSY, "")
ENDED = OperationEnded("a", "call", "ok", "", 0.0, 0.1)
LOST = BoardChanged("a", BoardState.BUSY, BoardState.CONNECTING, "")


def make() -> Chronicle:
    return Chronicle(wall=lambda: NOW)


async def read(watcher: Watcher) -> tuple[list[Event], int]:
    async with asyncio.timeout(PATIENCE):
        happenings, dropped = await watcher.read()
    return [happening.event for happening in happenings], dropped


async def test_every_watcher_is_told_in_order_and_with_the_time() -> None:
    chronicle = make()
    watchers = [chronicle.watch() for _ in range(3)]

    chronicle.hear(BoardAdded("a"))
    chronicle.hear(LOST)

    for watcher in watchers:
        happenings, dropped = await watcher.read()
        assert [(happening.at, happening.event) for happening in happenings] == [
            (NOW, BoardAdded("a")),
            (NOW, LOST),
        ]
        assert dropped == 0


async def test_one_that_does_not_read_loses_the_oldest_and_is_told_how_many() -> None:
    chronicle = make()
    watcher = chronicle.watch()

    for number in range(MOST_BEHIND + 7):
        chronicle.hear(Reconnected(f"board-{number}"))
    events, dropped = await read(watcher)

    assert len(events) == MOST_BEHIND
    assert events[0] == Reconnected("board-7")
    assert dropped == 7


async def test_what_happens_with_every_call_is_for_those_who_ask() -> None:
    chronicle = make()
    plain, curious = chronicle.watch(), chronicle.watch(operations=True)

    for event in (BUSY, ENDED, LOST):
        chronicle.hear(event)

    assert await read(plain) == ([LOST], 0)
    assert await read(curious) == ([BUSY, ENDED, LOST], 0)
    assert [kept.event for kept in chronicle.recent()] == [LOST]


@pytest.mark.parametrize(
    "event",
    [LeaseQueueChanged("a"), BoardChanged("a", BoardState.READY, BoardState.READY, "")],
    ids=["somebody waits", "no other state"],
)
async def test_what_only_changes_a_snapshot_is_no_news(event: Event) -> None:
    chronicle = make()
    watcher = chronicle.watch(operations=True)

    chronicle.hear(event)
    chronicle.hear(BoardAdded("a"))

    assert await read(watcher) == ([BoardAdded("a")], 0)


async def test_a_watcher_of_one_board_hears_of_no_other() -> None:
    chronicle = make()
    watcher = chronicle.watch("b")

    for number in range(MOST_BEHIND + 1):
        chronicle.hear(Reconnected(f"board-{number}"))
    chronicle.hear(BoardAdded("b"))

    assert await read(watcher) == ([BoardAdded("b")], 0)
    assert [kept.event for kept in chronicle.recent("b")] == [BoardAdded("b")]


async def test_one_that_left_hears_no_more() -> None:
    chronicle = make()
    gone, stays = chronicle.watch(operations=True), chronicle.watch()

    gone.close()
    gone.close()
    chronicle.hear(ENDED)
    chronicle.hear(BoardAdded("a"))

    assert await read(stays) == ([BoardAdded("a")], 0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await gone.read()


def test_only_the_last_are_kept() -> None:
    chronicle = make()

    for number in range(MOST_KEPT + 5):
        chronicle.hear(Reconnected(f"board-{number}"))

    kept = chronicle.recent()
    assert len(kept) == MOST_KEPT
    assert kept[0].event == Reconnected("board-5")
