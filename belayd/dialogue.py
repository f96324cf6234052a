"""belayd's own text at work on a board: it reads what is sent and answers in frames.

For what is too much for one command or one result: files on their way up or down.
The text is a function that was installed before (`Session.command`). It is started
with the session's token, writes each answer as token, letter, payload, token (or
counted, as onboard/runner.py has it), reads sys.stdin.buffer, and writes a frame of
`LAST` however it ends. What is sent must hold no byte 0x03, which is Ctrl-C at all
times: a dialogue that is cancelled is interrupted like any other work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from belayd.errors import BoardUnresponsive, InternalError, OutOfMemory, TransportLost
from belayd.outcome import BoardRaised, raised_from
from belayd.prompt import Prompt, discard
from belayd.protocol.events import Ended, Event, Framed

T = TypeVar("T")

LAST = b"Q"
PATIENCE = 30.0
"""Seconds for one answer: a flash that erases blocks, or hashes a large file, takes several."""


Partner = Callable[["Dialogue"], Awaitable[T]]
"""What speaks with the text, to its end; the rest of its answers may stay unread."""


class DialogueEnded(Exception):
    """The text on the board ended by itself although an answer was expected."""


async def hold(board: str, prompt: Prompt, call: str, token: str, partner: Partner[T], more: bytes) -> T:
    """Start the text, let `partner` speak with it, and take the prompt back; as `Session.dialogue`."""
    dialogue = Dialogue(board, prompt)
    await prompt.begin(call.encode(), token.encode(), discard, last=LAST, more=more)
    try:
        result = await partner(dialogue)
    except DialogueEnded:
        await dialogue.end()
        raise InternalError(
            f"board {board!r} ended belayd's own work too early; does code of its own print meanwhile? "
            "Reset it and try again",
            board=board,
        ) from None
    await dialogue.end()
    return result


class Dialogue:
    """One side of it, while the text runs.

    Attributes:
        waits: Times that an answer had to be waited for: round trips.
    """

    def __init__(self, board: str, prompt: Prompt) -> None:
        self.waits = 0
        self._board = board
        self._prompt = prompt
        self._events: deque[Event] = deque()

    async def send(self, data: bytes) -> None:
        """Send what the text reads; it must hold no 0x03."""
        await self._prompt.send(data)

    async def answer(self, limit: float = PATIENCE) -> Framed:
        """Wait for the next frame, and pass over what else is printed.

        Raises:
            DialogueEnded: There is none: `end` tells why.
            BoardUnresponsive: None came within `limit` seconds.
            TransportLost: The board went away.
        """
        self.waits += not self._events
        try:
            async with asyncio.timeout(limit):
                while True:
                    match await self._next():
                        case Framed(kind=b"Q"):
                            raise DialogueEnded
                        case Framed() as framed:
                            return framed
                        case Ended() as ended:
                            self._events.appendleft(ended)
                            raise DialogueEnded
        except TimeoutError:
            raise self._silent(limit) from None

    async def end(self, limit: float = PATIENCE) -> None:
        """Wait until the text has ended, and take the prompt back.

        Raises:
            BoardRaised: It raised.
            OutOfMemory: For want of memory.
            BoardUnresponsive, TransportLost: As `answer`; TransportLost also if the board restarted.
        """
        try:
            async with asyncio.timeout(limit):
                while not isinstance(event := await self._next(), Ended):
                    pass
        except TimeoutError:
            raise self._silent(limit) from None
        self._prompt.proven = not event.restarted
        if event.restarted:
            raise TransportLost(
                f"board {self._board!r} restarted in the middle of its work; start over", board=self._board
            )
        if not event.error:
            return
        raised = raised_from(event.error)
        if raised.type_name == "MemoryError":
            raise OutOfMemory(
                f"board {self._board!r} has too little memory free for this; reset it and try again",
                board=self._board,
            )
        raise BoardRaised(raised)

    async def _next(self) -> Event:
        while not self._events:
            self._events.extend(await self._prompt.step())
        return self._events.popleft()

    def _silent(self, limit: float) -> BoardUnresponsive:
        return BoardUnresponsive(
            f"board {self._board!r} gave no answer for {limit:g} s in the middle of its work; "
            "did the link lose bytes?",
            board=self._board,
        )
