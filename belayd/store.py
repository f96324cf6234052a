"""What survives a restart of the daemon: the seam, and a store that keeps nothing.

Times are aware UTC datetimes: the clock that counts a lease's seconds starts anew
with the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from belayd.snapshot import LeaseView


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A live lease as it is stored: what everybody may see, whose it is, and its token's hash."""

    view: LeaseView
    principal: str
    token_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredLeases:
    """What was stored: the live leases, and each board's highest fence, both by board."""

    leases: Mapping[str, LeaseRecord] = field(default_factory=dict)
    fences: Mapping[str, int] = field(default_factory=dict)


class LeaseStore(Protocol):
    """Keeps leases; called on the loop, so none of it may block."""

    def load(self) -> StoredLeases:
        """Return what is stored; called once, before anything else."""

    def save(self, record: LeaseRecord) -> None:
        """Keep a lease in place of what its board had; its fence is its board's highest."""

    def remove(self, board: str) -> None:
        """Forget a board's lease but not its fence; does nothing if it has none."""


class MemoryStore:
    """A LeaseStore that lives as long as the process."""

    def __init__(self) -> None:
        self._leases: dict[str, LeaseRecord] = {}
        self._fences: dict[str, int] = {}

    def load(self) -> StoredLeases:
        """Return what is stored."""
        return StoredLeases(dict(self._leases), dict(self._fences))

    def save(self, record: LeaseRecord) -> None:
        """Keep a lease in place of what its board had."""
        self._leases[record.view.board] = record
        self._fences[record.view.board] = record.view.fence

    def remove(self, board: str) -> None:
        """Forget a board's lease but not its fence."""
        self._leases.pop(board, None)
