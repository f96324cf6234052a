"""ConsoleService: a board's raw bytes for its holder, and what it prints for observers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from belayd import access
from belayd.errors import RequestInvalid
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs, pump
from belayd.rpc.sight import Sight
from belayd.run import Feed
from belayd.session import Emit, Session
from belayd.v1 import consoles_pb2, consoles_pb2_grpc

MOST_INPUT = 64 * 1024
"""Bytes typed and not yet taken by the board; beyond it the caller is not read."""
GATHER = 0.01
"""Seconds for which an observer's output gathers, so that a chatty board costs few messages."""

Requests = AsyncIterator[consoles_pb2.AttachRequest]


class Consoles(consoles_pb2_grpc.ConsoleServiceServicer):
    """Joins callers to boards."""

    def __init__(self, fleet: Sight, jobs: Jobs) -> None:
        self._fleet = fleet
        self._jobs = jobs

    async def Attach(self, requests: Requests, context: Any) -> None:
        """See the proto."""
        first = await anext(requests, None)
        if first is None or not first.HasField("start"):
            raise RequestInvalid("start: the first message must say which board", field="start")
        board = convert.board_name(first.start.board)
        if first.start.observe:
            await self._observe(board, context)
        else:
            access.require_role(auth.principal(context), access.Role.USER, "typing at a board")
            await self._type(board, first.start.lease_token, requests, context)

    async def _observe(self, board: str, context: Any) -> None:
        observer = self._fleet.board(board).audience.join(auth.principal(context).name)
        try:
            await context.write(_started())
            while True:
                data, dropped_bytes = await observer.read()
                self._fleet.board(board)  # its labels may have changed, and so whose it is
                if dropped_bytes:
                    await context.write(consoles_pb2.AttachResponse(dropped_bytes=dropped_bytes))
                await context.write(consoles_pb2.AttachResponse(output=data))
                await asyncio.sleep(GATHER)
        finally:
            observer.close()

    async def _type(self, board: str, lease_token: str, requests: Requests, context: Any) -> None:
        typed, output = _Typed(), Feed()

        async def job(session: Session, emit: Emit) -> None:
            await session.attach(typed.keys, emit)

        async def started() -> None:
            await context.write(_started())

        async def queued(before: int) -> None:
            pass

        async def show(data: bytes) -> None:
            await context.write(consoles_pb2.AttachResponse(output=data))

        run = self._jobs.submit_raw(context, job, output.write, name=board, lease_token=lease_token)
        reading = asyncio.create_task(typed.take(requests), name="attach")
        try:
            await pump(self._fleet.board(board), run, output, queued=queued, started=started, output=show)
        finally:
            reading.cancel()


class _Typed:
    """What the caller typed, on its way to the board."""

    def __init__(self) -> None:
        self._feed = Feed(MOST_INPUT)
        self._left = False

    async def take(self, requests: Requests) -> None:
        """Read the caller until it says no more."""
        try:
            async for request in requests:
                await self._feed.write(request.input)
        finally:
            self._left = True
            self._feed.wake()

    async def keys(self) -> bytes:
        """Wait for something typed; b"" once the caller has said all."""
        while True:
            if data := self._feed.take():
                return data
            if self._left:
                return b""
            await self._feed.changed()


def _started() -> consoles_pb2.AttachResponse:
    return consoles_pb2.AttachResponse(started=consoles_pb2.AttachStarted())
