"""Who waits for which boards, in order.

One that waits for any of several boards stands in the queue of each, everywhere
in the order of priority and arrival. Pure; whether a board can be had is the table's affair
(`lease`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
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
        self._by_principal: Counter[str] = Counter()
        self._arrivals = 0
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, name: str) -> bool:
        return name in self._waiters

    def join(self, request: Request, since: float) -> list[str]:
        """Queue a request behind all of its priority that are there; returns who stands behind it."""
        self._arrivals += 1
        boards = list(dict.fromkeys(request.boards))
        waiter = Waiter(request, since, boards, (-request.priority, self._arrivals))
        self._waiters[request.name] = waiter
        behind: dict[str, None] = {}
        for board in boards:
            queue = self._queues.setdefault(board, [])
            insort(queue, waiter, key=_order)
            behind.update(
                (other.request.name, None) for other in queue[bisect_right(queue, waiter.order, key=_order) :]
            )
        self._changed.update(boards)
        self._by_principal[request.principal] += 1
        return list(behind)

    def leave(self, name: str) -> list[str]:
        """Take a waiter out of every queue; returns who stood behind it."""
        waiter = self._forget(name)
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
            self._forget(name)
        self._changed.discard(board)
        return elsewhere, gone

    def count_of(self, principal: str) -> int:
        """Return how many requests of one principal wait."""
        return self._by_principal[principal]

    def _forget(self, name: str) -> Waiter:
        waiter = self._waiters.pop(name)
        self._by_principal[waiter.request.principal] -= 1
        if not self._by_principal[waiter.request.principal]:
            del self._by_principal[waiter.request.principal]
        return waiter

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
