"""The resident loop: calls with little to compile, many on their way.

Runs `onboard/loop.py` at a board's prompt and speaks with it. Entering costs
nothing, since the loop's start and its first request go out in one write. Whoever
wants the raw prompt leaves first. A fault leaves `ready` False and the prompt
unproven until it is recovered; what was sent and had not started never runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from belayd.call import Call
from belayd.errors import TransportLost
from belayd.iteration import Orders
from belayd.outcome import BoardException, Outcome, Raised, Returned, decode
from belayd.prompt import Emit, Prompt
from belayd.protocol.events import Ended, Event, Framed, Output

IN_FLIGHT_BYTES = 250
"""Bytes of requests sent while the board may be busy: below the smallest ring of a port (255)."""
MOST_BODY_BYTES = 0xFFFF
_LEAVE = b"0000q"
_LEFT = b"Q"
_EXITED = b"X"
_ITEM = b"I"


class LoopMissing(Exception):
    """The board has no loop to enter; nothing of the caller's ran."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the loop: a letter of onboard/loop.py and its body."""

    letter: str
    body: bytes

    def encode(self) -> bytes:
        """Return it as the board reads it."""
        return b"%04x%s%s" % (len(self.body), self.letter.encode("ascii"), self.body)

    @property
    def fits(self) -> bool:
        """Whether the loop can take it: short enough, and without bytes that a REPL acts on."""
        return len(self.body) <= MOST_BODY_BYTES and not any(
            byte in self.body for byte in b"\x01\x02\x03\x04\x05"
        )


def request_for(call: Call | str) -> Request:
    """Return the request that does a call, or evaluates an expression."""
    if isinstance(call, str):
        return Request("e", call.strip().encode())
    return Request("e", call.expression.encode()) if call.body is None else Request("j", call.body.encode())


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

    async def pipeline(
        self,
        requests: Sequence[Request],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
    ) -> None:
        """Send requests, as far ahead as the board's input holds, and settle each in its order.

        `emit` and `settle` get the request's number first. After one that exits or
        is interrupted the rest is not settled: it never ran.

        Raises:
            LoopMissing: As its class says.
            TransportLost: The board went away or restarted.
        """
        waiting = deque(enumerate(requests))
        flying: deque[tuple[int, int]] = deque()
        flying_bytes = 0
        while waiting or flying:
            batch = bytearray()
            while waiting:
                encoded = waiting[0][1].encode()
                if flying and flying_bytes + len(encoded) > IN_FLIGHT_BYTES:
                    break
                flying.append((waiting.popleft()[0], len(encoded)))
                flying_bytes += len(encoded)
                batch += encoded
            number = flying[0][0]
            pass_on = partial(emit, number)
            if batch:
                await self._send(bytes(batch), pass_on)
            outcome, kind = await self._outcome(pass_on)
            flying_bytes -= flying.popleft()[1]
            if kind == _EXITED or _interrupted(outcome):
                await self._read_end()
                # What was sent ahead stands unread on the raw prompt's line, to be cleared first.
                self._prompt.stray_question |= bool(flying)
                await settle(number, outcome)
                return
            if not flying and not self._prompt.stray_question:
                self.ready = not waiting
            await settle(number, outcome)

    async def iterate(
        self, expression: str, orders: Orders, emit: Emit, item: Callable[[object], Awaitable[None]]
    ) -> Outcome:
        """Push the items of an expression's value to `item`, as far as `orders` allow; return its end.

        Raises:
            LoopMissing, TransportLost: As `pipeline`.
        """
        letter, body, allowed = await orders.take()
        if letter != "c":
            return Returned(None)  # closed before it began
        await self._send(Request("g", f"{allowed:04x}{expression}".encode()).encode(), emit)
        while True:
            outcome, kind = await self._outcome(emit)
            if kind == _ITEM and isinstance(outcome, Returned):
                await item(outcome.value)
                allowed -= 1
                if not allowed:
                    letter, body, allowed = await orders.take()
                    await self._prompt.send(Request(letter, body.encode()).encode())
                continue
            if kind == _EXITED or _interrupted(outcome):
                await self._read_end()
            elif not self._prompt.stray_question:
                self.ready = True
            return outcome

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
        elif self._prompt.proven:
            self._events.clear()
            start, token = f"_L('{self._token}')".encode(), self._token.encode()
            if len(start) + len(data) <= IN_FLIGHT_BYTES:
                await self._prompt.begin(start, token, emit, last=_LEFT, more=data)
                return
            # Too long to wait in the input while the loop starts: a short one shows that it reads.
            await self._prompt.begin(start, token, emit, last=_LEFT, more=Request("e", b"0").encode())
            await self._outcome(emit)
        await self._prompt.send(data)

    async def _outcome(self, emit: Emit) -> tuple[Outcome, bytes]:
        while True:
            match await self._next():
                case Output(data):
                    await emit(data)
                case Framed(kind) as framed if kind != _LEFT:
                    return decode(framed.inner if kind == _ITEM else framed), kind
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
                    return

    async def _next(self) -> Event:
        while not self._events:
            self._events.extend(await self._prompt.step())
        return self._events.popleft()


def _interrupted(outcome: Outcome) -> bool:
    match outcome:
        case Raised(BoardException(type_name="KeyboardInterrupt")):
            return True
    return False
