"""What becomes an audit record: RPCs as the border tells of them, and what happens without one.

A lease's end is recorded from its event, whoever or whatever ended it, so that each
lease has exactly one; so is a board's quarantine. Callers that are turned away at
the entrance have no name that anybody vouches for: they make one record a minute
and reason, with their number, under a name of its own. Nothing here waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from belayd.access import Principal
from belayd.events import BoardChanged, Event, LeaseEnded
from belayd.snapshot import BoardState
from belayd.store import AuditRecord

BELAYD = "(belayd)"
"""The principal of what happens by itself; no token can be called so."""
NOBODY = "(nobody)"
"""The principal of those who were not let in."""
WINDOW = 60.0
"""Seconds for which callers turned away for one reason share a record."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What an RPC came to.

    Attributes:
        action: The RPC, such as "TaskService/RunTask".
        board, lease: Names; "" where none is concerned.
        what: SHA-256 of the source or files; b"" without any.
        outcome: As the metrics have it; `reason` as the error table has it, else "".
        detail: What else there is to say.
    """

    action: str
    board: str = ""
    lease: str = ""
    what: bytes = b""
    outcome: str = "ok"
    reason: str = ""
    detail: str = ""


class Trail:
    """Makes records of one daemon.

    Args:
        append: Takes a record and does not wait.
        lease: Returns the name of a board's live lease, "" without one.
        wall: The time of day, aware.
        window: Seconds for which callers turned away for one reason share a record.
    """

    def __init__(
        self,
        append: Callable[[AuditRecord], None],
        lease: Callable[[str], str] = lambda board: "",
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        window: float = WINDOW,
    ) -> None:
        self.lease = lease
        self._append = append
        self._wall = wall
        self._window = window
        self._turned_away: dict[str, _Window] = {}

    def did(self, principal: Principal, peer: str, deed: Deed, seconds: float) -> None:
        """Record an RPC that has ended."""
        self._append(
            AuditRecord(
                at=self._wall(),
                principal=principal.name,
                role=principal.role.name.lower(),
                peer=peer,
                action=deed.action,
                board=deed.board,
                lease=deed.lease,
                what=deed.what,
                outcome=deed.outcome,
                reason=deed.reason,
                seconds=seconds,
                detail=deed.detail,
            )
        )

    def happened(self, deed: Deed, principal: str = BELAYD, seconds: float = 0.0) -> None:
        """Record what no RPC did."""
        self._append(
            AuditRecord(
                at=self._wall(),
                principal=principal,
                role="",
                peer="",
                action=deed.action,
                board=deed.board,
                lease=deed.lease,
                what=deed.what,
                outcome=deed.outcome,
                reason=deed.reason,
                seconds=seconds,
                detail=deed.detail,
            )
        )

    def hear(self, event: Event) -> None:
        """Record an event that nobody else records."""
        match event:
            case LeaseEnded(board, cause, held, tenure):
                deed = Deed(f"lease/{cause}", board, tenure.lease, detail=f"{tenure.holder}: {tenure.note}")
                self.happened(deed, tenure.principal or BELAYD, held)
            case BoardChanged(board, previous, BoardState.QUARANTINED, reason) if (
                previous is not BoardState.QUARANTINED
            ):
                self.happened(Deed("board/quarantined", board, self.lease(board), detail=reason))

    def turned_away(self, problem: str) -> None:
        """Record that a caller was not let in; `entrance` has the problems, a fixed few."""
        window = self._turned_away.get(problem)
        if window is not None:
            window.more += 1
            return
        self._record_turned_away(problem, 1)
        self._open(problem)

    def close(self) -> None:
        """Record what is still being counted."""
        for problem, window in self._turned_away.items():
            window.timer.cancel()
            if window.more:
                self._record_turned_away(problem, window.more)
        self._turned_away.clear()

    def _open(self, problem: str) -> None:
        timer = asyncio.get_running_loop().call_later(self._window, self._over, problem)
        self._turned_away[problem] = _Window(timer)

    def _over(self, problem: str) -> None:
        window = self._turned_away.pop(problem)
        if window.more:
            self._record_turned_away(problem, window.more)
            self._open(problem)

    def _record_turned_away(self, problem: str, count: int) -> None:
        times = "once" if count == 1 else f"{count} times"
        deed = Deed("entrance", outcome="rejected", reason="UNAUTHENTICATED", detail=f"{problem}, {times}")
        self.happened(deed, NOBODY)


@dataclass(slots=True)
class _Window:
    """Callers turned away for one reason since the last record of it."""

    timer: asyncio.TimerHandle
    more: int = 0
