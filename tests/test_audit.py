from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from belayd.access import Principal, Role
from belayd.audit import Deed, Trail
from belayd.events import BoardChanged, LeaseEnded, Reconnected, Tenure
from belayd.snapshot import BoardState
from belayd.store import AuditLimits, AuditRecord, Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = 30.0
ANN = Principal("ann", Role.OPERATOR)


class Records:
    """Takes records, and lets wait for them."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[AuditRecord] = asyncio.Queue()
        self.all: list[AuditRecord] = []

    def append(self, record: AuditRecord) -> None:
        self.all.append(record)
        self.taken.put_nowait(record)

    async def next(self) -> AuditRecord:
        async with asyncio.timeout(PATIENCE):
            return await self.taken.get()


def test_an_rpc_is_recorded_with_who_came_from_where() -> None:
    records = Records()
    trail = Trail(records.append, wall=lambda: NOW)

    trail.did(
        ANN, "tls", Deed("TaskService/RunTask", "pico-1", "l1", b"h", "timeout", "RUN_TIMEOUT", "d"), 2.5
    )

    expected = AuditRecord(
        at=NOW,
        principal="ann",
        role="operator",
        peer="tls",
        action="TaskService/RunTask",
        board="pico-1",
        lease="l1",
        what=b"h",
        outcome="timeout",
        reason="RUN_TIMEOUT",
        seconds=2.5,
        detail="d",
    )
    assert records.all == [expected]


def test_a_leases_end_is_recorded_under_who_had_it() -> None:
    records = Records()
    trail = Trail(records.append, wall=lambda: NOW)

    trail.hear(LeaseEnded("pico-1", "idle", 90.0, Tenure("l1", "ann", "ann@desk", "ended after 60 s")))

    [record] = records.all
    assert (record.principal, record.action, record.board, record.lease) == (
        "ann",
        "lease/idle",
        "pico-1",
        "l1",
    )
    assert record.seconds == 90.0
    assert record.detail == "ann@desk: ended after 60 s"


def test_a_quarantine_is_recorded_once() -> None:
    records = Records()
    trail = Trail(records.append, lambda board: f"lease of {board}", lambda: NOW)

    trail.hear(BoardChanged("pico-1", BoardState.READY, BoardState.BUSY, ""))
    trail.hear(BoardChanged("pico-1", BoardState.BUSY, BoardState.QUARANTINED, "it does not answer"))
    trail.hear(BoardChanged("pico-1", BoardState.QUARANTINED, BoardState.QUARANTINED, "still"))
    trail.hear(Reconnected("pico-1"))

    [record] = records.all
    assert (record.principal, record.action) == ("(belayd)", "board/quarantined")
    assert (record.lease, record.detail) == ("lease of pico-1", "it does not answer")


async def test_callers_turned_away_make_one_record_a_window_and_reason() -> None:
    records = Records()
    trail = Trail(records.append, window=0.05)

    for _ in range(1000):
        trail.turned_away("unknown")
    trail.turned_away("expired")
    first, other, later = [await records.next() for _ in range(3)]

    assert (first.principal, first.reason) == ("(nobody)", "UNAUTHENTICATED")
    assert first.detail == "unknown, once"
    assert other.detail == "expired, once"
    assert later.detail == "unknown, 999 times"
    trail.close()


async def test_who_was_turned_away_last_is_recorded_at_the_end() -> None:
    records = Records()
    trail = Trail(records.append, window=PATIENCE)
    for _ in range(3):
        trail.turned_away("revoked")

    trail.close()

    assert [record.detail for record in records.all] == ["revoked, once", "revoked, 2 times"]


async def test_ten_thousand_refused_calls_push_out_nobody_elses_records(tmp_path: Path) -> None:
    store = await Store.open(tmp_path, audit=AuditLimits(records=1000))
    trail = Trail(store.audit.append)
    refused = Deed("TaskService/RunTask", "pico-1", outcome="rejected", reason="BOARD_LEASED")
    try:
        trail.did(ANN, "tls", Deed("LeaseService/BreakLease", "pico-1", detail="the lab closes"), 0.001)
        for _ in range(10_000):
            trail.did(Principal("eve", Role.USER), "tls", refused, 0.001)
        trail.did(ANN, "tls", Deed("BoardService/ResetBoard", "pico-1"), 0.001)

        anns = await store.audit.query(principal="ann")
        eves = await store.audit.query(principal="eve", limit=1000)
        verdict = await store.audit.verify()
    finally:
        await store.close()

    assert [record.seq for record in anns.records] == [10_002, 1]
    assert len(eves.records) <= 1000
    assert eves.records[0].seq == 10_001
    assert store.audit.lost == 0
    assert verdict.broken_at is None
    assert verdict.records + verdict.pruned == 10_002
