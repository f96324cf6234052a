"""From what is asked for to the files that go on boards, dependencies included.

First every package is read, and every path and clash refused; then files are
fetched, and each held to the hash that the lock or the index gives. Nothing is
fetched that the lock names and the cache has.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belayd_client.errors import PreparationFailed
from belayd_client.packages import requirement
from belayd_client.packages.address import HOSTS, parse_index
from belayd_client.packages.cache import Cache
from belayd_client.packages.download import Fetch, Limits, Web
from belayd_client.packages.lock import Lock, LockedFile, LockedPackage
from belayd_client.packages.reading import SOURCE, Package, Reader, Wanted, read_local
from belayd_client.packages.requirement import Kind, Requirement
from belayd_client.project import Project, ProjectFile

INDEX = "https://micropython.org/pi/v2"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What packages come to.

    Attributes:
        packages: In the order in which they were met: what was asked for first.
        files: By path, relative to the folder that packages are installed in. Their
            contents are in the cache or on this machine.
        lock: The lock given, with what was resolved now.
    """

    packages: tuple[Package, ...]
    files: tuple[ProjectFile, ...]
    lock: Lock

    def project(self) -> Project:
        """Return the files as a deployment takes them."""
        return Project(Path(), self.files)


def resolve(
    packages: Iterable[str],
    *,
    mpy: int = 0,
    index: str = INDEX,
    lock: Lock | None = None,
    folder: Path | None = None,
    cache: Cache | None = None,
    limits: Limits | None = None,
    hosts: Mapping[str, str] = HOSTS,
    on_fetch: Callable[[Fetch], object] | None = None,
) -> Resolution:
    """Return the files of packages and of all that they need.

    Args:
        packages: As `requirement.read` takes them. A version named here holds for
            packages that need this one in any.
        mpy: A board's sys.implementation._mpy, for .mpy files that it takes; 0 for source.
        index: Where packages with a bare name come from.
        lock: What is not looked for again; None locks nothing.
        folder: What paths of this machine are relative to; None is the current one.
        cache: Where contents are kept; None is the user's.
        limits: What all of it may cost; None is the usual.
        hosts: The URLs behind "github:" and the like.
        on_fetch: Called while files are fetched.

    Raises:
        PreparationFailed: Something is not there, is not what it was, or wants what
            no package may. Nothing but the cache was written.
    """
    limits = limits or Limits()
    web = Web(limits, on_fetch)
    variant = str(mpy & 0xFF) if mpy & 0xFF else SOURCE
    reader = Reader(web, limits, parse_index(index), variant, lock or Lock(), folder or Path(), hosts)
    found = _read_all(reader, [requirement.read(text) for text in packages])
    _check_tree(found, limits)
    fetcher = _Fetcher(web, limits, cache or Cache.of_user(), mpy & 0xFF)
    files: dict[str, tuple[Package, ProjectFile]] = {}
    locked: list[LockedPackage] = []
    for package in found:
        entries = []
        for wanted in package.files:
            file = fetcher.fetch(package, wanted)
            first = files.setdefault(wanted.path, (package, file))
            if first[1].sha256 != file.sha256:
                raise PreparationFailed(
                    f"{wanted.path} comes from {first[0].shown} and from {package.shown} with different"
                    " contents; ask for versions that go together"
                )
            if wanted.source is None:
                entries.append(LockedFile(wanted.path, file.sha256, file.size, wanted.url))
        if entries or package.key.requirement.kind is not Kind.LOCAL:
            locked.append(LockedPackage(package.key, package.release, tuple(entries), package.dependencies))
    fetcher.finish()
    return Resolution(
        found,
        tuple(files[path][1] for path in sorted(files)),
        (lock or Lock()).with_packages(locked),
    )


def _read_all(reader: Reader, asked: Sequence[Requirement]) -> tuple[Package, ...]:
    """Return the packages asked for and what they need, each once."""
    chosen = {wanted.name: wanted for wanted in asked if wanted.version and wanted.kind is Kind.INDEX}
    waiting = deque(asked)
    found: dict[object, Package] = {}
    while waiting:
        wanted = waiting.popleft()
        if not wanted.version:
            wanted = chosen.get(wanted.name, wanted)
        key = reader.key(wanted)
        if key in found:
            continue
        if len(found) == reader.limits.packages:
            raise PreparationFailed(
                f"more than {reader.limits.packages} packages are needed; {wanted} would be one more"
            )
        found[key] = package = reader.read(wanted)
        waiting.extend(package.dependencies)
    return tuple(found.values())


def _check_tree(packages: Sequence[Package], limits: Limits) -> None:
    """Refuse trees that no board could hold, before a file is fetched."""
    owners = {wanted.path: package for package in packages for wanted in package.files}
    if sum(len(package.files) for package in packages) > limits.files:
        raise PreparationFailed(f"the packages have more than {limits.files} files")
    for path, owner in owners.items():
        for folder in _folders_above(path):
            if folder in owners:
                raise PreparationFailed(
                    f"{folder} is a file of {owners[folder].shown} and yet a folder of {owner.shown}"
                )


def _folders_above(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


class _Fetcher:
    """Brings contents into the cache, and holds them to their hashes."""

    def __init__(self, web: Web, limits: Limits, cache: Cache, mpy: int) -> None:
        self._web = web
        self._limits = limits
        self._cache = cache
        self._mpy = mpy
        self._size = 0
        self._used: set[bytes] = set()

    def fetch(self, package: Package, wanted: Wanted) -> ProjectFile:
        """Return a file whose content is at hand and is what it should be."""
        if wanted.source is not None:
            source = wanted.source
        else:
            source = self._known(wanted) or self._downloaded(package, wanted)
        sha256, size, head = read_local(source, self._limits.file_bytes)
        self._count(size)
        self._check_module(package, wanted.path, head)
        self._used.add(sha256)
        return ProjectFile(wanted.path, sha256, size, source)

    def finish(self) -> None:
        """Make room in the cache."""
        self._cache.trim(self._used)

    def _known(self, wanted: Wanted) -> Path | None:
        return None if wanted.sha256 is None else self._cache.find(wanted.sha256)

    def _downloaded(self, package: Package, wanted: Wanted) -> Path:
        content = self._web.read(wanted.url, self._limits.file_bytes)
        sha256 = hashlib.sha256(content)
        if wanted.sha256 is not None and sha256.digest() != wanted.sha256:
            raise PreparationFailed(
                f"{wanted.path} of {package.shown} has changed since it was locked: {wanted.url} has SHA-256"
                f" {sha256.hexdigest()}, the lock {wanted.sha256.hex()}. Nothing was installed; if the change"
                " is wanted, lock anew with --update"
            )
        if not sha256.hexdigest().startswith(wanted.prefix):
            raise PreparationFailed(
                f"{wanted.path} of {package.shown} is damaged: {wanted.url} has SHA-256"
                f" {sha256.hexdigest()}. Nothing was installed"
            )
        return self._cache.keep(content)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.total_bytes:
            raise PreparationFailed(f"the packages have more than {self._limits.total_bytes} bytes")

    def _check_module(self, package: Package, path: str, head: bytes) -> None:
        """Refuse an .mpy file that the board could not import.

        Source: MicroPython docs, reference/mpyfiles: "M", then the version.
        """
        if not path.endswith(".mpy") or not self._mpy:
            return
        if len(head) < 2 or head[0] != ord("M"):
            raise PreparationFailed(f"{path} of {package.shown} is no .mpy file of MicroPython")
        if head[1] != self._mpy:
            raise PreparationFailed(
                f"{path} of {package.shown} is an .mpy file of version {head[1]}, and the board takes version"
                f" {self._mpy}; install its source"
            )
