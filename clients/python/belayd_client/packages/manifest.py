"""package.json: what a package brings and needs, read as something that a stranger wrote.

Every path is checked here, before a single file is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from belayd_client.errors import PreparationFailed
from belayd_client.packages.requirement import Kind, Requirement, make

FORMAT = 1
LONGEST_PART_BYTES = 255
LONGEST_TEXT = 2_000
LONGEST_RELEASE = 64

_SHORT_HASH = re.compile(r"[0-9a-f]{8,64}")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file that the index keeps under the beginning of its SHA-256, in hex."""

    path: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Named:
    """A file at an address, or at a path relative to the package.json."""

    path: str
    source: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package.json says; `release` is empty where it names no version."""

    release: str
    files: tuple[Hashed | Named, ...]
    dependencies: tuple[Requirement, ...]


def read(text: bytes, where: str) -> Manifest:
    """Return what a package.json says; `where` names it in errors.

    Raises:
        PreparationFailed: It is none, or a path, a hash or a dependency in it cannot be.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise PreparationFailed(f"{where} is no package.json: it is not JSON") from None
    if not isinstance(content, dict):
        raise PreparationFailed(f"{where} is no package.json: it is not an object")
    if content.get("v", FORMAT) != FORMAT:
        raise PreparationFailed(
            f"{where} has a format that is not known here: v is {ascii(content['v'])[:40]}"
        )
    files: list[Hashed | Named] = []
    for path, prefix in _pairs(content, "hashes", where):
        check_path(path, where)
        if not _SHORT_HASH.fullmatch(prefix):
            raise PreparationFailed(f"{where}: {ascii(prefix)[:80]} is not the beginning of a SHA-256 in hex")
        files.append(Hashed(path, prefix))
    for path, source in _pairs(content, "urls", where):
        check_path(path, where)
        files.append(Named(path, source))
    release = content.get("version")
    return Manifest(
        release[:LONGEST_RELEASE] if isinstance(release, str) else "",
        tuple(files),
        tuple(check_dependency(name, version, where) for name, version in _pairs(content, "deps", where)),
    )


def check_path(path: str, where: str) -> None:
    """Accept where a package wants a file, relative to the folder it is installed in.

    Raises:
        PreparationFailed: It could lead elsewhere on some board, or is no name there.
    """
    for problem in _problems(path):
        raise PreparationFailed(f"{where} wants to write {path!a}: {problem}; nothing was installed")


def check_dependency(name: str, version: str, where: str) -> Requirement:
    """Return what a package needs.

    Raises:
        PreparationFailed: It can be no package, or is something of this machine.
    """
    try:
        requirement = make(name, version)
    except PreparationFailed as error:
        raise PreparationFailed(f"{where} needs a package that cannot be: {error}") from None
    if requirement.kind is Kind.LOCAL:
        # Else a stranger's package could have any file of this machine put on the board.
        raise PreparationFailed(
            f"{where} needs {name!a} of this machine, which a package may not ask for; name it yourself"
        )
    return requirement


def _problems(path: str) -> Iterator[str]:
    if path.startswith("/"):
        yield "the path is absolute"
    if _DRIVE.match(path):
        yield "the path begins with a drive letter"
    if "\\" in path:
        yield "a backslash separates folders on some boards"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        yield "a control character cannot be in a name"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            yield "an empty part, '.' or '..' is not allowed"
        if part.startswith(".belayd"):
            yield "names that begin with .belayd are belayd's own"
        try:
            if len(part.encode()) > LONGEST_PART_BYTES:
                yield f"a part is longer than {LONGEST_PART_BYTES} bytes"
        except UnicodeEncodeError:
            yield "it is not valid Unicode"


def _pairs(content: dict[str, object], key: str, where: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of texts that a key holds."""
    pairs = content.get(key) or []
    if not isinstance(pairs, list):
        raise PreparationFailed(f"{where}: {key} is not a list")
    for pair in pairs:
        match pair:
            case [str(first), str(second)] if max(len(first), len(second)) <= LONGEST_TEXT:
                yield first, second
            case _:
                raise PreparationFailed(
                    f"{where}: {key} has {ascii(pair)[:80]}, which is not two short texts"
                )
