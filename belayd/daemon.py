"""The daemon: every part built in order, stopped in mirrored order, its tasks supervised.

The order: events, leasing, fleet, metrics, RPCs; discovery last, so that whoever
hears of a board can already use it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from belayd import supervision
from belayd.blobs import Blobs
from belayd.discovery import Discovery
from belayd.errors import BelaydError
from belayd.events import Events
from belayd.exposition import Exposition
from belayd.fleet import Fleet
from belayd.inventory import Inventory
from belayd.leasing import Leasing
from belayd.metrics import Metrics
from belayd.rpc.boards import Boards
from belayd.rpc.daemon import About
from belayd.rpc.daemon import Daemon as DaemonServicer
from belayd.rpc.deployments import Deployments
from belayd.rpc.jobs import Jobs
from belayd.rpc.leases import Leases
from belayd.rpc.server import Server
from belayd.rpc.tasks import Tasks

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that RPCs get to send what the end of their runs was, when the daemon stops."""
BLOB_SWEEP = 300.0
"""Seconds between looks for contents nobody used for an hour."""


class StartFailed(Exception):
    """The daemon cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line and the inventory's server section come to.

    Attributes:
        listen, metrics: "host:port", port 0 for any free one; metrics "" for none.
        state: A folder of the daemon's own.
    """

    inventory: Inventory
    listen: str
    metrics: str
    state: Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the daemon serves."""

    grpc: str
    metrics: str


class Daemon:
    """One daemon from `run` to its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._failed: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Begin to stop; `run` returns when everything has ended."""
        self._stopping.set()

    async def run(self, ready: Callable[[Addresses], None]) -> None:
        """Serve until `stop`; `ready` is called once everything listens.

        Raises:
            StartFailed: Something needed is not to be had.
        """
        async with AsyncExitStack() as stack:
            ready(await self._start(stack))
            supervision.tell(supervision.READY)
            await self._stopping.wait()
            supervision.tell(supervision.STOPPING)
            log.info("stopping")
        if self._failed is not None:
            raise self._failed

    async def _start(self, stack: AsyncExitStack) -> Addresses:
        settings = self._settings
        inventory = settings.inventory
        state = private_folder(settings.state)
        events = Events()
        leasing = Leasing(
            events, on_ended=self._lease_ended, max_hold=inventory.server.max_hold, idle=inventory.server.idle
        )
        stack.callback(leasing.close)
        self._fleet = fleet = Fleet(leasing, events, state / "boards")
        stack.push_async_callback(fleet.close)
        metrics = Metrics(fleet.snapshots, inventory.server.metric_labels)
        stack.callback(events.listen(metrics.count))
        stack.push_async_callback(self._end_tasks)
        self._supervise("loop lag", metrics.watch_loop())
        self._supervise("watchdog", supervision.feed_watchdog())
        metrics_address = ""
        if settings.metrics:
            exposition = Exposition(metrics, lambda: not self._stopping.is_set())
            stack.push_async_callback(exposition.close)
            metrics_address = await _listen(exposition, settings.metrics)
        blobs = Blobs(private_folder(state / "blobs"))
        self._supervise("blobs", _sweep(blobs))
        jobs = Jobs(fleet, leasing)
        server = Server(
            {
                "BoardService": Boards(fleet, jobs, events),
                "LeaseService": Leases(fleet, leasing),
                "TaskService": Tasks(jobs),
                "DeploymentService": Deployments(jobs, blobs, events),
                "DaemonService": DaemonServicer(About(datetime.now(UTC), metrics_address), fleet),
            },
            metrics,
        )
        specs = list(inventory.boards.values())
        fleet.add(specs)
        discovery = Discovery(specs, inventory.adopt, fleet.discovered)
        # Whoever calls once the daemon says that it is ready does not find boards "not looked for yet".
        await discovery.poll()
        self._supervise("discovery", discovery.run())
        try:
            address = await server.start(settings.listen)
        except OSError as error:
            raise StartFailed(str(error)) from error
        stack.push_async_callback(server.stop, GRACE)
        # Before the server goes, so that whoever runs or waits is told DRAINING and not cut off.
        stack.push_async_callback(fleet.close)
        stack.callback(leasing.drain)
        stack.push_async_callback(server.leave)
        return Addresses(address, metrics_address)

    def _lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        self._fleet.lease_ended(board, fence, error)

    def _supervise(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        """Run one of the daemon's own tasks; the daemon ends when one fails."""
        task = asyncio.create_task(self._watched(name, body), name=name)
        self._tasks.add(task)

    async def _watched(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        try:
            await body
        except Exception as error:
            log.critical("the daemon's task %r failed; stopping", name, exc_info=error)
            self._failed = error
            self._stopping.set()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def private_folder(path: Path) -> Path:
    """Make `path` a folder of this user's alone, and return it.

    Raises:
        StartFailed: It cannot be made, or others may write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise StartFailed(f"{path}: {error.strerror}; name another folder with --state") from error
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
        raise StartFailed(f"{path} can be written by others; run: chmod go-w {path}, or name another --state")
    return path


async def _listen(exposition: Exposition, address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        host, taken = await exposition.start(host.strip("[]"), int(port))
    except OSError as error:
        raise StartFailed(f"cannot serve metrics on {address}: {error.strerror or error}") from error
    return f"[{host}]:{taken}" if ":" in host else f"{host}:{taken}"


async def _sweep(blobs: Blobs) -> None:
    while True:
        await asyncio.sleep(BLOB_SWEEP)
        await blobs.expire()
