"""The daemon's services over a real channel, with one simulated board, in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from belayd.archive import Archive
from belayd.audit import Trail
from belayd.blobs import Blobs
from belayd.board import Board
from belayd.chronicle import Chronicle
from belayd.detached import Detached
from belayd.disabling import Disabling
from belayd.discovery import Attached, Discovery, Port
from belayd.draining import Drain
from belayd.entrance import Entrance
from belayd.errors import BelaydError
from belayd.events import Event, Events
from belayd.files import read_file
from belayd.fleet import Fleet
from belayd.inventory import BoardSpec, Inventory, SimulatedLink
from belayd.leasing import Leasing
from belayd.metrics import Metrics
from belayd.records import Records
from belayd.reload import Reload
from belayd.rollout.conductor import conductor_of
from belayd.rpc.boards import Boards
from belayd.rpc.consoles import Consoles
from belayd.rpc.daemon import About, Daemon, Upkeep
from belayd.rpc.deployments import Deployments
from belayd.rpc.files import Files
from belayd.rpc.jobs import Jobs
from belayd.rpc.leases import Leases
from belayd.rpc.runs import outcome_bytes
from belayd.rpc.server import Listening, Server
from belayd.rpc.sight import Sight
from belayd.rpc.tasks import Tasks
from belayd.run import Order, Run
from belayd.session import Emit, Session
from belayd.snapshot import BoardState
from belayd.store import Store
from belayd.tokens import Tokens
from belayd.v1 import boards_pb2, boards_pb2_grpc

PATIENCE = 30.0
T = TypeVar("T")


class Lab:
    """Everything behind the services, and a channel to them; the board is called sim-1.

    Attributes:
        now: What the blobs' clock says; it goes when told.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.now = 0.0
        self.store = store
        self.events = Events()
        self.leasing = Leasing(self.events, on_ended=self._lease_ended, max_hold=3600.0, idle=3600.0)
        self.fleet = Fleet(self.leasing, self.events, folder / "boards")
        self.blobs = Blobs(folder / "blobs", clock=lambda: self.now)
        self.records = Records(store.deployments, Archive(folder / "snapshots"), read_file)
        self.events.listen(self.records.hear)
        trail = Trail(store.audit.append)
        self.conductor = conductor_of(
            self.fleet,
            self.leasing,
            self.events,
            self.records,
            folder / "rollouts",
            store,
            trail,
            lambda principal: principal,
        )
        sight = Sight(self.fleet)
        inventory = Inventory(folder / "lab.yaml")
        discovery = Discovery((), (), self.fleet.discovered)
        jobs = Jobs(sight, self.leasing)
        self.detached = Detached(self.leasing, store.runs, Trail(store.audit.append), outcome_bytes)
        chronicle = Chronicle()
        self.events.listen(chronicle.hear)
        self.server = Server(
            {
                "BoardService": Boards(
                    sight, jobs, self.events, Disabling(self.fleet, self.leasing, store.disabled)
                ),
                "LeaseService": Leases(sight, self.leasing),
                "TaskService": Tasks(jobs, sight, self.detached, store.runs),
                "ConsoleService": Consoles(self.fleet, jobs),
                "DeploymentService": Deployments(
                    jobs, sight, self.blobs, self.records, self.events, self.conductor
                ),
                "FileService": Files(jobs, self.blobs),
                "DaemonService": Daemon(
                    About(datetime.now(UTC), ""),
                    sight,
                    store.audit,
                    chronicle,
                    Upkeep(
                        Reload(inventory, self.fleet, discovery, self.leasing),
                        Drain(self.fleet, self.leasing),
                        self.events,
                    ),
                ),
            },
            Metrics(self.fleet.snapshots),
            Entrance(Tokens(folder / "access.sqlite"), lambda reason: None),
            Trail(store.audit.append),
        )
        self.channel: grpc.aio.Channel
        self._news = asyncio.Event()
        self.events.listen(self._hear)

    def _hear(self, event: Event) -> None:
        self._news.set()

    def _lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        self.fleet.lease_ended(board, fence, error)

    @property
    def board(self) -> Board:
        return self.fleet.board("sim-1")

    async def start(self) -> None:
        self.fleet.add([BoardSpec("sim-1", SimulatedLink())])
        self.fleet.discovered(Attached("sim-1", Port("simulated")))
        address = await self.server.start(Listening("localhost:0"))
        options = (("grpc.max_receive_message_length", -1),)
        self.channel = grpc.aio.insecure_channel(address, options)
        await self.until(lambda: self.board.state is BoardState.READY)

    async def stop(self) -> None:
        await self.channel.close()
        await self.conductor.close()
        await self.fleet.close()
        await self.detached.close()
        await self.server.stop(0)
        self.leasing.close()

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until `claim` is true, looking at each event."""
        async with asyncio.timeout(PATIENCE):
            while not claim():
                self._news.clear()
                await self._news.wait()

    async def queued(self, claim: Callable[[int], bool]) -> None:
        """Wait until `claim` is true of how many jobs wait; each look is an RPC behind those of the test."""
        stub = boards_pb2_grpc.BoardServiceStub(self.channel)
        async with asyncio.timeout(PATIENCE):
            while not claim(self.board.snapshot().queue_length):
                await stub.GetBoard(boards_pb2.GetBoardRequest(name="boards/sim-1"))

    async def within(self, awaitable: Awaitable[T]) -> T:
        async with asyncio.timeout(PATIENCE):
            return await awaitable

    async def occupy(self) -> Run[Any]:
        """Keep the board busy until the run that is returned is stopped."""
        began = asyncio.Event()

        async def job(session: Session, emit: Emit) -> None:
            began.set()
            await asyncio.Event().wait()

        async def discard(data: bytes) -> None:
            pass

        run: Run[Any] = self.board.submit(Order("run", None, None, discard), job)
        await self.within(began.wait())
        return run


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    store = await Store.open(tmp_path)
    lab = Lab(tmp_path, store)
    try:
        await lab.start()
        yield lab
    finally:
        await lab.stop()
        await store.close()
