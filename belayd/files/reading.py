"""A file from a board, in pieces as they come, with its SHA-256 made there.

Where a board reads what it is sent, it sends blocks by itself, a few ahead of what
was taken; elsewhere each piece is asked for. Memory is bounded either way, and the
board waits for whoever takes the pieces. What came is compared with the board's
SHA-256, so a lost or changed byte is an error and never a wrong file.
Leaves to others: what the board does (`onboard/reader.py`).
"""

from __future__ import annotations

import ast
import binascii
import hashlib
from collections.abc import Awaitable, Callable

from belayd import onboard
from belayd.deployment import carrying
from belayd.deployment.encoding import shorten, text_literal
from belayd.dialogue import Dialogue, Partner
from belayd.errors import BelaydError, InternalError
from belayd.files.asking import Conversation, unclear
from belayd.files.failing import errno_of, failure
from belayd.files.names import is_count
from belayd.files.small import flat_name, is_small
from belayd.outcome import BoardRaised
from belayd.snapshot import Facts

BLOCKS = ((256 * 1024, 16 * 1024), (48 * 1024, 4096), (0, 2048))
"""Least free heap, and the block for it: 29 bytes of frame and one of acknowledgement each, 0.7 % of 4 kB."""
WINDOW = 4
"""Blocks on their way; belayd's own buffer for a link holds four times as much."""
PIECE_BYTES = 128
"""On a micro:bit, which needs four times as much memory for its repr."""
LARGER_PIECE_BYTES = 1024
"""On others where each piece is asked for."""

Take = Callable[[bytes], Awaitable[None]]
"""Gets the next bytes, never none; the board waits for it."""


async def read_file(
    session: Conversation,
    path: str,
    emit: Take,
    begin: Callable[[int], Awaitable[None]] | None = None,
) -> bytes:
    """Pass a file's bytes to `emit` and return their SHA-256, made on the board and compared with what came.

    `path` is absolute on the board. `begin` gets its size first. Empty where the board
    cannot make one: then only the link's own care vouches for what came.

    Raises:
        FileNotFound: There is no such file.
        RequestInvalid: It is a folder.
        InternalError: It was changed while it was read, or came out wrong.
        TransportLost, BoardUnresponsive, OutOfMemory: As `Session.command`.
    """
    reading = _Reading(path, emit, begin)
    modules = session.facts.modules
    streams = session.facts.clear or "binascii" in modules
    if "sys.stdin" in modules and "sys.stdout" in modules and streams:
        told = await _converse(session, reading)
    else:
        told = await _ask(session, reading)
    reading.check(told)
    return told


class _Reading:
    """What has come of one file."""

    def __init__(self, path: str, emit: Take, begin: Callable[[int], Awaitable[None]] | None) -> None:
        self.path = path
        self.missing_bytes = 0
        self._emit = emit
        self._begin = begin
        self._hash = hashlib.sha256()

    async def begin(self, size: int) -> None:
        self.missing_bytes = size
        if self._begin is not None:
            await self._begin(size)

    async def take(self, data: bytes) -> None:
        self.missing_bytes -= len(data)
        if self.missing_bytes < 0 or not data:
            raise self.unclear()
        self._hash.update(data)
        await self._emit(data)

    def check(self, told: bytes) -> None:
        if self.missing_bytes or (told and told != self._hash.digest()):
            raise InternalError(
                f"what came of {self.path!r} is not what the board has: does the link lose bytes, or did "
                "the file change meanwhile? Try again",
                path=self.path,
            )

    def unclear(self) -> InternalError:
        return unclear(self.path, "while it was read")


async def _converse(session: Conversation, reading: _Reading) -> bytes:
    facts = session.facts
    arguments = f"{text_literal(reading.path)},{_block_bytes(facts)},{WINDOW},{facts.clear}"

    async def speak(dialogue: Dialogue) -> bytes | int:
        expected = 0  # acknowledgements that the board waits for, or will
        while True:
            framed = await dialogue.answer()
            match framed.kind:
                case b"S":
                    size, block = map(int, framed.payload.split(b","))
                    if not is_count(size) or block < 1:
                        raise reading.unclear()
                    await reading.begin(size)
                    expected = max(0, -(-size // block) - WINDOW)
                case b"D":
                    data = framed.payload if facts.clear else binascii.a2b_base64(framed.payload)
                    await reading.take(data)
                    if expected:
                        expected -= 1
                        await dialogue.send(b"+")
                case b"H":
                    return bytes.fromhex(framed.payload.decode())
                case b"E":
                    # The board reads up to this: no acknowledgement stays behind on its line.
                    await dialogue.send(b"\n")
                    return int(framed.payload)
                case _:
                    raise reading.unclear()

    try:
        told = await _speak(session, arguments, speak)
    except BoardRaised as raised:
        raise InternalError(f"reading {reading.path!r} failed on the board: {raised}") from raised
    except ValueError:
        raise reading.unclear() from None
    if isinstance(told, int):
        raise _failure(reading, told)
    return told


async def _speak(session: Conversation, arguments: str, speak: Partner[bytes | int]) -> bytes | int:
    text = onboard.load("reader")
    if carrying.carries(session):
        return await carrying.converse(session, f"{text}_BF(t,{arguments})\n", speak)
    # A dialogue's call is short and cannot hold a path: what it calls knows it, and removes itself.
    call = f"(lambda f:lambda t:(globals().pop('_BF'),f(t,{arguments})))(_BF)"
    await session.command(f"{shorten(text, session.facts)}_BF={call}\n")
    return await session.dialogue("_BF({token!r})", speak)


def _block_bytes(facts: Facts) -> int:
    free = facts.memory_free_bytes or 0
    return next(block for least, block in BLOCKS if free >= least)


def _failure(reading: _Reading, errno: int | None) -> BelaydError:
    if errno == 5 and reading.missing_bytes:
        return InternalError(
            f"{reading.path!r} became shorter while it was read, or the board's flash fails; try again",
            path=reading.path,
        )
    return failure(reading.path, errno, "be read")


async def _ask(session: Conversation, reading: _Reading) -> bytes:
    if is_small(session.facts):
        return await _ask_small(session, reading)
    text = shorten(onboard.load("piecewise"), session.facts)
    size = await _answer(session, reading, f"{text}_BF({text_literal(reading.path)})\n")
    await _ask_for_all(session, reading, size, f"_BF({LARGER_PIECE_BYTES})\n")
    digest = await _answer(session, reading, "_BF(0)\ndel _BF\n")
    if not isinstance(digest, bytes):
        raise reading.unclear()
    return digest


async def _ask_small(session: Conversation, reading: _Reading) -> bytes:
    name = text_literal(flat_name(reading.path))
    size = await _answer(session, reading, f"print(__import__('os').size({name}))")
    await _answer(session, reading, f"_BF=open({name},'rb')\nprint(0)")
    await _ask_for_all(session, reading, size, f"print(_BF.read({PIECE_BYTES}))")
    await _answer(session, reading, "_BF.close()\ndel _BF\nprint(0)")
    return b""


async def _ask_for_all(session: Conversation, reading: _Reading, size: object, asking: str) -> None:
    if not isinstance(size, int) or not is_count(size):
        raise reading.unclear()
    await reading.begin(size)
    while reading.missing_bytes:
        piece = await _answer(session, reading, asking)
        try:
            data = binascii.a2b_base64(piece) if isinstance(piece, str) else piece
        except ValueError:
            raise reading.unclear() from None
        if not isinstance(data, bytes):
            raise reading.unclear()
        if not data:
            raise _failure(reading, 5)
        await reading.take(data)


async def _answer(session: Conversation, reading: _Reading, source: str) -> object:
    """Run `source` and return the literal that it prints."""
    try:
        output = await session.command(source)
    except BoardRaised as raised:
        raise _failure(reading, errno_of(raised)) from raised
    try:
        return ast.literal_eval(output.decode().strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise reading.unclear() from None
