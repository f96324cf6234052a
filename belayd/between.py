"""What becomes of a board between two holders: wiped, or made equal to a folder, and proven to be.

A board is given one of these to run in its own task, soft-resets it, and runs it
again until it finds nothing to do any more: what a former holder's boot.py or
thread puts back is found that way. Leaves to others: when (`cleaning`), what a
failure means for the board (quarantine), reading the folder (`inventory`).

Over WebREPL boot.py and webrepl_cfg.py stay unless the folder has them: without
them nobody would reach the board again.
"""

from __future__ import annotations

import ast
import asyncio
from functools import partial
from typing import assert_never

from belayd import onboard
from belayd.cleaning import Tidy
from belayd.deployment.encoding import shorten
from belayd.deployment.paths import SPARED
from belayd.deployment.plan import ManifestFile
from belayd.deployment.transfer import Options, Plan, Progress, deploy
from belayd.errors import BoardUnresponsive, InternalError, ReadOnly, RequestInvalid
from belayd.inventory import BoardSpec, DeployTree, SoftReset, TreeFile, WebreplLink, Wipe
from belayd.outcome import BoardRaised
from belayd.session import Session

TIMEOUT = 600.0
"""Seconds for one time through: a deployment's own; a full 16 MB flash is wiped in well under one minute."""
PLACES = ("/", "/flash")
"""Where a board may have its filesystem; stm32 boards have it at the second."""
_DOORS = ("boot.py", "webrepl_cfg.py")


def tidy_for(spec: BoardSpec) -> Tidy | None:
    """Return what brings a board to the state that its inventory entry asks for; None for a soft reset alone."""
    doors = _DOORS if isinstance(spec.link, WebreplLink) else ()
    match spec.between:
        case SoftReset():
            return None
        case Wipe():
            return partial(_within, partial(_wipe, keep=doors), "wiped")
        case DeployTree(files=files):
            return partial(_within, partial(_deploy, files=files, keep=doors), "deployed to")
        case unknown:
            assert_never(unknown)


async def _within(work: Tidy, what: str, session: Session) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await work(session)
    except TimeoutError:
        raise BoardUnresponsive(f"it was not {what} within {TIMEOUT:g} s") from None


async def _wipe(session: Session, keep: tuple[str, ...]) -> bool:
    places = tuple(f"{place.rstrip('/')}/{name}" for place in PLACES for name in keep)
    text = shorten(onboard.load("wipe"), session.facts)
    try:
        output = await session.command(f"{text}_BW({places!r})\ndel _BW\n")
    except BoardRaised as raised:
        raise InternalError(f"it could not be wiped: {raised}") from raised
    removed, left = _parse(output)
    if left:
        path, errno = left[0]
        others = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise ReadOnly(
            f"{path!r}{others} could not be removed (errno {errno}); if the board shows its files as a USB drive, "
            "eject that or remount it writable in boot.py",
            path=path,
        )
    return removed > 0


def _parse(output: bytes) -> tuple[int, list[tuple[str, object]]]:
    try:
        told = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        told = None
    match told:
        case (int(removed), list(left)):
            return removed, [
                (str(pair[0]), pair[1]) for pair in left if isinstance(pair, tuple) and len(pair) == 2
            ]
    raise InternalError("what it says of being wiped cannot be read; does code of its own print meanwhile?")


async def _deploy(session: Session, files: tuple[TreeFile, ...], keep: tuple[str, ...]) -> bool:
    contents = {file.sha256: file.content for file in files}
    manifest = [ManifestFile(file.path, file.sha256, len(file.content)) for file in files]
    prune_also = tuple(name for name in SPARED if name not in keep)
    changed = False

    async def content(sha256: bytes) -> bytes:
        return contents[sha256]

    async def report(step: Plan | Progress) -> None:
        nonlocal changed
        changed = changed or (isinstance(step, Plan) and not step.empty)

    async def attempt(place: str) -> None:
        options = Options(destination=place, prune=True, prune_also=prune_also)
        await deploy(session, manifest, content, options, report)

    try:
        await attempt(PLACES[0])
    except RequestInvalid as error:
        if error.fields.get("field") != "destination":
            raise
        await attempt(PLACES[1])
    return changed
