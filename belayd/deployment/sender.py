"""Carries a plan out on a board, many steps an exec, one file after the other.

Each file is written under a temporary name, read back and hashed by the board,
and renamed over the old one. Whatever breaks, a file on the board is the old or
the new one; which of the plan's files are new is told by the next listing.
Leaves to others: what to do (`plan`), how it is spelled (`encoding`), what the
board does with it (`onboard/receiver.py` lists the steps).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from belayd import onboard
from belayd.deployment import encoding
from belayd.deployment.encoding import text_literal
from belayd.deployment.paths import temporary_beside
from belayd.deployment.plan import Deletion, Plan, Write
from belayd.errors import BelaydError, BoardFull, InternalError, OutOfMemory, ReadOnly, RequestInvalid
from belayd.outcome import BoardRaised
from belayd.snapshot import Facts

Contents = Callable[[bytes], Awaitable[bytes]]
"""Gives the content with a SHA-256."""

NO_MEMORY = 12
NO_SPACE = 28
NOT_WRITABLE = (1, 13, 30)
"""EPERM, EACCES, EROFS."""
NAME_REFUSED = (22, 36)
"""EINVAL and ENAMETOOLONG: FAT refuses such as ':' and '?'."""


class Counted(Protocol):
    """Bytes that went through a link."""

    received_bytes: int
    sent_bytes: int


class Conversation(Protocol):
    """What a deployment needs of a session."""

    @property
    def proven(self) -> bool:
        """Whether the board is known to be at its prompt."""

    @property
    def facts(self) -> Facts:
        """What the board said of itself."""

    @property
    def traffic(self) -> Counted:
        """What went through its link."""

    async def command(self, source: str) -> bytes:
        """Run belayd's own text and return what it printed; as `Session.command`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the writing is.

    Attributes:
        path: The file being written, absolute on the board.
        written_bytes: Of all files, acknowledged by the board; falls when a file is written again.
    """

    path: str
    written_bytes: int
    total_bytes: int


Report = Callable[[Plan | Progress], Awaitable[None]]
"""Hears of the plan and of progress; the board waits for it."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step; `unit` is the index of the change it belongs to."""

    text: str
    path: str
    unit: int
    payload_bytes: int = 0


class Sender:
    """Carries out one plan, once.

    Attributes:
        round_trips: Execs so far.
    """

    def __init__(self, board: Conversation, plan: Plan, contents: Contents, report: Report) -> None:
        self.round_trips = 0
        self._board = board
        self._contents = contents
        self._report = report
        self._means = encoding.means(board.facts)
        self._receiver = encoding.shorten(onboard.load("receiver"), board.facts)
        self._units: list[Deletion | str | Write] = [
            *plan.clear,
            *plan.make_folders,
            *plan.write,
            *plan.prune,
        ]
        self._total_bytes = plan.payload_bytes
        self._written_bytes = 0
        self._batch: list[_Step] = []
        self._batch_bytes = 0
        self._installed = False
        self._rewritten: set[int] = set()

    async def send(self) -> None:
        """Make every change of the plan.

        After an error or a cancellation some files are written and others not,
        and the temporary file is gone if the board still answers.

        Raises:
            BoardFull, ReadOnly, OutOfMemory: The board cannot take it.
            RequestInvalid: Its filesystem refuses a name, or a size in the manifest is wrong.
            InternalError: A file came out wrong twice, or the board failed otherwise.
        """
        unit = 0
        complete = False
        try:
            while unit < len(self._units):
                unit = await self._send_from(unit)
            complete = True
        finally:
            if not complete:
                await self._tidy()

    async def _send_from(self, start: int) -> int:
        """Send all from a unit on; return the unit to start again from, or how many there are."""
        self._begin(start)
        for unit in range(start, len(self._units)):
            async for step in self._steps(unit):
                if self._batch and len(step.text) > self._room():
                    again = await self._flush(last=False)
                    if again is not None:
                        return again
                self._batch.append(step)
                self._batch_bytes += len(step.text.encode()) + 1
        again = await self._flush(last=True)
        return len(self._units) if again is None else again

    def _begin(self, start: int) -> None:
        self._batch = []
        self._batch_bytes = 0 if self._installed else len(self._receiver)
        self._written_bytes = sum(unit.size for unit in self._units[:start] if isinstance(unit, Write))

    def _room(self) -> int:
        return self._means.command_bytes - self._batch_bytes

    async def _steps(self, index: int) -> AsyncIterator[_Step]:
        match self._units[index]:
            case Deletion(path, folder):
                yield _Step(f"('{'r' if folder else 'd'}',{text_literal(path)})", path, index)
            case str(path):
                yield _Step(f"('m',{text_literal(path)})", path, index)
            case Write() as write:
                data = await self._content(write)
                path = write.path
                temporary = temporary_beside(path)
                yield _Step(f"('o',{text_literal(path)},{text_literal(temporary)})", path, index)
                start = 0
                while start < len(data):
                    # A small rest of room is not worth a piece of its own.
                    room = self._room()
                    least = self._means.command_bytes // 4
                    text, length = encoding.cut(
                        data, start, self._means, room if room > least else self._means.command_bytes
                    )
                    yield _Step(text, path, index, length)
                    start += length
                digest = encoding.bytes_literal(write.sha256, self._means)
                yield _Step(f"('c',{digest})", path, index)

    async def _content(self, write: Write) -> bytes:
        data = await self._contents(write.sha256)
        if hashlib.sha256(data).digest() != write.sha256:
            raise InternalError(f"the content kept for {write.path!r} has another hash", path=write.path)
        if len(data) != write.size:
            raise RequestInvalid(
                f"the manifest says {write.size} bytes for {write.path!r}, but its content has {len(data)}",
                field="files",
                path=write.path,
            )
        return data

    async def _flush(self, last: bool) -> int | None:
        """Run the batch; return None if all of it was done, else the unit to start again from."""
        batch = self._batch
        if not batch:
            return None
        done, problem = await self._exchange(batch, last)
        self._written_bytes += sum(step.payload_bytes for step in batch[:done])
        if problem is not None:
            return self._start_again(batch[done], problem)
        self._batch = []
        self._batch_bytes = 0
        if any(step.payload_bytes for step in batch):
            await self._report(Progress(batch[-1].path, self._written_bytes, self._total_bytes))
        return None

    async def _exchange(self, batch: list[_Step], last: bool) -> tuple[int, int | bytes | None]:
        source = f"_BR({','.join(step.text for step in batch)})\n"
        if not self._installed:
            source = self._receiver + source
        if last:
            source += "del _BR\n"
        self.round_trips += 1
        try:
            output = await self._board.command(source)
        except OutOfMemory:
            self._installed = False
            return 0, NO_MEMORY
        except BoardRaised as raised:
            raise InternalError(f"writing {batch[0].path!r} failed on the board: {raised}") from raised
        self._installed = not last
        return _parse_answer(output, len(batch))

    def _start_again(self, step: _Step, problem: int | bytes) -> int:
        unit = self._units[step.unit]
        if problem == NO_MEMORY:
            smaller = self._means.smaller()
            if smaller is None:
                raise OutOfMemory(
                    f"the board's memory does not hold {self._means.command_bytes} bytes to write "
                    f"{step.path!r}; reset it and try again",
                    path=step.path,
                )
            self._means = smaller
            self._receiver = onboard.load("receiver")
        elif isinstance(problem, bytes) and isinstance(unit, Write):
            if step.unit in self._rewritten:
                raise InternalError(
                    f"{step.path!r} was written twice and came out with SHA-256 {problem.hex()} instead of "
                    f"{unit.sha256.hex()}; the old file is kept: is the board's flash worn out?",
                    path=step.path,
                    expected=unit.sha256.hex(),
                    found=problem.hex(),
                )
            self._rewritten.add(step.unit)
        else:
            raise _failure(step.path, problem)
        return step.unit

    async def _tidy(self) -> None:
        """Remove what is begun, if the board still listens."""
        if not (self._board.proven and self._installed):
            return
        self.round_trips += 1
        # What led here is told; what cannot be removed now the next deployment removes.
        with contextlib.suppress(BelaydError, BoardRaised):
            await self._board.command("_BR(('x',))\ndel _BR\n")


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


def _failure(path: str, problem: int | bytes) -> BelaydError:
    if problem == NO_SPACE:
        return BoardFull(
            f"the board's filesystem was full while {path!r} was written; what stood there before is intact: "
            "delete something, or deploy with prune",
            path=path,
        )
    if problem in NOT_WRITABLE:
        return ReadOnly(
            f"{path!r} cannot be written by the board itself; if it shows its files as a USB drive, "
            "eject that or remount it writable in boot.py",
            path=path,
        )
    if problem in NAME_REFUSED:
        return RequestInvalid(
            f"the board's filesystem refuses the name {path!r}; choose another", field="files", path=path
        )
    return InternalError(
        f"{path!r} failed on the board with errno {problem!r}", path=path, errno=str(problem)
    )
