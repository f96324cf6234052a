"""A conversation with one board: what runs there, one operation at a time.

A session belongs to its board's task; one operation runs at a time. An operation
that is cancelled, or that fails with anything but a result, leaves the prompt
unproven: `recovery` comes next.

Promises: one write and one round trip per call; output reaches `emit` as it
comes; code that raises is a result; what ran is never run again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from belayd import circuitpython
from belayd.call import Call
from belayd.dialogue import Partner, T, hold
from belayd.errors import BoardUnresponsive, TransportLost, Unsupported
from belayd.installation import RECOVER, Installation, Step
from belayd.iteration import IterationLost, Orders
from belayd.loop import Loop, LoopMissing
from belayd.outcome import BoardRaised, Outcome, Raised, decode, raised_from
from belayd.passthrough import Keys
from belayd.placing import Placing
from belayd.prompt import ANSWER, BOOT, Prompt, discard
from belayd.prompt import Emit as Emit
from belayd.protocol.events import Ended, Framed
from belayd.request import NAME_LENGTH, Request, iteration_of, request_for
from belayd.snapshot import Facts
from belayd.transport.contract import Traffic, Transport

_STATEMENTS, _EXPRESSION, _FUNCTION = 0, 1, 2  # what _B of onboard/runner.py is told to run
_HARD_RESET = """try:
 from machine import reset
except ImportError:
 from microcontroller import reset
reset()"""


class Session:
    """An open conversation with one board.

    Attributes:
        taken: Whether `start` took it over; until then its own program goes on undisturbed.
    """

    def __init__(self, board: str, transport: Transport, new_token: Callable[[int], str]) -> None:
        """`new_token` returns so many letters and digits that nobody can guess."""
        self.taken = False
        self._board = board
        self._new_token = new_token
        self._prompt = Prompt(board, transport, new_token)
        # Above 10 bytes, since MicroPython keeps shorter literals for ever, where a
        # program can find them (micropython.qstr_info).
        self._token = "\x1e" + new_token(10)
        self._loop = Loop(board, self._prompt, self._token)
        self._calling: int | None = None  # the number of the call that runs without the loop
        self._placing = Placing(board, self._prompt)
        self._installation = Installation(board, self._prompt, self._loop, self._placing, self._token)

    @property
    def facts(self) -> Facts:
        """What the board said of itself at `start`."""
        return self._installation.facts

    @facts.setter
    def facts(self, facts: Facts) -> None:
        """Hold the board for less than it said, say."""
        self._installation.facts = facts

    @property
    def restarts(self) -> int:
        """Restarts of the interpreter noticed since `start`; names that callers had defined are gone with each."""
        return self._installation.restarts

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at the raw prompt or in the loop, waiting."""
        return self._prompt.proven or self._loop.ready

    @property
    def address(self) -> str:
        """Where the board is, for people."""
        return self._prompt.address

    @property
    def traffic(self) -> Traffic:
        """Bytes that went through this session's transport."""
        return self._prompt.traffic

    async def start(self, idle: Emit) -> Facts:
        """Interrupt whatever runs, enter the raw REPL, ask who is there, install the runner.

        `idle` gets what the board printed meanwhile.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: No raw prompt, or no sense in its answers.
        """
        facts = await self._installation.begin(idle)
        self.taken = True
        return facts

    async def run(self, source: str, emit: Emit) -> Outcome:
        """Run statements in the board's global namespace."""
        return await self._execute(source, _STATEMENTS, emit)

    async def evaluate(self, expression: str, emit: Emit) -> Outcome:
        """Evaluate one expression there."""
        request = request_for(expression)
        if self._installation.loops and request.fits:
            return await self._request(request, emit)
        return await self._execute(expression.strip(), _EXPRESSION, emit)

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """Call a function that is there."""
        request = request_for(call)
        if self._installation.loops and request.fits:
            return await self._request(request, emit)
        self._placing.refuse_too_long(call)
        return await self._execute(call.spelled_out(), _FUNCTION, emit)

    async def converse(
        self,
        calls: Sequence[Call | str],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
        wanted: Callable[[int], bool] = lambda number: True,
    ) -> None:
        """Do calls and expressions in their order, on boards with the loop many at a time.

        `emit` and `settle` get the number of the call first. One that is not `wanted`
        any more when its turn comes is left out. What comes after a call that exits
        the interpreter never runs and is not settled.
        """
        self._calling = None
        requests = [request_for(call) for call in calls]
        if self._installation.loops and all(request.fits for request in requests):
            await self._pipeline(requests, emit, settle, wanted)
            return
        for number, call in enumerate(calls):
            if not wanted(number):
                continue
            self._calling = number
            pass_on = partial(emit, number)
            outcome = await (
                self.evaluate(call, pass_on) if isinstance(call, str) else self.call(call, pass_on)
            )
            self._calling = None
            await settle(number, outcome)

    async def halt(
        self,
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
    ) -> int | None:
        """Interrupt the board after a `converse` that was cancelled.

        Settles calls that had ended. Returns the number of the one that the interrupt
        met, None if it met none; those after it never ran.

        Raises:
            BoardUnresponsive: How far the board came cannot be told, or it is still busy.
            TransportLost: The board went away.
        """
        met = self._calling
        if met is not None:
            await self._installation.within(RECOVER, self._recover_by_interrupt(partial(emit, met)))
            return met

        async def halt() -> None:
            nonlocal met
            met = await self._loop.halt(emit, settle)

        await self._installation.within(ANSWER, halt())
        await self._see_after(discard)
        return met

    async def iterate(
        self, call: Call | None, orders: Orders, emit: Emit, item: Callable[[object], Awaitable[None]]
    ) -> Outcome | None:
        """Push the items that a call's result yields, as `orders` allow; return how it ended.

        Returns None when it waits on the board and other work may be done there: there
        are no orders left, or many items were pushed and others shall have their turn.
        The next `iterate` with the same orders goes on; `call` may be None then.

        Raises:
            Unsupported: The board has no room for the loop that pushes them.
            IterationLost: It had begun, and the board knows nothing of it any more.
        """
        name = orders.name or self._new_token(NAME_LENGTH)
        if not self._installation.loops or (call is not None and not iteration_of(call, name, 0).fits):
            raise Unsupported(
                f"board {self._board!r} cannot push items: too little memory, no sys.stdin, or too long a call; "
                "return a list instead",
                board=self._board,
            )
        try:
            outcome = await self._loop.iterate(call, name, orders, emit, item)
        except LoopMissing:
            await self._installation.put_back()
            if orders.name is not None:
                raise IterationLost from None
            outcome = await self._loop.iterate(call, name, orders, emit, item)
        await self._see_after(emit)
        return outcome

    async def command(self, source: str) -> bytes:
        """Run belayd's own text, which must hold no multi-line strings; return what it printed.

        Raises:
            BoardRaised: It raised.
            TransportLost, BoardUnresponsive: As for `start`.
        """
        return await self._installation.command(source)

    async def dialogue(self, call: str, partner: Partner[T], more: bytes = b"") -> T:
        """Start belayd's own text, which `command` has installed, and let `partner` speak with it to its end.

        `call` is short and has "{token!r}" where it takes the token; `more` is for it to read
        at once, over a link that holds back what is not read.

        Raises:
            BoardRaised, OutOfMemory: It did.
            TransportLost, BoardUnresponsive: As for `start`.
        """
        await self._loop.leave(discard)
        text = call.format(token=self._token)
        return await hold(self._board, self._prompt, text, self._token, partner, more)

    async def drain(self, emit: Emit) -> None:
        """Give `emit` what the board printed while nothing ran.

        Raises:
            TransportLost: The board went away.
        """
        await self._prompt.drain(emit)

    async def soft_reset(self, emit: Emit) -> None:
        """Restart the interpreter; boot.py runs, main.py does not.

        Raises:
            TransportLost, BoardUnresponsive: As for `start`.
        """
        await self._loop.leave(emit)
        await self._installation.within(BOOT + RECOVER, self._installation.restart(emit))

    async def hand_back(self, emit: Emit) -> None:
        """Let the board run its own program again, if anything was ever sent to it; it is not `taken` then.

        Raises:
            TransportLost, BoardUnresponsive: As for `start`.
        """
        if not self.traffic.sent_bytes:
            return
        if self._loop.ready:
            await self._loop.leave(emit)
        elif not self._prompt.proven:
            await self._installation.within(RECOVER, self._prompt.reenter(emit))
        if self.taken and self._prompt.proven:
            await circuitpython.leave(self._prompt, self.facts)
        self.taken = False
        await self._prompt.release(emit)

    async def attach(self, keys: Keys, emit: Emit) -> None:
        """Join a person and the board: raw bytes both ways until `keys` gives b"".

        A board that was taken shows its friendly prompt first, and is taken again afterwards.

        Raises:
            TransportLost, BoardUnresponsive: As for `start`.
        """
        await self._loop.leave(emit)
        await self._prompt.pass_through(keys, emit)
        if self.taken:
            await self._installation.within(RECOVER, self._recover_by_reentry(emit))

    async def hard_reset(self, emit: Emit) -> None:
        """Reset the chip; the link may vanish with it, and the session with the link.

        Raises:
            TransportLost: The link went away, as it does on native USB.
            BoardRaised: This board has no way to do it.
        """
        await self._loop.leave(emit)
        source = f"exec({await self._placing.place(_HARD_RESET)})"
        ended = await self._prompt.reset_chip(source.encode(), emit)
        if ended is not None and ended.error:
            raise BoardRaised(raised_from(ended.error))
        await self._installation.take_over(emit)

    def recovery(self, emit: Emit) -> tuple[Step, ...]:
        """Return the ladder's steps that need no new port, gentlest first.

        Each ends with a proven prompt and an installed runner, or raises
        BoardUnresponsive, and then the next is tried; TransportLost ends it.
        """
        return (
            Step("interrupt", lambda: self._installation.within(RECOVER, self._recover_by_interrupt(emit))),
            Step("reenter", lambda: self._installation.within(RECOVER, self._recover_by_reentry(emit))),
            Step(
                "soft_reset", lambda: self._installation.within(BOOT + RECOVER, self._recover_by_reset(emit))
            ),
        )

    async def close(self) -> None:
        """Leave the board at its friendly prompt and give the port back."""
        if self._loop.ready:
            with contextlib.suppress(TransportLost, BoardUnresponsive, TimeoutError):
                async with asyncio.timeout(ANSWER):
                    await self._loop.leave(discard)
        if self.taken and self._prompt.proven:
            await circuitpython.leave(self._prompt, self.facts)
        await self._prompt.close()

    async def _execute(self, text: str, kind: int, emit: Emit) -> Outcome:
        self._placing.refuse_too_large(text, self.facts.memory_free_bytes)
        await self._loop.leave(emit)
        token = self._token
        if kind == _FUNCTION and not self._placing.at_once(text):
            kind = _EXPRESSION  # compiled from what was placed

        async def attempt() -> tuple[Framed | None, Ended]:
            code = f"lambda:{text}" if kind == _FUNCTION else await self._placing.place(text)
            return await self._installation.exchange(
                f"_B('{token}',{code},{kind})".encode(), token.encode(), emit
            )

        framed, ended = await attempt()
        if framed is None and _runner_missing(ended):
            # The caller's code did not start: its runner was deleted or lost in a restart.
            await self._installation.put_back()
            framed, ended = await attempt()
        if framed is not None:
            return decode(framed)
        if ended.error:
            return Raised(raised_from(ended.error))
        raise TransportLost(
            f"board {self._board!r} restarted while the task ran; its names are gone: start over",
            board=self._board,
        )

    async def _request(self, request: Request, emit: Emit) -> Outcome:
        outcomes: list[Outcome] = []

        async def settle(number: int, outcome: Outcome) -> None:
            outcomes.append(outcome)

        await self._pipeline([request], lambda _, data: emit(data), settle)
        return outcomes[0]

    async def _pipeline(
        self,
        requests: Sequence[Request],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
        wanted: Callable[[int], bool] = lambda number: True,
    ) -> None:
        try:
            await self._loop.pipeline(requests, emit, settle, wanted)
        except LoopMissing:
            # Nothing of the caller's ran: its runner was deleted, or lost in a restart.
            await self._installation.put_back()
            await self._loop.pipeline(requests, emit, settle, wanted)
        await self._see_after(partial(emit, len(requests) - 1))

    async def _see_after(self, emit: Emit) -> None:
        if not self.proven and not self._prompt.stray_question:
            await self._installation.take_over(emit)

    async def _recover_by_interrupt(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.interrupt(emit)
        await self._installation.ensure()

    async def _recover_by_reentry(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.reenter(emit)
        await self._prompt.prove(emit)
        await self._installation.ensure()

    async def _recover_by_reset(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.interrupt_hard(emit)
        await self._installation.begin_anew()


def _runner_missing(ended: Ended) -> bool:
    error = ended.error  # none: a caller has a function of that name
    return not ended.restarted and (not error or b"'_B'" in error or b"callable" in error)
