"""What a rollout is to bring its boards to, and the bytes in which that outlasts a restart.

The bytes hold no contents, only their hashes; they are of this version of belayd's
own, and one that cannot read them says so.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from belayd.deployment.plan import ManifestFile
from belayd.deployment.transfer import Options
from belayd.errors import RequestInvalid

CHECK_TIMEOUT = 30.0
BOARD_TIMEOUT = 600.0
_FORM = 1


class Unreadable(Exception):
    """The bytes are none that this version of belayd wrote."""


@dataclass(frozen=True, slots=True)
class Check:
    """What shows that a board works: an expression that is true, or statements that end without an exception.

    Attributes:
        timeout: Seconds.
    """

    code: str
    expression: bool
    timeout: float = CHECK_TIMEOUT


@dataclass(frozen=True, slots=True)
class Tree:
    """The files that some boards shall have; no `boards` are those that no other tree names."""

    boards: tuple[str, ...]
    files: tuple[ManifestFile, ...]


@dataclass(frozen=True, slots=True)
class Intent:
    """What is wanted; each as CreateRolloutRequest has it, times in seconds."""

    trees: tuple[Tree, ...]
    destination: str = "/"
    prune: bool = False
    keep: tuple[str, ...] = ()
    prune_also: tuple[str, ...] = ()
    in_place: bool = False
    check: Check | None = None
    keep_failed: bool = False
    timeout: float = BOARD_TIMEOUT
    _named: Mapping[str, Tree] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = [(board, tree) for tree in self.trees for board in tree.boards or ("",)]
        object.__setattr__(self, "_named", dict(named))

    @property
    def options(self) -> Options:
        """What a deployment is asked for."""
        return Options(
            destination=self.destination,
            prune=self.prune,
            keep=self.keep,
            prune_also=self.prune_also,
            in_place=self.in_place,
        )

    def files(self, board: str) -> Sequence[ManifestFile]:
        """Return the files that a board shall have."""
        return (self._named.get(board) or self._named[""]).files

    def contents(self) -> Iterator[ManifestFile]:
        """Return a file for each different content."""
        return iter({file.sha256: file for tree in self.trees for file in tree.files}.values())

    def refuse_unfit(self, boards: Iterable[str]) -> None:
        """Raise RequestInvalid unless each of `boards`, and no other, has one tree."""
        wanted = set(boards)
        named = [board for tree in self.trees for board in tree.boards]
        if sum(not tree.boards for tree in self.trees) > 1:
            raise RequestInvalid("trees: only one may name no boards", field="trees")
        if double := [board for board, count in Counter(named).items() if count > 1]:
            raise RequestInvalid(f"trees: {double[0]!r} is named twice", field="trees", board=double[0])
        if strange := set(named) - wanted:
            raise RequestInvalid(
                f"trees: {min(strange)!r} is none of the rollout's boards", field="trees", board=min(strange)
            )
        if "" not in self._named and (bare := wanted - set(named)):
            raise RequestInvalid(f"trees: there is none for {min(bare)!r}", field="trees", board=min(bare))

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        check = self.check and [self.check.code, self.check.expression, self.check.timeout]
        told = {
            "form": _FORM,
            "trees": [
                [tree.boards, [[file.path, file.sha256.hex(), file.size] for file in tree.files]]
                for tree in self.trees
            ],
            "destination": self.destination,
            "prune": self.prune,
            "keep": self.keep,
            "prune_also": self.prune_also,
            "in_place": self.in_place,
            "check": check,
            "keep_failed": self.keep_failed,
            "timeout": self.timeout,
        }
        return zlib.compress(json.dumps(told, separators=(",", ":")).encode())

    @classmethod
    def from_bytes(cls, data: bytes) -> Intent:
        """Return what was kept.

        Raises:
            Unreadable: It is of another version.
        """
        try:
            told: dict[str, Any] = json.loads(zlib.decompress(data))
            if told["form"] != _FORM:
                raise Unreadable(f"it has form {told['form']}, this belayd knows {_FORM}")
            return cls(
                trees=tuple(_tree(boards, files) for boards, files in told["trees"]),
                destination=told["destination"],
                prune=told["prune"],
                keep=tuple(told["keep"]),
                prune_also=tuple(told["prune_also"]),
                in_place=told["in_place"],
                check=Check(*told["check"]) if told["check"] else None,
                keep_failed=told["keep_failed"],
                timeout=told["timeout"],
            )
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"it cannot be read: {error}") from error


def _tree(boards: Sequence[str], files: Sequence[tuple[str, str, int]]) -> Tree:
    manifest = (ManifestFile(path, bytes.fromhex(sha256), size) for path, sha256, size in files)
    return Tree(tuple(boards), tuple(manifest))
