"""How a board is, as frozen values that anybody may keep.

The board's own task makes them; RPCs, metrics and watchers read them. Nothing
here refers back to a live object.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


class BoardState(enum.Enum):
    """What a board is doing; the values are the metric's label."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    READY = "ready"
    BUSY = "busy"
    RECOVERING = "recovering"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"

    @property
    def up(self) -> bool:
        """Present and answering."""
        return self in (BoardState.READY, BoardState.BUSY, BoardState.RECOVERING)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a board said of itself when its session started.

    Attributes:
        unique_id: Hexadecimal, None where the board cannot tell.
        modules: Of those belayd can use, the ones the board has; "sys.stdout" where there is one,
            "sys.stdin" where it gives bytes, "belayd.staging" where a deployment broke off, and
            the words of onboard/circuitpython.py.
        memory_free_bytes: Of its heap, None where it cannot tell.
        raw_paste: Whether raw-paste mode works.
        mpy: sys.implementation._mpy: which .mpy files it takes; 0 for none.
        clear: Whether every byte the board sends arrives as it is.
    """

    implementation: str
    version: str
    platform: str
    machine: str
    unique_id: str | None
    modules: frozenset[str]
    memory_free_bytes: int | None
    memory_total_bytes: int | None
    raw_paste: bool
    clear: bool = False
    mpy: int = 0

    @property
    def read_only(self) -> bool:
        """Whether the board's own code could not write its files then; ejecting a USB drive changes it."""
        return "storage.readonly" in self.modules


def facts_from(told: object, raw_paste: bool, clear: bool = False) -> Facts | None:
    """Return what onboard/facts.py told, or None where it makes no sense."""
    match told:
        case (
            str(name),
            tuple(version),
            str(platform),
            machine,
            bytes() | None as unique_id,
            int() | None as free,
            int() | None as allocated,
            list(modules),
            int(mpy),
        ):
            return Facts(
                implementation=name,
                version=".".join(str(part) for part in version if part != ""),
                platform=platform,
                machine=str(machine or ""),
                unique_id=unique_id.hex() if unique_id else None,
                modules=frozenset(str(module) for module in modules),
                memory_free_bytes=free,
                memory_total_bytes=free + allocated if free is not None and allocated is not None else None,
                raw_paste=raw_paste,
                clear=clear,
                mpy=mpy,
            )
    return None


@dataclass(frozen=True, slots=True)
class NoticeView:
    """Who will end a lease against its holder's will, why, and when."""

    by: str
    why: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class LeaseView:
    """What everybody may know of a lease: no secret."""

    name: str
    board: str
    holder: str
    reason: str
    fence: int
    acquired: datetime
    expires: datetime
    ttl: float
    notice: NoticeView | None = None


@dataclass(frozen=True, slots=True)
class Disabled:
    """Who took a board out of service, why, and since when; its text goes on from "disabled"."""

    by: str
    why: str
    since: datetime

    def __str__(self) -> str:
        return f"by {self.by} since {self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {self.why}"


@dataclass(frozen=True, slots=True)
class BoardSnapshot:
    """One board at one moment.

    Attributes:
        reason: Why it is OFFLINE, QUARANTINED or DISABLED, or will soon be; "" otherwise.
        version: Grows with each change; restarts with the daemon.
        transport: The kind of link: usb, serial, webrepl, tcp, simulated.
        address: Where it is, "" while not present.
        facts: None until the board first answered.
        queue_length: Jobs that wait, the running one not counted.
        lease_queue_length: Acquirers that wait.
        observers: Who watches its console.
        quarantine: What keeps it in quarantine, in a word such as "flapping"; "" elsewhere.
    """

    name: str
    state: BoardState
    reason: str
    version: int
    labels: Mapping[str, str]
    transport: str
    address: str
    facts: Facts | None
    lease: LeaseView | None
    queue_length: int
    lease_queue_length: int
    last_seen: datetime | None
    received_bytes: int
    sent_bytes: int
    observers: tuple[str, ...] = ()
    quarantine: str = ""
