"""Names, times and snapshots as messages, and bounds of what callers send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from belayd.errors import RequestInvalid
from belayd.snapshot import BoardSnapshot, BoardState, Facts, LeaseView, NoticeView
from belayd.v1 import boards_pb2, leases_pb2

PAGE_SIZE = 500
MOST_PER_PAGE = 1000


def board_name(resource: str, field: str = "board") -> str:
    """Return NAME of "boards/NAME"."""
    return _resource(resource, "boards", field)


def lease_name(resource: str) -> str:
    """Return NAME of "leases/NAME"."""
    return _resource(resource, "leases", "name")


def run_name(resource: str) -> str:
    """Return NAME of "runs/NAME"."""
    return _resource(resource, "runs", "name")


def rollout_name(resource: str) -> str:
    """Return NAME of "rollouts/NAME"."""
    return _resource(resource, "rollouts", "name")


def deployment_name(resource: str) -> str:
    """Return NAME of "deployments/NAME"."""
    return _resource(resource, "deployments", "deployment")


def _resource(resource: str, collection: str, field: str) -> str:
    kind, slash, name = resource.partition("/")
    if kind != collection or not slash or not name:
        raise RequestInvalid(
            f"{field}: {resource!r} is not a name of the form {collection}/NAME", field=field, value=resource
        )
    return name


def seconds(message: Any, field: str, least: float = 0.0, most: float = 365 * 86400.0) -> float | None:
    """Return a request's Duration `field` in seconds, None when it is absent."""
    if not message.HasField(field):
        return None
    duration: Duration = getattr(message, field)
    if abs(duration.nanos) >= 1_000_000_000 or duration.seconds * duration.nanos < 0:
        raise RequestInvalid(f"{field}: its nanos do not fit its seconds", field=field)
    value = duration.seconds + duration.nanos / 1e9
    if not least <= value <= most:
        raise RequestInvalid(f"{field}: {value:g} s is not within {least:g} and {most:g} s", field=field)
    return value


def duration(value: float) -> Duration:
    """Return seconds as a Duration."""
    message = Duration()
    message.FromNanoseconds(int(value * 1e9))
    return message


def timestamp(value: datetime) -> Timestamp:
    """Return an aware time as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(value)
    return message


def time_of_day(message: Timestamp) -> datetime:
    """Return a Timestamp as an aware time; raises ValueError or OverflowError for one that is none."""
    return message.ToDatetime(tzinfo=UTC)


def text(value: str, field: str, most: int) -> str:
    """Return `value` unless it is too long or holds what cannot be shown in one line."""
    if len(value) > most or not value.isprintable():
        raise RequestInvalid(f"{field}: at most {most} printable characters", field=field)
    return value


def page(items: list[Any], keys: list[str], request: Any) -> tuple[list[Any], str]:
    """Return the page of `items` that `request` asks for, and the next page's token.

    `keys` order the items; a token is the last key of the page before, so a page
    stays right when items come and go between two requests.
    """
    if not 0 <= request.page_size <= MOST_PER_PAGE:
        raise RequestInvalid(f"page_size: 0 to {MOST_PER_PAGE}", field="page_size")
    size = request.page_size or PAGE_SIZE
    after = request.page_token
    chosen = [(key, item) for key, item in zip(keys, items, strict=True) if not after or key > after]
    token = chosen[size - 1][0] if len(chosen) > size else ""
    return [item for _, item in chosen[:size]], token


def board(snapshot: BoardSnapshot) -> boards_pb2.Board:
    """Return a snapshot as a message."""
    message = boards_pb2.Board(
        name=f"boards/{snapshot.name}",
        state=STATES[snapshot.state],
        state_reason=snapshot.reason,
        version=snapshot.version,
        labels=dict(snapshot.labels),
        transport=snapshot.transport,
        address=snapshot.address,
        queue_length=snapshot.queue_length,
        lease_queue_length=snapshot.lease_queue_length,
        observers=snapshot.observers,
    )
    if snapshot.facts is not None:
        message.facts.CopyFrom(_facts(snapshot.facts))
    if snapshot.lease is not None:
        message.lease.CopyFrom(_lease_summary(snapshot.lease))
    if snapshot.last_seen is not None:
        message.last_seen_time.CopyFrom(timestamp(snapshot.last_seen))
    return message


def lease(view: LeaseView) -> leases_pb2.Lease:
    """Return a lease as a message."""
    return leases_pb2.Lease(
        name=f"leases/{view.name}",
        board=f"boards/{view.board}",
        holder=view.holder,
        reason=view.reason,
        fence=view.fence,
        acquire_time=timestamp(view.acquired),
        expire_time=timestamp(view.expires),
        ttl=duration(view.ttl),
        notice=_notice(view.notice),
    )


def _notice(view: NoticeView | None) -> leases_pb2.BreakNotice | None:
    if view is None:
        return None
    return leases_pb2.BreakNotice(by=view.by, reason=view.why, end_time=timestamp(view.ends))


def _facts(facts: Facts) -> boards_pb2.BoardFacts:
    return boards_pb2.BoardFacts(
        implementation=facts.implementation,
        version=facts.version,
        platform=facts.platform,
        machine=facts.machine,
        unique_id=facts.unique_id or "",
        memory_free_bytes=facts.memory_free_bytes or 0,
        raw_paste=facts.raw_paste,
        mpy=facts.mpy,
    )


def _lease_summary(view: LeaseView) -> boards_pb2.LeaseSummary:
    return boards_pb2.LeaseSummary(
        holder=view.holder,
        reason=view.reason,
        acquire_time=timestamp(view.acquired),
        expire_time=timestamp(view.expires),
    )


STATES = {
    BoardState.OFFLINE: boards_pb2.BOARD_STATE_OFFLINE,
    BoardState.CONNECTING: boards_pb2.BOARD_STATE_CONNECTING,
    BoardState.READY: boards_pb2.BOARD_STATE_READY,
    BoardState.BUSY: boards_pb2.BOARD_STATE_BUSY,
    BoardState.RECOVERING: boards_pb2.BOARD_STATE_RECOVERING,
    BoardState.QUARANTINED: boards_pb2.BOARD_STATE_QUARANTINED,
    BoardState.DISABLED: boards_pb2.BOARD_STATE_DISABLED,
}
