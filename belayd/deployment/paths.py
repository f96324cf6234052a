"""Rules for names: what may be a path on a board, which names are belayd's, which are spared.

Everything here is text in, text out. A path is relative to a destination and
'/'-separated; a destination is an absolute folder on the board. A rule that is
broken is refused before any board is touched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from belayd.errors import RequestInvalid

LONGEST_PART_BYTES = 255
"""What LittleFS, FAT and the unix port's filesystems can name at most."""
SPARED = ("boot.py", "webrepl_cfg.py", "lib")
"""What prune leaves alone at the root: with these a board is reached, or works at all."""
ROOTS = ("/", "/flash/")
"""Where a board looks for them: stm32 boards mount their root at /flash."""
STAGING = ".belayd"
"""The folder at the root of a filesystem where a deployment's new files wait."""

_TEMPORARY = re.compile(r"\.belayd-[0-9a-f]{12}")


def check_path(path: str) -> None:
    """Accept a file's path, relative to the destination.

    Backslashes are ordinary characters to LittleFS but separate folders on FAT,
    so they may stand in a name and yet never lead out of the destination.

    Raises:
        RequestInvalid: It is empty, absolute, too long in a part, has an empty
            part, "." or "..", a NUL, or a name of belayd's own.
    """
    for part in path.split("/"):
        if problem := _problem(part):
            raise RequestInvalid(
                f"path {path!r}: {problem}; give paths relative to the destination, such as 'lib/a.py'",
                field="files",
                path=path,
            )


def check_paths(paths: Iterable[str]) -> None:
    """Accept a tree of files.

    Raises:
        RequestInvalid: A path is refused, appears twice, or lies below another.
    """
    seen: set[str] = set()
    for path in paths:
        check_path(path)
        if path in seen:
            raise RequestInvalid(
                f"path {path!r} appears twice; give it one content", field="files", path=path
            )
        seen.add(path)
    for path in seen:
        for folder in folders_above(path):
            if folder in seen:
                raise RequestInvalid(
                    f"path {folder!r} is a file and yet holds {path!r}; rename one of them",
                    field="files",
                    path=path,
                )


def check_destination(destination: str) -> str:
    """Return `destination` as "/" or "/a/b"; "" means "/".

    Raises:
        RequestInvalid: It is relative, or one of its parts is refused.
    """
    if not destination.strip("/"):
        return "/"
    if not destination.startswith("/"):
        raise RequestInvalid(
            f"destination {destination!r} must be absolute, such as '/{destination}'", field="destination"
        )
    inner = destination[1:].removesuffix("/")
    for part in inner.split("/"):
        if problem := _problem(part):
            raise RequestInvalid(f"destination {destination!r}: {problem}", field="destination")
    return f"/{inner}"


def join(destination: str, path: str) -> str:
    """Return the absolute path on the board; `path` may be "" for the destination itself."""
    if not path:
        return destination
    return f"{destination.rstrip('/')}/{path}"


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders that hold `path`, the outermost first, without "" itself."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def depth(path: str) -> int:
    """Return how many folders hold `path`."""
    return path.count("/")


def temporary_beside(path: str) -> str:
    """Return the name under which `path` is written until it is complete and verified.

    It is made from the path alone, so that what a broken deployment left is
    overwritten by the next, and differs for each file of a folder.
    """
    folder, slash, name = path.rpartition("/")
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{folder}{slash}.belayd-{digest}"


def is_temporary(name: str) -> bool:
    """Tell whether a file's name is one that `temporary_beside` makes."""
    return _TEMPORARY.fullmatch(name) is not None


def is_spared(path: str, also: frozenset[str]) -> bool:
    """Tell whether prune must leave the absolute `path` alone.

    Names count in any case, as FAT has them. `also` lists those of SPARED that
    the caller gave up.
    """
    folded = path.casefold()
    return any(
        folded == f"{root}{name}" or folded.startswith(f"{root}{name}/")
        for root in ROOTS
        for name in SPARED
        if name not in also
    )


def _problem(part: str) -> str | None:
    if not part:
        return "a part is empty"
    if any(piece in (".", "..") for piece in part.split("\\")):
        return "'.' and '..' are not allowed"
    if "\0" in part:
        return "NUL is not allowed"
    try:
        encoded = part.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > LONGEST_PART_BYTES:
        return f"a part is longer than {LONGEST_PART_BYTES} bytes"
    if is_temporary(part) or part.casefold() == STAGING:
        return "names like .belayd and .belayd-0123456789ab are belayd's own"
    return None
