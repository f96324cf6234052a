"""Audit records: what is kept of whom, found again, and whether a changed one is noticed."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import timedelta

import pytest

from belayd.store import AuditLimits, AuditRecord, Store
from belayd.store.chain import BEGINNING, link

SOURCE = bytes(range(32))


def record(place, principal: str = "ann", **more: object) -> AuditRecord:
    fields = {"at": place.wall(), "role": "user", "peer": "loopback", "action": "TaskService/RunTask", **more}
    return AuditRecord(principal=principal, **fields)


async def everything(store: Store, **how: object) -> list[AuditRecord]:
    return list((await store.audit.query(limit=1000, **how)).records)


async def test_a_record_comes_back_whole_with_its_number(place) -> None:
    store = await place.open()
    given = record(
        place,
        board="pico-1",
        lease="7f3a",
        what=SOURCE,
        outcome="rejected",
        reason="BOARD_LEASED",
        seconds=1.25,
        detail="2 of 3 files",
        action="ünüsual ☂",
    )

    store.audit.append(given)
    store.audit.append(record(place, "bob"))

    found = await everything(store)
    assert [(each.seq, each.principal) for each in found] == [(2, "bob"), (1, "ann")]
    assert [getattr(found[1], name) for name in given.__slots__ if name != "seq"] == [
        getattr(given, name) for name in given.__slots__ if name != "seq"
    ]


async def test_who_had_this_board_when_is_found_page_by_page(place) -> None:
    store = await place.open()
    for number in range(30):
        store.audit.append(
            record(place, ("ann", "bob")[number % 2], board=f"b-{number % 3}", reason=str(number))
        )
        place.wall.go(minutes=1)
    begin = place.wall() - timedelta(minutes=30)

    def numbers(records) -> list[int]:
        return [int(each.reason) for each in records]

    assert numbers(await everything(store, board="b-0")) == list(range(27, -1, -3))
    assert numbers(await everything(store, principal="bob")) == list(range(29, 0, -2))
    assert numbers(await everything(store, board="b-0", principal="ann")) == [24, 18, 12, 6, 0]
    since, until = begin + timedelta(minutes=5), begin + timedelta(minutes=8)
    assert numbers(await everything(store, since=since, until=until)) == [7, 6, 5]
    assert await everything(store, board="nowhere") == []
    page, seen = await store.audit.query(board="b-0", limit=4), []
    while page.next_page is not None:
        seen.append(numbers(page.records))
        page = await store.audit.query(board="b-0", limit=4, page=page.next_page)
    assert [*seen, numbers(page.records)] == [[27, 24, 21, 18], [15, 12, 9, 6], [3, 0]]


async def test_the_chain_holds_and_goes_on_after_a_restart(place) -> None:
    store = await place.open()
    assert (await store.audit.verify()).broken_at is None
    for _ in range(10):
        store.audit.append(record(place))
    first = await store.audit.verify()
    await store.close()

    store = await place.open()
    store.audit.append(record(place))
    second = await store.audit.verify()

    assert (first.records, first.pruned, first.broken_at) == (10, 0, None)
    assert (second.records, second.pruned, second.broken_at) == (11, 0, None)
    [(kept,)] = await rows(store, "SELECT hash FROM audit WHERE seq = 10")
    assert first.head == kept != second.head


async def rows(store: Store, query: str) -> list[tuple[object, ...]]:
    return await store.audit._reader.read(lambda connection: connection.execute(query).fetchall())


def test_a_hash_covers_the_one_before_and_every_column() -> None:
    row = (1, 0, "ann", "user", "unix", "a", "b", "l", b"w", "ok", "", 0.5, "d")
    changed = [
        (*row[:place], other, *row[place + 1 :])
        for place, other in enumerate(
            (2, 1, "bob", "admin", "tls", "b", "c", "m", b"v", "no", "R", 0.25, "e")
        )
    ]

    hashes = {link(BEGINNING, each) for each in (row, *changed)} | {link(bytes(31) + b"1", row)}

    assert len(hashes) == len(row) + 2
    plain = b'[1,0,"ann","user","unix","a","b","l","77","ok","",0.5,"d"]'
    assert link(BEGINNING, row) == hashlib.sha256(bytes(32) + plain).digest()


@pytest.mark.parametrize(
    ("harm", "at"),
    [
        ("UPDATE audit SET outcome = 'ok' WHERE seq = 5", 5),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", 1),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 20", 20),
        ("DELETE FROM audit WHERE seq = 7", 7),
        ("DELETE FROM audit WHERE seq = 20", 20),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET principal = 'eve' WHERE seq = 12", 12),
        (
            "INSERT INTO audit SELECT 21, at, principal, role, peer, action, board, lease, what, outcome, reason, "
            "seconds, detail, size, hash FROM audit WHERE seq = 20",
            21,
        ),
        ("UPDATE audit_head SET seq = 21", 21),
        ("UPDATE audit_gaps SET hash = zeroblob(32)", 4),
        ("DELETE FROM audit_gaps", 3),
    ],
)
async def test_whatever_is_changed_is_noticed_where_it_was(place, harm: str, at: int) -> None:
    store = await place.open(AuditLimits(age=timedelta(hours=1)))
    for number in range(20):
        # The third is older than the others, as after the host's clock was set, and is pruned.
        moment = place.wall() - timedelta(hours=2) if number == 2 else place.wall()
        store.audit.append(record(place, at=moment, outcome="rejected"))
    store.audit.expire()
    assert (await store.audit.verify()).broken_at is None
    await store.close()
    connection = sqlite3.connect(place.file)
    connection.execute(harm)
    connection.commit()
    connection.close()

    verdict = await (await place.open()).audit.verify()

    assert verdict.broken_at == at


async def test_ones_noise_pushes_out_nobody_elses_records(place) -> None:
    store = await place.open(AuditLimits(records=100))
    for number in range(1000):
        store.audit.append(record(place, "loud", reason=str(number)))
        if number % 100 == 0:
            store.audit.append(record(place, "quiet", reason=str(number)))

    loud, quiet = [await everything(store, principal=name) for name in ("loud", "quiet")]
    verdict = await store.audit.verify()

    assert [each.reason for each in quiet] == [str(number) for number in range(900, -1, -100)]
    assert 90 <= len(loud) <= 100
    assert [each.reason for each in loud] == [str(number) for number in range(999, 999 - len(loud), -1)]
    assert (verdict.records, verdict.pruned, verdict.broken_at) == (len(loud) + 10, 1000 - len(loud), None)
    [(gaps,)] = await rows(store, "SELECT count(*) FROM audit_gaps")
    assert gaps <= 11


async def test_long_records_are_bounded_by_their_bytes_and_texts_are_cut(place) -> None:
    store = await place.open(AuditLimits(bytes=100_000))
    for _ in range(1000):
        store.audit.append(record(place, reason="x" * 5000))

    found = await everything(store)

    assert {len(each.reason) for each in found} == {256}
    assert 150 < len(found) < 100_000 // 400
    [(principal, records, kept)] = await rows(store, "SELECT principal, records, bytes FROM audit_kept")
    assert (principal, records) == ("ann", len(found))
    assert kept <= 100_000
    assert (await store.audit.verify()).broken_at is None


async def test_the_newest_record_of_each_stays_however_small_the_bound(place) -> None:
    store = await place.open(AuditLimits(records=1, bytes=1))
    for name in ("ann", "bob", "ann"):
        store.audit.append(record(place, name))

    assert [(each.seq, each.principal) for each in await everything(store)] == [(3, "ann"), (2, "bob")]
    assert (await store.audit.verify()).broken_at is None


async def test_what_is_too_old_goes_and_the_chain_still_holds(place) -> None:
    store = await place.open(AuditLimits(age=timedelta(days=30)))
    for _ in range(10):
        store.audit.append(record(place))
    place.wall.go(days=29)
    for _ in range(5):
        store.audit.append(record(place))
    place.wall.go(days=2)

    store.audit.expire()

    assert len(await everything(store)) == 5
    verdict = await store.audit.verify()
    assert (verdict.records, verdict.pruned, verdict.broken_at) == (5, 10, None)
    place.wall.go(days=60)
    store.audit.expire()
    assert await everything(store) == []
    verdict = await store.audit.verify()
    assert (verdict.records, verdict.pruned, verdict.broken_at) == (0, 15, None)
    store.audit.append(record(place))
    assert [each.seq for each in await everything(store)] == [16]
    assert (await store.audit.verify()).broken_at is None
    assert await rows(store, "SELECT first, last FROM audit_gaps") == [(1, 15)]


async def test_a_text_that_is_no_unicode_is_kept_with_a_mark(place) -> None:
    store = await place.open()

    store.audit.append(record(place, "a\udc80b", reason="nul \x00 and \U0001f40d"))

    [found] = await everything(store)
    assert (found.principal, found.reason) == ("a?b", "nul \x00 and \U0001f40d")
    assert (await store.audit.verify()).broken_at is None


async def test_a_long_chain_is_followed_in_pieces_while_it_grows_and_is_pruned(place) -> None:
    store = await place.open(AuditLimits(records=7000))
    for number in range(12_000):
        store.audit.append(record(place, ("ann", "bob")[number % 5 == 0]))
        if number % 4000 == 3999:
            assert (await store.audit.verify()).broken_at is None

    verdict = await store.audit.verify()

    assert verdict.broken_at is None
    assert verdict.records + verdict.pruned == 12_000
    assert verdict.records > 5000
