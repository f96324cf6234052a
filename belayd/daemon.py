"""The daemon: every part built in order, stopped in mirrored order, its tasks supervised.

The order: store, events, leasing, fleet, metrics, RPCs; discovery last, so that whoever
hears of a board can already use it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from belayd import supervision
from belayd.archive import Archive
from belayd.audit import Deed, Trail
from belayd.blobs import Blobs
from belayd.certs import CertificateFailed
from belayd.chronicle import Chronicle
from belayd.detached import Detached
from belayd.disabling import Disabling, stored
from belayd.discovery import Discovery
from belayd.draining import Drain
from belayd.entrance import Door, Entrance
from belayd.errors import BelaydError, RequestInvalid, StoreFailed
from belayd.events import Events
from belayd.exposition import Exposition
from belayd.files import read_file
from belayd.fleet import Fleet
from belayd.inventory import Inventory
from belayd.leasing import Leasing
from belayd.metrics import Metrics
from belayd.records import Records
from belayd.reload import Reload
from belayd.rollout.conductor import conductor_of
from belayd.rpc.boards import Boards
from belayd.rpc.consoles import Consoles
from belayd.rpc.daemon import About, Upkeep
from belayd.rpc.daemon import Daemon as DaemonServicer
from belayd.rpc.deployments import Deployments
from belayd.rpc.files import Files
from belayd.rpc.jobs import Jobs
from belayd.rpc.leases import Leases
from belayd.rpc.runs import outcome_bytes
from belayd.rpc.server import Listening, Server, is_loopback
from belayd.rpc.sight import Sight
from belayd.rpc.tasks import Tasks
from belayd.run import Order
from belayd.session import Emit, Session
from belayd.store import Store, StoreUnusable
from belayd.tls import ServerCertificate
from belayd.tokens import FILE as TOKENS
from belayd.tokens import Tokens, TokensFailed

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that RPCs get to send what the end of their runs was, when the daemon stops."""
SOCKET = "belayd.sock"
"""In the state folder: the door of the daemon's own user."""
CERTIFICATE_LOOK = 2.0
"""Seconds between looks whether the TLS certificate was renewed."""
BLOB_SWEEP = 300.0
"""Seconds between looks for contents nobody used for an hour."""
LOOK_TIMEOUT = 120.0
"""Seconds for finding out on a board what became of a deployment that broke off."""


class StartFailed(Exception):
    """The daemon cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line and the inventory's server section come to.

    Attributes:
        listen, metrics: "host:port", port 0 for any free one; metrics "" for none.
        state: A folder of the daemon's own.
        insecure: Whoever shows no credentials is let in from beyond loopback too.
        refuse: Says why an inventory that is right in itself cannot be served with these.
    """

    inventory: Inventory
    listen: str
    metrics: str
    state: Path
    insecure: bool = False
    refuse: Callable[[Inventory], Sequence[str]] = lambda inventory: ()


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
        self._reload_wanted = asyncio.Event()
        self._failed: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def reload(self) -> None:
        """Read the inventory again soon; how it went is logged."""
        self._reload_wanted.set()

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
        try:
            store = await Store.open(state)
        except StoreUnusable as error:
            raise StartFailed(str(error)) from error
        stack.push_async_callback(store.close)
        events = Events()
        leasing = Leasing(
            events,
            on_ended=self._lease_ended,
            max_hold=inventory.server.max_hold,
            idle=inventory.server.idle,
            per_user=inventory.server.per_user,
            store=store.leases,
        )
        stack.callback(leasing.close)
        trail = Trail(store.audit.append, lambda board: _lease_of(leasing, board))
        stack.callback(trail.close)
        stack.callback(events.listen(trail.hear))
        chronicle = Chronicle()
        stack.callback(events.listen(chronicle.hear))
        self._fleet = fleet = Fleet(leasing, events, state / "boards", stored(store.disabled))
        stack.push_async_callback(fleet.close)
        drain = Drain(fleet, leasing)
        certificate = await _certificate(inventory)
        metrics = Metrics(
            fleet.snapshots,
            inventory.server.metric_labels,
            lambda: certificate.expires if certificate else None,
        )
        metrics.inventory_loaded(datetime.now(UTC))
        stack.callback(events.listen(metrics.count))
        stack.push_async_callback(self._end_tasks)
        self._supervise("loop lag", metrics.watch_loop())
        self._supervise("watchdog", supervision.feed_watchdog())
        self._supervise("store", store.watch())
        entrance = await _entrance(state, metrics, trail)
        exposition = Exposition(
            metrics,
            lambda: not (self._stopping.is_set() or drain.on),
            entrance=entrance,
            door=_door(settings, certificate),
            # On loopback a scrape stays as it is on every other host.
            certificate=None if is_loopback(settings.metrics) else certificate,
        )
        stack.push_async_callback(exposition.close)
        metrics_address = await _listen(exposition, settings.metrics) if settings.metrics else ""
        if certificate:
            self._supervise("certificate", _follow(certificate, exposition))
        blobs = Blobs(private_folder(state / "blobs"))
        self._supervise("blobs", _sweep(blobs))
        records = await _records(store, state)
        stack.callback(events.listen(records.hear))
        self._supervise("deployments", records.watch(partial(_look, fleet, records)))
        conductor = conductor_of(
            fleet, leasing, events, records, private_folder(state / "rollouts"), store, trail, entrance.rights
        )
        sight = Sight(fleet)
        jobs = Jobs(sight, leasing)
        detached = Detached(leasing, store.runs, trail, outcome_bytes)
        specs = list(inventory.boards.values())
        discovery = Discovery(specs, inventory.adopt, fleet.discovered)
        reload = Reload(
            inventory,
            fleet,
            discovery,
            leasing,
            refuse=settings.refuse,
            show_labels=metrics.show_labels,
            tell=metrics.inventory_reloaded,
        )
        server = Server(
            {
                "BoardService": Boards(sight, jobs, events, Disabling(fleet, leasing, store.disabled)),
                "LeaseService": Leases(sight, leasing),
                "TaskService": Tasks(jobs, sight, detached, store.runs),
                "ConsoleService": Consoles(sight, jobs),
                "DeploymentService": Deployments(jobs, sight, blobs, records, events, conductor),
                "FileService": Files(jobs, blobs),
                "DaemonService": DaemonServicer(
                    About(datetime.now(UTC), metrics_address),
                    sight,
                    store.audit,
                    chronicle,
                    Upkeep(reload, drain, events),
                ),
            },
            metrics,
            entrance,
            trail,
        )
        drain.tell(server.show_serving)
        fleet.add(specs)
        fleet.tell_identities(discovery.identified)
        # Whoever calls once the daemon says that it is ready does not find boards "not looked for yet".
        await discovery.poll()
        try:
            await conductor.open()
        except StoreFailed as error:
            raise StartFailed(str(error)) from error
        stack.push_async_callback(conductor.close)
        self._supervise("rollouts", conductor.watch())
        self._supervise("discovery", discovery.run())
        self._supervise("reload", self._reload_when_asked(reload, trail))
        listening = Listening(settings.listen, certificate, settings.insecure, state / SOCKET)
        try:
            address = await server.start(listening)
        except OSError as error:
            raise StartFailed(str(error)) from error
        stack.push_async_callback(server.stop, GRACE)
        self._supervise("access", server.watch())
        # Before the server goes, so that whoever runs or waits is told DRAINING and not cut off.
        stack.push_async_callback(detached.close)
        stack.push_async_callback(fleet.close)
        stack.callback(leasing.drain)
        stack.push_async_callback(conductor.close)
        stack.push_async_callback(server.leave)
        return Addresses(address, metrics_address)

    async def _reload_when_asked(self, reload: Reload, trail: Trail) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            deed = Deed("inventory/reloaded", detail="SIGHUP")
            try:
                await reload.reload("SIGHUP")
            except RequestInvalid as error:  # logged
                deed = Deed(deed.action, outcome="rejected", reason=error.reason, detail=deed.detail)
            trail.happened(deed)

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


async def _certificate(inventory: Inventory) -> ServerCertificate | None:
    files = inventory.server.tls
    if files is None:
        return None
    try:
        return await asyncio.to_thread(ServerCertificate, files.cert, files.key, files.client_ca)
    except CertificateFailed as error:
        raise StartFailed(f"server.tls: {error}") from error


def _lease_of(leasing: Leasing, board: str) -> str:
    view = leasing.view(board)
    return view.name if view else ""


async def _entrance(state: Path, metrics: Metrics, trail: Trail) -> Entrance:
    def turned_away(problem: str) -> None:
        metrics.auth_failed(problem)
        trail.turned_away(problem)

    entrance = Entrance(Tokens(state / TOKENS), turned_away)
    try:
        await entrance.open()
    except TokensFailed as error:
        raise StartFailed(str(error)) from error
    return entrance


def _door(settings: Settings, certificate: ServerCertificate | None) -> Door:
    loopback = is_loopback(settings.metrics)
    return Door(loopback, encrypted=certificate is not None and not loopback, open=settings.insecure)


async def _follow(certificate: ServerCertificate, exposition: Exposition) -> None:
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK)
        try:
            if await asyncio.to_thread(certificate.refresh):
                exposition.renew()
        except CertificateFailed as error:  # half replaced, perhaps: the next look tells
            log.warning("server.tls: %s; the certificate of before is served on", error)


async def _listen(exposition: Exposition, address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        host, taken = await exposition.start(host.strip("[]"), int(port))
    except OSError as error:
        raise StartFailed(f"cannot serve metrics on {address}: {error.strerror or error}") from error
    return f"[{host}]:{taken}" if ":" in host else f"{host}:{taken}"


async def _records(store: Store, state: Path) -> Records:
    records = Records(store.deployments, Archive(private_folder(state / "snapshots")), read_file)
    try:
        await records.start()
    except StoreFailed as error:
        raise StartFailed(str(error)) from error
    return records


async def _look(fleet: Fleet, records: Records, board: str) -> None:
    async def job(session: Session, emit: Emit) -> None:
        await records.look(session, board)

    async def discard(data: bytes) -> None:
        pass

    await fleet.board(board).submit(Order("drift", None, LOOK_TIMEOUT, discard), job).outcome


async def _sweep(blobs: Blobs) -> None:
    while True:
        await asyncio.sleep(BLOB_SWEEP)
        await blobs.expire()
