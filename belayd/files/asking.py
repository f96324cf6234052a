"""Short questions to a board: belayd's own text in one exec, and what it printed."""

from __future__ import annotations

from belayd import onboard
from belayd.deployment import carrying
from belayd.deployment.encoding import shorten
from belayd.deployment.writing import Conversation as Conversation
from belayd.errors import InternalError
from belayd.files.failing import errno_of, failure
from belayd.outcome import BoardRaised


async def ask(session: Conversation, path: str, source: str, text: str = "") -> bytes:
    """Return what `source`, which is about `path`, prints; it may use what onboard/`text`.py defines.

    Raises:
        FileNotFound, RequestInvalid, ReadOnly, BoardFull, InternalError: As what it raised means.
    """
    loaded = onboard.load(text) if text else ""
    try:
        if carrying.carries(session):
            return await carrying.command(session, loaded + source)
        return await session.command((shorten(loaded, session.facts) if text else "") + source)
    except BoardRaised as raised:
        errno = errno_of(raised)
        if errno is None:
            raise InternalError(f"work with {path!r} failed on the board: {raised}", path=path) from raised
        raise failure(path, errno, "be used") from raised


def unclear(path: str, why: str) -> InternalError:
    """Return the error for an answer that is none."""
    return InternalError(
        f"the board's answer about {path!r} cannot be read ({why}); does code of its own print meanwhile? "
        "Reset the board and try again",
        path=path,
    )
