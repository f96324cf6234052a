"""Each board's own tree, made of one project before any board is touched.

Boards that take different .mpy files get different trees; those that take the same
share one. A file that is broken, for any of the boards, fails all of it.
boot.py and main.py at the top stay source, for a board runs them by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from belayd_client.board import Board
from belayd_client.errors import BoardUnavailable, Unsupported
from belayd_client.preparation import guard
from belayd_client.preparation.cache import Cache, key_of
from belayd_client.preparation.checking import check
from belayd_client.preparation.compiler import Compiler, Kind, compiler_for, kind_of
from belayd_client.preparation.minifier import minify
from belayd_client.project import Project, ProjectFile, joined, patterns

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

SOURCE = ("boot.py", "main.py")
"""What a board runs by these names, at the top of its filesystem."""

_MINIFIER = "1"
"""Changes when the minifier makes something else of a file, so that no old result is taken."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes of a project's files; `as_is` are gitignore patterns of those left alone."""

    mpy: bool = False
    minify: bool = False
    as_is: tuple[str, ...] = ()
    boot_guard: bool = False


def kind_for(board: Board) -> Kind:
    """Return what .mpy files a board takes.

    Raises:
        BoardUnavailable: It has not told, as it never answered.
        Unsupported: It takes none, or none that can be made here.
    """
    facts = board.facts
    if facts is None:
        raise BoardUnavailable(
            f"{board.name} has not answered yet, so which .mpy files it takes is unknown; try when it is ready"
        )
    if facts.implementation != "micropython":
        raise Unsupported(
            f"{board.name} runs {facts.implementation}, which has .mpy files of its own; no --mpy"
        )
    kind = kind_of(facts.mpy) if facts.mpy else None
    if kind is None:
        takes = f"of version {facts.mpy & 0xFF}.{facts.mpy >> 8 & 3}" if facts.mpy else "not at all"
        raise Unsupported(f"{board.name} takes .mpy files {takes}, and none of that is made here; no --mpy")
    return kind


def prepare(
    project: Project,
    kinds: Iterable[Kind | None],
    recipe: Recipe,
    *,
    packages: Callable[[Kind | None], Project] | None = None,
    cache: Cache | None = None,
) -> Mapping[Kind | None, Project]:
    """Return the tree for each kind of board.

    Args:
        project: The files as they are.
        kinds: As `kind_for` tells them where `recipe.mpy` is set, else None alone.
        recipe: What to do with the files.
        packages: Returns the packages to add for boards of a kind.
        cache: What was made before; None is the user's.

    Raises:
        PreparationFailed: A file is broken; the message names it. Nothing was sent.
    """
    kept = Cache.of_user() if cache is None else cache
    trees: dict[Kind | None, Project] = {}
    for kind in dict.fromkeys(kinds):
        whole = project if packages is None else joined(project.folder, (project, packages(kind)))
        maker = _Maker(recipe, compiler_for(kind, kept) if kind else None, kept)
        trees[kind] = maker.make(whole)
    return trees


class _Maker:
    """Makes one tree."""

    def __init__(self, recipe: Recipe, compiler: Compiler | None, cache: Cache) -> None:
        self._recipe = recipe
        self._compiler = compiler
        self._cache = cache
        self._as_is: GitIgnoreSpec = patterns(recipe.as_is)

    def make(self, project: Project) -> Project:
        """Return the tree; the first file that is broken fails it."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = list(pool.map(self._file, project.files))
        if self._recipe.boot_guard:
            files.append(guard.file_for(project))
        made = {file.path for file in files}
        # A board that has both x.py and x.mpy imports x.py: the old source must not outlive what replaces it.
        hiding = {f"{path.removesuffix('.mpy')}.py" for path in made if path.endswith(".mpy")}
        wanted = hiding - made if self._compiler is not None else set()
        tree = joined(project.folder, [Project(project.folder, tuple(files))])
        return Project(tree.folder, tree.files, tuple(sorted(wanted)))

    def _file(self, file: ProjectFile) -> ProjectFile:
        if not file.path.endswith(".py") or self._as_is.match_file(file.path):
            return file
        source, shown = file.read(), str(file.source)
        if self._compiler is not None:
            compiled = self._compiler.compile(source, file.path, shown)
            if file.path not in SOURCE:
                return file.with_content(compiled, f"{file.path.removesuffix('.py')}.mpy")
        else:
            check(source, shown, self._cache)
        return file.with_content(self._minified(source)) if self._recipe.minify else file

    def _minified(self, source: bytes) -> bytes:
        key = key_of("minified", _MINIFIER, source)
        if (known := self._cache.find(key)) is not None:
            return known
        less = minify(source)
        self._cache.keep(key, less)
        return less


def packages_of(
    dependencies: tuple[str, ...], *, folder: Path, below: str, index: str, locked: bool = True
) -> Callable[[Kind | None], Project]:
    """Return what resolves a project's dependencies for boards of a kind, below a folder of the tree.

    With `locked`, belayd.lock in `folder` is obeyed, and written with what it lacks.
    """

    def packages(kind: Kind | None) -> Project:
        from belayd_client.packages import INDEX, Lock, resolve
        from belayd_client.packages.lock import NAME

        file = folder / NAME
        lock = Lock.read(file) if locked else Lock()
        found = resolve(
            dependencies,
            mpy=0 if kind is None else int(kind.version.partition(".")[0]),
            index=index or INDEX,
            lock=lock,
            folder=folder,
        )
        if locked and found.lock != lock:
            found.lock.write(file)
        prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        return Project(
            folder,
            tuple(
                ProjectFile(f"{prefix}{each.path}", each.sha256, each.size, each.source, each.content)
                for each in found.files
            ),
        )

    return packages
