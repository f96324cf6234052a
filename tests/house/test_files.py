"""What every file of the house keeps to: its size, its name, and no state beside objects."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_LINES = 400
# They say nothing of what is inside; STYLE.md's list.
EMPTY_WORDS = {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "misc"}
EMPTY_WORDS |= {"node", "nodes", "target", "targets", "util", "utils"}
CONTAINERS = {"Counter", "OrderedDict", "bytearray", "defaultdict", "deque", "dict", "list", "set"}
CHANGES = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault"}
CHANGES |= {"update"}


def is_ours(path: Path) -> bool:
    """Whether the house's rules for code hold: written by hand, shipped, and run by CPython."""
    generated = path.parts[:2] == ("belayd", "v1")
    on_board = path.parts[:2] == ("belayd", "onboard") or "firmware" in path.parts
    return path.suffix == ".py" and path.parts[0] in {"belayd", "clients"} and not generated and not on_board


def test_no_file_is_longer_than_one_idea(root: Path, sources: list[Path]) -> None:
    counted = {path: (root / path).read_bytes().count(b"\n") for path in sources if is_ours(path)}

    assert {str(path): lines for path, lines in counted.items() if lines > MOST_LINES} == {}


def test_file_names_say_what_is_inside(sources: list[Path]) -> None:
    code = [path for path in sources if path.suffix in {".py", ".proto", ".ts"}]
    words = {path: set(re.split(r"[^a-z]+", path.as_posix().lower())) for path in code}

    assert {str(path): found for path in code if (found := words[path] & EMPTY_WORDS)} == {}


def state(source: str) -> Iterator[str]:
    """Complain of what a module keeps between calls beside its objects.

    Tables are welcome: UPPER_CASE, written once, changed nowhere in their module.
    """
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and keeps(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (f"{node.lineno}: {name} can change" for name in names if not is_table(name, tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{node.lineno}: global {', '.join(node.names)}"


def keeps(value: ast.expr | None) -> bool:
    """Whether a value can change after its line: a container, or an object of any class."""
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return name in CONTAINERS
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def is_table(name: str, tree: ast.Module) -> bool:
    return bool(re.fullmatch(r"_?[A-Z][A-Z0-9_]*|__\w+__", name)) and not any(
        changes(node, name) for node in ast.walk(tree)
    )


def changes(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Subscript):
        return (
            not isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name) and node.value.id == name
        )
    if isinstance(node, ast.Attribute):
        return node.attr in CHANGES and isinstance(node.value, ast.Name) and node.value.id == name
    return False


def test_no_module_keeps_state(root: Path, sources: list[Path]) -> None:
    kept = {str(path): list(state((root / path).read_text())) for path in sources if is_ours(path)}

    assert {path: complaints for path, complaints in kept.items() if complaints} == {}


@pytest.mark.parametrize(
    ("source", "complaints"),
    [
        ("boards = {}", ["1: boards can change"]),
        ("_seen: set[str] = set()", ["1: _seen can change"]),
        ("TABLE = {}\ndef f():\n    TABLE['a'] = 1", ["1: TABLE can change"]),
        ("TABLE = []\ndef f():\n    TABLE.append(1)", ["1: TABLE can change"]),
        ("count = 0\ndef f():\n    global count", ["3: global count"]),
        ("TABLE = {'a': 1}\ndef f():\n    return TABLE['a']", []),
        ("__all__ = ['f']", []),
    ],
    ids=[
        "a dict",
        "an annotated set",
        "a table written to",
        "a table appended to",
        "a global",
        "a table",
        "exports",
    ],
)
def test_state_is_noticed_and_tables_are_not(source: str, complaints: list[str]) -> None:
    assert list(state(source)) == complaints
