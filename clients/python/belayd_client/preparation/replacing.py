"""How a deployment is asked to delete what would hide its new files, and nothing besides.

A board that has both x.py and x.mpy imports x.py, so that a tree which was compiled
for the first time would change nothing. The old sources go by prune, with patterns that keep
all the rest where the caller wants no prune.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from belayd_client.project import Project, patterns

if TYPE_CHECKING:
    from belayd_client.deployment import DeploymentOptions

# What the daemon spares at the root and below /flash, in any case, unless it is named.
_SPARED = "lib"
_SPARED_PATTERNS = ("/[lL][iI][bB]/", "/[fF][lL][aA][sS][hH]/[lL][iI][bB]/")


def replacing(options: DeploymentOptions, projects: Iterable[Project]) -> DeploymentOptions:
    """Return the options with which the projects' `replaced` are deleted too.

    What a keep pattern of the caller's matches stays, as does all else.
    """
    kept = patterns(options.keep)
    hiding = sorted({path for project in projects for path in project.replaced if not kept.match_file(path)})
    if not hiding:
        return options
    gone = tuple(f"!/{_literal(path)}" for path in hiding)
    if not options.prune:
        keep = ("*", *gone)
    elif _SPARED in (name.rstrip("/") for name in options.prune_also):
        return options
    else:
        below = ("*",) if _is_spared(options.dst) else _SPARED_PATTERNS
        keep = (*options.keep, *below, *gone)
    also = tuple(dict.fromkeys((*options.prune_also, _SPARED)))
    return replace(options, prune=True, keep=keep, prune_also=also)


def _is_spared(destination: str) -> bool:
    path = f"{destination.rstrip('/').casefold()}/"
    return path.startswith((f"/{_SPARED}/", f"/flash/{_SPARED}/"))


def _literal(path: str) -> str:
    """Return the gitignore pattern that matches one path and no other."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)
