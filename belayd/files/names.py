"""Which paths callers may name on a board, and which names a board may have given: text in, text out."""

from __future__ import annotations

from belayd.deployment.paths import LONGEST_PART_BYTES, STAGING, is_temporary
from belayd.errors import RequestInvalid

LONGEST_PATH_BYTES = 16 * 1024
"""200 folders with long names are 10 kB; a board with less memory says so itself."""


def check_path(path: str, field: str = "path") -> str:
    """Return an absolute path without a slash at its end; "" means "/".

    Backslashes are ordinary characters to LittleFS but separate folders on FAT, so
    they may stand in a name and yet never lead elsewhere.

    Raises:
        RequestInvalid: It is relative, too long, or has an empty part, "." or "..", a
            NUL, or a name of belayd's own.
    """
    if not path.strip("/"):
        return "/"
    if problem := _problem(path.removesuffix("/")):
        raise RequestInvalid(
            f"{field} {path!r}: {problem}; give absolute paths, such as '/lib/a.py'", field=field, path=path
        )
    return path.removesuffix("/")


def check_below_root(path: str, field: str = "path") -> str:
    """As `check_path`; "/" itself is refused as well."""
    path = check_path(path, field)
    if path == "/":
        raise RequestInvalid(f"{field} '/': it stays; name what lies in it", field=field, path=path)
    return path


def is_count(number: int) -> bool:
    """Tell whether `number`, which a board gave, can be one of bytes."""
    return 0 <= number < 1 << 63


def is_name(name: str) -> bool:
    """Tell whether `name`, which a board gave, can be that of something in a folder."""
    try:
        name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, escaped
        return False
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def is_own(path: str) -> bool:
    """Tell whether an absolute path leads to what deployments keep for themselves."""
    return any(is_temporary(part) or part.casefold() == STAGING for part in path.split("/"))


def folder_of(path: str) -> str:
    """Return the folder that holds an absolute path."""
    return path.rpartition("/")[0] or "/"


def _problem(path: str) -> str | None:
    try:
        if len(path.encode()) > LONGEST_PATH_BYTES:
            return f"it is longer than {LONGEST_PATH_BYTES} bytes"
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not path.startswith("/"):
        return "it is relative"
    for part in path[1:].split("/"):
        if not part:
            return "a part is empty"
        if any(piece in (".", "..") for piece in part.split("\\")):
            return "'.' and '..' are not allowed"
        if "\0" in part:
            return "NUL is not allowed"
        if len(part.encode()) > LONGEST_PART_BYTES:
            return f"a part is longer than {LONGEST_PART_BYTES} bytes"
    if is_own(path):
        return f"{STAGING} and names like .belayd-0123456789ab are belayd's own"
    return None
