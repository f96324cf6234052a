"""belayd_guard.py: lets a board's boot.py complete a deployment before main.py runs.

A board that reboots by itself while its files are being replaced would run some old
and some new ones until belayd next meets it. With this file, and `import belayd_guard`
in boot.py, it completes the journal first. The text is the daemon's own for
that, onboard/journal.py.
"""

from __future__ import annotations

import ast
from importlib import resources
from pathlib import Path

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.minifier import minify
from belayd_client.project import Project, ProjectFile, made

NAME = "belayd_guard.py"

# As belayd/deployment/journal.py ends it; a board must start, whatever is wrong with its journal.
_CALL = b"try:\n _BJ(None,2)\nexcept Exception:\n pass\ndel _BJ\n"


def file_for(project: Project) -> ProjectFile:
    """Return the file to add to a project.

    Raises:
        PreparationFailed: Its boot.py does not import it first, or it has one of that name.
    """
    found = {file.path: file for file in project.files}
    if NAME in found:
        raise PreparationFailed(f"{found[NAME].source}: belayd writes {NAME} itself; remove yours")
    boot = found.get("boot.py")
    if boot is None or not _imports_first(boot.read()):
        place = project.folder / "boot.py" if boot is None else boot.source
        raise PreparationFailed(
            f"{place}: with a boot guard, boot.py must begin with: import {NAME.removesuffix('.py')}"
        )
    text = resources.files("belayd").joinpath("onboard", "journal.py").read_bytes()
    return made(NAME, minify(text) + b"\n" + _CALL, Path(NAME))


def _imports_first(source: bytes) -> bool:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return False
    statements = (
        node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    )
    match next(statements, None):
        case ast.Import(names=names):
            return names[0].name == NAME.removesuffix(".py")
        case _:
            return False
