"""A deployment's journal: what makes a staged tree the board's in one go, and what settles it after a break.

New files lie in a folder of their own on the same filesystem, then the journal,
then the board carries the journal out: until that is complete nothing of the tree
is touched, from then on any contact completes it. Promises: whatever breaks and
however often, the tree ends as the old or the new one, and `settle` says which.
A deployment of which nothing is found on the board never touched it, since what was
completed stays to be found until the caller of `commit` or `settle` was told.
Leaves to others: the staging (`sender`), when to settle (`settling`).
"""

from __future__ import annotations

import ast
import contextlib
import enum
import hashlib
from collections.abc import Awaitable, Callable, Collection

from belayd import onboard
from belayd.deployment import carrying
from belayd.deployment.encoding import shorten, text_literal
from belayd.deployment.paths import STAGING
from belayd.deployment.plan import Deletion, Plan
from belayd.deployment.writing import Conversation
from belayd.errors import BelaydError, BoardFull, InternalError, OutOfMemory, ReadOnly, RequestInvalid
from belayd.outcome import BoardRaised

__all__ = ["STAGING", "Settled", "commit", "guard", "journal_path", "records", "root_of", "settle", "staged"]

GUARD = "belayd_guard.py"
FOLDER_FILES = 16
"""Files staged in one folder. LittleFS goes through a folder at each step: 50 renames out of one
folder took 250 ms, out of folders of 16 files 75, of 8 files 35 for twice the room."""
LONGEST_PAYLOAD_BYTES = 0xFFFF
_NO_SPACE = 28
_NOT_WRITABLE = (1, 13, 30)
_KNOWN_MOUNTS = ("/flash", "/sd")
_GUARD_CALL = "try:\n _BJ(None,2)\nexcept Exception:\n pass\ndel _BJ\n"


class Settled(enum.Enum):
    """What became of a deployment that had broken off."""

    COMPLETED = "completed"
    UNDONE = "undone"


Told = Callable[[], Awaitable[None]]
Became = Callable[[Settled], Awaitable[None]]


def root_of(destination: str, filesystems: Collection[str]) -> str:
    """Return the mount point that holds `destination`, "" for "/"; by its usual name where the board told none."""
    places = [place.rstrip("/") for place in filesystems or _KNOWN_MOUNTS]
    holding = [place for place in places if f"{destination.rstrip('/')}/".startswith(f"{place}/")]
    return max(holding, key=len, default="")


def staged(root: str, index: int) -> str:
    """Return where the `index`-th file of a plan's `write` is staged."""
    return f"{root}/{STAGING}/{_place(index)}"


def staging_folders(root: str, files: int) -> list[str]:
    """Return the folders in which so many files are staged, the outermost first."""
    top = f"{root}/{STAGING}"
    inner = range(1, -(-files // FOLDER_FILES))
    return [top, *(f"{top}/{folder}d" for folder in inner)]


def journal_path(root: str) -> str:
    """Return where the journal lies; it is the last thing to be staged."""
    return f"{root}/{STAGING}/journal"


def records(plan: Plan, root: str) -> bytes:
    """Return the journal that makes the board's tree what `plan` wants.

    Raises:
        RequestInvalid: A path is longer than a record can be.
    """
    written = b"".join(
        [
            *map(_deletion, plan.clear),
            _record("c", b""),
            *(_record("m", folder.encode()) for folder in plan.make_folders),
            *(
                _record("n", b"%s\0%s" % (_place(i).encode(), write.path.encode()))
                for i, write in enumerate(plan.write)
            ),
            *map(_deletion, plan.prune),
        ]
    )
    return written + _record("z", hashlib.sha256(written).digest()[:16])


async def commit(board: Conversation, root: str, told: Told | None = None) -> None:
    """Have the board carry out the journal that is staged below `root`.

    `told` is awaited when the tree is the new one, before the board forgets that it
    is: what it writes down is right whatever breaks. After a cancellation, or with
    any error but BoardFull and a damaged journal, `settle` completes it.

    Raises:
        BoardFull: The new tree's folders and names do not fit, or not any more.
        InternalError: The journal is not there or damaged, and nothing was touched; or a step failed.
        ReadOnly, OutOfMemory: The board cannot do it.
        TransportLost, BoardUnresponsive: As `Session.command`.
    """
    answers = await _ask(board, _roots([root]))
    if not answers:
        raise InternalError("the journal of the deployment is gone from the board; nothing was changed")
    for place, became, *details in answers:
        _refuse(became, details, place)
        if became == "U":
            raise InternalError("the board's journal is damaged; nothing was changed: is its flash worn out?")
    if told is not None:
        await told()
    with contextlib.suppress(InternalError):  # what stays of the mark goes at the next contact
        await _sweep(board, [root])


async def settle(board: Conversation, told: Became | None = None) -> Settled | None:
    """Complete or undo what broke off, on all the board's filesystems; return None if nothing was to be done.

    `told` is awaited first, as for `commit`. After a cancellation or an error it can be settled again.

    Raises:
        BoardFull, InternalError, ReadOnly, OutOfMemory: A step failed; the tree may be mixed.
        TransportLost, BoardUnresponsive: As `Session.command`.
    """
    answers = await _ask(board, "None")
    completed = [place for place, became, *_ in answers if became == "C"]
    settled = Settled.COMPLETED if completed else Settled.UNDONE if answers else None
    failed: BelaydError | None = None
    for place, became, *details in answers:
        try:
            if became != "F":  # what does not fit is undone like everything else
                _refuse(became, details, place)
        except BelaydError as error:
            failed = error
    if settled is not None and told is not None and (failed is None or completed):
        await told(settled)
    if completed:
        with contextlib.suppress(InternalError):
            await _sweep(board, completed)
    if failed is not None:
        raise failed
    return settled


def guard() -> bytes:
    """Return the text of GUARD, which boot.py imports first: it completes a journal that is there."""
    return (onboard.load("journal") + _GUARD_CALL).encode()


def _place(index: int) -> str:
    return f"{index // FOLDER_FILES}d/{index}" if index >= FOLDER_FILES else str(index)


def _deletion(deletion: Deletion) -> bytes:
    return _record("r" if deletion.folder else "d", deletion.path.encode())


def _record(kind: str, payload: bytes) -> bytes:
    if len(payload) > LONGEST_PAYLOAD_BYTES:
        raise RequestInvalid(f"a path has {len(payload)} bytes; no board can take it", field="files")
    return b"%s%04x%s" % (kind.encode(), len(payload), payload)


async def _ask(board: Conversation, roots: str) -> list[tuple[str, str, object, object]]:
    text = onboard.load("journal")
    call = f"if not _BJ({roots}):del _BJ\n"
    try:
        try:
            if carrying.carries(board):
                output = await carrying.command(board, text + call, keep="_BJ")
            else:
                output = await board.command(shorten(text, board.facts) + call)
        except OutOfMemory:
            output = await board.command(text + call)
    except BoardRaised as raised:
        raise InternalError(f"a broken deployment could not be settled: {raised}") from raised
    return _parse(output)


async def _sweep(board: Conversation, roots: list[str]) -> None:
    try:
        for place, became, *details in _parse(await board.command(f"_BJ({_roots(roots)},1)\ndel _BJ\n")):
            _refuse(became, details, place)
    except BoardRaised as raised:
        raise InternalError(f"{roots[0]}/{STAGING} could not be removed: {raised}") from raised


def _roots(roots: list[str]) -> str:
    return f"({''.join(f'{text_literal(root)},' for root in roots)})"


def _parse(output: bytes) -> list[tuple[str, str, object, object]]:
    try:
        told = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        told = None
    answers: list[tuple[str, str, object, object]] = []
    for answer in told if isinstance(told, list) else [None]:
        match answer:
            case (str(place), ("C" | "U" | "F" | "B" | "E") as became, one, two):
                answers.append((place, became, one, two))
            case _:
                raise InternalError(
                    "the board's answer to its journal cannot be read; does code of its own print meanwhile? "
                    "Reset the board and try again"
                )
    return answers


def _refuse(became: str, details: list[object], root: str) -> None:
    match became, details:
        case "F", [int(need), int(free)]:
            raise BoardFull(
                f"{root or '/'!r} needs {need} bytes free for the new tree's folders and names and has {free}; "
                "nothing was changed: delete something on the board, or deploy with in_place",
                need=need,
                free=free,
            )
        case "B", _:
            raise InternalError(
                f"the journal below {root or '/'!r} was damaged while it was carried out; the files may be "
                "partly old and partly new: deploy again"
            )
        case "E", [errno, path]:
            raise _failure(errno, str(path), root)


def _failure(errno: object, path: str, root: str) -> BelaydError:
    again = f"the deployment is completed at the next contact, or given up if {root}/{STAGING} is removed"
    if errno == _NO_SPACE:
        return BoardFull(f"the filesystem is full at {path!r}: delete something; {again}", path=path)
    if errno in _NOT_WRITABLE:
        return ReadOnly(
            f"{path!r} cannot be written by the board itself; if it shows its files as a USB drive, "
            f"eject that or remount it writable in boot.py; {again}",
            path=path,
        )
    return InternalError(
        f"{path!r} failed with errno {errno!r} while files were put in their place; {again}",
        path=path,
        errno=str(errno),
    )
