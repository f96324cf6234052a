"""The part of DaemonService that looks back: the audit trail, and what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never

from belayd import events
from belayd.chronicle import MOST_KEPT, Chronicle, Happening
from belayd.errors import RequestInvalid
from belayd.rpc import convert
from belayd.rpc.sight import Sight
from belayd.store import Audit, AuditRecord
from belayd.v1 import daemon_pb2, daemon_pb2_grpc, events_pb2

MOST_EVENTS = 200
"""In one message."""
GATHER = 0.02
"""Seconds for which events gather, so that a busy daemon costs few messages."""
_MOST_NUMBER = 1 << 62  # SQLite counts in 64 bits, signed


class History(daemon_pb2_grpc.DaemonServiceServicer):
    """Tells what was done and what happens."""

    def __init__(self, sight: Sight, audit: Audit, chronicle: Chronicle) -> None:
        self._sight = sight
        self._audit = audit
        self._chronicle = chronicle

    async def ListAuditEvents(
        self, request: daemon_pb2.ListAuditEventsRequest, context: Any
    ) -> daemon_pb2.ListAuditEventsResponse:
        """See the proto."""
        if request.page_size > convert.MOST_PER_PAGE:
            raise RequestInvalid(f"page_size: 0 to {convert.MOST_PER_PAGE}", field="page_size")
        page = await self._audit.query(
            board=convert.board_name(request.board) if request.board else None,
            principal=request.principal or None,
            since=_time(request, "since"),
            until=_time(request, "until"),
            limit=request.page_size or convert.PAGE_SIZE,
            page=_page(request.page_token),
        )
        # Records of no board are of interest to who sees all, as those of one that is gone.
        shown = [record for record in page.records if self._sight.shows(record.board)]
        return daemon_pb2.ListAuditEventsResponse(
            audit_events=[_audit_event(record) for record in shown],
            next_page_token="" if page.next_page is None else str(page.next_page),
        )

    async def VerifyAudit(
        self, request: daemon_pb2.VerifyAuditRequest, context: Any
    ) -> daemon_pb2.VerifyAuditResponse:
        """See the proto."""
        verdict = await self._audit.verify()
        return daemon_pb2.VerifyAuditResponse(
            intact=verdict.broken_at is None,
            last_number=verdict.records + verdict.pruned,
            records=verdict.records,
            pruned=verdict.pruned,
            head_sha256=verdict.head,
            lost=self._audit.lost,
        )

    async def WatchEvents(self, request: daemon_pb2.WatchEventsRequest, context: Any) -> None:
        """See the proto."""
        if request.recent > MOST_KEPT:
            raise RequestInvalid(f"recent: at most {MOST_KEPT}", field="recent")
        board = convert.board_name(request.board) if request.board else ""
        if board:
            self._sight.board(board)
        recent = self._shown(self._chronicle.recent(board)) if request.recent else []
        watcher = self._chronicle.watch(board, operations=request.operations)
        try:
            # Without any, too: whoever waits for this misses nothing that happens after.
            await self._send(context, recent[-request.recent :], 0)
            while not request.recent_only:
                happenings, dropped = await watcher.read()
                shown = self._shown(happenings)
                if shown or dropped:
                    await self._send(context, shown, dropped)
                await asyncio.sleep(GATHER)
        finally:
            watcher.close()

    def _shown(self, happenings: Sequence[Happening]) -> list[Happening]:
        return [happening for happening in happenings if self._sight.shows(happening.event.board)]

    async def _send(self, context: Any, happenings: Sequence[Happening], dropped: int) -> None:
        for first in range(0, max(1, len(happenings)), MOST_EVENTS):
            messages = [_event(happening) for happening in happenings[first : first + MOST_EVENTS]]
            await context.write(
                daemon_pb2.WatchEventsResponse(
                    events=[message for message in messages if message is not None], dropped=dropped
                )
            )
            dropped = 0


def _time(request: daemon_pb2.ListAuditEventsRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    try:
        return convert.time_of_day(getattr(request, field))
    except (ValueError, OverflowError):
        raise RequestInvalid(f"{field}: not a time between the years 1 and 9999", field=field) from None


def _page(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdecimal() and len(token) < 20 and int(token) <= _MOST_NUMBER):
        raise RequestInvalid("page_token: none that this daemon gave", field="page_token")
    return int(token)


def _audit_event(record: AuditRecord) -> daemon_pb2.AuditEvent:
    return daemon_pb2.AuditEvent(
        number=record.seq,
        time=convert.timestamp(record.at),
        principal=record.principal,
        role=record.role,
        peer=record.peer,
        action=record.action,
        board=f"boards/{record.board}" if record.board else "",
        lease=f"leases/{record.lease}" if record.lease else "",
        content_sha256=record.what,
        outcome=record.outcome,
        reason=record.reason,
        took=convert.duration(record.seconds),
        detail=record.detail,
    )


def _event(happening: Happening) -> events_pb2.Event | None:
    """Return what happened as a message; None for what watchers are not told."""
    event = happening.event
    message = events_pb2.Event(time=convert.timestamp(happening.at), board=f"boards/{event.board}")
    match event:
        case events.BoardChanged():
            message.state_changed.previous = convert.STATES[event.previous]
            message.state_changed.state = convert.STATES[event.state]
            message.state_changed.reason = event.reason
        case events.BoardAdded():
            message.board_added.SetInParent()
        case events.BoardRemoved():
            message.board_removed.SetInParent()
        case events.OperationEnded():
            message.operations_ended.CopyFrom(_operations(event))
        case events.RecoveryStepTaken():
            message.recovery_taken.step = event.step
        case events.Reconnected():
            message.board_reconnected.SetInParent()
        case events.Booted():
            message.board_booted.cause = event.cause
        case events.LeaseGranted():
            message.lease_started.CopyFrom(_started(event))
        case events.LeaseEnded():
            message.lease_stopped.CopyFrom(_stopped(event))
        case events.LeaseWarned(_, tenure):
            message.lease_warned.lease = f"leases/{tenure.lease}"
            message.lease_warned.principal = tenure.principal
            message.lease_warned.holder = tenure.holder
            message.lease_warned.note = tenure.note
        case events.DeploymentEnded():
            message.deployment_ended.CopyFrom(_deployment(event))
        case events.DeploymentSettled():
            message.deployment_settled.outcome = event.outcome
        case events.LeaseQueueChanged():
            return None
        case _:
            assert_never(event)
    return message


def _operations(event: events.OperationEnded) -> events_pb2.OperationsEnded:
    ends = (*event.others, (event.outcome, event.reason, event.count))
    return events_pb2.OperationsEnded(
        operation=event.operation,
        queued=convert.duration(event.queued),
        ran=convert.duration(event.ran),
        outcomes=[
            events_pb2.OutcomeCount(outcome=outcome, reason=reason, count=count)
            for outcome, reason, count in ends
            if count
        ],
    )


def _started(event: events.LeaseGranted) -> events_pb2.LeaseStarted:
    return events_pb2.LeaseStarted(
        lease=f"leases/{event.tenure.lease}",
        principal=event.tenure.principal,
        holder=event.tenure.holder,
        reason=event.tenure.note,
        waited=convert.duration(event.waited),
    )


def _stopped(event: events.LeaseEnded) -> events_pb2.LeaseStopped:
    return events_pb2.LeaseStopped(
        lease=f"leases/{event.tenure.lease}",
        principal=event.tenure.principal,
        holder=event.tenure.holder,
        cause=event.cause,
        note=event.tenure.note,
        held=convert.duration(event.held),
    )


def _deployment(event: events.DeploymentEnded) -> events_pb2.DeploymentEnded:
    return events_pb2.DeploymentEnded(
        outcome=event.outcome,
        payload_bytes=event.payload_bytes,
        wire_bytes=event.wire_bytes,
        skipped_bytes=event.skipped_bytes,
        ran=convert.duration(event.ran),
    )
