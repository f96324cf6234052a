"""Carries changes out by steps that are source, many an exec: for boards without binary input.

Raw paste keeps what is under way below what the board's input holds, so this is also
the way over WebREPL. Leaves to others: how steps are spelled (`encoding`), what the
board does with them (`onboard/steps.py` lists them).
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from belayd import onboard
from belayd.deployment import encoding
from belayd.deployment.encoding import text_literal
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
from belayd.errors import BelaydError, InternalError, OutOfMemory
from belayd.outcome import BoardRaised


@dataclass(frozen=True, slots=True)
class _Step:
    """One step; `unit` is the index of the change it belongs to."""

    text: str
    unit: int
    payload_bytes: int = 0


class StepSender:
    """Carries out changes, once."""

    def __init__(
        self, board: Conversation, changes: Sequence[Change], contents: Contents, report: Report
    ) -> None:
        self._board = board
        self._changes = changes
        self._contents = contents
        self._report = report
        self._means = encoding.means(board.facts)
        self._receiver = encoding.shorten(onboard.load("steps"), board.facts)
        self._total_bytes = payload_of(changes)
        self._written_bytes = 0
        self._batch: list[_Step] = []
        self._batch_bytes = 0
        self._installed = False
        self._rewritten: set[int] = set()

    async def send(self) -> None:
        """Make every change; as `Sender.send`."""
        unit = 0
        complete = False
        try:
            while unit < len(self._changes):
                unit = await self._send_from(unit)
            complete = True
        finally:
            if not complete:
                await self._tidy()

    async def _send_from(self, start: int) -> int:
        """Send all from a unit on; return the unit to start again from, or how many there are."""
        self._begin(start)
        for unit in range(start, len(self._changes)):
            async for step in self._steps(unit):
                if self._batch and len(step.text) > self._room():
                    again = await self._flush(last=False)
                    if again is not None:
                        return again
                self._batch.append(step)
                self._batch_bytes += len(step.text.encode()) + 1
        again = await self._flush(last=True)
        return len(self._changes) if again is None else again

    def _begin(self, start: int) -> None:
        self._batch = []
        self._batch_bytes = 0 if self._installed else len(self._receiver)
        self._written_bytes = payload_of(self._changes[:start])

    def _room(self) -> int:
        return self._means.command_bytes - self._batch_bytes

    async def _steps(self, index: int) -> AsyncIterator[_Step]:
        match self._changes[index]:
            case Deletion(path, folder):
                yield _Step(f"('{'r' if folder else 'd'}',{text_literal(path)})", index)
            case str(path):
                yield _Step(f"('m',{text_literal(path)})", index)
            case Folder(place=place):
                yield _Step(f"('m',{text_literal(place)})", index)
            case Ask(place=place):
                yield _Step(f"('q',{text_literal(place)})", index)
            case Put() as put:
                data = await content_of(put, self._contents)
                path = put.path if put.moves else put.place
                yield _Step(f"('o',{text_literal(path)},{text_literal(put.place)})", index)
                start = 0
                while start < len(data):
                    # A small rest of room is not worth a piece of its own.
                    room = self._room()
                    least = self._means.command_bytes // 4
                    text, length = encoding.cut(
                        data, start, self._means, room if room > least else self._means.command_bytes
                    )
                    yield _Step(text, index, length if put.payload_bytes else 0)
                    start += length
                digest = encoding.bytes_literal(put.sha256, self._means)
                yield _Step(f"('c',{digest})", index)

    async def _flush(self, last: bool) -> int | None:
        """Run the batch; return None if all of it was done, else the unit to start again from."""
        batch = self._batch
        if not batch:
            return None
        done, problem = await self._exchange(batch, last)
        self._written_bytes += sum(step.payload_bytes for step in batch[:done])
        if problem is not None:
            return self._start_again(batch[done].unit, problem)
        self._batch = []
        self._batch_bytes = 0
        if any(step.payload_bytes for step in batch):
            path = path_of(self._changes[batch[-1].unit])
            await self._report(Progress(path, self._written_bytes, self._total_bytes))
        return None

    async def _exchange(self, batch: list[_Step], last: bool) -> tuple[int, int | bytes | None]:
        source = f"_BS({','.join(step.text for step in batch)})\n"
        if not self._installed:
            source = self._receiver + source
        if last:
            source += "del _BS\n"
        try:
            output = await self._board.command(source)
        except OutOfMemory:
            self._installed = False
            return 0, NO_MEMORY
        except BoardRaised as raised:
            path = path_of(self._changes[batch[0].unit])
            raise InternalError(f"writing {path!r} failed on the board: {raised}", path=path) from raised
        self._installed = not last
        return _parse_answer(output, len(batch))

    def _start_again(self, unit: int, problem: int | bytes) -> int:
        change = self._changes[unit]
        if problem == NO_MEMORY:
            smaller = self._means.smaller()
            if smaller is None:
                raise out_of_memory(path_of(change), self._means.command_bytes)
            self._means = smaller
            self._receiver = onboard.load("steps")
        elif isinstance(problem, bytes) and isinstance(change, Put):
            if unit in self._rewritten:
                raise wrong_twice(change, problem)
            self._rewritten.add(unit)
        else:
            raise failure(path_of(change), problem)
        return unit

    async def _tidy(self) -> None:
        """Remove what is begun, if the board still listens."""
        if not (self._board.proven and self._installed):
            return
        # What led here is told; what cannot be removed now the next deployment removes.
        with contextlib.suppress(BelaydError, BoardRaised):
            await self._board.command("_BS(('x',))\ndel _BS\n")


async def estimate(board: Conversation, changes: Sequence[Change], contents: Contents) -> int:
    """Return about how many bytes `StepSender` would send and get for `changes`."""
    means = encoding.means(board.facts)
    wire = len(encoding.shorten(onboard.load("steps"), board.facts))
    for change in changes:
        wire += len(path_of(change)) + 8
        if isinstance(change, Put):
            data = await content_of(change, contents)
            start = 0
            while start < len(data):
                text, length = encoding.cut(data, start, means, means.command_bytes)
                wire += len(text) + 1
                start += length
                await asyncio.sleep(0)  # nothing else here waits, and others are served meanwhile
            wire += len(change.place) + 64
    # Each exec is framed by some 130 bytes of source and answer.
    return wire + wire * 130 // means.command_bytes


def _parse_answer(output: bytes, steps: int) -> tuple[int, int | bytes | None]:
    try:
        answer = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        answer = None
    match answer:
        case (int(done), None) if done == steps:
            return done, None
        case (int(done), int() | bytes() as problem) if 0 <= done < steps:
            return done, problem
    raise InternalError(
        "the board's answer to written files cannot be read; does code of its own print meanwhile? "
        "Reset the board and try again"
    )
