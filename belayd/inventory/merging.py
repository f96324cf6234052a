"""New boards into the text of an inventory, every comment and space of which stays.

Text in, text out: lines are inserted at the end of `boards:`. The result is
loaded before anybody gets it, and refused if it says anything else than before
plus the new boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from belayd.inventory.document import Mapping, Scalar, Yaml, compose
from belayd.inventory.loading import parse
from belayd.inventory.problems import Findings, InventoryError


class MergeRefused(Exception):
    """The boards cannot be added by inserting lines; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A new board: its keys with their values as YAML, and a comment that stands above."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    comment: str = ""

    def lines(self, indent: str) -> list[str]:
        """Return it as lines of YAML."""
        comment = [f"{indent}# {self.comment}"] if self.comment else []
        return [
            *comment,
            f"{indent}{self.name}:",
            *(f"{indent}  {key}: {self.values[key]}" for key in self.values),
        ]


def quoted(text: str) -> str:
    """Return `text` as a YAML scalar in double quotes, which reads back as exactly this on one line."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def new_inventory(entries: Sequence[Entry]) -> str:
    """Return the text of an inventory of these boards alone."""
    return "\n".join(["version: 1", "boards:", *_all_lines(entries, "  "), ""])


def merge(text: str, entries: Sequence[Entry], path: Path) -> str:
    """Return `text` with `entries` added; `path` is where it stands, for messages and relative paths.

    Raises:
        InventoryError: The text is no valid inventory.
        MergeRefused: There is no place for lines, or with them it would not be
            what it was plus the entries.
    """
    before = parse(text, path)
    if not entries:
        return text
    merged = _insert(text, entries)
    try:
        after = parse(merged, path)
    except InventoryError as error:
        raise MergeRefused(
            f"with the new boards the inventory would be wrong: {error.problems[0]}"
        ) from error
    names = {entry.name for entry in entries}
    old = {name: spec for name, spec in after.boards.items() if name not in names}
    if replace(after, boards=old, warnings=()) != replace(before, warnings=()) or not names <= set(
        after.boards
    ):
        raise MergeRefused("adding lines would change other boards; add them by hand")
    return merged


def _insert(text: str, entries: Sequence[Entry]) -> str:
    # Once past the YAML reader, no text holds a line break that only one of the two knows.
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if not lines[-1].endswith(("\n", "\r")):
        lines[-1] += newline
    key, boards = _boards_of(text)
    indent = "  "
    if key is None:
        added = ["boards:", *_all_lines(entries, indent)]
        at = len(lines)
    else:
        if isinstance(boards, Mapping) and boards.entries:
            if boards.flow:
                raise MergeRefused("`boards:` is written in braces; write one board a line, and try again")
            column = boards.entries[0][0].column
            indent = " " * column
            at = _end_of_block(lines, boards.end_line, column)
        else:
            at = key.line
            lines[at - 1] = _without_braces(lines[at - 1])
        added = _all_lines(entries, indent)
    return "".join([*lines[:at], *(line + newline for line in added), *lines[at:]])


def _without_braces(line: str) -> str:
    # `boards: {}  # none yet`; braces on another line stay, and the check of the result says so.
    before, braces, after = line.partition("{}")
    return f"{before.rstrip()}{after}" if braces else line


def _boards_of(text: str) -> tuple[Scalar | None, Yaml | None]:
    root = compose(text, Findings(""))
    assert isinstance(root, Mapping)
    if root.flow:
        raise MergeRefused("the inventory is written in braces; write one key a line, and try again")
    for key, value in root.entries:
        if key.text == "boards":
            if value.line < key.line:
                raise MergeRefused("`boards:` is an alias; write the boards there, and try again")
            return key, value
    return None, None


def _end_of_block(lines: Sequence[str], at: int, column: int) -> int:
    """Return after how many lines new ones go: after the last entry and the comments indented like it."""
    while at < len(lines):
        written = lines[at].lstrip(" ")
        if not written.startswith("#") or len(lines[at]) - len(written) < column:
            break
        at += 1
    return at


def _all_lines(entries: Sequence[Entry], indent: str) -> list[str]:
    return [line for entry in entries for line in entry.lines(indent)]
