"""Deployments on record: what they did, how long they are kept, and which contents they need."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from belayd.store import FOLDER, Change, DeploymentOutcome, DeploymentRecord, Entry, Store

MONTH = timedelta(days=30)
DONE = DeploymentOutcome.DONE


def entry(content: bytes) -> Entry:
    return Entry(hashlib.sha256(content).digest(), len(content))


def replacing(old: bytes, new: bytes, path: str = "/main.py") -> Change:
    return Change(path, entry(old), entry(new))


@pytest.fixture
def record(place) -> Any:
    """What makes a deployment, of now."""

    def make(name: str, board: str = "a", **more: Any) -> DeploymentRecord:
        first = DeploymentRecord(name, board, "ann", place.wall(), "/")
        return replace(first, outcome=more.pop("outcome", DONE), **more)

    return make


async def names(store: Store, board: str = "a") -> list[str]:
    return [record.name for record in (await store.deployments.of_board(board, 100))[0]]


async def test_a_deployment_is_on_record_with_all_it_did_also_for_the_next_daemon(place, record) -> None:
    changes = [
        Change("/a", FOLDER, entry(b"a file now")),
        Change("/lib", None, FOLDER),
        Change("/odd \udc80 \n'", Entry(b"?", 7), None),
        Change("/part", Entry(bytes(16), 9), None),
        replacing(b"", b"new"),
    ]
    made = record(
        "first",
        in_place=True,
        files_written=3,
        files_deleted=2,
        payload_bytes=11,
        refusal="",
        rolls_back="before",
        outcome=DeploymentOutcome.OPEN,
    )
    store = await place.open()
    store.deployments.add(made, changes)
    await store.deployments.settled()
    await store.close()

    store = await place.open()

    assert await store.deployments.get("first") == made
    assert sorted(await store.deployments.changes("first"), key=lambda change: change.path) == sorted(
        changes, key=lambda change: change.path
    )
    assert await store.deployments.get("never") is None
    assert await store.deployments.changes("never") == []
    assert await store.deployments.unsettled() == [made]


async def test_what_became_of_it_is_on_record(place, record) -> None:
    store = await place.open()
    for name in ("one", "two", "three"):
        store.deployments.add(record(name, outcome=DeploymentOutcome.OPEN), [])
    store.deployments.end("one", DeploymentOutcome.MIXED)
    store.deployments.end("three", DONE, urgent=True)
    store.deployments.refuse("three", "no room")
    await store.deployments.settled()

    found = {each.name: each for each in (await store.deployments.of_board("a", 100))[0]}

    assert [each.name for each in await store.deployments.unsettled()] == ["two"]
    assert (found["one"].outcome, found["one"].reversible) == (DeploymentOutcome.MIXED, True)
    assert (found["three"].outcome, found["three"].reversible) == (DONE, False)


async def test_a_boards_deployments_come_in_pages_the_latest_first(place, record) -> None:
    store = await place.open()
    for number in range(5):
        store.deployments.add(record(f"a{number}"), [])
        store.deployments.add(record(f"b{number}", "b"), [])

    first, page = await store.deployments.of_board("a", 3)
    store.deployments.add(record("later"), [])
    second, end = await store.deployments.of_board("a", 3, page)

    assert [each.name for each in first] == ["a4", "a3", "a2"]
    assert [each.name for each in second] == ["a1", "a0"]
    assert end is None


async def test_of_each_board_the_latest_are_kept(place, record) -> None:
    store = await place.open()
    for number in range(4):
        store.deployments.add(record(f"a{number}"), [replacing(b"old", b"%d" % number)])
        store.deployments.add(record(f"same{number}", changed=False), [])
        store.deployments.add(record(f"b{number}", "b"), [])
    store.deployments.add(record("open", outcome=DeploymentOutcome.OPEN, changed=False), [])

    store.deployments.expire(place.wall() - MONTH, 2)

    assert await names(store) == ["open", "a3", "a2"]
    assert await names(store, "b") == ["b3", "b2"]
    assert await store.deployments.changes("a1") == []


async def test_of_what_is_too_old_only_a_boards_latest_stays_and_leads_nowhere(place, record) -> None:
    store = await place.open()
    for name in ("first", "second"):
        store.deployments.add(record(name), [replacing(b"before", b"after")])
    place.wall.go(days=40)
    store.deployments.add(record("of today", "b"), [replacing(b"b's", b"b's now")])

    store.deployments.expire(place.wall() - MONTH, 5)
    [kept] = (await store.deployments.of_board("a", 100))[0]
    needed, useful = await store.deployments.contents()

    assert kept.name == "second"
    assert not kept.reversible
    assert "too old" in kept.refusal
    assert await names(store, "b") == ["of today"]
    assert needed == {entry(b"b's").digest}
    assert useful == {entry(b"after").digest, entry(b"b's now").digest}


async def test_contents_are_needed_by_what_can_be_rolled_back_alone(place, record) -> None:
    store = await place.open()
    same = Change("/same.py", entry(b"same"), entry(b"same"))
    deployments = store.deployments
    deployments.add(record("1"), [replacing(b"v0", b"v1"), same, Change("/lib", None, FOLDER)])
    deployments.add(record("2", refusal="was not kept"), [Change("/x", Entry(bytes(16), 2), None)])
    deployments.add(record("3", outcome=DeploymentOutcome.MIXED), [replacing(b"v2", b"v3")])
    deployments.add(record("4"), [replacing(b"v3", b"v4"), same])
    deployments.add(record("5", outcome=DeploymentOutcome.UNDONE), [replacing(b"v4", b"v5")])

    needed, useful = await deployments.contents()

    assert needed == {entry(content).digest for content in (b"v0", b"v2", b"v3")}
    assert useful == {entry(b"v4").digest, entry(b"same").digest}


async def test_the_oldest_that_can_be_rolled_back_gives_way_first(place, record) -> None:
    store = await place.open()
    store.deployments.add(record("unchanged", changed=False), [])
    store.deployments.add(record("refused", refusal="was not kept"), [])
    store.deployments.add(record("undone", outcome=DeploymentOutcome.UNDONE), [])
    store.deployments.add(record("oldest", "b"), [])
    store.deployments.add(record("newest"), [])

    oldest = await store.deployments.oldest_reversible()
    store.deployments.refuse("oldest", "gave way")
    next_one = await store.deployments.oldest_reversible()
    store.deployments.refuse("newest", "gave way")

    assert oldest is not None
    assert next_one is not None
    assert (oldest.name, next_one.name) == ("oldest", "newest")
    assert await store.deployments.oldest_reversible() is None
