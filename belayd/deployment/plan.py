"""What to do so that a board's files equal a manifest: pure, from a listing.

A plan names every change in the order it is made: clear, make_folders, write,
prune. Nothing outside the destination is ever named. Without prune only those
files are deleted that stand where a folder must be or the reverse, and what a
deployment that broke off left under belayd's own temporary names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from belayd.deployment.listing import DIGEST_BYTES, Listing
from belayd.deployment.paths import (
    SPARED,
    check_destination,
    check_paths,
    depth,
    folders_above,
    is_spared,
    join,
)
from belayd.errors import RequestInvalid

if TYPE_CHECKING:
    from belayd.deployment.journal import Settled


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that the board shall have: `path` relative to the destination, whole `sha256`."""

    path: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Write:
    """A file to write.

    Attributes:
        path: Absolute on the board.
        replaces: Size of the file it takes the place of; None if there is none.
    """

    path: str
    sha256: bytes
    size: int
    replaces: int | None


@dataclass(frozen=True, slots=True)
class Deletion:
    """A file, or a folder that is empty by then, to delete; `path` absolute on the board."""

    path: str
    folder: bool
    size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Every change, in this order; paths are absolute on the board.

    Attributes:
        destination: As `check_destination` returns it.
        clear: What stands in the way, and leftovers; deleted before anything is written.
        make_folders: Outermost first.
        write: By path, but boot.py and main.py last: until then the board starts as before.
        prune: Deleted after everything is written, deepest first.
        same: Files that are equal already.
        same_bytes: Their bytes.
        keep: Files that are not in the manifest and stay.
        unreadable: Files and folders the board could not read, whatever becomes of them.
        wire_bytes: About how many will go over the link; 0 unless a dry run was asked for, with all contents.
        settled: What became of an earlier deployment that had broken off, None if there was none.
    """

    destination: str
    clear: tuple[Deletion, ...]
    make_folders: tuple[str, ...]
    write: tuple[Write, ...]
    prune: tuple[Deletion, ...]
    same: tuple[str, ...]
    same_bytes: int
    keep: tuple[str, ...]
    unreadable: tuple[str, ...]
    wire_bytes: int = 0
    settled: Settled | None = None

    @property
    def delete(self) -> tuple[str, ...]:
        """All that is deleted, files and folders, in order."""
        return tuple(deletion.path for deletion in (*self.clear, *self.prune))

    @property
    def payload_bytes(self) -> int:
        """Bytes of the files to write."""
        return sum(write.size for write in self.write)

    @property
    def empty(self) -> bool:
        """Whether the board is as it shall be."""
        return not (self.clear or self.make_folders or self.write or self.prune)


def check_manifest(manifest: Iterable[ManifestFile]) -> None:
    """Accept a manifest.

    Raises:
        RequestInvalid: A path is refused (`paths.check_paths`), a hash is not 32
            bytes long, or a size is negative.
    """
    files = list(manifest)
    check_paths(file.path for file in files)
    for file in files:
        if len(file.sha256) != 32 or file.size < 0:
            raise RequestInvalid(
                f"path {file.path!r}: give its size and the 32 bytes of its SHA-256",
                field="files",
                path=file.path,
            )


def plan(
    listing: Listing,
    manifest: Iterable[ManifestFile],
    *,
    destination: str = "/",
    prune: bool = False,
    keep: Iterable[str] = (),
    prune_also: Iterable[str] = (),
    only: Collection[str] | None = None,
    folders: Iterable[str] = (),
) -> Plan:
    """Compare what the board has with what it shall have.

    `keep` are gitignore patterns of what prune leaves alone, relative to
    `destination`. `prune_also` names those of boot.py, webrepl_cfg.py and lib
    that may be deleted; without it nothing deletes them. With `only`, exactly
    those files and folders are pruned, whatever the other arguments say, and a
    folder only if nothing in it stays. `folders` are to be there, also if empty.

    Raises:
        RequestInvalid: The manifest, the destination, a pattern or a name in
            prune_also is refused; the destination is a file, or no filesystem is
            there; a file would lie on another filesystem or take the place of
            something that must be kept.
    """
    manifest = list(manifest)
    check_manifest(manifest)
    files = {file.path: file for file in manifest}
    destination = check_destination(destination)
    _check_place(listing, destination, files)
    given_up = frozenset(SPARED) if only is not None else _given_up(prune_also)
    needed = {folder for path in files for folder in folders_above(path)}
    for folder in folders:
        needed.update((folder, *folders_above(folder)))
    return _Planner(listing, files, needed, destination, prune, only, _patterns(keep), given_up).plan()


class _Planner:
    def __init__(
        self,
        listing: Listing,
        files: dict[str, ManifestFile],
        needed_folders: set[str],
        destination: str,
        prune: bool,
        only: Collection[str] | None,
        keep: GitIgnoreSpec,
        given_up: frozenset[str],
    ) -> None:
        self._listing = listing
        self._files = files
        self._destination = destination
        self._prune = prune
        self._only = only
        self._keep = keep
        self._given_up = given_up
        self._needed_folders = needed_folders

    def plan(self) -> Plan:
        board = self._listing.files
        in_the_way = self._in_the_way()
        write = [file for file in self._files.values() if not self._is_same(file)]
        same = sorted(self._files.keys() - {file.path for file in write})
        others = board.keys() - self._files.keys() - in_the_way
        pruned = {path for path in others if self._may_prune(path)}
        variants = self._case_variants(pruned)
        kept = others - pruned
        pruned_folders = self._folders_to_prune(kept, in_the_way)
        return Plan(
            destination=self._destination,
            clear=(
                *(
                    Deletion(self._at(path), False, size)
                    for path, size in sorted(self._listing.leftovers.items())
                ),
                *self._deletions(in_the_way | variants),
            ),
            make_folders=tuple(self._folders_to_make()),
            write=tuple(self._writes(write)),
            prune=self._deletions(pruned - variants | pruned_folders),
            same=tuple(self._at(path) for path in same),
            same_bytes=sum(self._files[path].size for path in same),
            keep=tuple(self._at(path) for path in sorted(kept)),
            unreadable=tuple(self._at(path) for path in sorted(self._unreadable())),
        )

    def _is_same(self, file: ManifestFile) -> bool:
        found = self._listing.files.get(file.path)
        return found is not None and found.size == file.size and found.digest == file.sha256[:DIGEST_BYTES]

    def _in_the_way(self) -> set[str]:
        listing = self._listing
        clashing_files = self._needed_folders & listing.files.keys()
        clashing_folders = self._files.keys() & listing.folders
        below = {
            path
            for path in (*listing.files, *listing.folders, *listing.mounts)
            if any(folder in clashing_folders for folder in folders_above(path))
        }
        for path in sorted(clashing_files | clashing_folders | below):
            self._check_may_clear(path)
        return clashing_files | clashing_folders | below

    def _check_may_clear(self, path: str) -> None:
        listing = self._listing
        absolute = self._at(path)
        if is_spared(absolute, self._given_up):
            reason = "it is spared unless prune_also names it"
        elif self._is_kept(path):
            reason = "a keep pattern protects it"
        elif path in listing.mounts:
            reason = "another filesystem is mounted there"
        elif path in listing.unreadable_folders:
            reason = "the board cannot read that folder"
        else:
            return
        raise RequestInvalid(
            f"the manifest needs the place of {absolute!r}, which would be deleted: {reason}",
            field="files",
            path=absolute,
        )

    def _may_prune(self, path: str) -> bool:
        if self._only is not None:
            return path in self._only
        return self._prune and not is_spared(self._at(path), self._given_up) and not self._is_kept(path)

    def _is_kept(self, path: str) -> bool:
        name = f"{path}/" if path in self._listing.folders else path
        return bool(self._keep.match_file(name))

    def _case_variants(self, pruned: set[str]) -> set[str]:
        # To FAT main.py and MAIN.PY are one file: pruned after the writing, the new one would go.
        folded = {path.casefold() for path in self._files}
        return {path for path in pruned if path.casefold() in folded}

    def _folders_to_prune(self, kept: set[str], in_the_way: set[str]) -> set[str]:
        listing = self._listing
        stay = {folder for path in (*kept, *listing.mounts) for folder in folders_above(path)}
        for folder in (*listing.unreadable_folders, *listing.mounts):
            stay.update((folder, *folders_above(folder)))
        needed = {folder.casefold() for folder in self._needed_folders}
        candidates = listing.folders - self._needed_folders - in_the_way
        for folder in candidates:
            if not self._may_prune(folder) or folder.casefold() in needed:
                stay.update((folder, *folders_above(folder)))
        return set(candidates - stay)

    def _folders_to_make(self) -> list[str]:
        missing = self._needed_folders - self._listing.folders
        made = [self._at(folder) for folder in sorted(missing, key=lambda path: (depth(path), path))]
        if self._listing.exists or not (self._files or self._needed_folders):
            return made
        inner = self._destination[1:]
        return [*(f"/{folder}" for folder in folders_above(inner)), self._destination, *made]

    def _writes(self, files: list[ManifestFile]) -> list[Write]:
        writes = []
        for file in sorted(files, key=lambda file: (file.path in ("boot.py", "main.py"), file.path)):
            found = self._listing.files.get(file.path)
            replaces = None if found is None else found.size
            writes.append(Write(self._at(file.path), file.sha256, file.size, replaces))
        return writes

    def _deletions(self, paths: set[str]) -> tuple[Deletion, ...]:
        listing = self._listing
        return tuple(
            Deletion(
                self._at(path),
                path in listing.folders,
                listing.files[path].size if path in listing.files else 0,
            )
            for path in sorted(paths, key=lambda path: (-depth(path), path))
        )

    def _unreadable(self) -> set[str]:
        files = {path for path, file in self._listing.files.items() if file.errno is not None}
        return files | self._listing.unreadable_folders.keys()

    def _at(self, path: str) -> str:
        return join(self._destination, path)


def _check_place(listing: Listing, destination: str, files: dict[str, ManifestFile]) -> None:
    if listing.is_file:
        raise RequestInvalid(
            f"destination {destination!r} is a file on the board; name a folder", field="destination"
        )
    if not _is_mounted(listing, destination):
        places = ", ".join(listing.filesystems) or "perhaps /flash"
        raise RequestInvalid(
            f"destination {destination!r}: no filesystem is mounted there; name one that is ({places})",
            field="destination",
        )
    longest = listing.usage.longest_name_bytes if listing.usage else None
    for path in files:
        for place in (*folders_above(path), path):
            if place in listing.mounts:
                raise RequestInvalid(
                    f"path {path!r}: another filesystem is mounted at {join(destination, place)!r}; "
                    "deploy there separately, as its own destination",
                    field="files",
                    path=path,
                )
        if longest and any(len(part.encode()) > longest for part in path.split("/")):
            raise RequestInvalid(
                f"path {path!r}: names on this board's filesystem have at most {longest} bytes",
                field="files",
                path=path,
            )


def _is_mounted(listing: Listing, destination: str) -> bool:
    # At the root above all mounts statvfs fails or gives zeros; VfsRom gives zeros for an empty one.
    if listing.filesystems:
        return any(f"{destination}/".startswith(f"{place.rstrip('/')}/") for place in listing.filesystems)
    return listing.usage is not None and listing.usage.total_bytes > 0


def _patterns(keep: Iterable[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(keep)
    except ValueError as error:
        raise RequestInvalid(f"keep: {error}; patterns are as in .gitignore", field="keep") from error


def _given_up(prune_also: Iterable[str]) -> frozenset[str]:
    given_up = frozenset(name.removesuffix("/") for name in prune_also)
    if unknown := sorted(given_up - set(SPARED)):
        raise RequestInvalid(
            f"prune_also: {unknown[0]!r} is not spared anyway; it takes {', '.join(SPARED)}",
            field="prune_also",
        )
    return given_up
