"""One board's prompt: how it is reached, proven, used and won back, with every timeout of that.

Joins the pure protocol to a transport. Knows nothing of what runs: `session` does.
Nothing is executed at a prompt that is not proven; whatever is cancelled or fails
half-way leaves it unproven.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

from belayd.errors import BoardUnresponsive, TransportLost
from belayd.protocol import rawrepl
from belayd.protocol.events import Ended, Event, Framed, Output, PasteRefused
from belayd.transport.contract import Traffic, Transport

log = logging.getLogger(__name__)

Emit = Callable[[bytes], Awaitable[None]]

ANSWER = 2.0
"""Seconds within which an idle board answers a prompt or a short text of belayd's own."""
SETTLE = 0.1
"""Seconds of silence that end a restart's or an interrupt's chatter."""
BOOT = 20.0
"""Seconds a boot.py may take: one that joins a network takes several."""
BURST_BYTES = 60
"""Bytes that a board without raw paste is sent before it answers: below its ring (63 on a micro:bit v1)."""
SLOWEST_BYTES = 500
"""Bytes a second that any link takes: 9600 baud has 960."""
DOUBT = 0.15
"""Seconds of silence after which output that ends like a prompt is looked into."""
ATTEMPTS = 3
"""A main.py that catches KeyboardInterrupt needs more than one."""
FLOOD_BYTES = 1 << 20
"""Output to look through for an answer at the most; beyond it the board is not at a prompt."""
PLAIN_BYTES = 250
"""The longest command sent plain where raw paste works: below the smallest ring (255)."""

# At the prompt as well: too little memory to answer, unread bytes before the question, an
# interrupt that came too late for what it was meant for, or a print that is not print.
_UNABLE = re.compile(rb"OK\x04[^\x04]*(Error|KeyboardInterrupt)[^\x04]*\x04>\Z")


class Prompt:
    """The raw REPL prompt of one board, over one open transport.

    Attributes:
        proven: Whether the board is known to be at it.
        raw_paste: Whether raw-paste mode works, once `ask_raw_paste` has asked.
        stray_question: Whether something of belayd's may still stand unread in its input.
    """

    def __init__(self, board: str, transport: Transport, new_token: Callable[[int], str]) -> None:
        """`new_token` returns so many letters and digits that nobody can guess."""
        self.proven = False
        self.raw_paste = False
        self._board = board
        self._transport = transport
        self._repl = rawrepl.RawRepl()
        self._new_token = new_token
        self.stray_question = False
        self._doubt = DOUBT
        self._doubted: float | None = None

    @property
    def traffic(self) -> Traffic:
        """Bytes that went through the transport."""
        return self._transport.traffic

    async def execute(self, source: bytes, token: bytes | None, emit: Emit) -> tuple[Framed | None, Ended]:
        """Run `source`, which frames with `token` if at all; return its frame, None without one, and its end.

        After an end that is `restarted` the prompt is unproven.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: What it sends makes no sense.
        """
        await self.begin(source, token, emit)
        framed, ended = await self._read_outcome(emit)
        self.proven = not ended.restarted
        return framed, ended

    async def begin(
        self, source: bytes, token: bytes | None, emit: Emit, last: bytes = b"", more: bytes = b""
    ) -> None:
        """Send `source`, and `more` for it to read, in one write; `step` reads what comes of it.

        With `last`, `source` sends any number of frames, the last of that kind.

        Raises:
            TransportLost, BoardUnresponsive: As for `execute`.
        """
        if not self.proven:
            raise RuntimeError("nothing starts on an unproven prompt")
        await self.drain(emit)
        if self.stray_question:
            await self.prove(emit)
        self.proven = False
        self._doubt = DOUBT
        self._doubted = None
        if len(source) > PLAIN_BYTES and self.raw_paste:
            self._repl.paste(source, token)
        else:
            self._repl.execute(source, token, last)
        await self._send(more)

    async def send(self, data: bytes) -> None:
        """Send what the running execution reads."""
        await self._write(data)

    async def step(self) -> list[Event]:
        """Wait for the next bytes; return what they mean: Output, Framed, at last Ended.

        Raises:
            TransportLost, BoardUnresponsive: As for `execute`.
        """
        answered = False
        if self._repl.suspect:
            data, answered = await self._look()
        else:
            self._doubted = None
            data = await self._receive()
        events = self._understand(data)
        if any(isinstance(event, PasteRefused) for event in events):
            raise self._silent("refused raw paste, which it had offered")
        if answered and self._repl.open:
            events.append(self._repl.concede())
        await self._send()
        return events

    async def drain(self, emit: Emit) -> None:
        """Give `emit` what the board printed while nothing ran.

        Raises:
            TransportLost: The board went away.
        """
        while (data := self._transport.receive_pending()) is not None:
            if not data:
                await self._receive()
            await self._feed_idle(data, emit)

    async def restart(self, emit: Emit) -> None:
        """Restart the interpreter; boot.py runs, main.py does not; ends at a proven prompt.

        Raises:
            TransportLost, BoardUnresponsive: As for `execute`.
        """
        self.proven = False
        self._repl.restart()
        await self._send()
        try:
            async with asyncio.timeout(ANSWER) as limit:
                while True:
                    for event in await self.step():
                        # It answers at once that it restarts; then boot.py has its time.
                        limit.reschedule(asyncio.get_running_loop().time() + BOOT)
                        if isinstance(event, Output):
                            await emit(event.data)
                    if not self._repl.open:
                        break
        except TimeoutError:
            raise self._silent("did not come back after a soft reset; does its boot.py end?") from None
        await self.prove(emit)

    async def reset_chip(self, source: bytes, emit: Emit) -> Ended | None:
        """Run `source`, which resets the chip; return how it ended if it did not, else None.

        The prompt is unproven then.

        Raises:
            TransportLost: The link went away with the chip, as it does on native USB.
        """
        self.proven = False
        self._repl.execute(source)
        await self._send()
        try:
            async with asyncio.timeout(ANSWER):
                _, ended = await self._read_outcome(emit)
        except TimeoutError:
            self._repl.abandon()
            return None
        self.proven = not ended.restarted
        return ended

    async def interrupt(self, emit: Emit) -> None:
        """Interrupt what runs and prove the prompt.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: What runs does not let itself be interrupted.
        """
        self._repl.stop_sending()
        for interrupts in (1, 2, 2):
            await self._write(interrupts * rawrepl.INTERRUPT)
            if not self._repl.open:
                break
            try:
                async with asyncio.timeout(2 * SETTLE):
                    await self._read_outcome(emit)
            except TimeoutError:
                continue
        await self.prove(emit)

    async def interrupt_hard(self, emit: Emit) -> None:
        """Interrupt again and again, enter the raw REPL blindly, and restart the interpreter.

        Raises:
            TransportLost, BoardUnresponsive: As for `execute`.
        """
        self._repl.abandon()
        await self._write(b"\r" + 3 * rawrepl.INTERRUPT + rawrepl.ENTER_RAW)
        await self._settle(emit)
        await self.restart(emit)

    async def reenter(self, emit: Emit) -> None:
        """Interrupt whatever runs and enter the raw REPL; the prompt is still to be proven.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: What runs does not let itself be interrupted.
        """
        for _ in range(ATTEMPTS):
            self._repl.abandon()
            await self._write(b"\r" + 2 * rawrepl.INTERRUPT)
            await self._settle(emit)
            self._repl.enter()
            await self._write(rawrepl.INTERRUPT)
            await self._send()
            try:
                async with asyncio.timeout(ANSWER / 2):
                    while self._repl.open:
                        await self._feed_idle(await self._receive(), emit)
                    return
            except TimeoutError:
                continue
        raise self._silent("gives no raw REPL prompt; its program may not let itself be interrupted")

    async def prove(self, emit: Emit) -> None:
        """Show that the board is at the raw prompt with an empty line, or raise."""
        self._repl.abandon()
        token = self._fresh_token()
        # Bytes that were never read may still stand on the line; Ctrl-C clears it silently.
        await self._write(rawrepl.INTERRUPT + _question(token) + rawrepl.END_OF_TEXT)
        before, answered = await self._await_answer(token, ANSWER)
        if before:
            await emit(before)
        if not answered:
            log.debug("board %s: no answer, only %r", self._board, before[-200:])
            raise self._silent("does not answer at its raw REPL prompt")
        self.stray_question = False
        self.proven = True

    async def ask_raw_paste(self) -> None:
        """Find out whether raw paste works, by an empty one."""
        self._repl.paste(b"")
        await self._send()
        self.raw_paste = True
        try:
            async with asyncio.timeout(ANSWER):
                while self._repl.open:
                    for event in self._understand(await self._receive()):
                        if isinstance(event, PasteRefused):
                            self.raw_paste = False
                    await self._send()
        except TimeoutError:
            self.raw_paste = False
            await self.prove(_discard)

    async def close(self) -> None:
        """Leave the board at its friendly prompt and give the port back."""
        if self.proven:
            await self._write(rawrepl.ENTER_FRIENDLY)
        await self._transport.close()

    async def _read_outcome(self, emit: Emit) -> tuple[Framed | None, Ended]:
        framed: Framed | None = None
        while True:
            for event in await self.step():
                match event:
                    case Output(output):
                        await emit(output)
                    case Framed():
                        framed = event
                    case Ended():
                        return framed, event

    async def _look(self) -> tuple[bytes, bool]:
        """Find out whether the board is at a prompt although no token came.

        A program can print whatever a prompt looks like. Only when nothing
        follows for a while is a question put that just a prompt answers; a program
        that reads its input would get it, which is the price of never hanging on
        a board that restarted. Returns what came, and whether it was followed by
        the answer.
        """
        now = asyncio.get_running_loop().time()
        if self._doubted is None or not self._repl.unstarted:
            self._doubted = now  # what never started stays so, even if a thread prints on
        try:
            async with asyncio.timeout(self._doubted + self._doubt - now):
                return await self._receive(), False
        except TimeoutError:
            pass
        self._doubt *= 4
        self._doubted = None
        line_end = b"\r" if self._repl.suspect_friendly else rawrepl.END_OF_TEXT
        token = self._fresh_token()
        await self._write(_question(token) + line_end)
        came, answered = await self._await_answer(token, ANSWER / 2)
        self.stray_question = not answered
        return came, answered

    async def _await_answer(self, token: str, limit: float) -> tuple[bytes, bool]:
        """Return what came up to a question's answer, and whether the answer came in time."""
        answer = token.encode()
        came = bytearray()
        try:
            async with asyncio.timeout(limit):
                while answer not in came:
                    if len(came) > FLOOD_BYTES:
                        return bytes(came), False
                    if unable := _UNABLE.search(came):
                        return bytes(came[: unable.start()]), True
                    came += await self._receive()
                at = came.index(answer)
                # At the raw prompt 0x04 0x04 > follows: take it, or the next command meets it.
                while came[:at].endswith(b"OK") and came.find(b"\x04\x04>", at) < 0:
                    came += await self._receive()
        except TimeoutError:
            return bytes(came), False
        return bytes(came[:at]).removesuffix(b"OK"), True

    async def _settle(self, emit: Emit) -> None:
        """Pass on what comes until it is quiet, for at most ten times the silence waited for."""
        try:
            async with asyncio.timeout(10 * SETTLE):
                while True:
                    async with asyncio.timeout(SETTLE):
                        data = await self._receive()
                    await self._feed_idle(data, emit)
        except TimeoutError:
            pass

    async def _send(self, more: bytes = b"") -> None:
        if data := self._repl.bytes_to_send() + more:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(ANSWER + len(data) / SLOWEST_BYTES):
                await self._transport.send(data)
        except TimeoutError:
            raise self._silent("takes nothing that is sent to it") from None

    async def _receive(self) -> bytes:
        data = await self._transport.receive()
        if not data:
            self.proven = False
            raise TransportLost(
                f"board {self._board!r} went away ({self._transport.address}); "
                "what ran may have had effects: start over when it is back",
                board=self._board,
            )
        return data

    def _understand(self, data: bytes) -> list[Event]:
        try:
            return self._repl.receive(data)
        except rawrepl.ProtocolError as error:
            raise self._silent(f"breaks the rules of the raw REPL: {error}") from error

    async def _feed_idle(self, data: bytes, emit: Emit) -> None:
        for event in self._repl.receive(data):
            if isinstance(event, Output):
                await emit(event.data)

    def _fresh_token(self) -> str:
        return "\x1e" + self._new_token(12)  # above 10 bytes: not kept by the board

    def _silent(self, what: str) -> BoardUnresponsive:
        return BoardUnresponsive(f"board {self._board!r} {what}", board=self._board)


def _question(token: str) -> bytes:
    r"""Return code that prints `token`; a friendly REPL's echo of it does not hold the token."""
    return f"print({token!r},end='')".encode("ascii")


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""
