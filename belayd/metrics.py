"""What Prometheus is told: counters fed by events, gauges read at scrape time.

One object a daemon, nothing global. It runs on the loop; `reading` takes
everything at one moment, and that may be rendered in any thread. `board` never
stands on a histogram (STACK.md has the cost), and no board has more than 40
series: kinds of failure beyond the budget are counted as "other". docs/metrics.md
lists every metric; a test compares.

Source of the gRPC names: go-grpc-prometheus, so that its dashboards fit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from belayd import events
from belayd.gauges import Loaded, board_gauges, build_info, certificate_gauge, inventory_gauges
from belayd.snapshot import BoardSnapshot
from belayd.tallies import Spread, Tally

OUTCOMES = ("ok", "board_error", "timeout", "cancelled", "transport_error", "rejected")
# A board has at most 24 series that always fit, and four families whose kinds may end in "other".
MOST_KINDS = 40 - 24 - 4
# There are some 30 methods; a client that invents names must not grow this.
MOST_METHODS = 100
LAG_INTERVAL = 1.0  # seconds; a busy loop shows within a scrape interval at no cost

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
LONG = (0.01, 0.1, 1, 10, 60, 300, 1800, 3600, 14400, 28800)  # up to the longest hold, 8 h
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
GRPC = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # the Go client's defaults


class Metrics:
    """Every number of one daemon; `count` listens to its events.

    Args:
        snapshots: The boards as they are now, called on the loop.
        board_labels: The inventory's labels that belayd_board_info carries.
        certificate_expires: When the server's TLS certificate does; None without TLS.
    """

    def __init__(
        self,
        snapshots: Callable[[], Iterable[BoardSnapshot]],
        board_labels: tuple[str, ...] = (),
        certificate_expires: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._snapshots = snapshots
        self._board_labels = board_labels
        self._certificate_expires = certificate_expires
        self._boards: set[str] = set()
        self._kinds: Counter[str] = Counter()
        self._process = ProcessCollector(registry=None)

        self._state_changes = Tally(
            "belayd_board_state_changes_total", "Changes of the board's state.", ("board",)
        )
        self._boots = Tally("belayd_board_boots_total", "Starts of the board, by cause.", ("board", "cause"))
        self._operations = Tally(
            "belayd_operations_total", "Jobs that ended, by outcome.", ("board", "outcome")
        )
        self._operation_seconds = Tally(
            "belayd_operation_seconds_total", "Time jobs ran on the board.", ("board",)
        )
        self._failures = Tally(
            "belayd_failures_total", "Failures by the error table's reason.", ("board", "reason")
        )
        self._recoveries = Tally(
            "belayd_recoveries_total", "Steps taken to bring the board back.", ("board", "step")
        )
        self._reconnects = Tally(
            "belayd_reconnects_total", "Times the board's port was opened again after a loss.", ("board",)
        )
        self._deployments = Tally(
            "belayd_deployments_total", "Deployments that ended, by outcome.", ("board", "outcome")
        )
        self._deployment_bytes = Tally(
            "belayd_deployment_bytes_total",
            "Bytes of deployments: of files written, on the link, and of files already equal.",
            ("board", "kind"),
        )
        self._leases_ended = Tally("belayd_leases_ended_total", "Leases that ended, by cause.", ("cause",))
        self._operation_duration = Spread(
            "belayd_operation_duration_seconds",
            "Time jobs ran, without their wait.",
            QUICK,
            ("operation", "outcome"),
        )
        self._queue_wait = Spread(
            "belayd_queue_wait_seconds", "Time jobs waited for their board.", QUICK, ("operation",)
        )
        self._lease_wait = Spread(
            "belayd_lease_wait_seconds", "Time from asking for a lease to having it.", LONG
        )
        self._lease_duration = Spread("belayd_lease_duration_seconds", "Time leases were held.", LONG)
        self._deployment_duration = Spread(
            "belayd_deployment_duration_seconds", "Time deployments took.", QUICK, ("outcome",)
        )
        self._auth_failures = Tally(
            "belayd_auth_failures_total", "Callers turned away for what they showed.", ("reason",)
        )
        self._reloads = Tally(
            "belayd_inventory_reloads_total", "Times the inventory was read again, by outcome.", ("outcome",)
        )
        for outcome in ("ok", "failed"):
            self._reloads.add(outcome, by=0)
        self._reloaded = Loaded()
        self._lag = Spread(
            "belayd_event_loop_lag_seconds", "How late the event loop ran a timer of one second.", LAG
        )
        method = ("grpc_type", "grpc_service", "grpc_method")
        self._methods: set[tuple[str, str, str]] = set()
        self._grpc_started = Tally("grpc_server_started_total", "RPCs started on the server.", method)
        self._grpc_handled = Tally(
            "grpc_server_handled_total", "RPCs completed on the server, by code.", (*method, "grpc_code")
        )
        self._grpc_received = Tally(
            "grpc_server_msg_received_total", "Messages received from clients.", method
        )
        self._grpc_sent = Tally("grpc_server_msg_sent_total", "Messages sent to clients.", method)
        self._grpc_seconds = Spread(
            "grpc_server_handling_seconds", "Time from an RPC's start to its status.", GRPC, method
        )
        self._by_board = (
            *(self._state_changes, self._boots, self._operations, self._operation_seconds, self._failures),
            *(self._recoveries, self._reconnects, self._deployments, self._deployment_bytes),
        )
        self._others = (
            *(self._leases_ended, self._operation_duration, self._queue_wait, self._lease_wait),
            *(self._lease_duration, self._deployment_duration, self._lag, self._grpc_started),
            *(self._grpc_handled, self._grpc_received, self._grpc_sent, self._grpc_seconds),
            self._auth_failures,
            self._reloads,
        )

    def count(self, event: events.Event) -> None:
        """Count what happened."""
        match event:
            case events.BoardAdded():
                self._admit(event.board)
            case events.BoardRemoved():
                self._dismiss(event.board)
            case events.BoardChanged():
                if event.previous is not event.state:
                    self._state_changes.add(self._known(event.board))
            case events.OperationEnded():
                self._count_operation(event)
            case events.RecoveryStepTaken():
                self._count_kind(self._recoveries, self._known(event.board), event.step)
            case events.Reconnected():
                self._reconnects.add(self._known(event.board))
            case events.Booted():
                self._count_kind(self._boots, self._known(event.board), event.cause)
            case events.LeaseGranted():
                self._lease_wait.observe(event.waited)
            case events.LeaseEnded():
                self._leases_ended.add(event.cause)
                self._lease_duration.observe(event.held)
            case events.DeploymentEnded():
                self._count_deployment(event)
            case events.LeaseQueueChanged() | events.LeaseWarned():
                pass  # a gauge, read at scrape time
            case events.DeploymentSettled():
                pass  # told to watchers; a series more for each board would be too many
            case _:
                assert_never(event)

    def inventory_loaded(self, at: datetime) -> None:
        """Note that the daemon has read its inventory for the first time."""
        self._reloaded = Loaded(True, at)

    def inventory_reloaded(self, outcome: str, at: datetime) -> None:
        """Count that the inventory was read again: ok or failed."""
        self._reloads.add(outcome)
        self._reloaded = Loaded(outcome == "ok", at if outcome == "ok" else self._reloaded.at)

    def show_labels(self, board_labels: tuple[str, ...]) -> None:
        """Take other labels for belayd_board_info."""
        self._board_labels = board_labels

    def auth_failed(self, reason: str) -> None:
        """Count a caller that was turned away; `entrance` has the reasons."""
        self._auth_failures.add(reason)

    def grpc_started(self, service: str, method: str, kind: str) -> None:
        """Count an RPC's start; `kind` is unary, client_stream, server_stream or bidi_stream."""
        self._grpc_started.add(*self._method(service, method, kind))

    def grpc_handled(self, service: str, method: str, kind: str, code: str, seconds: float) -> None:
        """Count an RPC's end; `code` is the status code's name, such as "NOT_FOUND"."""
        labels = self._method(service, method, kind)
        self._grpc_handled.add(*labels, _go_code(code))
        self._grpc_seconds.observe(seconds, *labels)

    def grpc_received(self, service: str, method: str, kind: str, messages: int = 1) -> None:
        """Count messages from a client."""
        self._grpc_received.add(*self._method(service, method, kind), by=messages)

    def grpc_sent(self, service: str, method: str, kind: str, messages: int = 1) -> None:
        """Count messages to a client."""
        self._grpc_sent.add(*self._method(service, method, kind), by=messages)

    async def watch_loop(self) -> None:
        """Measure how late the loop runs its timers, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))

    def reading(self) -> Reading:
        """Take everything as it is now, for any thread to render."""
        snapshots = tuple(self._snapshots())
        for snapshot in snapshots:
            if snapshot.name not in self._boards:
                self._admit(snapshot.name)
        tallies = tuple(tally.copy() for tally in (*self._by_board, *self._others))
        return Reading(
            snapshots,
            self._board_labels,
            tallies,
            self._process,
            self._certificate_expires(),
            self._reloaded,
        )

    def collect(self) -> Iterator[Metric]:
        """Render on the loop: for a prometheus_client registry of somebody's own."""
        return self.reading().collect()

    def _known(self, board: str) -> str:
        """Return the board's label value: "" for one that does not exist."""
        if board in self._boards or not board:
            return board
        if any(snapshot.name == board for snapshot in self._snapshots()):
            self._admit(board)
            return board
        return ""

    def _admit(self, board: str) -> None:
        # From zero, or the first failure of a board would be no increase.
        self._boards.add(board)
        for outcome in OUTCOMES:
            self._operations.add(board, outcome, by=0)
        for tally in (self._state_changes, self._operation_seconds, self._reconnects):
            tally.add(board, by=0)

    def _dismiss(self, board: str) -> None:
        self._boards.discard(board)
        del self._kinds[board]
        for tally in self._by_board:
            tally.forget(board)

    def _count_operation(self, event: events.OperationEnded) -> None:
        board = self._known(event.board)
        ends = [*event.others, (event.outcome, event.reason, event.count)]
        mean = event.ran / max(1, sum(count for _, _, count in ends))
        self._operation_seconds.add(board, by=event.ran)
        for outcome, reason, count in ends:
            if not count:
                continue
            self._operations.add(board, outcome, by=count)
            if reason:
                self._count_kind(self._failures, board, reason.lower(), count)
            if outcome != "rejected":  # else it neither waited nor ran
                self._operation_duration.observe(mean, event.operation, outcome, times=count)
                self._queue_wait.observe(event.queued, event.operation, times=count)

    def _count_deployment(self, event: events.DeploymentEnded) -> None:
        board = self._known(event.board)
        self._count_kind(self._deployments, board, event.outcome)
        self._deployment_bytes.add(board, "payload", by=event.payload_bytes)
        self._deployment_bytes.add(board, "wire", by=event.wire_bytes)
        self._deployment_bytes.add(board, "skipped", by=event.skipped_bytes)
        self._deployment_duration.observe(event.ran, event.outcome)

    def _count_kind(self, tally: Tally, board: str, kind: str, count: int = 1) -> None:
        """Count within the board's budget of series."""
        if (board, kind) not in tally.values:
            if self._kinds[board] >= MOST_KINDS:
                kind = "other"
            else:
                self._kinds[board] += 1
        tally.add(board, kind, by=count)

    def _method(self, service: str, method: str, kind: str) -> tuple[str, str, str]:
        labels = (kind, service, method)
        if labels not in self._methods:
            if len(self._methods) >= MOST_METHODS:
                return (kind, "other", "other")
            self._methods.add(labels)
        return labels


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything at one moment; shares nothing that changes with the loop."""

    snapshots: tuple[BoardSnapshot, ...]
    board_labels: tuple[str, ...]
    tallies: tuple[Tally | Spread, ...]
    process: ProcessCollector
    certificate_expires: datetime | None
    loaded: Loaded = field(default_factory=Loaded)

    def collect(self) -> Iterator[Metric]:
        """Render for prometheus_client."""
        yield build_info()
        yield from board_gauges(self.snapshots, self.board_labels)
        for tally in self.tallies:
            yield tally.metric()
        yield certificate_gauge(self.certificate_expires)
        yield from inventory_gauges(self.loaded)
        yield from self.process.collect()


def _go_code(code: str) -> str:
    """Spell a status code as Go does, and with it every dashboard: NOT_FOUND is NotFound."""
    if code == "OK":
        return code
    return "Canceled" if code == "CANCELLED" else code.title().replace("_", "")
