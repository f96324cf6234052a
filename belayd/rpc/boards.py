"""BoardService: which boards there are, how they are, and their reset."""

from __future__ import annotations

import asyncio
from typing import Any

from belayd.errors import Unsupported
from belayd.events import BoardAdded, BoardChanged, BoardRemoved, Event, Events, LeaseEnded, LeaseGranted
from belayd.fleet import Fleet
from belayd.outcome import BoardRaised
from belayd.rpc import convert
from belayd.rpc.jobs import Jobs, settle
from belayd.run import Transcript
from belayd.selector import Selector
from belayd.session import Emit, Session
from belayd.v1 import boards_pb2, boards_pb2_grpc

RESET_TIMEOUT = 30.0
COALESCE = 0.05
"""Seconds within which a board's changes are sent as one."""


class Boards(boards_pb2_grpc.BoardServiceServicer):
    """Reads the fleet; never waits for a board but to reset it."""

    def __init__(self, fleet: Fleet, jobs: Jobs, events: Events) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._events = events

    async def GetBoard(
        self, request: boards_pb2.GetBoardRequest, context: Any
    ) -> boards_pb2.GetBoardResponse:
        """See the proto."""
        board = self._fleet.board(convert.board_name(request.name, "name"))
        return boards_pb2.GetBoardResponse(board=convert.board(board.snapshot()))

    async def ListBoards(
        self, request: boards_pb2.ListBoardsRequest, context: Any
    ) -> boards_pb2.ListBoardsResponse:
        """See the proto."""
        boards = self._fleet.select(Selector.parse(request.selector))
        chosen, token = convert.page(boards, [board.name for board in boards], request)
        messages = [convert.board(board.snapshot()) for board in chosen]
        return boards_pb2.ListBoardsResponse(boards=messages, next_page_token=token)

    async def WatchBoards(self, request: boards_pb2.WatchBoardsRequest, context: Any) -> None:
        """See the proto."""
        selector = Selector.parse(request.selector)
        changed = {board.name for board in self._fleet.select(selector)}
        known = set(changed)
        wake = asyncio.Event()

        def listen(event: Event) -> None:
            if isinstance(event, BoardChanged | BoardAdded | BoardRemoved | LeaseGranted | LeaseEnded):
                changed.add(event.board)
                wake.set()

        stop = self._events.listen(listen)
        try:
            while True:
                names, now = set(changed), {board.name: board for board in self._fleet.select(selector)}
                changed.clear()
                wake.clear()
                removed = sorted(names & known - now.keys())
                present = sorted(names & now.keys())
                known = (known | set(present)) - set(removed)
                if removed or present:
                    boards = [convert.board(now[name].snapshot()) for name in present]
                    await context.write(boards_pb2.WatchBoardsResponse(boards=boards, removed=removed))
                await wake.wait()
                await asyncio.sleep(COALESCE)
        finally:
            stop()

    async def ResetBoard(
        self, request: boards_pb2.ResetBoardRequest, context: Any
    ) -> boards_pb2.ResetBoardResponse:
        """See the proto."""

        async def job(session: Session, emit: Emit) -> None:
            if not request.hard:
                return await session.soft_reset(emit)
            try:
                return await session.hard_reset(emit)
            except BoardRaised as error:
                raise Unsupported(
                    f"board {board.name!r} has no way to reset its chip from code ({error.type_name})",
                    board=board.name,
                ) from error

        board, run = self._jobs.submit(
            request,
            context,
            "reset",
            job,
            Transcript().write,
            name=convert.board_name(request.name, "name"),
            default_timeout=RESET_TIMEOUT,
        )
        await settle(run)
        return boards_pb2.ResetBoardResponse(board=convert.board(board.snapshot()))
