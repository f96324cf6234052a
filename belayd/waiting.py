"""Who waits for which boards, in order.

One that waits for any of several boards stands in the queue of each, everywhere
in the order of arrival. Pure; whether a board can be had is the table's affair
(`lease`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from belayd.terms import Request


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits, with the boards that still exist of those it named."""

    request: Request
    since: float
    boards: list[str]
    order: tuple[int, int]


class WaitingList:
    """The waiters of all boards."""

    def __init__(self) -> None:
        self._waiters: dict[str, Waiter] = {}
        self._queues: dict[str, list[Waiter]] = {}
        self._arrivals = 0
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, name: str) -> bool:
        return name in self._waiters

    def join(self, request: Request, since: float) -> None:
        """Queue a request behind all that are there."""
        self._arrivals += 1
        boards = list(dict.fromkeys(request.boards))
        # The first number is for priorities: a higher class would get a lower one.
        waiter = Waiter(request, since, boards, (0, self._arrivals))
        self._waiters[request.name] = waiter
        for board in boards:
            insort(self._queues.setdefault(board, []), waiter, key=_order)
        self._changed.update(boards)

    def leave(self, name: str) -> list[str]:
        """Take a waiter out of every queue; returns who stood behind it."""
        waiter = self._waiters.pop(name)
        self._changed.update(waiter.boards)
        behind: dict[str, None] = {}
        for board in waiter.boards:
            queue = self._queues[board]
            place = bisect_left(queue, waiter.order, key=_order)
            del queue[place]
            behind.update((other.request.name, None) for other in queue[place:])
            if not queue:
                del self._queues[board]
        return list(behind)

    def close(self, board: str) -> tuple[list[str], list[str]]:
        """Remove a board's queue; returns who waits elsewhere still, and who waited for it alone."""
        elsewhere: list[str] = []
        gone: list[str] = []
        for waiter in self._queues.pop(board, []):
            waiter.boards.remove(board)
            (elsewhere if waiter.boards else gone).append(waiter.request.name)
        for name in gone:
            del self._waiters[name]
        self._changed.discard(board)
        return elsewhere, gone

    def take_changed(self) -> list[str]:
        """Return the boards whose queues have got longer or shorter since the last time, by name."""
        changed, self._changed = sorted(self._changed), set()
        return changed

    def first(self, board: str) -> Waiter | None:
        """Return who is next for a board."""
        queue = self._queues.get(board)
        return queue[0] if queue else None

    def count(self, board: str) -> int:
        """Return how many wait for a board."""
        return len(self._queues.get(board, ()))

    def position(self, name: str) -> int:
        """Return a waiter's place, 1 for the next: the best one if several boards will do."""
        waiter = self._waiters[name]
        return 1 + min(bisect_left(self._queues[board], waiter.order, key=_order) for board in waiter.boards)


def _order(waiter: Waiter) -> tuple[int, int]:
    return waiter.order
