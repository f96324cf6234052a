"""belayd.lock: which contents were resolved for which package, and where they came from.

What is locked is neither looked for again nor accepted in another form: each
file has its SHA-256 in full. JSON, one package after the other in a fixed order,
so that a change reads well in version control. Files of this machine are not
locked: they change as their author works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from belayd_client.errors import PreparationFailed
from belayd_client.packages.address import WEB
from belayd_client.packages.manifest import check_dependency, check_path
from belayd_client.packages.requirement import Requirement, make

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "belayd.lock"
FORMAT = 1
MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One package as it was asked for.

    `index` and `variant` ("6" for .mpy files of that version, "py" for source) are
    empty where the package does not come from an index.
    """

    name: str
    version: str = ""
    variant: str = ""
    index: str = ""

    @property
    def requirement(self) -> Requirement:
        """What was asked for."""
        return Requirement(self.name, self.version)


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file: its path below the folder of packages, and where it came from."""

    path: str
    sha256: bytes
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package; `release` is the version that its package.json names, or empty."""

    key: Key
    release: str
    files: tuple[LockedFile, ...]
    dependencies: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """Packages by how they were asked for; an empty one locks nothing."""

    packages: Mapping[Key, LockedPackage] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Return what a file locks; an absent one nothing.

        Raises:
            PreparationFailed: It cannot be read, or is no lock file.
        """
        try:
            with path.open("rb") as file:
                text = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise PreparationFailed(f"cannot read {path}: {error.strerror}") from None
        try:
            if len(text) > MOST_BYTES:
                raise ValueError
            content = json.loads(text)
            if content["lock"] != FORMAT:
                raise PreparationFailed(f"{path} has a format that this belayctl does not know")
            packages = [_package(entry, str(path)) for entry in content["packages"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise PreparationFailed(
                f"{path} is no lock file; restore it, or remove it to lock anew"
            ) from None
        return cls({package.key: package for package in packages})

    def with_packages(self, packages: Iterable[LockedPackage]) -> Lock:
        """Return a lock that has these too, in place of those that were asked for in the same way."""
        return Lock({**self.packages, **{package.key: package for package in packages}})

    def write(self, path: Path) -> None:
        """Write the file at once or not at all; one that would not change is left alone.

        Raises:
            PreparationFailed: It cannot be written.
        """
        entries = [_entry(self.packages[key]) for key in sorted(self.packages)]
        text = json.dumps({"lock": FORMAT, "packages": entries}, indent=2, ensure_ascii=False) + "\n"
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if path.exists() and path.read_bytes() == text.encode():
                return
            fresh.write_bytes(text.encode())
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise PreparationFailed(f"cannot write {path}: {error.strerror}") from None


def _package(entry: Any, where: str) -> LockedPackage:
    requirement = make(_text(entry["package"]), _text(entry.get("version", "")))
    key = Key(
        requirement.name, requirement.version, _text(entry.get("variant", "")), _text(entry.get("index", ""))
    )
    return LockedPackage(
        key,
        _text(entry.get("release", "")),
        tuple(_file(file, where) for file in entry["files"]),
        tuple(
            check_dependency(_text(name), _text(version), where)
            for name, version in entry.get("dependencies", ())
        ),
    )


def _file(entry: Any, where: str) -> LockedFile:
    path, sha256, size, url = (
        _text(entry["path"]),
        bytes.fromhex(_text(entry["sha256"])),
        entry["size"],
        _text(entry["url"]),
    )
    check_path(path, where)
    if len(sha256) != 32 or type(size) is not int or size < 0 or not url.startswith(WEB):
        raise ValueError
    return LockedFile(path, sha256, size, url)


def _entry(package: LockedPackage) -> dict[str, object]:
    """Return a package as the file has it; what is empty is left out."""
    key = package.key
    words = {"version": key.version, "release": package.release, "variant": key.variant, "index": key.index}
    entry: dict[str, object] = {"package": key.name, **{name: word for name, word in words.items() if word}}
    if package.dependencies:
        entry["dependencies"] = [[needed.name, needed.version] for needed in package.dependencies]
    entry["files"] = [
        {"path": file.path, "sha256": file.sha256.hex(), "size": file.size, "url": file.url}
        for file in package.files
    ]
    return entry


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
