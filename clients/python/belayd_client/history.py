"""What was done on a daemon, and what happens: its audit trail and its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from belayd.v1 import boards_pb2, daemon_pb2, daemon_pb2_grpc, events_pb2
from belayd_client.board import bare, resource
from belayd_client.boards import READ_TIMEOUT
from belayd_client.link import Link
from belayd_client.times import to_datetime, to_seconds

_VERIFY_TIMEOUT = 600.0  # some 10 s for a million records, on a fast host
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that somebody did, or that happened by itself; texts are empty where there is nothing to say.

    Attributes:
        number: In the daemon's chain, from 1.
        time: When it ended.
        principal: Who, as authenticated; "(belayd)" for the daemon itself, "(nobody)" for
            whoever was not let in.
        role, peer: What they may do, and where they came from: unix, loopback, tls or open.
        action: The RPC, such as "TaskService/RunTask", or such as "lease/expired".
        content_sha256: Of the source that ran or the manifest that was deployed, in hexadecimal.
        outcome: ok, board_error, timeout, cancelled, transport_error or rejected.
        reason: The error's, such as BOARD_LEASED.
        took: Seconds; of a lease's end how long it was held.
    """

    number: int
    time: datetime
    principal: str
    role: str
    peer: str
    action: str
    board: str
    lease: str
    content_sha256: str
    outcome: str
    reason: str
    took: float
    detail: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether a daemon's audit records are whole.

    Attributes:
        intact: Nothing was changed, added or taken out.
        last_number: The number up to which that holds.
        records: How many were looked at.
        pruned: How many are gone by the rules: too old, or too many of one principal.
        head_sha256: The hash after the last that fits; a copy elsewhere proves later what was there.
        lost: How many could not be written since the daemon's start.
    """

    intact: bool
    last_number: int
    records: int
    pruned: int
    head_sha256: str
    lost: int


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: Such as "state_changed" or "lease_stopped"; the API's Event lists them.
        fields: What it tells: texts, numbers, seconds for durations.
        dropped: How many were lost just before it, as the caller read too slowly.
    """

    time: datetime
    board: str
    kind: str
    fields: Mapping[str, object]
    dropped: int = 0


class History:
    """The part of a client that looks back."""

    _link: Link

    def audit(
        self,
        board: str | None = None,
        *,
        principal: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEvent]:
        """Yield audit records, newest first; for operators.

        Args:
            board: Only of this one, though it may have left the inventory.
            principal: Only of this one.
            since: The earliest, aware; `until`: the first that is too late.
        """
        request = daemon_pb2.ListAuditEventsRequest(
            board=resource(board) if board else "",
            principal=principal or "",
            page_size=_PAGE,
            since=_timestamp(since),
            until=_timestamp(until),
        )
        while True:
            with self._link.calling():
                page = self._link.stub(daemon_pb2_grpc.DaemonServiceStub).ListAuditEvents(
                    request, timeout=READ_TIMEOUT, metadata=self._link.metadata
                )
            yield from map(_audit_event, page.audit_events)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def verify_audit(self) -> AuditVerdict:
        """Let the daemon follow the chain of all its audit records; for operators."""
        with self._link.calling():
            told = self._link.stub(daemon_pb2_grpc.DaemonServiceStub).VerifyAudit(
                daemon_pb2.VerifyAuditRequest(), timeout=_VERIFY_TIMEOUT, metadata=self._link.metadata
            )
        return AuditVerdict(
            intact=told.intact,
            last_number=told.last_number,
            records=told.records,
            pruned=told.pruned,
            head_sha256=told.head_sha256.hex(),
            lost=told.lost,
        )

    def events(
        self,
        board: str | None = None,
        *,
        operations: bool = False,
        recent: int = 0,
        follow: bool = True,
    ) -> Iterator[Event]:
        """Yield what happens, until closed or the daemon ends.

        Args:
            board: Only to this one.
            operations: Each call and run too.
            recent: How many of the last to begin with, at most 1000.
            follow: Whether to go on after those.
        """
        request = daemon_pb2.WatchEventsRequest(
            board=resource(board) if board else "",
            operations=operations,
            recent=recent,
            recent_only=not follow,
        )
        with self._link.calling():
            call = self._link.stub(daemon_pb2_grpc.DaemonServiceStub).WatchEvents(
                request, metadata=self._link.metadata
            )
            dropped = 0
            try:
                for response in call:
                    dropped += response.dropped
                    for message in response.events:
                        yield _event(message, dropped)
                        dropped = 0
            finally:
                call.cancel()


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def _audit_event(message: daemon_pb2.AuditEvent) -> AuditEvent:
    return AuditEvent(
        number=message.number,
        time=to_datetime(message.time),
        principal=message.principal,
        role=message.role,
        peer=message.peer,
        action=message.action,
        board=bare(message.board),
        lease=message.lease.removeprefix("leases/"),
        content_sha256=message.content_sha256.hex(),
        outcome=message.outcome,
        reason=message.reason,
        took=to_seconds(message.took),
        detail=message.detail,
    )


def _event(message: events_pb2.Event, dropped: int) -> Event:
    kind = message.WhichOneof("kind")
    fields = _fields(getattr(message, kind)) if kind else {}
    return Event(to_datetime(message.time), bare(message.board), kind or "unknown", fields, dropped)


def _fields(message: Any) -> dict[str, object]:
    """Return a message's fields by name; those of a newer daemon too, once the API has them."""
    return {field.name: _plain(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _plain(field: Any, value: Any) -> object:
    if isinstance(value, Duration):
        return to_seconds(value)
    if field.enum_type is not None:
        name = field.enum_type.values_by_number.get(value)
        return name.name.removeprefix(_STATE).lower() if name else str(value)
    if isinstance(value, str):
        return value.removeprefix("leases/") if field.name == "lease" else value
    if field.message_type is not None:
        return [_fields(item) for item in value]
    return value


_STATE = boards_pb2.BoardState.Name(boards_pb2.BOARD_STATE_UNSPECIFIED).removesuffix("UNSPECIFIED")
