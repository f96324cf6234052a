"""A conversation with one board: what runs at its prompt, and what belayd keeps on it.

A session belongs to its board's task; one operation runs at a time. An operation
that is cancelled, or that fails with anything but a result, leaves the prompt
unproven: `recovery` comes next.

Promises: one write and one round trip per call; output reaches `emit` as it
comes; code that raises is a result; what ran is never run again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from belayd import onboard, values
from belayd.errors import BoardUnresponsive, OutOfMemory, TransportLost
from belayd.outcome import BoardRaised, Outcome, Raised, decode, raised_from
from belayd.prompt import Emit as Emit
from belayd.prompt import Prompt
from belayd.protocol.events import Ended, Framed
from belayd.snapshot import Facts, facts_from
from belayd.transport.contract import Traffic, Transport

_HARD_RESET = b"""try:
 from machine import reset
except ImportError:
 from microcontroller import reset
reset()"""

_CONTROL = re.compile("[\x00-\x1f\x7f]")


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
        # One token for all executions: MicroPython keeps each string literal of up to
        # 10 bytes for ever, so a new one at each call would fill the board's memory.
        self._token = "\x1e" + new_token(5)

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at the raw prompt."""
        return self._prompt.proven

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
        await self._prompt.reenter(idle)
        await self._prompt.prove(idle)
        await self._prompt.ask_raw_paste()
        self.facts = await self._ask_facts()
        await self._install()
        return self.facts

    async def run(self, source: str, emit: Emit) -> Outcome:
        """Run statements in the board's global namespace."""
        return await self._execute(f"{_literal(source)},0", emit)

    async def evaluate(self, expression: str, emit: Emit) -> Outcome:
        """Evaluate one expression there."""
        return await self._execute(f"{_literal(expression.strip())},1", emit)

    async def call(self, function: str, arguments: str, emit: Emit) -> Outcome:
        """Call `function` with `arguments`, the text between its parentheses, made of literals."""
        return await self._execute(f"lambda:{function}({arguments}),2", emit)

    async def command(self, source: str) -> bytes:
        """Run belayd's own text, which must hold no multi-line strings; return what it printed.

        Raises:
            BoardRaised: It raised.
            TransportLost, BoardUnresponsive: As for `start`.
        """
        token = self._token
        body = source.rstrip("\n").replace("\n", "\n ")
        printing = f"print({token!r},end='')"
        text = f"print({token + 'C'!r},end='')\ntry:\n {body}\nfinally:{printing}"
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
        await self._prompt.restart(emit)
        self.restarts += 1
        await self._install()

    async def hard_reset(self, emit: Emit) -> None:
        """Reset the chip; the link may vanish with it, and the session with the link.

        Raises:
            TransportLost: The link went away, as it does on native USB.
            BoardRaised: This board has no way to do it.
        """
        ended = await self._prompt.reset_chip(_HARD_RESET, emit)
        if ended is not None and ended.error:
            raise BoardRaised(raised_from(ended.error))
        await self._take_over_again(emit)

    def recovery(self, emit: Emit) -> tuple[Step, ...]:
        """Return the ladder's steps that need no new port, gentlest first.

        Each ends with a proven prompt and an installed runner, or raises
        BoardUnresponsive, and then the next is tried; TransportLost ends it.
        """
        return (
            Step("interrupt", lambda: self._recover_by_interrupt(emit)),
            Step("reenter", lambda: self._recover_by_reentry(emit)),
            Step("soft_reset", lambda: self._recover_by_reset(emit)),
        )

    async def close(self) -> None:
        """Leave the board at its friendly prompt and give the port back."""
        await self._prompt.close()

    async def _execute(self, arguments: str, emit: Emit) -> Outcome:
        self._refuse_too_large(arguments)
        token = self._token
        source = f"_B({token!r},{arguments})".encode()
        framed, ended = await self._exchange(source, token.encode(), emit)
        if framed is None and self._runner_missing(ended):
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

    def _refuse_too_large(self, text: str) -> None:
        free = self.facts.memory_free_bytes
        # Old firmware buffers a whole command before it compiles it, and stops for good
        # when that fails (seen on micro:bit v1: 3,000 bytes with 7 kB free).
        if not self._prompt.raw_paste and free is not None and 4 * len(text) > free:
            raise OutOfMemory(
                f"board {self._board!r} has {free} bytes of memory and cannot take {len(text)} bytes of "
                "source at once; send it in smaller parts",
                board=self._board,
                free_bytes=free,
                source_bytes=len(text),
            )

    def _runner_missing(self, ended: Ended) -> bool:
        return ended.restarted is False and b"NameError" in ended.error and b"'_B'" in ended.error

    async def _exchange(self, source: bytes, token: bytes, emit: Emit) -> tuple[Framed | None, Ended]:
        framed, ended = await self._prompt.execute(source, token, emit)
        if ended.restarted:
            await self._take_over_again(emit)
        return framed, ended

    async def _take_over_again(self, emit: Emit) -> None:
        self.restarts += 1
        await self._prompt.reenter(emit)
        await self._prompt.prove(emit)
        await self._install()

    async def _recover_by_interrupt(self, emit: Emit) -> None:
        await self._prompt.interrupt(emit)
        await self._ensure_runner()

    async def _recover_by_reentry(self, emit: Emit) -> None:
        await self._prompt.reenter(emit)
        await self._prompt.prove(emit)
        await self._ensure_runner()

    async def _recover_by_reset(self, emit: Emit) -> None:
        await self._prompt.interrupt_hard(emit)
        self.restarts += 1
        await self._install()

    async def _ask_facts(self) -> Facts:
        told = values.parse((await self.command(onboard.load("facts"))).decode("utf-8", "replace").strip())
        facts = facts_from(told, self._prompt.raw_paste)
        if facts is None:
            raise BoardUnresponsive(
                f"board {self._board!r} says of itself what no MicroPython says: {told!r}", board=self._board
            )
        return facts

    async def _install(self) -> None:
        if "sys.stdout" in self.facts.modules:
            await self.command(onboard.load("runner"))
            return
        # Little memory: make room first, then one definition at a time, since
        # compiling takes several times what the code does.
        await self.command("import gc\n_B=_K=None\ngc.collect()")
        for definition in onboard.load("runner_small").split("\ndef "):
            await self.command(definition if definition.startswith("import") else "def " + definition)

    async def _ensure_runner(self) -> None:
        if await self.command("print('_B' in globals())") != b"True":
            await self._install()


def _literal(source: str) -> str:
    r"""Return `source` as a Python literal in one line, without bytes that a REPL acts on.

    UTF-8 goes as it is: escapes would cost bytes, and some firmware knows none.
    """
    escaped = source.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "'" + _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", escaped) + "'"


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""
