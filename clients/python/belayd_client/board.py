"""What a daemon tells of its boards and leases, as plain frozen values.

Names are bare here ("pico-1"), while the API's are "boards/pico-1".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from belayd.v1 import boards_pb2, daemon_pb2, leases_pb2
from belayd_client.times import to_datetime, to_seconds


class BoardState(enum.Enum):
    """What a board is doing."""

    UNKNOWN = "unknown"
    OFFLINE = "offline"
    CONNECTING = "connecting"
    READY = "ready"
    BUSY = "busy"
    RECOVERING = "recovering"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What a board said of itself; a text is empty and memory 0 where it cannot tell.

    `mpy` is its sys.implementation._mpy, which tells what .mpy files it takes; 0 for none.
    """

    implementation: str
    version: str
    platform: str
    machine: str
    unique_id: str
    memory_free_bytes: int
    raw_paste: bool
    mpy: int = 0


@dataclass(frozen=True, slots=True)
class LeaseSummary:
    """What everybody may know of a board's lease."""

    holder: str
    reason: str
    since: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Board:
    """One board of the inventory as it was a moment ago.

    `facts` is None until the board first answered, `lease` when nobody holds it,
    `last_seen` if it never answered; `observers` watch its console. The running job is not in `queue_length`.
    """

    name: str
    state: BoardState
    state_reason: str
    version: int
    labels: Mapping[str, str]
    transport: str
    address: str
    facts: BoardFacts | None
    lease: LeaseSummary | None
    queue_length: int
    lease_queue_length: int
    last_seen: datetime | None
    observers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardsChange:
    """Boards that changed, in their latest state, and the names of those that left."""

    boards: tuple[Board, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BreakNotice:
    """An operator's word that a lease will end."""

    by: str
    reason: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One live lease as anybody may see it; `ttl` is in seconds."""

    name: str
    board: str
    holder: str
    reason: str
    fence: int
    since: datetime
    expires: datetime
    ttl: float
    notice: BreakNotice | None = None


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """How far a daemon's draining is: by whom, why, since when, and what still goes on."""

    principal: str
    reason: str
    since: datetime
    leases: int
    boards_at_work: int


@dataclass(frozen=True, slots=True)
class Daemon:
    """What a daemon is, and who the caller is to it; `drain` is None unless it drains."""

    version: str
    host: str
    started: datetime
    metrics_address: str
    boards: int
    principal: str
    role: str
    drain: DrainStatus | None = None


def resource(name: str) -> str:
    """Return a board's name as the API writes it; takes both spellings."""
    return f"boards/{name.removeprefix('boards/')}"


def bare(name: str) -> str:
    """Return a board's name without the API's prefix."""
    return name.removeprefix("boards/")


def to_board(message: boards_pb2.Board) -> Board:
    """Return what a message tells."""
    return Board(
        name=bare(message.name),
        state=_state(message.state),
        state_reason=message.state_reason,
        version=message.version,
        labels=dict(sorted(message.labels.items())),
        transport=message.transport,
        address=message.address,
        facts=_facts(message.facts) if message.HasField("facts") else None,
        lease=_lease_summary(message.lease) if message.HasField("lease") else None,
        queue_length=message.queue_length,
        lease_queue_length=message.lease_queue_length,
        last_seen=to_datetime(message.last_seen_time) if message.HasField("last_seen_time") else None,
        observers=tuple(message.observers),
    )


def to_lease_record(message: leases_pb2.Lease) -> LeaseRecord:
    """Return what a message tells."""
    return LeaseRecord(
        name=message.name,
        board=bare(message.board),
        holder=message.holder,
        reason=message.reason,
        fence=message.fence,
        since=to_datetime(message.acquire_time),
        expires=to_datetime(message.expire_time),
        ttl=to_seconds(message.ttl),
        notice=BreakNotice(message.notice.by, message.notice.reason, to_datetime(message.notice.end_time))
        if message.HasField("notice")
        else None,
    )


def to_daemon(message: daemon_pb2.GetDaemonResponse) -> Daemon:
    """Return what a message tells."""
    return Daemon(
        version=message.version,
        host=message.host,
        started=to_datetime(message.start_time),
        metrics_address=message.metrics_address,
        boards=message.boards,
        principal=message.principal,
        role=message.role,
        drain=to_drain(message.drain) if message.HasField("drain") else None,
    )


def to_drain(message: daemon_pb2.DrainStatus) -> DrainStatus:
    """Return what a message tells."""
    return DrainStatus(
        principal=message.principal,
        reason=message.reason,
        since=to_datetime(message.start_time),
        leases=message.leases,
        boards_at_work=message.boards_at_work,
    )


def _state(number: boards_pb2.BoardState.ValueType) -> BoardState:
    """Return a state; one of a newer daemon is UNKNOWN."""
    try:
        name = boards_pb2.BoardState.Name(number).removeprefix("BOARD_STATE_")
    except ValueError:
        return BoardState.UNKNOWN
    return BoardState.__members__.get(name, BoardState.UNKNOWN)


def _facts(message: boards_pb2.BoardFacts) -> BoardFacts:
    return BoardFacts(
        implementation=message.implementation,
        version=message.version,
        platform=message.platform,
        machine=message.machine,
        unique_id=message.unique_id,
        memory_free_bytes=message.memory_free_bytes,
        raw_paste=message.raw_paste,
        mpy=message.mpy,
    )


def _lease_summary(message: boards_pb2.LeaseSummary) -> LeaseSummary:
    return LeaseSummary(
        holder=message.holder,
        reason=message.reason,
        since=to_datetime(message.acquire_time),
        expires=to_datetime(message.expire_time),
    )
