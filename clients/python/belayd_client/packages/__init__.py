"""Packages for boards: found, fetched and checked here, so that they deploy like files.

`resolve` takes what is asked for ("aioble@0.5", "github:org/repo@v1", a URL, a
folder) and returns the files that belong in a board's lib folder. No board and
no daemon is spoken to, and nothing that was fetched is ever run.
Source: MicroPython docs, reference/packages, "Package management"; the index's
layout: micropython-lib, tools/build.py.
"""

from __future__ import annotations

from belayd_client.packages.lock import Lock
from belayd_client.packages.resolution import INDEX, Resolution, resolve

__all__ = ["INDEX", "Lock", "Resolution", "resolve"]
