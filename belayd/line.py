"""The line to one board: bytes both ways over an open transport, and patience for each wait.

Knows questions that only a prompt answers, and nothing else of what is said.
"""

from __future__ import annotations

import asyncio
import re

from belayd.errors import BoardUnresponsive, TransportLost
from belayd.transport.contract import Traffic, Transport

ANSWER = 2.0
"""Seconds within which an idle board answers a prompt or a short text of belayd's own."""
SLOWEST_BYTES = 500
"""Bytes a second that any link takes: 9600 baud has 960."""
PAUSE = 5.0
"""Seconds without a byte in the middle of a value that a board does nothing but send: some were lost."""
FLOOD_BYTES = 1 << 20
"""Output to look through for an answer at the most; beyond it the board is not at a prompt."""

_ENDED = re.compile(rb"\x04[^\x04]*\x04[^>]*>")  # threads may print in between
# At the prompt as well: too little memory to answer, unread bytes before the question, an
# interrupt that came too late for what it was meant for, or a print that is not print.
_UNABLE = re.compile(
    rb"OK[^\x04]{0,64}\x04[^\x04]*(Error|KeyboardInterrupt)[^\x04]*\x04[^\x04>]{0,64}>[^\x04]{0,64}\Z"
)


class Line:
    """What is sent to and comes from the board called `board`.

    Attributes:
        lost: Whether the board went away; it does not come back on this line.
    """

    def __init__(self, board: str, transport: Transport) -> None:
        self.lost = False
        self._board = board
        self._transport = transport

    @property
    def address(self) -> str:
        """Where the transport goes."""
        return self._transport.address

    @property
    def traffic(self) -> Traffic:
        """Bytes that went through the transport."""
        return self._transport.traffic

    async def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            TransportLost: The board went away.
            BoardUnresponsive: It takes nothing.
        """
        try:
            async with asyncio.timeout(ANSWER + len(data) / SLOWEST_BYTES):
                await self._transport.send(data)
        except TimeoutError:
            raise self.silent("takes nothing that is sent to it") from None

    async def receive(self) -> bytes:
        """Wait for the next bytes, at least one; raise TransportLost when the board went away."""
        data = await self._transport.receive()
        if not data:
            self.lost = True
            raise TransportLost(
                f"board {self._board!r} went away ({self._transport.address}); "
                "what ran may have had effects: start over when it is back",
                board=self._board,
            )
        return data

    def receive_pending(self) -> bytes | None:
        """Return what has come already: as `Transport.receive_pending`."""
        return self._transport.receive_pending()

    async def receive_counted(self) -> bytes:
        """As `receive`, in the middle of a value that comes without a pause or not at all."""
        try:
            async with asyncio.timeout(PAUSE):
                return await self.receive()
        except TimeoutError:
            raise self.silent(
                f"sent fewer bytes of a value than it announced, and nothing more for {PAUSE:g} s: "
                "what was called ran, its result is lost"
            ) from None

    async def await_answer(
        self, token: str, limit: float, raw: bool = False, most: float = 0.0
    ) -> tuple[bytes, bool]:
        """Return what came up to a question's answer, and whether the answer came in time.

        While something else comes the time is `most`: a slow link may still bring what was printed before.
        """
        answer = token.encode()
        came = bytearray()
        loop = asyncio.get_running_loop()
        end = loop.time() + most
        try:
            async with asyncio.timeout(limit) as scope:
                while answer not in came:
                    if len(came) > FLOOD_BYTES:
                        return bytes(came), False
                    if unable := _UNABLE.search(came):
                        return bytes(came[: unable.start()]), True
                    came += await self.receive()
                    if most:
                        scope.reschedule(min(end, loop.time() + limit))
                at = came.index(answer)
                # At the raw prompt 0x04 0x04 > follows: take it, or the next command meets it.
                while raw and not _ENDED.search(came, at):
                    came += await self.receive()
        except TimeoutError:
            return bytes(came), False
        return bytes(came[:at]).removesuffix(b"OK"), True

    async def close(self) -> None:
        """Give the port back."""
        await self._transport.close()

    def silent(self, what: str) -> BoardUnresponsive:
        """Return the error that says what the board did not do."""
        return BoardUnresponsive(f"board {self._board!r} {what}", board=self._board)


async def discard(data: bytes) -> None:
    """Take output that nobody asked for."""


def question(token: str) -> bytes:
    r"""Return code that prints `token`; a friendly REPL's echo of it does not hold the token."""
    return f"print({token!r},end='')".encode("ascii")
