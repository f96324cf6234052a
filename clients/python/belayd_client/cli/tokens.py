"""Which lease a command works under, and where `acquire` leaves it for the next command.

A lease acquired on the command line is kept in a file of the user's own, one per
daemon and board, so that `acquire b; exec b ...; release b` needs no copying. A
named token wins over the environment of `hold`, and that over the file. Once the
daemon says that the lease is over, its file goes, and the next command runs
without one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from belayd_client.cli.output import note
from belayd_client.errors import BoardLeased, LeaseLost, NotFound, RequestInvalid

if TYPE_CHECKING:
    from belayd_client.client import Client
    from belayd_client.lease import Lease

T = TypeVar("T")

# How long a lease that a single command took for itself outlives the command's death.
_COMMAND_TTL = 60.0


class Found(NamedTuple):
    """A lease's token, and its file when that is ours to remove. No lease is an empty token."""

    token: str
    file: Path | None


def find(args: argparse.Namespace, address: str, board: str) -> Found:
    """Return the token for a board, from --lease, BELAYD_LEASE or the file of `acquire`.

    Raises:
        RequestInvalid: The file named by --lease cannot be used.
    """
    named: str | None = getattr(args, "lease", None)
    if named is not None:
        return Found(_read(Path(named)), None)
    inherited = os.environ.get("BELAYD_LEASE", "").strip()
    if inherited and os.environ.get("BELAYD_BOARD", board) == board:
        return Found(inherited, None)
    kept = _file(address, board)
    return Found(_read(kept), kept) if kept is not None and kept.exists() else Found("", None)


def require(args: argparse.Namespace, address: str, board: str) -> Found:
    """Return the token as `find` does.

    Raises:
        NotFound: There is none.
    """
    found = find(args, address, board)
    if not found.token:
        raise NotFound(f"no lease of yours on {board} is known here; run: belayctl acquire {board}")
    return found


def keep(address: str, lease: Lease) -> Path:
    """Write a lease's token where `find` looks, readable by its owner only; return the file.

    Raises:
        OSError: The folder cannot be written.
    """
    import tempfile

    path = _file(address, lease.board)
    if path is None:
        raise RequestInvalid(f"not a board's name: {lease.board!r}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = {
        "address": address,
        "board": lease.board,
        "lease": lease.name,
        "expires": lease.expires.isoformat(),
        "token": lease.token,
    }
    descriptor, fresh = tempfile.mkstemp(dir=path.parent)  # 0600 from its first moment
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file)
    Path(fresh).replace(path)
    return path


def forget(found: Found) -> None:
    """Remove the file of a lease that has ended, when it is ours."""
    if found.file is not None:
        found.file.unlink(missing_ok=True)


def under_lease(client: Client, args: argparse.Namespace, board: str, work: Callable[[str], T]) -> T:
    """Return what `work` returns, given the token of the lease that there is, or an empty one.

    With --wait, a board that somebody else has is waited for, taken for this
    one piece of work, and released.

    Raises:
        BelaydError: As `work` does.
    """
    found = find(args, client.address, board)
    try:
        return work(found.token)
    except LeaseLost as lost:
        forget(found)
        note(f"{board}: your lease is over; the next command runs without one")
        raise lost
    except BoardLeased:
        wait: float | None = getattr(args, "wait", None)
        if wait is None or found.token:
            raise
    lease = client.acquire(
        board,
        ttl=_COMMAND_TTL,
        wait=wait,
        reason="belayctl, for one command",
        on_queued=lambda position: note(f"waiting for {board}: place {position} in the queue"),
    )
    with lease.keep():
        return work(lease.token)


def _read(path: Path) -> str:
    from belayd_client.channel import read_secret

    text = read_secret(path).strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["token"])
        except (ValueError, KeyError):
            text = ""
    if not text:
        raise RequestInvalid(f"{path} holds no lease token")
    return text


def _file(address: str, board: str) -> Path | None:
    """Return where a lease is kept; None when the board's name can be none."""
    if not re.fullmatch("[a-z0-9-]{1,63}", board):
        return None
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return Path(home) / "belayd" / "leases" / f"{digest}-{board}"
