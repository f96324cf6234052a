"""Asks boards what they have: to tell what became of a deployment, and how a board drifted."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from belayd.deployment import listing
from belayd.deployment.listing import Listing
from belayd.errors import InternalError, OutOfMemory, Unsupported
from belayd.outcome import BoardRaised
from belayd.records.changes import Drift, compare, judge, touched, tree_of
from belayd.session import Session
from belayd.store import Change, DeploymentOutcome, DeploymentRecord

STARTING = ("boot.py", "main.py", "webrepl_cfg.py")
"""What a board does by itself: told wherever it was deployed to."""
_ROOTS = ("/", "/flash/")


async def look_at(session: Session, destination: str, largest: int) -> Listing:
    """List a folder of a board; files of more than `largest` bytes are not hashed.

    Raises:
        Unsupported: Its firmware cannot compare files.
        InternalError: Its answer makes no sense.
        TransportLost, BoardUnresponsive, OutOfMemory: As `Session.command`.
    """
    if "hashlib" not in session.facts.modules:
        raise Unsupported(
            f"{session.facts.machine or session.facts.platform}: its firmware has no hashlib, so what the "
            "board holds cannot be compared; install a firmware that has it"
        )
    short, lean = listing.sources(destination, largest, session.facts)
    try:
        try:
            return listing.parse(await session.command(short))
        except OutOfMemory:
            return listing.parse(await session.command(lean))
    except BoardRaised as raised:
        raise InternalError(f"the board could not list {destination!r}: {raised}") from raised


async def outcome_of(
    session: Session, record: DeploymentRecord, changes: Sequence[Change]
) -> DeploymentOutcome:
    """Tell from what a board has what became of a deployment; raises as `look_at`."""
    sizes = [
        entry.size
        for change in touched(changes)
        for entry in (change.before, change.after)
        if entry is not None
    ]
    found = await look_at(session, record.destination, max(sizes, default=-1))
    return judge(changes, found, record.destination)


async def drift_of(session: Session, record: DeploymentRecord, changes: Sequence[Change]) -> Drift:
    """Compare what a board has with what a deployment was to leave; raises as `look_at`."""
    tree = tree_of(changes)
    largest = max((entry.size for entry in tree.values()), default=-1)
    drift = compare(tree, await look_at(session, record.destination, largest), record.destination)
    if record.destination == "/":
        return drift
    known = {*tree, *drift.extra}
    started = [path for path in await _starting(session) if path not in known]
    return Drift(drift.changed, drift.missing, tuple(sorted((*drift.extra, *started))))


async def _starting(session: Session) -> list[str]:
    places = [f"{root}{name}" for root in _ROOTS for name in STARTING]
    text = (
        f"def _BI():\n import os\n a=[]\n for i,p in enumerate({places!r}):\n  try:\n   os.stat(p)\n"
        "   a.append(i)\n  except OSError:\n   pass\n print(a)\n_BI()\ndel _BI\n"
    )
    try:
        there = ast.literal_eval((await session.command(text)).decode().strip())
        return [places[int(index)] for index in there]
    except (
        BoardRaised,
        ValueError,
        SyntaxError,
        TypeError,
        IndexError,
        RecursionError,
        MemoryError,
    ) as error:
        raise InternalError(
            f"the board's answer cannot be read ({error}); does code of its own print meanwhile? "
            "Reset the board and try again"
        ) from error
