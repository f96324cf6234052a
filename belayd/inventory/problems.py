"""What is wrong with an inventory, one value a mistake: where, what, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

SHOWN_CHARACTERS = 60  # of a value, in a message: enough to recognise it, and the line stays a line


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake; `key` is "" where the file as a whole is meant, `suggestion` "" where there is none."""

    file: str
    line: int
    key: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        suggestion = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.file}:{self.line}: {key}{self.message}{suggestion}"


class InventoryError(Exception):
    """The inventory cannot be used; `problems` holds every mistake found, sorted by line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


Path = tuple[str | int, ...]


class Findings:
    """Gathers the problems of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def add(self, line: int, path: Path, message: str, suggestion: str = "") -> None:
        """Note a mistake at the key that `path` leads to."""
        self.problems.append(Problem(self.file, line, join_path(path), message, suggestion))

    def raise_if_any(self) -> None:
        """Raise InventoryError with all that was noted, if anything was."""
        if self.problems:
            raise InventoryError(self.problems)


def join_path(path: Path) -> str:
    """Return a path as people write it: boards.pico-1.usb, adopt[0].name."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{shown(part)}" if text else shown(part)
    return text


def shown(text: str) -> str:
    """Return `text` fit for one line of a terminal: control characters escaped, cut when long."""
    if len(text) > SHOWN_CHARACTERS:
        text = text[:SHOWN_CHARACTERS] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, permitted: Iterable[str]) -> str:
    """Return the one of `permitted` that `word` is probably a misspelling of, or ""."""
    if len(word) > SHOWN_CHARACTERS:
        return ""
    near = difflib.get_close_matches(word.lower(), list(permitted), n=1, cutoff=0.6)
    return near[0] if near else ""


def suggest(word: str, permitted: Iterable[str]) -> str:
    """Return "did you mean ...?" where one is near, else the whole list."""
    permitted = list(permitted)
    near = nearest(word, permitted)
    return f"did you mean {near}?" if near else "permitted: " + ", ".join(permitted)
