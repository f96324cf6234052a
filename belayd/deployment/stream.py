"""Carries changes out by binary blocks, one dialogue with onboard/receiver.py for all of them.

Each block is acknowledged; one more is under way only where the link holds it back.
What was lost or damaged is noticed by its check or by silence: the board is won back
and the files that were not verified yet are sent again, with none ahead.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from belayd import onboard
from belayd.deployment import blocks, carrying
from belayd.deployment.blocks import Block, Operation, Packer
from belayd.deployment.plan import Deletion
from belayd.deployment.writing import (
    NO_MEMORY,
    Ask,
    Change,
    Contents,
    Conversation,
    Folder,
    Progress,
    Put,
    Report,
    content_of,
    failure,
    out_of_memory,
    path_of,
    payload_of,
    wrong_twice,
)
from belayd.dialogue import Dialogue, DialogueEnded
from belayd.errors import BelaydError, BoardUnresponsive, InternalError, OutOfMemory, TransportLost
from belayd.outcome import BoardRaised

DAMAGED = -1
RETRIES = 3
"""Times that the link may lose or turn bytes in one deployment."""
ANSWER = 5.0
"""Seconds for an answer beside what the following two take."""
HASHED_BYTES = 100_000
"""Bytes a second that any board reads back and hashes, and writes."""
LINK_BYTES = 900
"""Bytes a second that any link takes: 9600 baud has 960."""
ANSWER_BYTES = 28
"""Of one answer, with its tokens: for the estimate."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the board could not do, and why."""

    operation: Operation
    problem: int | bytes


class LinkUnfit(Exception):
    """Blocks do not come through; something smaller may."""


class StreamSender:
    """Carries out changes, once."""

    def __init__(
        self, board: Conversation, changes: Sequence[Change], contents: Contents, report: Report
    ) -> None:
        self._board = board
        self._changes = changes
        self._contents = contents
        self._report = report
        self._shape = blocks.shape(board.facts)
        self._ahead = 1 if board.traffic.steady else 0
        self._total_bytes = payload_of(changes)
        self._written_bytes = 0
        self._verified = 0  # changes that are done, from the first on
        self._retries = RETRIES
        self._rewritten: set[int] = set()

    async def send(self) -> None:
        """Make every change; as `Sender.send`.

        Raises:
            LinkUnfit: The link lost or turned bytes again and again.
        """
        while self._verified < len(self._changes):
            self._written_bytes = payload_of(self._changes[: self._verified])
            try:
                refusal = await carrying.converse(self._board, self._text(), self._speak)
            except OutOfMemory:
                await carrying.interrupt(self._board)
                self._shrink()
            except BoardUnresponsive as silence:
                await self._win_back(silence)
            except BoardRaised as raised:
                path = path_of(self._changes[self._verified])
                failed = InternalError(f"writing {path!r} failed on the board: {raised}", path=path)
                failed.__cause__ = raised
                await self._win_back(failed)
            else:
                if refusal is not None:
                    self._start_again(refusal)

    def _text(self) -> str:
        shape = self._shape
        arguments = f"{shape.most},{shape.size},{shape.window_bits},{self._ahead == 0}"
        return f"{_receiver(self._changes)}_BR(t,{arguments})\n"

    async def _speak(self, dialogue: Dialogue) -> _Refusal | None:
        try:
            return await self._exchange(dialogue)
        except (asyncio.CancelledError, TransportLost, BoardUnresponsive, DialogueEnded):
            raise
        except BaseException:
            # Of the caller's own: the board is fine, and its text shall not be left behind.
            await dialogue.send(blocks.END)
            await dialogue.end()
            raise

    async def _exchange(self, dialogue: Dialogue) -> _Refusal | None:
        """Send blocks until all are done or one is refused; what was sent ahead of that is passed over."""
        refusal: _Refusal | None = None
        # The text says when it begins: before, it may fail, and a block be left unread.
        await dialogue.answer(ANSWER)
        unanswered: deque[Block] = deque()
        async with contextlib.aclosing(self._blocks(self._verified)) as packed:
            async for block in packed:
                while len(unanswered) > self._ahead and refusal is None:
                    refusal = await self._settle(dialogue, unanswered.popleft())
                if refusal is not None:
                    break
                await dialogue.send(block.wire)
                unanswered.append(block)
        while unanswered and refusal is None:
            refusal = await self._settle(dialogue, unanswered.popleft())
        await dialogue.send(blocks.END)
        if refusal is None:
            self._verified = len(self._changes)
        return refusal

    async def _settle(self, dialogue: Dialogue, block: Block) -> _Refusal | None:
        answer = await dialogue.answer(self._patience(block))
        if answer.kind == b"E":
            return _refusal(answer.payload, block.operations)
        self._verified = max(self._verified, block.operations[-1].unit)
        written = [each for each in block.operations if each.kind == b"w" and self._counts(each.unit)]
        if written:
            self._written_bytes += sum(len(each.payload) for each in written)
            path = path_of(self._changes[written[-1].unit])
            await self._report(Progress(path, self._written_bytes, self._total_bytes))
        return None

    def _counts(self, unit: int) -> bool:
        change = self._changes[unit]
        return isinstance(change, Put) and change.payload_bytes > 0

    def _patience(self, block: Block) -> float:
        changes = [self._changes[unit] for unit in {operation.unit for operation in block.operations}]
        size = sum(change.size for change in changes if isinstance(change, Put))
        return ANSWER + size / HASHED_BYTES + (1 + self._ahead) * len(block.wire) / LINK_BYTES

    async def _blocks(self, start: int) -> AsyncGenerator[Block]:
        packer = Packer(self._shape)
        for unit in range(start, len(self._changes)):
            async for block in _pack(packer, self._changes[unit], unit, self._contents):
                yield block
        for block in packer.flush():
            yield block

    def _shrink(self) -> None:
        smaller = self._shape.smaller()
        if smaller is None:
            raise out_of_memory(path_of(self._changes[self._verified]), self._shape.size) from None
        self._shape = smaller

    async def _win_back(self, error: BelaydError) -> None:
        """Interrupt a board that waits for bytes that were lost, or misread others."""
        self._retries -= 1
        if self._ahead or self._retries < 0:
            await carrying.distrust(self._board, error)
        else:
            await carrying.interrupt(self._board)
        self._ahead = 0
        if not carrying.carries(self._board):
            raise LinkUnfit(str(error)) from error

    def _start_again(self, refusal: _Refusal) -> None:
        """Begin again at what was refused, or raise."""
        unit, problem = refusal.operation.unit, refusal.problem
        change = self._changes[unit]
        if problem == DAMAGED and self._retries:
            self._retries -= 1
        elif problem == NO_MEMORY:
            self._shrink()
        elif isinstance(problem, bytes) and isinstance(change, Put):
            if unit in self._rewritten:
                raise wrong_twice(change, problem)
            self._rewritten.add(unit)
        elif problem == DAMAGED:
            raise LinkUnfit(f"what was sent for {path_of(change)!r} came damaged again and again")
        else:
            raise failure(path_of(change), problem)
        self._verified = unit


async def estimate(board: Conversation, changes: Sequence[Change], contents: Contents) -> int:
    """Return about how many bytes `StreamSender` would send and get for `changes`."""
    packer = Packer(blocks.shape(board.facts))
    wire = len(blocks.deflate(_receiver(changes).encode(), carrying.WINDOW_BITS)) + 200
    for unit, change in enumerate(changes):
        async for block in _pack(packer, change, unit, contents):
            wire += len(block.wire) + ANSWER_BYTES
            await asyncio.sleep(0)  # nothing else here waits, and others are served meanwhile
    return wire + sum(len(block.wire) + ANSWER_BYTES for block in packer.flush())


def _receiver(changes: Sequence[Change]) -> str:
    moves = any(isinstance(change, Put) and change.moves for change in changes)
    return (onboard.load("renaming") if moves else "") + onboard.load("receiver")


async def _pack(packer: Packer, change: Change, unit: int, contents: Contents) -> AsyncIterator[Block]:
    """Put one change into blocks; yield those that are full."""
    match change:
        case Deletion(path, folder):
            full = packer.path(b"r" if folder else b"d", path, unit)
        case str(path):
            full = packer.path(b"m", path, unit)
        case Folder(place=place):
            full = packer.path(b"m", place, unit)
        case Ask(place=place):
            full = packer.path(b"q", place, unit)
        case Put() as put:
            data = await content_of(put, contents)
            full = packer.path(b"o", put.place, unit)
            start = 0
            while start < len(data):
                room = packer.room
                if room < blocks.LEAST_PIECE_BYTES:
                    full += packer.flush()
                    continue
                full += packer.add(Operation(b"w", data[start : start + room], unit))
                start += room
                # One by one: a large file's blocks need not all be there at once.
                for block in full:
                    yield block
                full = []
            full += packer.add(Operation(b"c", put.sha256, unit))
            if put.moves:
                full += packer.path(b"n", put.path, unit)
    for block in full:
        yield block


def _refusal(payload: bytes, operations: Sequence[Operation]) -> _Refusal:
    try:
        answer = ast.literal_eval(payload.decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        answer = None
    match answer:
        case (int(done), int() | bytes() as problem) if 0 <= done < len(operations):
            return _Refusal(operations[done], problem)
    raise InternalError(
        "the board's answer to written files cannot be read; does code of its own print meanwhile? "
        "Reset the board and try again"
    )
