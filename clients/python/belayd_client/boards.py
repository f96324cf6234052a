"""BoardService as the client calls it."""

from __future__ import annotations

from collections.abc import Iterator

from belayd.v1 import boards_pb2, boards_pb2_grpc
from belayd_client.board import Board, BoardsChange, bare, resource, to_board
from belayd_client.link import Link
from belayd_client.times import to_duration

READ_TIMEOUT = 10.0
"""Seconds; what only reads never waits for a board."""
RESET_TIMEOUT = 30.0
_GRACE = 10.0
"""Seconds beyond a reset's own time after which no answer will come."""


def list_boards(link: Link, selector: str) -> list[Board]:
    """Return the boards that match, all pages of them."""
    boards: list[Board] = []
    request = boards_pb2.ListBoardsRequest(selector=selector)
    with link.calling():
        while True:
            page = link.stub(boards_pb2_grpc.BoardServiceStub).ListBoards(
                request, timeout=READ_TIMEOUT, metadata=link.metadata
            )
            boards += [to_board(board) for board in page.boards]
            if not page.next_page_token:
                return boards
            request.page_token = page.next_page_token


def get_board(link: Link, name: str) -> Board:
    """Return one board."""
    request = boards_pb2.GetBoardRequest(name=resource(name))
    with link.calling():
        response = link.stub(boards_pb2_grpc.BoardServiceStub).GetBoard(
            request, timeout=READ_TIMEOUT, metadata=link.metadata
        )
    return to_board(response.board)


def watch_boards(link: Link, selector: str) -> Iterator[BoardsChange]:
    """Yield all that match once, then those that changed."""
    request = boards_pb2.WatchBoardsRequest(selector=selector)
    with link.calling():
        call = link.stub(boards_pb2_grpc.BoardServiceStub).WatchBoards(request, metadata=link.metadata)
        try:
            for response in call:
                yield BoardsChange(tuple(map(to_board, response.boards)), tuple(map(bare, response.removed)))
        finally:
            call.cancel()


def reset_board(link: Link, name: str, token: str, hard: bool, timeout: float | None) -> Board:
    """Reset a board and return it when it answers again."""
    request = boards_pb2.ResetBoardRequest(
        name=resource(name), lease_token=token, hard=hard, timeout=to_duration(timeout)
    )
    deadline = (RESET_TIMEOUT if timeout is None else timeout) + _GRACE
    with link.calling():
        response = link.stub(boards_pb2_grpc.BoardServiceStub).ResetBoard(
            request, timeout=deadline, metadata=link.metadata
        )
    return to_board(response.board)
