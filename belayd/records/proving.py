"""Whether a board has the contents that it says it has.

A board tells hashes, and its code can tell any: were that believed, a user who knows
the hash of somebody's secret could have it kept as their board's, and rolled back
onto it. So a board proves what it has with a hash that cannot be known before: over
a token made for this and the content.
"""

from __future__ import annotations

import ast
import hashlib
import secrets
from collections.abc import Iterator, Mapping

from belayd import onboard
from belayd.archive import Archive
from belayd.deployment.encoding import shorten, text_literal
from belayd.errors import InternalError, StoreFailed
from belayd.outcome import BoardRaised
from belayd.session import Session

TOKEN_BYTES = 16
MOST_PATHS = 50
"""In one exec: their hashes take 2 kB of the board's memory, and 8 kB as it prints them."""
MOST_PATH_BYTES = 2048
"""Likewise; one path may be longer."""


async def proven(session: Session, archive: Archive, claimed: Mapping[str, bytes]) -> set[str]:
    """Return those paths whose content the board has, of contents of `archive` by their hashes.

    Raises:
        InternalError: Its answer makes no sense.
        TransportLost, BoardUnresponsive, OutOfMemory: As `Session.command`.
    """
    found: set[str] = set()
    text = shorten(onboard.load("proof"), session.facts)
    for paths in _batches(claimed):
        token = secrets.token_bytes(TOKEN_BYTES)
        listed = ",".join(map(text_literal, paths))
        answers = await _ask(session, f"{text}_BK({token!r},({listed},))\ndel _BK\n", len(paths))
        for path, answer in zip(paths, answers, strict=True):
            try:
                data = await archive.read(claimed[path])
            except StoreFailed:  # lost on disk: then it is read from the board
                continue
            if answer == hashlib.sha256(token + data).digest():
                found.add(path)
    return found


def _batches(paths: Mapping[str, bytes]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for path in paths:
        size += len(path.encode())
        if batch and (size > MOST_PATH_BYTES or len(batch) == MOST_PATHS):
            yield batch
            batch, size = [], len(path.encode())
        batch.append(path)
    if batch:
        yield batch


async def _ask(session: Session, source: str, count: int) -> list[object]:
    try:
        output = await session.command(source)
        told = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (BoardRaised, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise InternalError(f"the board did not tell what its files hold: {error}") from error
    if not isinstance(told, list) or len(told) != count:
        raise InternalError(
            "the board's answer of what its files hold cannot be read; does code of its own print meanwhile?"
        )
    return told
