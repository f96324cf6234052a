"""What a board's errno means to whoever asked for a file."""

from __future__ import annotations

import re

from belayd.errors import BelaydError, BoardFull, FileNotFound, InternalError, ReadOnly, RequestInvalid
from belayd.outcome import BoardRaised

_NAMED = {"file not found": 2, "no more storage space": 28}  # as a micro:bit v1 says it
_NUMBER = re.compile(r"\[Errno (\d+)\]|(\d+)\Z")


def errno_of(raised: BoardRaised) -> int | None:
    """Return the errno that a board's OSError tells; None for anything else."""
    if raised.type_name != "OSError":
        return None
    message = raised.exception.message
    found = _NUMBER.match(message)
    return int(found[1] or found[2]) if found else _NAMED.get(message)


def failure(path: str, errno: int | None, what: str) -> BelaydError:
    """Return the error for `what`, such as "be read", that could not be done to `path`."""
    match errno:
        case 2:
            return FileNotFound(f"the board has no {path!r}; `belayctl fs ls` shows what it has", path=path)
        case 19:
            return FileNotFound(
                f"the board has no filesystem at {path!r}; `belayctl fs df` lists them", path=path
            )
        case 20:
            return RequestInvalid(
                f"{path!r} leads through a file as if it were a folder", field="path", path=path
            )
        case 21:
            return RequestInvalid(
                f"{path!r} is a folder, and cannot {what}; name a file", field="path", path=path
            )
        case 17:
            return RequestInvalid(f"{path!r} is there already; choose another name", field="path", path=path)
        case 39 | 66:
            return RequestInvalid(
                f"the folder {path!r} is not empty; delete what is in it first, or with it",
                field="path",
                path=path,
            )
        case 1 | 13 | 30:
            return ReadOnly(
                f"{path!r} cannot {what} by the board itself; if it shows its files as a USB drive, "
                "eject that or remount it writable in boot.py",
                path=path,
            )
        case 28:
            return BoardFull(
                f"the board's filesystem is full: {path!r} cannot {what}; delete something", path=path
            )
        case 22 | 36:
            return RequestInvalid(
                f"the board's filesystem refuses {path!r}: not a name there, or neither file nor folder",
                field="path",
                path=path,
            )
        case _:
            return InternalError(
                f"{path!r} could not {what}: errno {errno} on the board", path=path, errno=str(errno)
            )
