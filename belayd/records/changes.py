"""What a deployment does to each path of a board, and what follows from it: pure.

Paths are absolute on the board. A path that a deployment leaves as it is, since it
has what it shall have, is a change whose two sides are equal: what a board should
have is told from a deployment's changes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from belayd.deployment.listing import BoardFile, Listing
from belayd.deployment.paths import join
from belayd.deployment.plan import ManifestFile, Plan
from belayd.store import FOLDER, Change, DeploymentOutcome, Entry

UNKNOWN = b"?"
"""Stands for the digest of a file that the board could not, or was not to, hash."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """What brings back what was before some deployments, as a deployment's arguments.

    Attributes:
        contents: Of the files of the manifest, by path.
        only: What they added: files and folders, relative to the destination.
        folders: Those that they deleted, likewise.
    """

    destination: str
    contents: Mapping[str, Entry]
    only: frozenset[str]
    folders: tuple[str, ...]

    @property
    def manifest(self) -> list[ManifestFile]:
        """The files to bring back."""
        return [ManifestFile(path, entry.digest, entry.size) for path, entry in self.contents.items()]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a board differs from what was deployed; all are files."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def changes_of(plan: Plan, found: Listing, manifest: Iterable[ManifestFile]) -> list[Change]:
    """Return what a plan does, with as much of what is there now as the listing tells."""
    befores: dict[str, Entry | None] = {}
    afters: dict[str, Entry | None] = {}

    def touch(path: str, after: Entry | None) -> None:
        befores.setdefault(path, _found(found, plan.destination, path))
        afters[path] = after

    for deletion in (*plan.clear, *plan.prune):
        if _found(found, plan.destination, deletion.path) is not None:  # else what a broken one left
            touch(deletion.path, None)
    for folder in plan.make_folders:
        touch(folder, FOLDER)
    for write in plan.write:
        touch(write.path, Entry(write.sha256, write.size))
    wanted = {join(plan.destination, file.path): file for file in manifest}
    for path in plan.same:
        befores[path] = afters[path] = Entry(wanted[path].sha256, wanted[path].size)
    return [Change(path, befores[path], afters[path]) for path in sorted(befores)]


def touched(changes: Iterable[Change]) -> list[Change]:
    """Return the changes that change something."""
    return [change for change in changes if change.before != change.after]


def tree_of(changes: Iterable[Change]) -> dict[str, Entry]:
    """Return the files that a deployment is to leave on the board, of those it is about."""
    return {
        change.path: change.after
        for change in changes
        if change.after is not None and not change.after.folder
    }


def way_back(destination: str, deployments: Sequence[Sequence[Change]]) -> WayBack:
    """Return the way back to what was before all of `deployments`, given newest first."""
    state: dict[str, Entry | None] = {}
    made: set[str] = set()
    for changes in deployments:
        for change in touched(changes):
            state[change.path] = change.before
            made.add(change.path)
    while not all(_is_below(path, destination) for path in state):
        # It made its own destination, too.
        destination = destination.rpartition("/")[0] or "/"
    relative = {path[len(destination.rstrip("/")) + 1 :]: entry for path, entry in state.items()}
    return WayBack(
        destination=destination,
        contents={path: entry for path, entry in relative.items() if entry is not None and not entry.folder},
        only=frozenset(path for path, entry in relative.items() if entry is None),
        folders=tuple(path for path, entry in relative.items() if entry == FOLDER),
    )


def overlap(one: Iterable[Change], other: Iterable[Change]) -> bool:
    """Tell whether two deployments changed the same path, or one a path above the other's."""
    paths = {change.path for change in touched(one)}
    above = {folder for path in paths for folder in _folders_above(path)}
    others = {change.path for change in touched(other)}
    return bool(others & (paths | above)) or any(
        folder in paths for path in others for folder in _folders_above(path)
    )


def judge(changes: Iterable[Change], found: Listing, destination: str) -> DeploymentOutcome:
    """Tell from what a board has whether a deployment that broke off was carried out.

    Only files count: a folder that is not empty stays whatever is wanted.
    """
    news, olds = True, True
    for change in touched(changes):
        if not _is_below(change.path, destination):
            continue
        if (change.before or FOLDER).folder and (change.after or FOLDER).folder:
            continue
        now = _found(found, destination, change.path)
        news = news and _agree(now, change.after)
        olds = olds and _agree(now, change.before)
    if news:
        return DeploymentOutcome.DONE
    return DeploymentOutcome.UNDONE if olds else DeploymentOutcome.MIXED


def compare(tree: Mapping[str, Entry], found: Listing, destination: str) -> Drift:
    """Compare the files that a board should have below `destination` with those it has."""
    has = {join(destination, path): file for path, file in found.files.items()}
    below = {path: entry for path, entry in tree.items() if _is_below(path, destination)}
    return Drift(
        changed=tuple(sorted(path for path in below.keys() & has.keys() if _differs(has[path], below[path]))),
        missing=tuple(sorted(below.keys() - has.keys())),
        extra=tuple(sorted(has.keys() - below.keys())),
    )


def _found(found: Listing, destination: str, path: str) -> Entry | None:
    if not _is_below(path, destination):
        return None
    relative = path[len(destination.rstrip("/")) + 1 :]
    if relative in found.folders:
        return FOLDER
    file = found.files.get(relative)
    return None if file is None else _entry(file)


def _entry(file: BoardFile) -> Entry:
    return Entry(file.digest or UNKNOWN, file.size)


def _differs(file: BoardFile, wanted: Entry) -> bool:
    return file.errno is not None or not _agree(_entry(file), wanted)


def _agree(now: Entry | None, wanted: Entry | None) -> bool:
    if now is None or wanted is None:
        return now is wanted
    if now.folder or wanted.folder:
        return now == wanted
    if now.size != wanted.size:
        return False
    if UNKNOWN in (now.digest, wanted.digest):
        return True
    return wanted.digest.startswith(now.digest) or now.digest.startswith(wanted.digest)


def _is_below(path: str, destination: str) -> bool:
    return path.startswith(f"{destination.rstrip('/')}/")


def _folders_above(path: str) -> list[str]:
    folders = []
    while (path := path.rpartition("/")[0]) != "":
        folders.append(path)
    return folders
