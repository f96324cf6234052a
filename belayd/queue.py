"""The jobs that wait for one board: in order, bounded in number and bytes, each with its deadline."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from belayd.errors import BelaydError, BoardLeased, QueueFull, RunTimeout
from belayd.run import Job, Order, Run, RunState, T

LENGTH = 1000
"""Jobs that may wait for one board; each costs a few hundred bytes beside what it holds."""
MAKE_WAY = 1.0
"""Seconds that a run without a lease may go on once the holder of a new lease wants the board."""
HELD_BYTES = 16 << 20
"""Bytes that the jobs waiting for one board may hold together: a call may bring a megabyte."""


class Queue:
    """Runs waiting for the board called `board`, and the one that runs, if one does.

    `withdrawn` is called with each that ended without having run.
    """

    running: Run[Any] | None = None

    def __init__(self, board: str, withdrawn: Callable[[Run[Any], BelaydError], None]) -> None:
        self._board = board
        self._withdrawn = withdrawn
        self._runs: deque[Run[Any]] = deque()
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Any:
        return iter(tuple(self._runs))

    def put(self, order: Order, job: Job[T]) -> Run[T]:
        """Append a run of `job`; its deadline stops it also while it runs.

        Raises:
            QueueFull: Too many wait, or those that wait hold too much.
        """
        if len(self._runs) >= LENGTH:
            raise QueueFull(
                f"{LENGTH} jobs wait for board {self._board!r} already; try again later or another board",
                board=self._board,
                queue_length=LENGTH,
            )
        if self._held_bytes + order.held_bytes > HELD_BYTES:
            raise QueueFull(
                f"{self._held_bytes} bytes wait for board {self._board!r} and this job has {order.held_bytes} "
                f"of the {HELD_BYTES} there may be; send less, or try again later",
                board=self._board,
                queue_length=len(self._runs),
                held_bytes=self._held_bytes,
                limit_bytes=HELD_BYTES,
            )
        loop = asyncio.get_running_loop()
        run = Run(order, job, loop.time())
        run.queue(lambda: self._withdraw(run))
        if order.timeout is not None:
            timer = loop.call_later(order.timeout, lambda: run.stop(self._late(run)))
            run.outcome.add_done_callback(lambda _: timer.cancel())
        self._runs.append(run)
        self._held_bytes += order.held_bytes
        return run

    def take(self) -> Run[Any]:
        """Remove and return the next; there must be one."""
        run = self._runs.popleft()
        self._held_bytes -= run.order.held_bytes
        return run

    def before(self, run: Run[Any]) -> int:
        """Return how many run or wait before `run`."""
        return (self.running is not None) + (self._runs.index(run) if run in self._runs else 0)

    def stop(self, why: BelaydError, wanted: Callable[[Order], bool] = lambda order: True) -> None:
        """End what runs and waits, of that what is `wanted`."""
        for run in (self.running, *tuple(self._runs)):
            if run and wanted(run.order):
                run.stop(why)

    def make_way(self) -> None:
        """Let a holder's work begin soon, though somebody's run from before the lease still runs."""
        running = self.running
        if running is not None and running.order.fence is None:
            message = (
                f"board {self._board!r} was leased while this ran without one; acquire one for long work"
            )
            taken = BoardLeased(message, board=self._board)
            asyncio.get_running_loop().call_later(MAKE_WAY, running.stop, taken)

    def _withdraw(self, run: Run[Any]) -> None:
        if run.state is RunState.QUEUED and run.cause is not None:
            self._runs.remove(run)
            self._held_bytes -= run.order.held_bytes
            run.end(asyncio.get_running_loop().time(), run.cause)
            self._withdrawn(run, run.cause)

    def _late(self, run: Run[Any]) -> RunTimeout:
        happened = "the board was interrupted" if run.state is RunState.RUNNING else "it was still queued"
        timeout = run.order.timeout or 0.0
        return RunTimeout(
            f"board {self._board!r}: not done within {timeout:g} s and {happened}; allow longer",
            board=self._board,
            timeout=timeout,
        )
