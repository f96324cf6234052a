"""One board's prompt: how it is reached, proven, used and won back, with every timeout of that.

Joins the pure protocol to a transport. Knows nothing of what runs: `session` does.
Nothing is executed at a prompt that is not proven; whatever is cancelled or fails
half-way leaves it unproven.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from belayd.line import ANSWER as ANSWER
from belayd.line import Line, question
from belayd.line import discard as discard
from belayd.passthrough import Keys, pass_through
from belayd.protocol import rawrepl
from belayd.protocol.events import Ended, Event, Framed, Output, PasteRefused
from belayd.transport.contract import Traffic, Transport

log = logging.getLogger(__name__)

Emit = Callable[[bytes], Awaitable[None]]

SETTLE = 0.1
"""Seconds of silence that end a restart's or an interrupt's chatter."""
BOOT = 20.0
"""Seconds a boot.py may take: one that joins a network takes several."""
BURST_BYTES = 60
"""Bytes that a board without raw paste is sent before it answers: below its ring (63 on a micro:bit v1)."""
DOUBT = 0.15
"""Seconds of silence after which output that ends like a prompt is looked into."""
ATTEMPTS = 3
"""A main.py that catches KeyboardInterrupt needs more than one."""
PLAIN_BYTES = 250
"""The longest command sent plain where raw paste works: below the smallest ring (255)."""


class Prompt:
    """The raw REPL prompt of one board, over one open transport.

    Attributes:
        raw_paste: Whether raw-paste mode works, once `ask_raw_paste` has asked.
        stray_question: Whether something of belayd's may still stand unread in its input.
        disturbed: Whether something was printed while nothing ran.
    """

    def __init__(self, board: str, transport: Transport, new_token: Callable[[int], str]) -> None:
        """`new_token` returns so many letters and digits that nobody can guess."""
        self._proven = False
        self.raw_paste = False
        self._board = board
        self._line = Line(board, transport)
        self._repl = rawrepl.RawRepl()
        self._new_token = new_token
        self.stray_question = self.disturbed = False
        self._doubt = DOUBT
        self._doubted: float | None = None

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at it."""
        return self._proven and not self._line.lost

    @proven.setter
    def proven(self, proven: bool) -> None:
        self._proven = proven

    @property
    def address(self) -> str:
        """Where the transport goes."""
        return self._line.address

    @property
    def traffic(self) -> Traffic:
        """Bytes that went through the transport."""
        return self._line.traffic

    @property
    def input_bytes(self) -> int:
        """What a board surely keeps until it reads: two windows, all but a few bytes; little if it tells none."""
        return min(PLAIN_BYTES, 2 * self._repl.window_bytes - 6) if self.raw_paste else BURST_BYTES

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
        self.proven = self.disturbed = False
        self.doubt_after(DOUBT)
        if len(source) >= self.input_bytes and self.raw_paste and not more:
            self._repl.paste(source, token)
        else:
            self._repl.execute(source, token, last)
        await self._send(more)

    def doubt_after(self, seconds: float) -> None:
        """Look into what is like a prompt after so much silence from now on."""
        self._doubt, self._doubted = seconds, None

    async def send(self, data: bytes) -> None:
        """Send what the running execution reads."""
        await self._line.write(data)

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
            data = await (self._line.receive_counted() if self._repl.counting else self._line.receive())
        events = self._understand(data)
        if any(isinstance(event, PasteRefused) for event in events):
            raise self._line.silent("refused raw paste, which it had offered")
        if answered and self._repl.open:
            events.append(self._repl.concede())
        await self._send()
        return events

    async def drain(self, emit: Emit) -> None:
        """Give `emit` what the board printed while nothing ran.

        Raises:
            TransportLost: The board went away.
        """
        while (data := self._line.receive_pending()) is not None:
            if not data:
                await self._line.receive()
            self.disturbed = True
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
            raise self._line.silent("did not come back after a soft reset; does its boot.py end?") from None
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
        if self._repl.counting:
            self._repl.abandon()  # the interrupt cuts the value short: its end cannot be found by counting
        heard, patience = self.traffic.received_bytes, ANSWER
        for interrupts in (1, 2, 2):
            await self._line.write(interrupts * rawrepl.INTERRUPT)
            if not self._repl.open:
                break
            try:
                async with asyncio.timeout(2 * SETTLE):
                    await self._read_outcome(emit)
            except TimeoutError:
                continue
        else:
            if self.traffic.received_bytes == heard:
                patience = ANSWER / 2  # not a byte: other steps may help sooner
        await self.prove(emit, patience)

    async def interrupt_hard(self, emit: Emit) -> None:
        """Interrupt again and again, enter the raw REPL blindly, and restart the interpreter.

        Raises:
            TransportLost, BoardUnresponsive: As for `execute`.
        """
        self._repl.abandon()
        await self._line.write(b"\r" + 3 * rawrepl.INTERRUPT + rawrepl.ENTER_RAW)
        await self._settle(emit)
        await self.restart(emit)

    async def reenter(self, emit: Emit) -> None:
        """Interrupt whatever runs and enter the raw REPL; the prompt is still to be proven.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: What runs does not let itself be interrupted.
        """
        patience = ANSWER / 2
        for _ in range(ATTEMPTS):
            heard = self.traffic.received_bytes
            self._repl.abandon()
            await self._line.write(b"\r" + 2 * rawrepl.INTERRUPT)
            await self._settle(emit)
            self._repl.enter()
            await self._line.write(rawrepl.INTERRUPT)
            await self._send()
            try:
                async with asyncio.timeout(patience):
                    while self._repl.open:
                        await self._feed_idle(await self._line.receive(), emit)
                    return
            except TimeoutError:
                if self.traffic.received_bytes == heard:
                    patience = ANSWER / 4  # a mute board: not the same again for as long
        raise self._line.silent("gives no raw REPL prompt; its program may not let itself be interrupted")

    async def prove(self, emit: Emit, patience: float = ANSWER) -> None:
        """Show that the board is at the raw prompt with an empty line, or raise."""
        self._repl.abandon()
        token = self._fresh_token()
        # Bytes that were never read may still stand on the line; Ctrl-C clears it silently.
        await self._line.write(rawrepl.INTERRUPT + question(token) + rawrepl.END_OF_TEXT)
        before, answered = await self._line.await_answer(token, patience, raw=True, most=2 * ANSWER)
        if before:
            await emit(before)
        if not answered:
            log.debug("board %s: no answer, only %r", self._board, before[-200:])
            raise self._line.silent("does not answer at its raw REPL prompt")
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
                    for event in self._understand(await self._line.receive()):
                        if isinstance(event, PasteRefused):
                            self.raw_paste = False
                    await self._send()
        except TimeoutError:
            self.raw_paste = False
            await self.prove(discard)

    async def release(self, emit: Emit) -> None:
        """Restart the interpreter so that boot.py and main.py run, as without belayd; the board is let go.

        Raises:
            TransportLost: The link went with it, as over WebREPL.
            BoardUnresponsive: It does not restart.
        """
        self.proven = False
        self._repl.abandon()
        await self._line.write(rawrepl.ENTER_FRIENDLY + rawrepl.END_OF_TEXT)
        before, answered = await self._line.await_answer(rawrepl.RESTARTED.decode(), ANSWER)
        await emit(before)
        if not answered:
            raise self._line.silent("does not restart its own program")

    async def pass_through(self, keys: Keys, emit: Emit) -> None:
        """Pass on raw bytes both ways until `keys` ends; a board at its prompt shows the friendly one first.

        Raises:
            TransportLost: The board went away.
        """
        if self.proven:
            self.proven = False
            await self._line.write(rawrepl.ENTER_FRIENDLY)
        self._repl.abandon()
        await pass_through(self._line.receive, self._line.write, keys, emit)

    async def close(self) -> None:
        """Leave the board at its friendly prompt and give the port back."""
        if self.proven:
            await self._line.write(rawrepl.ENTER_FRIENDLY)
        await self._line.close()

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
                return await self._line.receive(), False
        except TimeoutError:
            pass
        self._doubt *= 4
        self._doubted = None
        line_end = b"\r" if self._repl.suspect_friendly else rawrepl.END_OF_TEXT
        token = self._fresh_token()
        await self._line.write(self._repl.key + question(token) + line_end)
        raw = line_end == rawrepl.END_OF_TEXT
        came, answered = await self._line.await_answer(token, ANSWER / 2, raw=raw)
        self.stray_question = not answered
        return came, answered

    async def _settle(self, emit: Emit) -> None:
        """Pass on what comes until it is quiet, for at most ten times the silence waited for."""
        try:
            async with asyncio.timeout(10 * SETTLE):
                while True:
                    async with asyncio.timeout(SETTLE):
                        data = await self._line.receive()
                    await self._feed_idle(data, emit)
        except TimeoutError:
            pass

    async def _send(self, more: bytes = b"") -> None:
        if data := self._repl.bytes_to_send() + more:
            await self._line.write(data)

    def _understand(self, data: bytes) -> list[Event]:
        try:
            return self._repl.receive(data)
        except rawrepl.ProtocolError as error:
            raise self._line.silent(f"breaks the rules of the raw REPL: {error}") from error

    async def _feed_idle(self, data: bytes, emit: Emit) -> None:
        for event in self._repl.receive(data):
            if isinstance(event, Output):
                await emit(event.data)

    def _fresh_token(self) -> str:
        return "\x1e" + self._new_token(12)  # above 10 bytes: not kept by the board
