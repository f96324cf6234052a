"""How the boards are at one moment, as Prometheus gauges; made at scrape time from snapshots.

A series is absent where the board cannot tell, and a DISABLED board is not
judged: it has no belayd_board_up.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from belayd.snapshot import BoardSnapshot, BoardState

FIXED_LABELS = ("board", "transport", "implementation", "version", "platform")
LONGEST_TEXT = 80  # characters; a label is for grouping, the API has the sentence


def build_info() -> Metric:
    """Return belayd_build_info: which daemon this is."""
    labels = {
        "version": version("belayd"),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
    }
    family = GaugeMetricFamily("belayd_build_info", "Which daemon this is; always 1.", labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family


def certificate_gauge(expires: datetime | None) -> Metric:
    """Return when the server's TLS certificate expires; without a sample where there is none."""
    family = _gauge(
        "belayd_tls_certificate_expiry_timestamp_seconds", "When the daemon's TLS certificate expires."
    )
    if expires is not None:
        family.add_metric((), expires.timestamp())
    return family


@dataclass(frozen=True, slots=True)
class Loaded:
    """How reading the inventory went.

    Attributes:
        successful: Whether the last time; None before the first.
        at: When it last did well.
    """

    successful: bool | None = None
    at: datetime | None = None


def inventory_gauges(loaded: Loaded) -> Iterator[Metric]:
    """Yield how reading the inventory went; without samples before the first time."""
    successful = _gauge(
        "belayd_inventory_last_reload_successful", "Whether the inventory could be used when last read."
    )
    if loaded.successful is not None:
        successful.add_metric((), loaded.successful)
    at = _gauge(
        "belayd_inventory_last_reload_success_timestamp_seconds",
        "When the inventory in use was read.",
    )
    if loaded.at is not None:
        at.add_metric((), loaded.at.timestamp())
    yield from (successful, at)


def board_gauges(snapshots: Iterable[BoardSnapshot], board_labels: tuple[str, ...]) -> Iterator[Metric]:
    """Yield every metric that a snapshot answers; `board_labels` join belayd_board_info."""
    extra = {name: label for name in board_labels if (label := _label(name)) not in FIXED_LABELS}
    states: Counter[BoardState] = Counter()
    boards = _gauge("belayd_boards", "Boards of the inventory, by state.", "state")
    info = _board_gauge("info", "What the board is; always 1.", *FIXED_LABELS[1:], *extra.values())
    up = _board_gauge("up", "Whether the board is present and answers; absent while disabled.")
    state = _board_gauge("state", "The board's present state; always 1.", "state")
    quarantined = _board_gauge("quarantined", "Why the board is in quarantine; always 1.", "reason")
    last_seen = _board_gauge("last_seen_timestamp_seconds", "When the board last answered.")
    memory_free = _board_gauge("memory_free_bytes", "Free heap when the board's session started.")
    memory_total = _board_gauge("memory_total_bytes", "Heap of the board.")
    queue = _gauge("belayd_queue_length", "Jobs that wait for the board.", "board")
    held = _gauge("belayd_lease_held", "Whether somebody holds the board's lease.", "board")
    acquirers = _gauge("belayd_lease_queue_length", "Acquirers that wait for the board's lease.", "board")
    traffic = CounterMetricFamily(
        "belayd_transport_bytes_total",
        "Bytes between the daemon and the board.",
        labels=("board", "direction"),
    )

    for one in snapshots:
        board = (one.name,)
        states[one.state] += 1
        facts = one.facts
        said = (facts.implementation, facts.version, facts.platform) if facts else ("", "", "")
        listed = (one.labels.get(name, "") for name in extra)
        info.add_metric((one.name, one.transport, *map(_text, (*said, *listed))), 1)
        state.add_metric((one.name, one.state.value), 1)
        if one.state is not BoardState.DISABLED:
            up.add_metric(board, one.state.up)
        if one.state is BoardState.QUARANTINED:
            quarantined.add_metric((one.name, one.quarantine), 1)
        if one.last_seen:
            last_seen.add_metric(board, one.last_seen.timestamp())
        if facts and facts.memory_free_bytes is not None:
            memory_free.add_metric(board, facts.memory_free_bytes)
        if facts and facts.memory_total_bytes is not None:
            memory_total.add_metric(board, facts.memory_total_bytes)
        queue.add_metric(board, one.queue_length)
        held.add_metric(board, one.lease is not None)
        acquirers.add_metric(board, one.lease_queue_length)
        traffic.add_metric((one.name, "received"), one.received_bytes)
        traffic.add_metric((one.name, "sent"), one.sent_bytes)
    for each in BoardState:
        boards.add_metric((each.value,), states[each])

    yield from (boards, info, up, state, quarantined, last_seen, memory_free, memory_total)
    yield from (queue, held, acquirers, traffic)


def _gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=labels)


def _board_gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return _gauge(f"belayd_board_{name}", documentation, "board", *labels)


def _label(name: str) -> str:
    """Return a name Prometheus takes as a label's: other characters become _."""
    return re.sub(r"^(?=\d)|[^a-zA-Z0-9_]", "_", name)


def _text(value: str) -> str:
    """Return text that a board or a person gave, short, and of characters that every reader takes."""
    value = value[:LONGEST_TEXT]
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
