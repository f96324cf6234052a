"""Callers' source on its way to a board: at once, or in pieces that its input surely holds.

Nothing acknowledges at a raw prompt without raw paste, and the input ring of such a
board drops what comes while it is full. So there each piece is a command of its
own, that fits the ring even of a board that does not read at all.
"""

from __future__ import annotations

from belayd.call import MOST_BYTES, Call
from belayd.errors import BoardUnresponsive, OutOfMemory
from belayd.outcome import raised_from
from belayd.prompt import BURST_BYTES, Prompt, discard
from belayd.source import literal, pieces

FRAME_BYTES = 22
"""Of _B's call around what it runs: its name, the token, the kind, an end of text."""
_NAME = "_b"


class Placing:
    """Puts text on the board at `prompt`, for its next command."""

    def __init__(self, board: str, prompt: Prompt) -> None:
        self._board = board
        self._prompt = prompt

    def at_once(self, text: str) -> bool:
        """Tell whether a command can carry `text` itself."""
        return self._prompt.raw_paste or len(literal(text).encode()) <= BURST_BYTES - FRAME_BYTES

    async def place(self, text: str) -> str:
        """Return an expression whose value on the board is `text`, having put it there if need be.

        It has that value once: taken, the text does not stay in a memory of 9 kB.

        Raises:
            OutOfMemory: The board's memory does not hold it.
            TransportLost, BoardUnresponsive: As `Prompt.execute`.
        """
        if self.at_once(text):
            return literal(text)
        statement = "{}=['{}']"
        for piece in pieces(text, BURST_BYTES - len(f"{_NAME}[0]+=''\x04")):
            _, ended = await self._prompt.execute(statement.format(_NAME, piece).encode(), None, discard)
            if ended.error or ended.restarted:
                exception = raised_from(ended.error)
                if exception.type_name == "MemoryError":
                    await self._prompt.execute(f"{_NAME}=0".encode(), None, discard)
                    raise self._out_of_memory(len(text), None)
                raise BoardUnresponsive(
                    f"board {self._board!r} misread what was sent: {exception.message}", board=self._board
                )
            statement = "{}[0]+='{}'"
        return f"{_NAME}.pop()"

    def refuse_too_large(self, text: str, free_bytes: int | None) -> None:
        """Raise OutOfMemory for what would stop a small board for good.

        Old firmware buffers a whole command before it compiles it, and hangs when
        that fails (seen on micro:bit v1: 3,000 bytes with 7 kB free).
        """
        if not self._prompt.raw_paste and free_bytes is not None and 4 * len(text) > free_bytes:
            raise self._out_of_memory(len(text), free_bytes)

    def refuse_too_long(self, call: Call) -> None:
        """Raise OutOfMemory for a call whose bytes, as source, no board without the loop has memory for."""
        if call.contents and call.spelled_bytes > MOST_BYTES:
            raise self._out_of_memory(call.spelled_bytes, None)

    def _out_of_memory(self, length: int, free_bytes: int | None) -> OutOfMemory:
        has = "too little memory free" if free_bytes is None else f"{free_bytes} bytes of memory free"
        return OutOfMemory(
            f"board {self._board!r} has {has} and cannot take {length} bytes of source; "
            "send it in smaller parts",
            board=self._board,
            source_bytes=length,
        )
