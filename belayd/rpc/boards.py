"""BoardService: which boards there are, how they are, their reset, and whether they are in service."""

from __future__ import annotations

import asyncio
from typing import Any

from belayd.disabling import Disabling
from belayd.errors import (
    BelaydError,
    BoardOffline,
    BoardQuarantined,
    RequestInvalid,
    RunTimeout,
    TransportLost,
    Unsupported,
)
from belayd.events import (
    BoardAdded,
    BoardChanged,
    BoardRemoved,
    Booted,
    Event,
    Events,
    LeaseEnded,
    LeaseGranted,
    LeaseQueueChanged,
    LeaseWarned,
)
from belayd.outcome import BoardRaised
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs, settle
from belayd.rpc.sight import Sight
from belayd.run import Job, Transcript
from belayd.selector import Selector
from belayd.session import Emit, Session
from belayd.snapshot import BoardSnapshot, BoardState
from belayd.v1 import boards_pb2, boards_pb2_grpc

_SHOWN = (BoardChanged, BoardAdded, BoardRemoved, LeaseGranted, LeaseEnded, LeaseQueueChanged, LeaseWarned)
RESET_TIMEOUT = 30.0
MOST_REASON = 256
COALESCE = 0.05
"""Seconds within which a board's changes are sent as one."""


class Boards(boards_pb2_grpc.BoardServiceServicer):
    """Reads the fleet, and takes boards out of service; never waits for a board but to reset it."""

    def __init__(self, fleet: Sight, jobs: Jobs, events: Events, disabling: Disabling) -> None:
        self._fleet = fleet
        self._jobs = jobs
        self._events = events
        self._disabling = disabling

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
            if isinstance(event, _SHOWN):
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
        name = convert.board_name(request.name, "name")
        # From before the job on, since a board may be back before its caller hears that it was reset.
        answers = _Answers(name)
        stop = self._events.listen(answers.hear)
        try:
            _, run = self._jobs.submit(
                request,
                context,
                "reset",
                _hard_reset(name, answers, self._events) if request.hard else self._soft_reset(name, answers),
                Transcript().write,
                name=name,
                default_timeout=RESET_TIMEOUT,
            )
            await settle(run)
            async with asyncio.timeout_at(run.deadline):
                await answers.again.wait()
        except TimeoutError:
            raise _not_back(self._fleet.board(name).snapshot()) from None
        finally:
            stop()
        return boards_pb2.ResetBoardResponse(board=convert.board(self._fleet.board(name).snapshot()))

    async def DisableBoard(
        self, request: boards_pb2.DisableBoardRequest, context: Any
    ) -> boards_pb2.DisableBoardResponse:
        """See the proto."""
        board = self._fleet.board(convert.board_name(request.name, "name"))
        why = convert.text(request.reason, "reason", MOST_REASON)
        if not why.strip():
            raise RequestInvalid("reason: say why, for everybody to read", field="reason")
        await self._disabling.disable(board.name, auth.principal(context).name, why, request.now)
        return boards_pb2.DisableBoardResponse(board=convert.board(board.snapshot()))

    async def EnableBoard(
        self, request: boards_pb2.EnableBoardRequest, context: Any
    ) -> boards_pb2.EnableBoardResponse:
        """See the proto."""
        board = self._fleet.board(convert.board_name(request.name, "name"))
        await self._disabling.enable(board.name, auth.principal(context).name)
        return boards_pb2.EnableBoardResponse(board=convert.board(board.snapshot()))

    def _soft_reset(self, board: str, answers: _Answers) -> Job[None]:
        over_webrepl = self._fleet.board(board).identity.transport == "webrepl"

        async def job(session: Session, emit: Emit) -> None:
            await session.command("pass")  # a link that is lost here is lost
            try:
                await session.soft_reset(emit)
            except TransportLost:
                if not over_webrepl:
                    raise
                # The restart closes the connection: what was asked for has happened.
                answers.lost()
                self._events.publish(Booted(board, "reset"))

        return job


class _Answers:
    """Whether a board answers: not from when it is told `lost` until it is READY again."""

    def __init__(self, board: str) -> None:
        self.again = asyncio.Event()
        self.again.set()
        self._board = board

    def lost(self) -> None:
        self.again.clear()

    def hear(self, event: Event) -> None:
        if isinstance(event, BoardChanged) and event.board == self._board and event.state is BoardState.READY:
            self.again.set()


def _hard_reset(board: str, answers: _Answers, events: Events) -> Job[None]:
    async def job(session: Session, emit: Emit) -> None:
        # A link that is lost here is lost; once the board has answered, it goes with the chip.
        await session.command("pass")
        try:
            await session.hard_reset(emit)
        except TransportLost:
            # As on native USB: what was asked for has happened, and the board's task opens it anew.
            answers.lost()
            events.publish(Booted(board, "reset"))
        except BoardRaised as error:
            raise Unsupported(
                f"board {board!r} has no way to reset its chip from code ({error.type_name})", board=board
            ) from error

    return job


def _not_back(snapshot: BoardSnapshot) -> BelaydError:
    name = snapshot.name
    if snapshot.state in (BoardState.OFFLINE, BoardState.CONNECTING):
        why = snapshot.reason or "it is still being connected; allow longer"
        return BoardOffline(f"board {name!r} was reset and did not come back: {why}", board=name)
    if snapshot.state is BoardState.QUARANTINED:
        return BoardQuarantined(f"board {name!r} was reset and came back, but {snapshot.reason}", board=name)
    return RunTimeout(f"board {name!r} was reset and does not answer yet; allow longer", board=name)
