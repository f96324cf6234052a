"""One file onto a board: beside the old one, verified by hash there, then in its place.

What is equal already is not sent; what does not fit is refused before anything is
touched. A board of the smallest kind can neither rename nor hash: there the old file
goes first, and the new one is read back.
Leaves to others: how contents travel (`deployment`).
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass

from belayd.deployment.encoding import text_literal
from belayd.deployment.plan import Plan, Write
from belayd.deployment.sender import Contents, Progress, Sender
from belayd.deployment.space import bytes_needed
from belayd.errors import BelaydError, BoardFull, FileNotFound, InternalError, Unsupported
from belayd.files.asking import Conversation, ask, unclear
from belayd.files.failing import failure
from belayd.files.listing import list_files
from belayd.files.names import folder_of
from belayd.files.reading import read_file
from belayd.files.small import flat_name, is_small

FOLDER = 0x4000
FILE = 0x8000
PIECE_BYTES = 48
"""For a micro:bit: its bytes as a literal inside a literal are four to eight times as long."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it shall be; `path` as `names.check_below_root` returns it."""

    path: str
    size: int
    sha256: bytes
    parents: bool = False


async def write_file(session: Conversation, wanted: Wanted, contents: Contents) -> bool:
    """Make a file what it shall be; return False if it was already.

    `contents` is asked only if it was not. Whatever breaks off leaves the old file,
    but on the smallest boards.

    Raises:
        FileNotFound: Its folder is not there, and `parents` is false.
        RequestInvalid: A folder is called so, or a file stands where a folder must be.
        BoardFull, ReadOnly, Unsupported, OutOfMemory, InternalError: The board cannot take it.
    """
    if is_small(session.facts):
        return await _write_small(session, wanted, contents)
    if "hashlib" not in session.facts.modules:
        raise Unsupported("this board's firmware has no hashlib, so what is written cannot be verified")
    probe = await _probe(session, wanted)
    if probe.sha256 == wanted.sha256:
        return False
    plan = _plan(wanted, probe)
    _refuse_full(plan, probe, wanted)
    await Sender(session, plan, contents, _tell_nobody).send()
    return True


@dataclass(frozen=True, slots=True)
class _Probe:
    """What stands where the file shall be; `folder` is the nearest on the way that exists."""

    size: int | None
    sha256: bytes | None
    folder: str
    block_bytes: int
    free_bytes: int


async def _probe(session: Conversation, wanted: Wanted) -> _Probe:
    path = wanted.path
    output = await ask(session, path, f"_BP({text_literal(path)},{wanted.size})\ndel _BP\n", "probe")
    try:
        answer = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise unclear(path, str(error)) from None
    match answer:
        case (int(kind), int(size), (bytes() | None) as digest, str(folder), int(above), usage, bool(fixed)):
            _refuse_place(wanted, kind, folder, above, fixed)
            block, free = _room(usage)
            return _Probe(size if kind else None, digest, folder, block, free)
    raise unclear(path, "it makes no sense")


def _refuse_place(wanted: Wanted, kind: int, folder: str, above: int, fixed: bool) -> None:
    path = wanted.path
    if not f"{path}/".startswith(f"{folder.rstrip('/')}/"):
        raise unclear(path, f"{folder!r} is no folder of it")
    if kind not in (0, FILE):
        raise failure(path, 21 if kind == FOLDER else 22, "be written")
    if above != FOLDER:
        raise failure(path, 20, "be written")
    if folder != folder_of(path) and not wanted.parents:
        missing = folder_of(path)
        raise FileNotFound(f"the board has no folder {missing!r} for {path!r}; make it first", path=missing)
    if fixed:
        raise failure(path, 30, "be written")


def _room(usage: object) -> tuple[int, int]:
    match usage:
        case (int(), int(block), int(), int(), int(free), *_):
            return block, block * free
    return 0, 0


def _plan(wanted: Wanted, probe: _Probe) -> Plan:
    missing = []
    folder = folder_of(wanted.path)
    while folder != probe.folder:
        missing.append(folder)
        folder = folder_of(folder)
    return Plan(
        destination=probe.folder,
        clear=(),
        make_folders=tuple(reversed(missing)),
        write=(Write(wanted.path, wanted.sha256, wanted.size, probe.size),),
        prune=(),
        same=(),
        same_bytes=0,
        keep=(),
        unreadable=(),
    )


def _refuse_full(plan: Plan, probe: _Probe, wanted: Wanted) -> None:
    need = bytes_needed(plan, probe.block_bytes) if probe.block_bytes else 0
    if need > probe.free_bytes:
        raise BoardFull(
            f"{wanted.path!r} needs {need} bytes free, since it is written beside the old one, and the board "
            f"has {probe.free_bytes}; delete something",
            need=need,
            free=probe.free_bytes,
        )


async def _tell_nobody(step: Plan | Progress) -> None:
    """Take progress that nobody asked for."""


async def _write_small(session: Conversation, wanted: Wanted, contents: Contents) -> bool:
    name = text_literal(flat_name(wanted.path))
    there = await list_files(session, "/")
    sizes = {file.path: file.size for file in there}
    if sizes.get(wanted.path) == wanted.size and await _hash_of(session, wanted.path) == wanted.sha256:
        return False
    data = await contents(wanted.sha256)
    await ask(session, wanted.path, f"_BF=open({name},'wb')")
    try:
        for start in range(0, len(data), PIECE_BYTES):
            await ask(session, wanted.path, f"_BF.write({data[start : start + PIECE_BYTES]!r})")
        await ask(session, wanted.path, "_BF.close()\ndel _BF")
    except BelaydError:
        if session.proven:
            await ask(session, wanted.path, f"_BF.close()\ndel _BF\n__import__('os').remove({name})")
        raise
    if await _hash_of(session, wanted.path) != wanted.sha256:
        raise InternalError(
            f"{wanted.path!r} reads otherwise than it was written; write it again", path=wanted.path
        )
    return True


async def _hash_of(session: Conversation, path: str) -> bytes:
    digest = hashlib.sha256()

    async def take(data: bytes) -> None:
        digest.update(data)

    await read_file(session, path, take)
    return digest.digest()
