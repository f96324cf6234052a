"""The smallest boards (micro:bit v1): one flat folder, no hashes, 9 kB of memory, and os as it was in 2017."""

from __future__ import annotations

from belayd.errors import FileNotFound
from belayd.snapshot import Facts


def is_small(facts: Facts) -> bool:
    """Tell whether this board is one of them: it has no sys.stdout, and in os only listdir, size and remove."""
    return "sys.stdout" not in facts.modules


def flat_name(path: str) -> str:
    """Return what such a board calls an absolute path.

    Raises:
        FileNotFound: It lies in a folder.
    """
    name = path.removeprefix("/")
    if "/" in name:
        raise FileNotFound(f"this board has no folders, and so no {path!r}; put files at its root", path=path)
    return name
