"""Rollouts on record: as they were asked for, as they become, and what is kept of whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from belayd.store import RolloutBoardRecord, RolloutLimits, RolloutRecord, Store

BOARDS = (RolloutBoardRecord("pico-1", 0, "pending"), RolloutBoardRecord("pico-2", 1, "pending"))


def record(place, name: str = "r1", principal: str = "ann") -> RolloutRecord:
    return RolloutRecord(
        name=name,
        principal=principal,
        role=2,
        selector="rack=2",
        reason="spring",
        created=place.wall(),
        canary=1,
        wave=2,
        parallel=3,
        max_failures=4,
        state="running",
        state_reason="",
        ended=None,
        boards=BOARDS,
        intent=b"\x00trees",
    )


async def test_a_rollout_is_read_as_it_was_created_and_as_it_became(place) -> None:
    store = await place.open()
    created = record(place)
    store.rollouts.create(created)
    await store.rollouts.settled()

    assert await store.rollouts.get("r1") == replace(created, intent=b"")
    assert await store.rollouts.unended() == [created]

    ended = place.wall.go(seconds=5)
    done = RolloutBoardRecord("pico-2", 1, "done", "", "7f3a", "d1", 10, 20, 30, 1.5)
    store.rollouts.change_board("r1", 1, replace(done, written_bytes=5))
    store.rollouts.change_board("r1", 1, done)
    store.rollouts.change("r1", "aborted", "enough", ended)

    found = await store.rollouts.get("r1")
    assert found == replace(
        created, intent=b"", state="aborted", state_reason="enough", ended=ended, boards=(BOARDS[0], done)
    )
    assert await store.rollouts.unended() == []
    assert await store.rollouts.get("r2") is None


async def test_what_has_not_ended_is_there_after_a_restart(place) -> None:
    before = await place.open()
    for name in ("r1", "r2", "r3"):
        before.rollouts.create(record(place, name))
    before.rollouts.change("r2", "done", "", place.wall())
    await before.close()

    after = await place.open()

    assert [each.name for each in await after.rollouts.unended()] == ["r1", "r3"]


async def test_rollouts_are_listed_newest_first_page_by_page(place) -> None:
    store = await place.open()
    for number in range(5):
        store.rollouts.create(record(place, f"r{number}"))

    first, page = await store.rollouts.list(limit=3)
    second, last = await store.rollouts.list(limit=3, page=page)

    assert [each.name for each in (*first, *second)] == ["r4", "r3", "r2", "r1", "r0"]
    assert last is None


async def names(store: Store) -> list[str]:
    return [each.name for each in (await store.rollouts.list())[0]]


async def test_of_each_principal_so_many_ended_ones_are_kept(place) -> None:
    store = await Store.open(place.folder, wall=place.wall, rollouts=RolloutLimits(rollouts=2))
    try:
        store.rollouts.create(record(place, "bob's", "bob"))
        for number in range(5):
            store.rollouts.create(record(place, f"r{number}"))
            if number:
                store.rollouts.change(f"r{number}", "done", "", place.wall())
        store.rollouts.create(record(place, "last"))

        assert await names(store) == ["last", "r4", "r3", "r0", "bob's"]
    finally:
        await store.close()


async def test_what_ended_long_ago_goes_and_what_has_not_ended_stays(place) -> None:
    store = await place.open()
    store.rollouts.create(record(place, "old"))
    store.rollouts.create(record(place, "ended"))
    store.rollouts.change("ended", "done", "", place.wall())

    place.wall.now += RolloutLimits().age + timedelta(seconds=1)
    store.rollouts.expire()

    assert await names(store) == ["old"]
