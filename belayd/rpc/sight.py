"""The fleet as the caller of an RPC may see it: its principal's boards, and no others.

Servicers are given this instead of the fleet, so that none can forget to ask. Who
the caller is, the border has said before (`auth`).
"""

from __future__ import annotations

from belayd import access
from belayd.board import Board
from belayd.errors import BoardNotFound
from belayd.fleet import Fleet
from belayd.rpc import auth
from belayd.selector import Selector


class Sight:
    """The boards of whoever calls."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __len__(self) -> int:
        return len(self.select(Selector()))

    def board(self, name: str) -> Board:
        """Return the board called `name`.

        Raises:
            BoardNotFound: There is none.
            PermissionDenied: It is not among the caller's.
        """
        board = self._fleet.board(name)
        access.require_board(auth.current(), name, board.identity.labels)
        return board

    def select(self, selector: Selector) -> list[Board]:
        """Return the caller's boards that `selector` matches, by name."""
        caller = auth.current()
        found = self._fleet.select(selector)
        return [board for board in found if access.may(caller, board.name, board.identity.labels)]

    def check(self, name: str) -> None:
        """Raise PermissionDenied unless the caller may hear of the board called `name`."""
        if not self.shows(name):
            access.require_board(auth.current(), name, {})
            # a board that is gone and would match: nobody can say any more whose it was
            raise BoardNotFound(f"there is no board {name!r} any more", board=name)

    def shows(self, name: str) -> bool:
        """Return whether the caller may hear of the board; one that is gone shows to who sees all."""
        try:
            labels = self._fleet.board(name).identity.labels
        except BoardNotFound:
            return not auth.current().selector.terms
        return access.may(auth.current(), name, labels)
