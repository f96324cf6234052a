"""The resident loop: calls with little to compile, many on their way.

Runs `onboard/loop.py` at a board's prompt and speaks with it. Entering costs
nothing, since the loop's start and its first request go out in one write. Whoever
wants the raw prompt leaves first. A fault leaves `ready` False and the prompt
unproven until it is recovered; what was sent and had not started never runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from belayd.call import Call
from belayd.errors import BoardUnresponsive, OutOfMemory, TransportLost
from belayd.iteration import IterationLost, Orders
from belayd.outcome import Outcome, Returned, decode
from belayd.prompt import ANSWER, DOUBT, Emit, Prompt
from belayd.protocol.events import Ended, Event, Framed, Output
from belayd.protocol.rawrepl import INTERRUPT
from belayd.request import IN_FLIGHT_BYTES, Request, iteration_of, order_of

ASKING = 10.0
"""Seconds within which a board that takes a long request asks for the next piece; it does nothing else."""
MOST_IN_TURN = 2048
"""Items of one iteration before others have their turn: a tenth of a second on the fastest links."""
_LEAVE = b"0000q"
_PROBE = Request("e", b"0").encode()
_LEFT = b"Q"
_LAST = (b"X", b"K")  # exited, interrupted: the loop leaves
_ITEM = b"I"
_PAUSED = b"P"
_UNKNOWN = b"U"
_NEXT = b"A"
_INTERRUPTED = b"K"
_ENDS = (b"N", b"V", b"v", b"O", b"X", b"E", b"K")


class LoopMissing(Exception):
    """The board has no loop to enter; nothing of the caller's ran."""


class Loop:
    """The loop of one session, entered when it is first needed.

    Attributes:
        ready: Whether the board is in the loop and waits for a request.
    """

    def __init__(self, board: str, prompt: Prompt, token: str) -> None:
        self.ready = False
        self._board = board
        self._prompt = prompt
        self._token = token
        self._events: deque[Event] = deque()
        self._flying: deque[tuple[int, int]] = deque()  # requests that were sent: number and size

    async def pipeline(
        self,
        requests: Sequence[Request],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
        wanted: Callable[[int], bool] = lambda number: True,
    ) -> None:
        """Send requests, as far ahead as the board's input holds, and settle each in its order.

        `emit` and `settle` get the request's number first. One that is not `wanted` any
        more when its turn comes is left out. After one that exits or is interrupted
        the rest is not settled: it never ran. After a cancellation `halt` tells how
        far the board came.

        Raises:
            LoopMissing: As its class says.
            OutOfMemory: The board has no room for the next request, which never ran, nor
                did those after it; the board is `ready`.
            TransportLost: The board went away or restarted.
        """
        try:
            await self._flow(requests, emit, settle, wanted)
        except OutOfMemory:
            self.ready = not self._prompt.stray_question
            raise

    async def _flow(
        self,
        requests: Sequence[Request],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
        wanted: Callable[[int], bool],
    ) -> None:
        waiting = deque(enumerate(requests))
        flying = self._flying = deque()
        flying_bytes = 0
        sent = False
        while waiting or flying:
            batch = bytearray()
            while waiting:
                number, request = waiting[0]
                if flying and flying_bytes + request.size > IN_FLIGHT_BYTES:
                    break
                if not wanted(number):
                    waiting.popleft()
                    continue
                flying.append((number, request.size))
                flying_bytes += request.size
                if request.long:  # by itself: nothing else is flying, and nothing joins it
                    await self._put(request, partial(emit, number))
                else:
                    batch += request.encode()
                waiting.popleft()
            if not flying:
                # The rest was not wanted; between two requests the board waits in the loop.
                self.ready |= sent and not self._prompt.stray_question
                return
            sent = True
            number = flying[0][0]
            pass_on = partial(emit, number)
            if batch:
                await self._send(bytes(batch), pass_on)
            outcome, kind = await self._outcome(pass_on)
            flying_bytes -= flying.popleft()[1]
            if kind in _LAST:
                await self._read_end()
                # What was sent ahead stands unread on the raw prompt's line, to be cleared first.
                self._prompt.stray_question |= bool(flying) and self._prompt.proven
                await settle(number, outcome)
                return
            if not flying and not self._prompt.stray_question:
                self.ready = not waiting
            await settle(number, outcome)

    async def iterate(
        self,
        call: Call | None,
        name: str,
        orders: Orders,
        emit: Emit,
        item: Callable[[object], Awaitable[None]],
    ) -> Outcome | None:
        """Push the items of a call's result to `item` as `orders` allow; return its end.

        Returns None when it waits on the board: there are no orders left, or many items
        were pushed and others shall have their turn. `call` is for an iteration that has
        not begun, and `name` what it is called from then on.

        Raises:
            LoopMissing: As its class says; an iteration that had begun is gone with the loop.
            IterationLost: The board has none of this name.
            OutOfMemory, TransportLost: As `pipeline`.
        """
        pushed = 0
        while pushed < MOST_IN_TURN and (order := orders.take()) is not None:
            begins = orders.name is None
            if begins and (order.letter != "c" or call is None):
                return Returned(None)  # closed before it began
            try:
                if begins and call is not None:
                    orders.name = name
                    await self._put(iteration_of(call, name, order.items), emit)
                else:
                    await self._put(order_of(order.letter, name, order.body), emit)
                framed = await self._framed(emit)
            except LoopMissing:
                if begins:
                    orders.name = None
                    orders.put_back(order)
                raise
            except OutOfMemory:
                self.ready = not self._prompt.stray_question
                raise
            while framed.kind == _ITEM:
                outcome = decode(framed.inner)
                if not isinstance(outcome, Returned):
                    raise BoardUnresponsive(
                        f"board {self._board!r} sent an item that is no value", board=self._board
                    )
                await item(outcome.value)
                pushed += 1
                framed = await self._framed(emit)
            if framed.kind in _LAST:
                await self._read_end()
                return decode(framed)
            self.ready = not self._prompt.stray_question
            if framed.kind == _UNKNOWN:
                raise IterationLost
            if framed.kind != _PAUSED:
                return decode(framed)
            if not self.ready:
                break
        return None

    async def halt(
        self,
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
    ) -> int | None:
        """Interrupt after a `pipeline` that was cancelled, and find out how far the board came.

        Settles requests that had ended. Returns the number of the one that the
        interrupt met, None if it met none; those after it never ran.

        Raises:
            BoardUnresponsive: What the board answers leaves that open.
            TransportLost: The board went away.
        """
        flying, self._flying = self._flying, deque()
        if self._prompt.proven:
            return None  # nothing had been sent
        await self._prompt.send(INTERRUPT if flying else INTERRUPT + _LEAVE)
        number = met = None
        ended: tuple[int, Outcome] | None = None
        while True:
            match await self._next():
                case Output(data):
                    number = flying[0][0] if flying else number
                    if number is not None:
                        await emit(number, data)
                case Framed(kind) as framed if kind in _ENDS and flying:
                    # Settled when the next frame shows that this one was not cut short.
                    if ended is not None:
                        await settle(*ended)
                    number, ended = flying.popleft()[0], None
                    outcome = decode(framed)
                    if kind == _INTERRUPTED:
                        met = number
                    else:
                        ended = number, outcome
                    if not flying:  # it may have swallowed the interrupt and wait for more
                        await self._prompt.send(_LEAVE)
                case Framed(kind) if kind in (_LEFT, _NEXT, _INTERRUPTED):
                    continue  # interrupted after the last had ended, or while it asked for more
                case Framed():
                    raise BoardUnresponsive(
                        f"board {self._board!r} was interrupted in the middle of an answer",
                        board=self._board,
                    )
                case Ended(restarted=restarted):
                    if ended is not None:
                        await settle(*ended)
                    self._prompt.proven = not restarted
                    # What was sent and not read stands on the raw prompt's line, to be cleared first.
                    self._prompt.stray_question = not restarted
                    return met

    async def leave(self, emit: Emit) -> None:
        """Go back to the raw prompt, if the board is in the loop."""
        if self.ready:
            self.ready = False
            await self._prompt.drain(emit)
            await self._prompt.send(_LEAVE)
            await self._read_end()

    def forget(self) -> None:
        """Note that the board is anywhere but in the loop."""
        self.ready = False
        self._events.clear()

    async def _send(self, data: bytes, emit: Emit) -> None:
        if self.ready:
            self.ready = False
            await self._prompt.drain(emit)
            if self._prompt.disturbed:
                await self._ask(emit)
        elif self._prompt.proven:
            self._events.clear()
            start, token = f"_L('{self._token}')".encode(), self._token.encode()
            if len(start) + len(data) <= IN_FLIGHT_BYTES:
                await self._prompt.begin(start, token, emit, last=_LEFT, more=data)
                return
            # Too long to wait in the input while the loop starts: a short one shows that it reads.
            await self._prompt.begin(start, token, emit, last=_LEFT, more=_PROBE)
            await self._outcome(emit)
        await self._prompt.send(data)

    async def _ask(self, emit: Emit) -> None:
        """Find out whether a board that printed while nothing ran is in the loop still, not restarted."""
        printed: list[bytes] = []

        async def keep(data: bytes) -> None:
            printed.append(data)

        # What it printed may look like a prompt, but the loop survives no question but its own.
        self._prompt.doubt_after(2 * ANSWER)
        try:
            async with asyncio.timeout(ANSWER):
                await self._prompt.send(_PROBE)
                await self._framed(keep)
        except TimeoutError:
            raise TransportLost(
                f"board {self._board!r} restarted while nothing ran; its names are gone: start over",
                board=self._board,
            ) from None
        self._prompt.disturbed = False
        self._prompt.doubt_after(DOUBT)
        for data in printed:
            await emit(data)

    async def _put(self, request: Request, emit: Emit) -> None:
        """Send a request; one that is long in parts, each when the board asks for it."""
        parts = request.parts() if request.long else iter((request.encode(),))
        await self._send(next(parts), emit)
        for part in parts:
            await self._asked(emit)
            await self._prompt.send(part)

    async def _asked(self, emit: Emit) -> None:
        """Wait until the board asks for the next part of a long request."""
        try:
            async with asyncio.timeout(ASKING):
                framed = await self._framed(emit)
        except TimeoutError:
            framed = None
        if framed is None or framed.kind != _NEXT:
            raise BoardUnresponsive(
                f"board {self._board!r} lost some of a long request on its way; nothing of it ran: "
                "try again, or send it in smaller parts",
                board=self._board,
            )

    async def _outcome(self, emit: Emit) -> tuple[Outcome, bytes]:
        framed = await self._framed(emit)
        return decode(framed), framed.kind

    async def _framed(self, emit: Emit) -> Framed:
        while True:
            match await self._next():
                case Output(data):
                    await emit(data)
                case Framed(kind=b"M"):
                    raise OutOfMemory(
                        f"board {self._board!r} has too little memory free for what it was sent; "
                        "nothing of it ran: send it in smaller parts",
                        board=self._board,
                    )
                case Framed(kind) as framed if kind != _LEFT:
                    return framed
                case Ended(framed=False, restarted=False, error=error) if (
                    # Without an error, a caller has a function of that name.
                    not error or b"'_L'" in error or b"callable" in error
                ):
                    raise LoopMissing
                case Framed() | Ended():
                    raise TransportLost(
                        f"board {self._board!r} left its loop while a task ran; its names may be gone: start over",
                        board=self._board,
                    )

    async def _read_end(self) -> None:
        while True:
            match await self._next():
                case Ended(restarted=restarted):
                    self._prompt.proven = not restarted
                    # Taking a restarted board over clears its input anyway.
                    self._prompt.stray_question &= not restarted
                    return

    async def _next(self) -> Event:
        while not self._events:
            self._events.extend(await self._prompt.step())
        return self._events.popleft()
