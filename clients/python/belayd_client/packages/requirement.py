"""What is asked for: one package, as a command line, a settings file or another package writes it."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from belayd_client.errors import PreparationFailed
from belayd_client.packages.address import HOSTS, WEB, parse

MODULES = (".py", ".mpy")
LATEST = "latest"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Kind(enum.Enum):
    """Where a package comes from."""

    INDEX = "index"
    WEB = "web"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package: a name in the index, an address, or a path on this machine.

    `version` is one of the index's, or a repository's branch, tag or commit;
    empty is the latest, or the default branch.
    """

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    @property
    def kind(self) -> Kind:
        """Where it comes from."""
        if self.name.startswith((*WEB, *HOSTS)):
            return Kind.WEB
        local = self.name in (".", "..") or "/" in self.name or "\\" in self.name
        return Kind.LOCAL if local or self.name.endswith((*MODULES, ".json")) else Kind.INDEX


def read(text: str) -> Requirement:
    """Return what a text asks for: "aioble", "aioble@0.5", "github:org/repo/path@ref", a URL or a path.

    Raises:
        PreparationFailed: It can be none of these.
    """
    if text.startswith(WEB) or (Requirement(text).kind is Kind.LOCAL and not _SCHEME.match(text)):
        return make(text)  # "@" is an ordinary character there
    name, at, version = text.partition("@")
    if at and not version:
        raise PreparationFailed(f"{text!a}: name a version after '@', or leave it out")
    return make(name, version)


def make(name: str, version: str = "") -> Requirement:
    """Return a requirement; the index's "latest" is no version at all.

    Raises:
        PreparationFailed: Name or version cannot be.
    """
    requirement = Requirement(name, version)
    if requirement.kind is Kind.WEB:
        parse(name, version)
        return requirement
    if scheme := _SCHEME.match(name):
        known = ", ".join((*HOSTS, *WEB))
        raise PreparationFailed(f"{name!a}: packages do not come from {scheme[0]!r} but from {known}")
    if requirement.kind is Kind.LOCAL:
        if "\0" in name:
            raise PreparationFailed(f"{name!a} is no path")
        return Requirement(name)
    if not _NAME.fullmatch(name):
        raise PreparationFailed(f"{name!a} can be no package's name: letters, digits and . _ -")
    if version == LATEST:
        return Requirement(name)
    if version and not _VERSION.fullmatch(version):
        raise PreparationFailed(f"{name}: {version!a} can be no version: letters, digits and . _ + -")
    return requirement
