"""What belayd keeps on a board: its runner and its loop, there from the first prompt on and after each restart.

Asks who the board is, installs what suits it, and puts it back where somebody's code
or a restart took it away. Promises: whoever returns from here has a board that is
ready for callers' code, or an error that says why not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from belayd import circuitpython, onboard, values
from belayd.errors import BoardUnresponsive, OutOfMemory
from belayd.loop import Loop
from belayd.outcome import BoardRaised, raised_from
from belayd.placing import Placing
from belayd.prompt import BURST_BYTES, PLAIN_BYTES, Emit, Prompt, discard
from belayd.protocol.events import Ended, Framed
from belayd.snapshot import Facts, facts_from

START = 20.0
"""Seconds to take a board over: 0.3 s is usual, 2 s on a micro:bit, three times as much when it resists."""
RECOVER = 10.0
"""Seconds for a step of recovery, a restart's own time not counted."""
LOOP_BYTES = 24 * 1024
"""Free heap from which on a board runs the loop, which takes about 2 kB on 32 bits."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the recovery ladder that a session can take by itself."""

    name: str
    action: Callable[[], Awaitable[None]]


class Installation:
    """belayd's own on one board.

    Attributes:
        facts: What the board said of itself at `begin`.
        restarts: Restarts of the interpreter noticed since `begin`.
    """

    facts: Facts

    def __init__(self, board: str, prompt: Prompt, loop: Loop, placing: Placing, token: str) -> None:
        """`token` frames the answers of belayd's own text."""
        self.restarts = 0
        self._board = board
        self._prompt = prompt
        self._loop = loop
        self._placing = placing
        self._token = token
        self._has_stdout = False

    @property
    def loops(self) -> bool:
        """Whether this board runs the resident loop: where input carries bytes, and it and memory suffice."""
        free = self.facts.memory_free_bytes
        room = self._prompt.input_bytes >= PLAIN_BYTES and (free is None or free > LOOP_BYTES)
        return room and "sys.stdin" in self.facts.modules

    async def begin(self, idle: Emit) -> Facts:
        """Take the board over from whatever runs; `idle` gets what it printed meanwhile.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: No raw prompt, or no sense in its answers.
        """

        async def begin() -> None:
            await self._prompt.reenter(idle)
            await self._prompt.prove(idle)
            await self._prompt.ask_raw_paste()
            self._has_stdout = False
            facts = await self._ask_facts()
            if facts is None:
                # Somebody's names are in the way, or a thread prints: a restart ends both.
                await self._prompt.restart(idle)
                facts = await self._ask_facts()
            if facts is None:
                raise self._failed("says of itself what no MicroPython says")
            self.facts = facts
            self._has_stdout = "sys.stdout" in self.facts.modules
            if not self._has_stdout:
                # Names are never freed; those of the question took 450 B of a micro:bit's 9.7 kB.
                await self._prompt.restart(idle)
            await self._install()

        await self.within(START, begin())
        return self.facts

    async def command(self, source: str) -> bytes:
        """Run belayd's own text, which must hold no multi-line strings; return what it printed.

        Raises:
            BoardRaised: It raised.
            TransportLost, BoardUnresponsive: As for `begin`.
        """
        await self._loop.leave(discard)
        token = self._token
        beginning, ending = f"{self._saying(token + 'C')}\n", f"\nfinally:{self._saying(token)}"
        body = source.rstrip("\n").replace("\n", "\n ")
        text = f"{beginning}try:\n {body}{ending}"
        if not (self._prompt.raw_paste or len(text) < BURST_BYTES):
            text = f"try:exec({await self._placing.place(beginning + source)}){ending}"
        framed, ended = await self.exchange(text.encode(), token.encode(), discard)
        if framed is None or ended.error:
            exception = raised_from(ended.error)
            if exception.type_name == "MemoryError":
                raise OutOfMemory(
                    f"board {self._board!r} has too little memory free for this; reset it and try again",
                    board=self._board,
                )
            raise BoardRaised(exception)
        return framed.payload

    async def exchange(self, source: bytes, token: bytes, emit: Emit) -> tuple[Framed | None, Ended]:
        """As `Prompt.execute`; a board that restarted is taken over again."""
        framed, ended = await self._prompt.execute(source, token, emit)
        if ended.restarted:
            await self.take_over(emit)
        return framed, ended

    async def take_over(self, emit: Emit) -> None:
        """Begin with a board that restarted, which lost everything but its identity."""

        async def take_over() -> None:
            await self._prompt.reenter(emit)
            await self._prompt.prove(emit)
            await self._install()

        self._loop.forget()
        self.restarts += 1
        await self.within(START, take_over())

    async def restart(self, emit: Emit) -> None:
        """Restart the interpreter; boot.py runs, main.py does not."""
        await self._prompt.restart(emit)
        await self.begin_anew()

    async def begin_anew(self) -> None:
        """Install everything at the proven prompt of an interpreter that has just restarted."""
        self.restarts += 1
        await self._install()

    async def put_back(self) -> None:
        """Install again what a caller's code deleted or a restart that nobody noticed took away."""
        await self._prompt.prove(discard)
        await self.within(RECOVER, self._install())

    async def ensure(self) -> None:
        """Install what is not there; what callers had defined stays."""
        if not await self.command(f"if '_B' in globals():{self._saying('1')}"):
            await self._install()

    async def within(self, limit: float, work: Coroutine[Any, Any, None]) -> None:
        """Do belayd's own work on the board within so many seconds, or say that the board failed."""
        try:
            async with asyncio.timeout(limit):
                await work
        except TimeoutError:
            raise self._failed(f"did not let itself be prepared within {limit:g} s") from None
        except (BoardRaised, OutOfMemory) as error:
            # Somebody's names or memory are in the way: a soft reset, in recovery, helps.
            self._prompt.proven = False
            raise self._failed(f"could not be prepared: {error}") from error

    def _failed(self, what: str) -> BoardUnresponsive:
        return BoardUnresponsive(f"board {self._board!r} {what}", board=self._board)

    async def _ask_facts(self) -> Facts | None:
        """Return what the board says of itself, None if it makes no sense."""
        try:
            line, _, rest = (await self.command(onboard.load("facts"))).partition(b"\n")
            told = values.parse(line.decode("utf-8", "replace").strip())
        except (BoardRaised, ValueError):
            return None
        facts = facts_from(told, self._prompt.raw_paste, clear=rest == bytes(range(256)))
        return facts and await circuitpython.prepare(self.command, facts)

    async def _install(self) -> None:
        if "sys.stdout" in self.facts.modules:
            await self.command(f"_R={self.facts.clear}\n{onboard.load('runner')}")
            if self.loops:
                await self.command(onboard.load("loop"))
            return
        # Little memory: make room first, since compiling takes several times what the code does.
        await self.command("import gc\n_B=0\ngc.collect()")
        await self.command(onboard.load("runner_small"))

    def _saying(self, text: str) -> str:
        """Return code that prints `text`; where it can, also if somebody called something else print."""
        if self._has_stdout and self._prompt.raw_paste:  # elsewhere it is too long for a small input
            return f"__import__('sys').stdout.write({text!r})"
        return f"print({text!r},end='')"
