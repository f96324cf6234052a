"""What one package consists of, before any of its files is fetched.

A package of the index or the web is what the lock says, else what its
package.json says. One of this machine is a module, a folder, or a package.json
with what lies beside it; nothing outside its folder is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belayd_client import project
from belayd_client.errors import PreparationFailed
from belayd_client.packages import address, manifest
from belayd_client.packages.address import Address
from belayd_client.packages.download import Absent, Limits, Web
from belayd_client.packages.lock import Key, Lock
from belayd_client.packages.requirement import LATEST, MODULES, Kind, Requirement

MANIFEST = "package.json"
SOURCE = "py"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of a package, on the web (`url`) or on this machine (`source`).

    `sha256` and `size` are the locked ones, else None; `prefix` is the beginning of
    the hash that the index gives, or empty.
    """

    path: str
    url: str = ""
    source: Path | None = None
    sha256: bytes | None = None
    size: int | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """What one package brings and needs."""

    key: Key
    release: str
    files: tuple[Wanted, ...]
    dependencies: tuple[Requirement, ...]

    @property
    def shown(self) -> str:
        """What to call it."""
        release = f" {self.release}" if self.release and self.release != self.key.version else ""
        return f"{self.key.requirement}{release}"


@dataclass(frozen=True, slots=True)
class Reader:
    """Finds packages.

    Attributes:
        index: The index's URL without a "/" at its end.
        variant: Which files of an index: "6" for .mpy of that version, or SOURCE.
        folder: What paths of this machine are relative to.
    """

    web: Web
    limits: Limits
    index: str
    variant: str
    lock: Lock
    folder: Path
    hosts: Mapping[str, str]

    def key(self, requirement: Requirement) -> Key:
        """Return how the lock calls a package."""
        if requirement.kind is Kind.INDEX:
            return Key(requirement.name, requirement.version, self.variant, self.index)
        return Key(requirement.name, requirement.version)

    def read(self, requirement: Requirement) -> Package:
        """Return what a package consists of.

        Raises:
            PreparationFailed: There is none, or it wants what no package may.
        """
        key = self.key(requirement)
        if requirement.kind is Kind.LOCAL:
            return self._local(key)
        locked = self.lock.packages.get(key)
        if locked is not None:
            files = tuple(
                Wanted(file.path, file.url, sha256=file.sha256, size=file.size) for file in locked.files
            )
            return Package(key, locked.release, files, locked.dependencies)
        return self._indexed(key) if requirement.kind is Kind.INDEX else self._remote(key)

    def _indexed(self, key: Key) -> Package:
        where = f"{self.index}/package/{self.variant}/{key.name}/{key.version or LATEST}.json"
        try:
            text = self.web.read(where, self.limits.manifest_bytes)
        except Absent:
            form = "source" if self.variant == SOURCE else f".mpy version {self.variant}"
            hint = "" if self.variant == SOURCE else ", or take its source with --no-mpy"
            raise PreparationFailed(
                f"{self.index} has no package {key.requirement} as {form}; check its name and version{hint}"
            ) from None
        return self._described(key, manifest.read(text, where), address.parse(where))

    def _remote(self, key: Key) -> Package:
        at = address.parse(key.name, key.version)
        if at.path.endswith(MODULES):
            manifest.check_path(at.name, str(at))
            if "/" in at.name:  # It was percent-encoded.
                raise PreparationFailed(f"{at} has no name that a file could have")
            return Package(key, "", (Wanted(at.name, at.url(self.hosts)),), ())
        if not at.path.endswith(".json"):
            at = at.in_folder(MANIFEST)
        where = at.url(self.hosts)
        try:
            text = self.web.read(where, self.limits.manifest_bytes)
        except Absent:
            raise PreparationFailed(f"there is no package {key.requirement}: nothing is at {where}") from None
        return self._described(key, manifest.read(text, where), at)

    def _described(self, key: Key, content: manifest.Manifest, at: Address) -> Package:
        for needed in content.dependencies:
            if needed.kind is Kind.WEB and at.secure and not address.parse(needed.name).secure:
                raise PreparationFailed(
                    f"{at} needs {needed}, which anybody on the way could change; https is needed there too"
                )
        files = tuple(
            self._hashed(entry)
            if isinstance(entry, manifest.Hashed)
            else Wanted(entry.path, at.beside(entry.source).url(self.hosts))
            for entry in content.files
        )
        return Package(key, content.release, files, content.dependencies)

    def _hashed(self, entry: manifest.Hashed) -> Wanted:
        url = f"{self.index}/file/{entry.prefix[:2]}/{entry.prefix}"
        return Wanted(entry.path, url, prefix=entry.prefix)

    def _local(self, key: Key) -> Package:
        path = self.folder / Path(key.name).expanduser()
        if path.is_dir():
            if not (path / MANIFEST).is_file():
                return self._folder(key, path)
            path = path / MANIFEST
        if not path.is_file():
            raise PreparationFailed(
                f"there is no package at {path}; a name of the index has no '/' and no suffix"
            )
        if path.suffix == ".json":
            return self._beside(key, path)
        if path.suffix not in MODULES:
            raise PreparationFailed(
                f"{path} is no package: give a .py or .mpy file, a {MANIFEST} or a folder"
            )
        manifest.check_path(path.name, str(path))
        return Package(key, "", (Wanted(path.name, source=path),), ())

    def _folder(self, key: Key, folder: Path) -> Package:
        """Return a folder: as itself where it is a Python package, else what is in it."""
        inner = f"{folder.resolve().name}/" if (folder / "__init__.py").is_file() else ""
        files = tuple(Wanted(inner + file.path, source=file.source) for file in project.read(folder).files)
        if not files:
            raise PreparationFailed(f"{folder} has no files to install")
        for file in files:
            manifest.check_path(file.path, str(folder))
        return Package(key, "", files, ())

    def _beside(self, key: Key, path: Path) -> Package:
        """Return what a package.json of this machine describes."""
        text = _bounded(path, self.limits.manifest_bytes)
        content = manifest.read(text, str(path))
        locked = self.lock.packages.get(key)
        known = {(file.path, file.url): file for file in locked.files} if locked else {}
        files = []
        for entry in content.files:
            if isinstance(entry, manifest.Hashed):
                wanted = self._hashed(entry)
            elif address.is_address(entry.source):
                wanted = Wanted(entry.path, address.parse(entry.source).url(self.hosts))
            else:
                files.append(Wanted(entry.path, source=_inside(path, entry.source)))
                continue
            file = known.get((wanted.path, wanted.url))
            if file is not None:
                wanted = Wanted(wanted.path, wanted.url, sha256=file.sha256, size=file.size)
            files.append(wanted)
        return Package(key, content.release, tuple(files), content.dependencies)


def read_local(source: Path, most_bytes: int) -> tuple[bytes, int, bytes]:
    """Return a file's SHA-256, its size and its first bytes.

    Raises:
        PreparationFailed: It cannot be read, or is larger than `most_bytes`.
    """
    try:
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").digest()
            size = file.tell()
            file.seek(0)
            head = file.read(16)
    except OSError as error:
        raise PreparationFailed(f"cannot read {source}: {error.strerror}") from None
    if size > most_bytes:
        raise PreparationFailed(f"{source} is larger than {most_bytes} bytes")
    return sha256, size, head


def _bounded(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(most_bytes + 1)
    except OSError as error:
        raise PreparationFailed(f"cannot read {path}: {error.strerror}") from None
    if len(text) > most_bytes:
        raise PreparationFailed(f"{path} is larger than {most_bytes} bytes")
    return text


def _inside(path: Path, text: str) -> Path:
    """Return the file that a package.json means by a relative path, which must lie beside or below it."""
    if "\0" in text or "\\" in text:
        raise PreparationFailed(f"{path} names {text!a}; write '/' between folders")
    folder = path.parent.resolve()
    found = path.parent / text
    if not text or Path(text).is_absolute() or not found.resolve().is_relative_to(folder):
        raise PreparationFailed(f"{path} names {text!a}, which is not in its folder; nothing was installed")
    if not found.is_file():
        raise PreparationFailed(f"{path} names {text!a}, which is no file")
    return found
