"""What operators do: boards out of service and back, the inventory reloaded, the daemon drained."""

from __future__ import annotations

import enum
from collections.abc import Generator
from dataclasses import dataclass

from belayd.v1 import boards_pb2, boards_pb2_grpc, daemon_pb2, daemon_pb2_grpc
from belayd_client.board import Board, DrainStatus, resource, to_board, to_drain
from belayd_client.boards import READ_TIMEOUT
from belayd_client.link import Link

_RELOAD_TIMEOUT = 60.0


class ChangeKind(enum.Enum):
    """What a reload makes of something."""

    UNKNOWN = "unknown"
    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"
    CHANGED = "changed"
    NEEDS_RESTART = "needs restart"


@dataclass(frozen=True, slots=True)
class InventoryChange:
    """One difference that a reload made, or would make.

    Attributes:
        key: Where it stands in the inventory, such as "boards.pico-1".
        details: What was and what is, such as "labels.rack: 2 -> 3".
        holder: Who loses the board's lease by it; "" for nobody.
    """

    kind: ChangeKind
    key: str
    details: tuple[str, ...]
    holder: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed; `warnings` are of the file as it is now."""

    changes: tuple[InventoryChange, ...]
    warnings: tuple[str, ...]


class Upkeep:
    """The part of Client that is for operators."""

    _link: Link

    def disable(self, board: str, reason: str, *, now: bool = False) -> Board:
        """Take a board out of service, until `enable`; return it as it is then.

        Work without a lease ends at once. Whoever holds the board keeps it until the
        lease ends, or with `now` loses it.
        """
        request = boards_pb2.DisableBoardRequest(name=resource(board), reason=reason, now=now)
        with self._link.calling():
            response = self._link.stub(boards_pb2_grpc.BoardServiceStub).DisableBoard(
                request, timeout=READ_TIMEOUT, metadata=self._link.metadata
            )
        return to_board(response.board)

    def enable(self, board: str) -> Board:
        """Put a board back in service, if it is not; return it as it is then."""
        request = boards_pb2.EnableBoardRequest(name=resource(board))
        with self._link.calling():
            response = self._link.stub(boards_pb2_grpc.BoardServiceStub).EnableBoard(
                request, timeout=READ_TIMEOUT, metadata=self._link.metadata
            )
        return to_board(response.board)

    def reload(self, *, dry_run: bool = False) -> Reloaded:
        """Let the daemon read its inventory again, or with `dry_run` only tell what that would change.

        Raises:
            RequestInvalid: The file has mistakes, and nothing was changed; its fields
                problem_1, problem_2, ... tell them.
        """
        with self._link.calling():
            response = self._link.stub(daemon_pb2_grpc.DaemonServiceStub).ReloadInventory(
                daemon_pb2.ReloadInventoryRequest(dry_run=dry_run),
                timeout=_RELOAD_TIMEOUT,
                metadata=self._link.metadata,
            )
        return Reloaded(tuple(map(_change, response.changes)), tuple(response.warnings))

    def drain(self, reason: str = "", *, off: bool = False) -> Generator[DrainStatus | None, None, None]:
        """Let the daemon take no new leases and no new work, or with `off` take them again.

        Yields how far it is, at once and at each change, until nobody holds a board
        and nothing runs; None when it does not drain. It goes on draining when the
        caller stops listening.
        """
        request = daemon_pb2.DrainRequest(off=off, reason=reason)
        with self._link.calling():
            call = self._link.stub(daemon_pb2_grpc.DaemonServiceStub).Drain(
                request, metadata=self._link.metadata
            )
            try:
                for response in call:
                    yield to_drain(response.drain) if response.HasField("drain") else None
            finally:
                call.cancel()


def _change(message: daemon_pb2.InventoryChange) -> InventoryChange:
    name = daemon_pb2.InventoryChange.Kind.Name(message.kind) if message.kind in _NUMBERS else ""
    kind = ChangeKind.__members__.get(name.removeprefix("KIND_"), ChangeKind.UNKNOWN)
    return InventoryChange(kind, message.key, tuple(message.details), message.holder)


_NUMBERS = frozenset(daemon_pb2.InventoryChange.Kind.values())
