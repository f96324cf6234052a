"""Leases in the database: what comes back from it, in this boot of the host and in another."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from belayd.snapshot import LeaseView, NoticeView
from belayd.store import LeaseRecord, LeaseStore, MemoryStore
from belayd.store.leases import load_leases
from belayd.terms import hash_token

NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def record(board: str = "a", fence: int = 1, **more: object) -> LeaseRecord:
    view = LeaseView(
        name=f"lease-{fence}",
        board=board,
        holder="ann@desk",
        reason="Prüfstand ☂",
        fence=fence,
        acquired=NOON,
        expires=NOON + timedelta(seconds=60),
        ttl=60.0,
    )
    return replace(LeaseRecord(view, "ann", hash_token("bl_secret")), **more)


@pytest.fixture(params=["memory", "database"])
async def leases(request, place) -> LeaseStore:
    if request.param == "memory":
        return MemoryStore()
    return (await place.open()).leases


async def reloaded(place, store) -> LeaseStore:
    await store.close()
    return (await place.open()).leases


async def test_a_store_is_empty_at_first(leases) -> None:
    assert (dict(leases.load().leases), dict(leases.load().fences)) == ({}, {})
    await leases.settled()


async def test_what_was_saved_comes_back_as_it_was(place) -> None:
    store = await place.open()
    notice = NoticeView("olga", "fire drill", NOON + timedelta(seconds=9))
    plain, warned = record(held=7.5), record("b", 4)
    warned = replace(warned, view=replace(warned.view, notice=notice), notice_left=9.0)
    for each in (plain, warned):
        store.leases.save(each)
    await store.leases.settled()

    stored = (await reloaded(place, store)).load()

    assert {board: replace(each, away=None) for board, each in stored.leases.items()} == {
        "a": plain,
        "b": warned,
    }
    assert dict(stored.fences) == {"a": 1, "b": 4}
    assert all(0 <= each.away < 60 for each in stored.leases.values())


async def test_a_removed_lease_leaves_its_fence(place) -> None:
    store = await place.open()
    store.leases.save(record(fence=41))
    store.leases.remove("a")
    store.leases.remove("never there")
    await store.leases.settled()

    stored = (await reloaded(place, store)).load()

    assert (dict(stored.leases), dict(stored.fences)) == ({}, {"a": 41})


async def test_a_fence_never_goes_back(place) -> None:
    store = await place.open()
    for fence in (9, 3):
        store.leases.save(record(fence=fence))
        await store.leases.settled()

    assert dict((await reloaded(place, store)).load().fences) == {"a": 9}


async def test_an_ended_lease_comes_back_as_ended_until_it_is_removed(place) -> None:
    store = await place.open()
    for board in "ab":
        store.leases.save(record(board))
        store.leases.end(board)
    store.leases.end("never there")
    store.leases.remove("b")
    await store.leases.settled()

    again = await place_again(place, store)
    assert {board: each.ended for board, each in again.leases.load().leases.items()} == {"a": True}
    again.leases.save(record(fence=2))
    stored = (await reloaded(place, again)).load()

    assert {board: each.ended for board, each in stored.leases.items()} == {"a": False}


async def place_again(place, store):
    await store.close()
    return await place.open()


async def test_how_long_the_daemon_was_away_is_known_within_one_boot_only(place) -> None:
    store = await place.open()
    store.leases.save(record())
    await store.close()
    connection = sqlite3.connect(place.file)
    [(boot, saved)] = connection.execute("SELECT boot, saved FROM leases")

    def away(boot: str, now: float) -> float | None:
        return load_leases(connection, boot, now).leases["a"].away

    assert away(boot, saved + 12.5) == 12.5
    assert away("another boot", saved + 12.5) is None
    assert away(boot, saved - 1.0) is None
    connection.execute("UPDATE leases SET boot = ''")
    assert away("", saved + 12.5) is None
    connection.close()


async def test_only_the_hash_of_a_token_is_in_the_files(place) -> None:
    store = await place.open()
    store.leases.save(record())
    await store.leases.settled()

    content = b"".join(path.read_bytes() for path in place.folder.iterdir())

    assert hash_token("bl_secret") in content
    assert b"bl_secret" not in content
