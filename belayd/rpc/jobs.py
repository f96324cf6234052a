"""From a request to a run in a board's queue, and the run's outcome back.

Whoever leaves takes its run along: a cancelled RPC interrupts the board. Only
synchronous clean-up here (measured with grpc.aio: cleanup awaited in a servicer's
`finally` is cut short when a client stops reading and leaves).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from belayd.allowance import Allowance
from belayd.board import Board
from belayd.errors import LeaseRequired, RunCancelled
from belayd.leasing import Leasing
from belayd.rpc import auth, convert
from belayd.rpc.sight import Sight
from belayd.run import Feed, Job, Order, Run, RunState
from belayd.session import Emit

T = TypeVar("T")

MOST_AN_HOUR = 3600
"""Resets, and deployments, that each principal may have in any hour: they wear boards and their flash."""
ANSWER_MARGIN = 0.05
"""Seconds before an RPC's own deadline at which belayd ends the run, so that the caller learns why."""


class Jobs:
    """Submits what callers ask for, under their leases."""

    def __init__(self, fleet: Sight, leasing: Leasing) -> None:
        self._fleet = fleet
        self._leasing = leasing
        self._allowances = {
            "reset": Allowance("resets", MOST_AN_HOUR),
            "deploy": Allowance("deployments", MOST_AN_HOUR),
        }

    def submit(
        self,
        request: Any,
        context: Any,
        operation: str,
        job: Job[T],
        emit: Emit,
        *,
        name: str,
        default_timeout: float | None = None,
        held_bytes: int = 0,
    ) -> tuple[Board, Run[T]]:
        """Queue `job` on the board called `name`, under the request's lease if it shows one.

        `held_bytes` is what the job keeps of the request in a form of its own.

        Raises whatever refuses it; nothing is queued then.
        """
        board = self._fleet.board(name)
        principal = auth.principal(context).name
        fence = self._leasing.check(board.name, request.lease_token, principal)
        timeout = convert.seconds(request, "timeout")
        if timeout is None:
            timeout = default_timeout
        remaining = context.time_remaining()
        if remaining is not None:
            remaining = max(0.0, remaining - ANSWER_MARGIN)
            timeout = remaining if timeout is None else min(timeout, remaining)
        # gRPC keeps the request itself until its answer, whatever a job keeps.
        held_bytes += request.ByteSize()
        if operation in self._allowances:
            self._allowances[operation].take(principal)
        return board, board.submit(Order(operation, fence, timeout, emit, held_bytes), job)

    def submit_calls(
        self,
        context: Any,
        job: Job[T],
        *,
        name: str,
        lease_token: str,
        timeout: float | None,
        held_bytes: int,
        steps: int,
        earlier: tuple[float, float] = (0.0, 0.0),
    ) -> Run[T]:
        """Queue a conversation's calls as one job of so many steps; it passes on their output by itself.

        `earlier` is as `run.Order` has it.
        """
        board = self._fleet.board(name)
        fence = self._leasing.check(board.name, lease_token, auth.principal(context).name)
        order = Order("call", fence, timeout, _nowhere, held_bytes, steps=steps, earlier=earlier)
        return board.submit(order, job)

    def submit_raw(self, context: Any, job: Job[T], emit: Emit, *, name: str, lease_token: str) -> Run[T]:
        """Queue a job that takes the board as it is, under a lease.

        Raises:
            LeaseRequired: No lease was shown; and whatever else refuses it.
        """
        board = self._fleet.board(name)
        fence = self._leasing.check(board.name, lease_token, auth.principal(context).name)
        if fence is None:
            raise LeaseRequired(
                f"board {name!r}: whoever types at it must hold its lease; acquire one, or only observe",
                board=name,
            )
        return board.submit(Order("attach", fence, None, emit, raw=True), job)


async def _nowhere(data: bytes) -> None:
    """Take no output."""


async def settle(run: Run[T]) -> T:
    """Wait for a run's outcome; a caller that leaves stops it."""
    try:
        return await run.outcome
    finally:
        run.stop(left())


async def pump(
    board: Board,
    run: Run[T],
    feed: Feed,
    *,
    queued: Callable[[int], Awaitable[None]],
    started: Callable[[], Awaitable[None]],
    output: Callable[[bytes], Awaitable[None]],
) -> T:
    """Pass on a run's life as it goes, and return its outcome.

    A reader that stalls stops the board's output at the feed's bound; one that
    leaves stops the run.
    """
    run.watch(feed.wake)
    feed.wake()
    told_start = False
    told_before = 0
    try:
        while True:
            await feed.changed()
            ended = run.state is RunState.ENDED
            if run.state is RunState.QUEUED and (before := board.jobs_before(run)) != told_before:
                told_before = before
                await queued(before)
            elif not told_start and run.state is not RunState.QUEUED:
                told_start = True
                await started()
            if data := feed.take():
                await output(data)
            elif ended:
                return await run.outcome
            else:
                continue
            feed.wake()
    finally:
        feed.close()
        run.stop(left())


def left() -> RunCancelled:
    """Return why a run ends whose caller does not wait for it any more."""
    return RunCancelled("the caller left; the board was interrupted")
