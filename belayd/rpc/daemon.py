"""DaemonService: what the daemon is, who the caller is to it, and its upkeep."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from belayd import access
from belayd.chronicle import Chronicle
from belayd.difference import Change, Kind
from belayd.draining import Drain
from belayd.events import Events
from belayd.reload import Reload
from belayd.rpc import auth, convert
from belayd.rpc.history import History
from belayd.rpc.sight import Sight
from belayd.store import Audit
from belayd.v1 import daemon_pb2

MOST_REASON = 256
GATHER = 0.05
"""Seconds within which changes are sent as one."""
LOOK = 1.0
"""Seconds between two looks whether somebody ended the draining."""


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while the daemon runs; metrics_address "" where none are served."""

    started: datetime
    metrics_address: str


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What operators do to the daemon as a whole, and what tells how far that is."""

    reload: Reload
    drain: Drain
    events: Events


class Daemon(History):
    """Tells about the daemon, reloads its inventory and lets it drain."""

    def __init__(
        self, about: About, fleet: Sight, audit: Audit, chronicle: Chronicle, upkeep: Upkeep
    ) -> None:
        super().__init__(fleet, audit, chronicle)
        self._about = about
        self._fleet = fleet
        self._upkeep = upkeep

    async def GetDaemon(
        self, request: daemon_pb2.GetDaemonRequest, context: Any
    ) -> daemon_pb2.GetDaemonResponse:
        """See the proto."""
        caller = auth.principal(context)
        return daemon_pb2.GetDaemonResponse(
            version=version("belayd"),
            host=socket.gethostname(),
            start_time=convert.timestamp(self._about.started),
            metrics_address=self._about.metrics_address,
            boards=len(self._fleet),
            principal=caller.name,
            role=caller.role.name.lower(),
            drain=self._drain_status(),
        )

    async def ReloadInventory(
        self, request: daemon_pb2.ReloadInventoryRequest, context: Any
    ) -> daemon_pb2.ReloadInventoryResponse:
        """See the proto."""
        caller = auth.principal(context)
        access.require_all_boards(caller, "a reload")
        reloaded = await self._upkeep.reload.reload(caller.name, request.dry_run)
        return daemon_pb2.ReloadInventoryResponse(
            changes=map(_change, reloaded.changes), warnings=reloaded.warnings
        )

    async def Drain(self, request: daemon_pb2.DrainRequest, context: Any) -> None:
        """See the proto."""
        caller = auth.principal(context)
        access.require_all_boards(caller, "draining")
        why = convert.text(request.reason, "reason", MOST_REASON)
        if request.off:
            await self._upkeep.drain.end(caller.name)
        else:
            await self._upkeep.drain.begin(caller.name, why)
        happened = asyncio.Event()
        stop = self._upkeep.events.listen(lambda event: happened.set())
        told = None
        try:
            while True:
                happened.clear()
                status = self._drain_status()
                if told is None or status != told:
                    told = status or daemon_pb2.DrainStatus()
                    await context.write(daemon_pb2.DrainResponse(drain=status))
                if status is None or not (status.leases or status.boards_at_work):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):  # the end of a draining is no event
                        await happened.wait()
                await asyncio.sleep(GATHER)
        finally:
            stop()

    def _drain_status(self) -> daemon_pb2.DrainStatus | None:
        drain = self._upkeep.drain
        if drain.since is None:
            return None
        return daemon_pb2.DrainStatus(
            principal=drain.since.by,
            reason=drain.since.why,
            start_time=convert.timestamp(drain.since.since),
            leases=drain.leases,
            boards_at_work=drain.working,
        )


def _change(change: Change) -> daemon_pb2.InventoryChange:
    return daemon_pb2.InventoryChange(
        kind=_KINDS[change.kind], key=change.key, details=change.details, holder=change.holder
    )


_KINDS = {
    Kind.ADDED: daemon_pb2.InventoryChange.KIND_ADDED,
    Kind.REMOVED: daemon_pb2.InventoryChange.KIND_REMOVED,
    Kind.REPLACED: daemon_pb2.InventoryChange.KIND_REPLACED,
    Kind.CHANGED: daemon_pb2.InventoryChange.KIND_CHANGED,
    Kind.NEEDS_RESTART: daemon_pb2.InventoryChange.KIND_NEEDS_RESTART,
}
