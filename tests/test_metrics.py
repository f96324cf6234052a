"""What a scrape says after things have happened, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from belayd import events
from belayd.metrics import Metrics
from belayd.snapshot import BoardSnapshot, BoardState, Facts, LeaseView

DOCUMENTATION = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FACTS = Facts(
    implementation="micropython",
    version="1.29.0",
    platform="rp2",
    machine="Raspberry Pi Pico",
    unique_id="e6614c311b7e6f35",
    modules=frozenset(),
    memory_free_bytes=180_000,
    memory_total_bytes=190_000,
    raw_paste=True,
)
BOARD = BoardSnapshot(
    name="pico-1",
    state=BoardState.READY,
    reason="",
    version=1,
    labels={"rack": "2", "asset-tag": "0012345"},
    transport="usb",
    address="/dev/ttyACM0",
    facts=FACTS,
    lease=None,
    queue_length=0,
    lease_queue_length=0,
    last_seen=NOON,
    received_bytes=300,
    sent_bytes=100,
)
LEASE = LeaseView("leases/1", "pico-1", "ada", "", 1, NOON, NOON, 60.0)
OUTCOMES = ["ok", "board_error", "timeout", "cancelled", "transport_error", "rejected"]


def ended(board: str = "pico-1", outcome: str = "ok", reason: str = "") -> events.OperationEnded:
    return events.OperationEnded(board, "call", outcome, reason, queued=0.25, ran=0.5)


def test_steps_that_shared_a_job_count_one_by_one() -> None:
    metrics = Metrics(lambda: [BOARD])
    others = (("ok", "", 7), ("cancelled", "RUN_CANCELLED", 2))
    metrics.count(
        events.OperationEnded("pico-1", "call", "transport_error", "TRANSPORT_LOST", 0.25, 0.1, 1, others)
    )
    counted = values(metrics, "belayd_operations")
    assert counted["pico-1", "ok"] == 7
    assert counted["pico-1", "cancelled"] == 2
    assert counted["pico-1", "transport_error"] == 1
    assert values(metrics, "belayd_operation_seconds") == {("pico-1",): 0.1}
    assert values(metrics, "belayd_failures") == {
        ("pico-1", "run_cancelled"): 2,
        ("pico-1", "transport_lost"): 1,
    }


def deployed(board: str = "pico-1", outcome: str = "ok") -> events.DeploymentEnded:
    return events.DeploymentEnded(board, outcome, 1000, 400, 50, ran=2.0)


def everything_that_can_happen(board: str) -> Iterable[events.Event]:
    yield events.BoardAdded(board)
    yield events.BoardChanged(board, BoardState.READY, BoardState.BUSY, "")
    yield from (ended(board, outcome) for outcome in OUTCOMES)
    yield from (ended(board, "transport_error", f"REASON_{number}") for number in range(30))
    yield from (
        events.RecoveryStepTaken(board, step)
        for step in ("interrupt", "reenter", "soft_reset", "reopen", "power", "quarantine")
    )
    yield from (events.Booted(board, cause) for cause in ("reset", "unexpected", "power"))
    yield events.Reconnected(board)
    yield from (events.DeploymentSettled(board, outcome) for outcome in ("completed", "undone", "failed"))
    yield from (deployed(board, outcome) for outcome in OUTCOMES)
    yield events.LeaseGranted(board, 0.5)
    yield events.LeaseEnded(board, "released", 90.0)


def scrape(metrics: Metrics) -> dict[str, Metric]:
    text = generate_latest(metrics.reading()).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(metrics: Metrics, family: str, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Return one family's samples by their label values, in the order of the labels' names."""
    found = scrape(metrics)[family].samples
    samples = [sample for sample in found if not suffix or sample.name == family + suffix]
    return {tuple(value for _, value in sorted(s.labels.items())): s.value for s in samples}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: [BOARD])


@pytest.fixture
def full() -> Metrics:
    """Metrics with a sample in every family, and a board with every series it can have."""
    board = replace(BOARD, state=BoardState.QUARANTINED, quarantine="wrong_board", lease=LEASE)
    metrics = Metrics(lambda: [board], certificate_expires=lambda: NOON)
    metrics.auth_failed("expired")
    for event in everything_that_can_happen("pico-1"):
        metrics.count(event)
    metrics.inventory_loaded(NOON)
    metrics.grpc_started("belayd.v1.TaskService", "CallTask", "unary")
    metrics.grpc_handled("belayd.v1.TaskService", "CallTask", "unary", "OK", 0.25)
    metrics.grpc_received("belayd.v1.TaskService", "CallTask", "unary")
    metrics.grpc_sent("belayd.v1.TaskService", "CallTask", "unary")
    return metrics


def test_a_job_that_ended_is_counted_with_its_times(metrics: Metrics) -> None:
    metrics.count(ended())
    metrics.count(ended())

    assert values(metrics, "belayd_operations")["pico-1", "ok"] == 2
    assert values(metrics, "belayd_operation_seconds")["pico-1",] == 1.0
    assert values(metrics, "belayd_operation_duration_seconds", "_sum")["call", "ok"] == 1.0
    assert values(metrics, "belayd_queue_wait_seconds", "_sum")["call",] == 0.5
    assert values(metrics, "belayd_failures") == {}


def test_a_failure_is_counted_by_its_reason_in_lower_case(metrics: Metrics) -> None:
    metrics.count(ended(outcome="timeout", reason="RUN_TIMEOUT"))

    assert values(metrics, "belayd_failures") == {("pico-1", "run_timeout"): 1}


def test_a_rejected_job_is_counted_but_neither_waited_nor_ran(metrics: Metrics) -> None:
    metrics.count(ended(outcome="rejected", reason="BOARD_LEASED"))

    assert values(metrics, "belayd_operations")["pico-1", "rejected"] == 1
    assert values(metrics, "belayd_operation_duration_seconds") == {}
    assert values(metrics, "belayd_queue_wait_seconds") == {}


@pytest.mark.parametrize("name", ["", "no-such-board"], ids=["none", "unknown"])
def test_a_board_that_does_not_exist_has_no_name(metrics: Metrics, name: str) -> None:
    metrics.count(ended(name, "rejected", "BOARD_NOT_FOUND"))

    assert values(metrics, "belayd_failures") == {("", "board_not_found"): 1}
    assert values(metrics, "belayd_operations")["", "rejected"] == 1


def test_a_board_starts_from_zero_before_anything_happened(metrics: Metrics) -> None:
    assert values(metrics, "belayd_operations") == {("pico-1", outcome): 0 for outcome in OUTCOMES}
    assert values(metrics, "belayd_board_state_changes") == {("pico-1",): 0}
    assert values(metrics, "belayd_reconnects") == {("pico-1",): 0}


def test_the_series_of_a_removed_board_go_with_it_and_do_not_come_back() -> None:
    boards = [BOARD, replace(BOARD, name="pico-2")]
    metrics = Metrics(lambda: boards)
    for name in ("pico-1", "pico-2"):
        for event in everything_that_can_happen(name):
            metrics.count(event)

    boards.pop()
    metrics.count(events.BoardRemoved("pico-2"))
    metrics.count(ended("pico-2", "cancelled"))  # its job ends after it has left

    text = generate_latest(metrics.reading()).decode()
    assert 'board="pico-1"' in text
    assert "pico-2" not in text


def test_a_board_that_returns_starts_from_zero(metrics: Metrics) -> None:
    metrics.count(ended())
    metrics.count(events.BoardRemoved("pico-1"))
    metrics.count(events.BoardAdded("pico-1"))

    assert values(metrics, "belayd_operations")["pico-1", "ok"] == 0


def test_only_a_change_of_state_is_a_state_change(metrics: Metrics) -> None:
    metrics.count(events.BoardChanged("pico-1", BoardState.READY, BoardState.READY, ""))
    metrics.count(events.BoardChanged("pico-1", BoardState.READY, BoardState.BUSY, ""))

    assert values(metrics, "belayd_board_state_changes") == {("pico-1",): 1}


def test_recovery_reconnects_and_boots_are_counted(metrics: Metrics) -> None:
    metrics.count(events.RecoveryStepTaken("pico-1", "interrupt"))
    metrics.count(events.Reconnected("pico-1"))
    metrics.count(events.Booted("pico-1", "unexpected"))

    assert values(metrics, "belayd_recoveries") == {("pico-1", "interrupt"): 1}
    assert values(metrics, "belayd_reconnects") == {("pico-1",): 1}
    assert values(metrics, "belayd_board_boots") == {("pico-1", "unexpected"): 1}


def test_leases_are_counted_by_how_they_ended(metrics: Metrics) -> None:
    metrics.count(events.LeaseGranted("pico-1", 0.25))
    metrics.count(events.LeaseEnded("pico-1", "expired", 90.0))

    assert values(metrics, "belayd_lease_wait_seconds", "_sum") == {(): 0.25}
    assert values(metrics, "belayd_lease_duration_seconds", "_sum") == {(): 90.0}
    assert values(metrics, "belayd_leases_ended") == {("expired",): 1}


def test_a_deployment_is_counted_with_its_bytes(metrics: Metrics) -> None:
    metrics.count(deployed())

    assert values(metrics, "belayd_deployments") == {("pico-1", "ok"): 1}
    kinds = {("pico-1", "payload"): 1000, ("pico-1", "wire"): 400, ("pico-1", "skipped"): 50}
    assert values(metrics, "belayd_deployment_bytes") == kinds
    assert values(metrics, "belayd_deployment_duration_seconds", "_count") == {("ok",): 1}


def test_buckets_hold_what_is_at_most_their_bound(metrics: Metrics) -> None:
    for held in (0.01, 0.5, 1.0, 100_000.0):
        metrics.count(events.LeaseEnded("pico-1", "released", held))

    buckets = values(metrics, "belayd_lease_duration_seconds", "_bucket")
    assert {bound: buckets[bound,] for bound in ("0.01", "0.1", "1.0", "28800.0", "+Inf")} == {
        "0.01": 1,
        "0.1": 1,
        "1.0": 3,
        "28800.0": 3,
        "+Inf": 4,
    }


@pytest.mark.parametrize(
    ("state", "up"),
    [
        (BoardState.OFFLINE, [0]),
        (BoardState.CONNECTING, [0]),
        (BoardState.READY, [1]),
        (BoardState.BUSY, [1]),
        (BoardState.RECOVERING, [1]),
        (BoardState.QUARANTINED, [0]),
        (BoardState.DISABLED, []),
    ],
    ids=lambda value: value.value if isinstance(value, BoardState) else "",
)
def test_up_says_present_and_answering_and_a_disabled_board_is_not_judged(
    state: BoardState, up: list[int]
) -> None:
    metrics = Metrics(lambda: [replace(BOARD, state=state)])

    assert list(values(metrics, "belayd_board_up").values()) == up
    assert values(metrics, "belayd_board_state") == {("pico-1", state.value): 1}
    assert {key: value for key, value in values(metrics, "belayd_boards").items() if value} == {
        (state.value,): 1
    }


def test_a_quarantined_board_says_why() -> None:
    metrics = Metrics(lambda: [replace(BOARD, state=BoardState.QUARANTINED, quarantine="wrong_board")])

    assert values(metrics, "belayd_board_quarantined") == {("pico-1", "wrong_board"): 1}


def test_a_board_says_what_it_is_with_the_labels_the_inventory_chose() -> None:
    metrics = Metrics(lambda: [BOARD], board_labels=("rack", "asset-tag", "platform", "missing"))

    (sample,) = scrape(metrics)["belayd_board_info"].samples

    assert sample.labels == {
        "board": "pico-1",
        "transport": "usb",
        "implementation": "micropython",
        "version": "1.29.0",
        "platform": "rp2",  # the board's own, which an inventory's label cannot displace
        "rack": "2",
        "asset_tag": "0012345",
        "missing": "",
    }


def test_gauges_tell_memory_queues_lease_and_bytes() -> None:
    metrics = Metrics(lambda: [replace(BOARD, lease=LEASE, queue_length=3, lease_queue_length=2)])

    assert values(metrics, "belayd_board_last_seen_timestamp_seconds") == {("pico-1",): NOON.timestamp()}
    assert values(metrics, "belayd_board_memory_free_bytes") == {("pico-1",): 180_000}
    assert values(metrics, "belayd_board_memory_total_bytes") == {("pico-1",): 190_000}
    assert values(metrics, "belayd_queue_length") == {("pico-1",): 3}
    assert values(metrics, "belayd_lease_queue_length") == {("pico-1",): 2}
    assert values(metrics, "belayd_lease_held") == {("pico-1",): 1}
    assert values(metrics, "belayd_transport_bytes") == {("pico-1", "received"): 300, ("pico-1", "sent"): 100}


def test_what_a_board_cannot_tell_is_absent() -> None:
    silent = replace(
        BOARD, facts=replace(FACTS, memory_free_bytes=None, memory_total_bytes=None), last_seen=None
    )
    metrics = Metrics(lambda: [silent])

    assert values(metrics, "belayd_board_memory_free_bytes") == {}
    assert values(metrics, "belayd_board_memory_total_bytes") == {}
    assert values(metrics, "belayd_board_last_seen_timestamp_seconds") == {}


def test_what_a_board_says_of_itself_cannot_break_or_flood_a_scrape() -> None:
    hostile = replace(FACTS, implementation='x"} 1\n', version="\ud800\x00", platform="y" * 10_000)
    metrics = Metrics(lambda: [replace(BOARD, facts=hostile)])

    (sample,) = scrape(metrics)["belayd_board_info"].samples

    assert sample.labels["implementation"] == 'x"} 1?'
    assert sample.labels["version"] == "??"
    assert sample.labels["platform"] == "y" * 80


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("OK", "OK"),
        ("NOT_FOUND", "NotFound"),
        ("CANCELLED", "Canceled"),
        ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
    ],
)
def test_grpc_codes_are_spelled_as_dashboards_expect(metrics: Metrics, code: str, label: str) -> None:
    metrics.grpc_handled("belayd.v1.BoardService", "GetBoard", "unary", code, 0.25)

    assert values(metrics, "grpc_server_handled") == {
        (label, "GetBoard", "belayd.v1.BoardService", "unary"): 1
    }
    assert values(metrics, "grpc_server_handling_seconds", "_sum") == {
        ("GetBoard", "belayd.v1.BoardService", "unary"): 0.25
    }


def test_grpc_messages_are_counted_by_method(metrics: Metrics) -> None:
    metrics.grpc_started("belayd.v1.TaskService", "RunTask", "server_stream")
    metrics.grpc_received("belayd.v1.TaskService", "RunTask", "server_stream")
    metrics.grpc_sent("belayd.v1.TaskService", "RunTask", "server_stream", messages=5)

    method = ("RunTask", "belayd.v1.TaskService", "server_stream")
    assert values(metrics, "grpc_server_started") == {method: 1}
    assert values(metrics, "grpc_server_msg_received") == {method: 1}
    assert values(metrics, "grpc_server_msg_sent") == {method: 5}


def test_a_client_that_invents_methods_does_not_grow_the_metrics(metrics: Metrics) -> None:
    for number in range(500):
        metrics.grpc_started("no.Service", f"Method{number}", "unary")

    started = values(metrics, "grpc_server_started")
    assert len(started) == 101
    assert started["other", "other", "unary"] == 400


async def test_the_loop_says_how_late_it_runs_its_timers(metrics: Metrics) -> None:
    loop, overdue = asyncio.get_running_loop(), asyncio.Event()
    watch = asyncio.create_task(metrics.watch_loop())
    await asyncio.sleep(0)  # it has set its timer of one second
    loop.call_later(0.9, time.sleep, 0.6)  # which this makes late
    loop.call_later(1.1, overdue.set)

    await overdue.wait()
    watch.cancel()

    assert values(metrics, "belayd_event_loop_lag_seconds", "_count") == {(): 1}
    assert values(metrics, "belayd_event_loop_lag_seconds", "_sum")[()] > 0.25


def test_no_board_has_more_than_forty_series(full: Metrics) -> None:
    text = generate_latest(full.reading()).decode()

    assert 35 <= text.count('board="pico-1"') <= 40
    assert 'reason="other"' in text


def test_no_histogram_carries_a_board(full: Metrics) -> None:
    histograms = [family for family in scrape(full).values() if family.type == "histogram"]

    assert len(histograms) == 7
    assert [f.name for f in histograms if any("board" in sample.labels for sample in f.samples)] == []


def test_promtool_has_nothing_to_say_about_a_scrape(full: Metrics) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(full.reading()), capture_output=True
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_documentation_lists_exactly_the_metrics_there_are(full: Metrics) -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\w, ]*?) ?\| ", DOCUMENTATION.read_text(), re.MULTILINE)
    documented = {name: (kind, set(filter(None, labels.split(", ")))) for name, kind, labels in rows[1:]}

    families = [family for name, family in scrape(full).items() if not name.startswith("process_")]
    exported = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }
    assert exported == documented


def test_process_metrics_come_along(metrics: Metrics) -> None:
    assert "process_open_fds" in scrape(metrics)
