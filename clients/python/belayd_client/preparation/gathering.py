"""A folder and its settings as one wish: which files, where to, and what becomes of them on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.compiler import Kind
from belayd_client.preparation.settings import FILE, OWN_FILES, Settings
from belayd_client.preparation.settings import read as read_settings
from belayd_client.preparation.trees import Recipe, packages_of
from belayd_client.project import Project, joined
from belayd_client.project import read as read_folder


@dataclass(frozen=True, slots=True)
class Gathered:
    """What to deploy; `packages` returns what to add for boards of a kind, None for nothing."""

    project: Project
    settings: Settings
    recipe: Recipe
    packages: Callable[[Kind | None], Project] | None


def settings_for(folder: str | os.PathLike[str] | None) -> Settings:
    """Return the settings of a folder; one that has none is itself the source of all files.

    None is the current folder, which must have some.

    Raises:
        PreparationFailed: They are wrong, or there is no folder and no project.
    """
    root = Path("." if folder is None else folder)
    found = read_settings(root)
    if found is not None:
        return found
    if folder is None:
        raise PreparationFailed(f"here is no {FILE}; name the folder whose files the board shall have")
    return Settings(root, Path())


def gather(settings: Settings, *, ignore: Sequence[str] = ()) -> Gathered:
    """Read the files that settings name; `ignore` are patterns beside theirs.

    Raises:
        PreparationFailed: As project.read, or two sources have one file.
    """
    lines = [*settings.ignore, *ignore]
    if settings.file.name:
        lines = [*OWN_FILES, *lines]
    parts = [read_folder(folder, lines) for folder in settings.source_folders()]
    packages = None
    if settings.dependencies:
        packages = packages_of(
            settings.dependencies, folder=settings.folder, below=settings.packages, index=settings.index
        )
    recipe = Recipe(settings.mpy, settings.minify, settings.as_is, settings.boot_guard)
    return Gathered(joined(settings.folder, parts), settings, recipe, packages)


def overridden(
    settings: Settings,
    *,
    destination: str | None = None,
    prune: bool | None = None,
    mpy: bool | None = None,
    minify: bool | None = None,
    boot_guard: bool | None = None,
    keep: Sequence[str] = (),
    prune_also: Sequence[str] = (),
    as_is: Sequence[str] = (),
) -> Settings:
    """Return settings with what a caller says instead; None says nothing, patterns come beside."""
    return replace(
        settings,
        destination=settings.destination if destination is None else destination,
        prune=settings.prune if prune is None else prune,
        mpy=settings.mpy if mpy is None else mpy,
        minify=settings.minify if minify is None else minify,
        boot_guard=settings.boot_guard if boot_guard is None else boot_guard,
        keep=(*settings.keep, *keep),
        prune_also=(*settings.prune_also, *prune_also),
        as_is=(*settings.as_is, *as_is),
    )
