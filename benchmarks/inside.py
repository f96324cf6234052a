"""A board's parts without gRPC: its session alone, and its queue with states and events around that."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

from belayd.backoff import Backoff
from belayd.board import Board
from belayd.call import prepare
from belayd.events import BoardAdded, Events
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.metrics import Metrics
from belayd.outcome import Outcome, Returned
from belayd.run import Order
from belayd.session import Session
from belayd.snapshot import BoardState
from belayd.transport.serial import open_serial

Call = Callable[[int], Awaitable[Outcome]]


class Inside:
    """Calls of add(n, 2) on a board's port, timed on a loop of their own."""

    def __init__(self, path: str, source: str, *, queued: bool) -> None:
        """`queued` for jobs of a board's queue, else the session has the port to itself."""
        self._path = path
        self._source = source
        self._loop = asyncio.new_event_loop()
        opened = self._board() if queued else self._session()
        self._call, self._close = self._loop.run_until_complete(opened)

    def times(self, count: int) -> list[float]:
        """Return the milliseconds of so many calls."""
        return self._loop.run_until_complete(self._times(count))

    def close(self) -> None:
        """Give the port back."""
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _times(self, count: int) -> list[float]:
        times = []
        for number in range(count):
            began = time.perf_counter()
            outcome = await self._call(number)
            times.append((time.perf_counter() - began) * 1e3)
            if outcome != Returned(number + 2):
                raise SystemExit(f"add({number}, 2) gave {outcome}")
        return times

    async def _session(self) -> tuple[Call, Callable[[], Awaitable[None]]]:
        session = Session("b", await open_serial(self._path), _token)
        await session.start(_discard)
        await session.run(self._source, _discard)
        return lambda number: session.call(prepare("add", [number, 2], {}), _discard), session.close

    async def _board(self) -> tuple[Call, Callable[[], Awaitable[None]]]:
        events = Events()
        leasing = Leasing(events, on_ended=lambda *_: None, max_hold=3600, idle=1800)
        board = Board(Identity("b", "serial", {}, None), leasing, events, _token, Backoff(lambda: 1.0))
        events.listen(Metrics(lambda: [board.snapshot()]).count)
        ready = asyncio.Event()
        events.listen(lambda _: ready.set() if board.state is BoardState.READY else None)
        events.publish(BoardAdded("b"))
        living = asyncio.create_task(board.live())
        board.attach(partial(open_serial, self._path), self._path)
        await ready.wait()
        await board.submit(_order(), lambda session, _: session.run(self._source, _discard)).outcome

        async def call(number: int) -> Outcome:
            made = prepare("add", [number, 2], {})
            return await board.submit(_order(), lambda session, _: session.call(made, _discard)).outcome

        async def close() -> None:
            await board.close()
            await living
            leasing.close()

        return call, close


def _order() -> Order:
    return Order("call", None, None, _discard)


def _token(length: int) -> str:
    return secrets.token_hex(length)[:length]


async def _discard(data: bytes) -> None:
    """Take no output."""
