"""A conversation with one board: what runs at its prompt, and what belayd keeps on it.

A session belongs to its board's task; one operation runs at a time. An operation
that is cancelled, or that fails with anything but a result, leaves the prompt
unproven: `recovery` comes next.

Promises: one write and one round trip per call; output reaches `emit` as it
comes; code that raises is a result; what ran is never run again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from belayd import onboard, values
from belayd.call import Call
from belayd.errors import BoardUnresponsive, OutOfMemory, TransportLost, Unsupported
from belayd.iteration import Orders
from belayd.loop import Loop, LoopMissing, Request, request_for
from belayd.outcome import BoardRaised, Outcome, Raised, decode, raised_from
from belayd.placing import Placing
from belayd.prompt import ANSWER, BOOT, BURST_BYTES, Prompt
from belayd.prompt import Emit as Emit
from belayd.protocol.events import Ended, Framed
from belayd.snapshot import Facts, facts_from
from belayd.transport.contract import Traffic, Transport

START = 20.0
"""Seconds to take a board over: 0.3 s is usual, 2 s on a micro:bit, three times as much when it resists."""
RECOVER = 10.0
"""Seconds for a step of recovery, a restart's own time not counted."""
LOOP_BYTES = 24 * 1024
"""Free heap from which on a board runs the loop, which takes about 2 kB on 32 bits."""
_STATEMENTS, _EXPRESSION, _FUNCTION = 0, 1, 2  # what _B of onboard/runner.py is told to run
_HARD_RESET = """try:
 from machine import reset
except ImportError:
 from microcontroller import reset
reset()"""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the recovery ladder that a session can take by itself."""

    name: str
    action: Callable[[], Awaitable[None]]


class Session:
    """An open conversation with one board.

    Attributes:
        facts: What the board said of itself at `start`.
        restarts: Restarts of the interpreter noticed since `start`; names that
            callers had defined are gone with each.
    """

    facts: Facts

    def __init__(self, board: str, transport: Transport, new_token: Callable[[int], str]) -> None:
        """`new_token` returns so many letters and digits that nobody can guess."""
        self.restarts = 0
        self._board = board
        self._prompt = Prompt(board, transport, new_token)
        # Above 10 bytes, since MicroPython keeps shorter literals for ever, where a
        # program can find them (micropython.qstr_info).
        self._token = "\x1e" + new_token(10)
        self._loop = Loop(board, self._prompt, self._token)
        self._placing = Placing(board, self._prompt)

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at the raw prompt or in the loop, waiting."""
        return self._prompt.proven or self._loop.ready

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

        async def start() -> None:
            await self._prompt.reenter(idle)
            await self._prompt.prove(idle)
            await self._prompt.ask_raw_paste()
            self.facts = await self._ask_facts()
            await self._install()

        await self._within(START, start())
        return self.facts

    async def run(self, source: str, emit: Emit) -> Outcome:
        """Run statements in the board's global namespace."""
        return await self._execute(source, _STATEMENTS, emit)

    async def evaluate(self, expression: str, emit: Emit) -> Outcome:
        """Evaluate one expression there."""
        request = request_for(expression)
        if self._loops and request.fits:
            return await self._request(request, emit)
        return await self._execute(expression.strip(), _EXPRESSION, emit)

    async def call(self, call: Call, emit: Emit) -> Outcome:
        """Call a function that is there."""
        request = request_for(call)
        if self._loops and request.fits:
            return await self._request(request, emit)
        return await self._execute(call.expression, _FUNCTION, emit)

    async def converse(
        self,
        calls: Sequence[Call | str],
        emit: Callable[[int, bytes], Awaitable[None]],
        settle: Callable[[int, Outcome], Awaitable[None]],
    ) -> None:
        """Do calls and expressions in their order, on boards with the loop many at a time.

        `emit` and `settle` get the number of the call first. What comes after a call
        that exits the interpreter never runs and is not settled.
        """
        requests = [request_for(call) for call in calls]
        if self._loops and all(request.fits for request in requests):
            await self._pipeline(requests, emit, settle)
            return
        for number, call in enumerate(calls):
            pass_on = partial(emit, number)
            outcome = await (
                self.evaluate(call, pass_on) if isinstance(call, str) else self.call(call, pass_on)
            )
            await settle(number, outcome)

    async def iterate(
        self, call: Call, orders: Orders, emit: Emit, item: Callable[[object], Awaitable[None]]
    ) -> Outcome:
        """Push the items that a call's result yields, as `orders` allow; return how it ended.

        Raises:
            Unsupported: The board has no room for the loop that pushes them.
        """
        if not (self._loops and Request("g", call.expression.encode()).fits):
            raise Unsupported(
                f"board {self._board!r} cannot push items: too little memory, no sys.stdin, or too long a call; "
                "return a list instead",
                board=self._board,
            )
        try:
            outcome = await self._loop.iterate(call.expression, orders, emit, item)
        except LoopMissing:
            await self._prompt.prove(emit)
            await self._install()
            raise Unsupported(
                f"board {self._board!r} had lost its loop; try again", board=self._board
            ) from None
        await self._see_after(emit)
        return outcome

    async def command(self, source: str) -> bytes:
        """Run belayd's own text, which must hold no multi-line strings; return what it printed.

        Raises:
            BoardRaised: It raised.
            TransportLost, BoardUnresponsive: As for `start`.
        """
        await self._loop.leave(_discard)
        token = self._token
        beginning, ending = f"print({token + 'C'!r},end='')\n", f"\nfinally:print({token!r},end='')"
        body = source.rstrip("\n").replace("\n", "\n ")
        text = f"{beginning}try:\n {body}{ending}"
        if not (self._prompt.raw_paste or len(text) < BURST_BYTES):
            text = f"try:exec({await self._placing.place(beginning + source)}){ending}"
        framed, ended = await self._exchange(text.encode(), token.encode(), _discard)
        if framed is None or ended.error:
            exception = raised_from(ended.error)
            if exception.type_name == "MemoryError":
                raise OutOfMemory(
                    f"board {self._board!r} has too little memory free for this; reset it and try again",
                    board=self._board,
                )
            raise BoardRaised(exception)
        return framed.payload

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
        await self._within(BOOT + RECOVER, self._restart(emit))

    async def _restart(self, emit: Emit) -> None:
        await self._prompt.restart(emit)
        self.restarts += 1
        await self._install()

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
        await self._take_over_again(emit)

    def recovery(self, emit: Emit) -> tuple[Step, ...]:
        """Return the ladder's steps that need no new port, gentlest first.

        Each ends with a proven prompt and an installed runner, or raises
        BoardUnresponsive, and then the next is tried; TransportLost ends it.
        """
        return (
            Step("interrupt", lambda: self._within(RECOVER, self._recover_by_interrupt(emit))),
            Step("reenter", lambda: self._within(RECOVER, self._recover_by_reentry(emit))),
            Step("soft_reset", lambda: self._within(BOOT + RECOVER, self._recover_by_reset(emit))),
        )

    async def close(self) -> None:
        """Leave the board at its friendly prompt and give the port back."""
        if self._loop.ready:
            with contextlib.suppress(TransportLost, BoardUnresponsive, TimeoutError):
                async with asyncio.timeout(ANSWER):
                    await self._loop.leave(_discard)
        await self._prompt.close()

    async def _execute(self, text: str, kind: int, emit: Emit) -> Outcome:
        self._placing.refuse_too_large(text, self.facts.memory_free_bytes)
        await self._loop.leave(emit)
        token = self._token
        if kind == _FUNCTION and not self._placing.at_once(text):
            kind = _EXPRESSION  # compiled from what was placed
        code = f"lambda:{text}" if kind == _FUNCTION else await self._placing.place(text)
        source = f"_B('{token}',{code},{kind})".encode()
        framed, ended = await self._exchange(source, token.encode(), emit)
        if framed is None and _runner_missing(ended):
            # The caller's code did not start: its runner was deleted or lost in a restart.
            await self._install()
            framed, ended = await self._exchange(source, token.encode(), emit)
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
    ) -> None:
        try:
            await self._loop.pipeline(requests, emit, settle)
        except LoopMissing:
            # Nothing of the caller's ran: its runner was deleted, or lost in a restart.
            await self._prompt.prove(_discard)
            await self._install()
            await self._loop.pipeline(requests, emit, settle)
        await self._see_after(partial(emit, len(requests) - 1))

    async def _see_after(self, emit: Emit) -> None:
        if not self.proven and not self._prompt.stray_question:
            await self._take_over_again(emit)

    @property
    def _loops(self) -> bool:
        """Whether this board runs the resident loop: where input carries bytes and memory suffices."""
        free = self.facts.memory_free_bytes
        return "sys.stdin" in self.facts.modules and (free is None or free > LOOP_BYTES)

    async def _exchange(self, source: bytes, token: bytes, emit: Emit) -> tuple[Framed | None, Ended]:
        framed, ended = await self._prompt.execute(source, token, emit)
        if ended.restarted:
            await self._take_over_again(emit)
        return framed, ended

    async def _take_over_again(self, emit: Emit) -> None:
        async def take_over() -> None:
            await self._prompt.reenter(emit)
            await self._prompt.prove(emit)
            await self._install()

        self._loop.forget()
        self.restarts += 1
        await self._within(START, take_over())

    async def _within(self, limit: float, work: Coroutine[Any, Any, None]) -> None:
        """Do belayd's own work on the board within so many seconds, or say that the board failed."""
        try:
            async with asyncio.timeout(limit):
                await work
        except TimeoutError:
            raise self._failed(f"did not let itself be prepared within {limit:g} s") from None
        except (BoardRaised, OutOfMemory) as error:
            raise self._failed(f"could not be prepared: {error}") from error

    def _failed(self, what: str) -> BoardUnresponsive:
        return BoardUnresponsive(f"board {self._board!r} {what}", board=self._board)

    async def _recover_by_interrupt(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.interrupt(emit)
        await self._ensure_runner()

    async def _recover_by_reentry(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.reenter(emit)
        await self._prompt.prove(emit)
        await self._ensure_runner()

    async def _recover_by_reset(self, emit: Emit) -> None:
        self._loop.forget()
        await self._prompt.interrupt_hard(emit)
        self.restarts += 1
        await self._install()

    async def _ask_facts(self) -> Facts:
        told = values.parse((await self.command(onboard.load("facts"))).decode("utf-8", "replace").strip())
        facts = facts_from(told, self._prompt.raw_paste)
        if facts is None:
            raise self._failed(f"says of itself what no MicroPython says: {told!r}")
        return facts

    async def _install(self) -> None:
        if "sys.stdout" in self.facts.modules:
            await self.command(onboard.load("runner"))
            if self._loops:
                await self.command(onboard.load("loop"))
            return
        # Little memory: make room first, then one definition at a time, since
        # compiling takes several times what the code does.
        await self.command("import gc\n_B=_K=None\ngc.collect()")
        for definition in onboard.load("runner_small").removeprefix("def ").split("\ndef "):
            await self.command("def " + definition)

    async def _ensure_runner(self) -> None:
        if await self.command("print('_B' in globals())") != b"True":
            await self._install()


def _runner_missing(ended: Ended) -> bool:
    error = ended.error  # none: a caller has a function of that name
    return not ended.restarted and (not error or b"'_B'" in error or b"callable" in error)


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""
