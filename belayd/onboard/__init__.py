"""MicroPython source that runs on boards: real files, stripped before they are sent.

`load` is the only way to them. The texts run on every firmware belayd serves,
so they keep to what MicroPython 1.9 has unless they ask first.
"""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from importlib import resources


@functools.cache
def load(name: str) -> str:
    """Return the text of onboard/`name`.py without comments, docstrings and wide indentation.

    Every byte counts: a line of comment costs a small board as much as code.
    The compiled code stays the same, which is checked here.
    """
    source = resources.files(__package__).joinpath(f"{name}.py").read_text("ascii")
    stripped = strip(source)
    if ast.dump(_without_docstrings(source)) != ast.dump(ast.parse(stripped)):
        raise AssertionError(f"stripping changes the meaning of onboard/{name}.py")
    return stripped


def strip(source: str) -> str:
    """Return `source` without comments, docstrings and blank lines, indented by single spaces."""
    docstrings = _docstring_lines(source)
    lines: list[str] = []
    depth = 0
    current: list[str] = []
    end = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if current:
                lines.append(" " * depth + "".join(current))
            current = []
        elif token.type in (tokenize.COMMENT, tokenize.NL) or token.start[0] in docstrings:
            continue
        else:
            if current and _words_touch(current[-1], token.string) and token.start != end:
                current.append(" ")
            current.append(token.string)
            end = token.end
    return "\n".join(lines) + "\n"


def _words_touch(left: str, right: str) -> bool:
    return (left[-1].isalnum() or left[-1] in "_'\"") and (right[0].isalnum() or right[0] in "_'\"")


def _docstring_lines(source: str) -> set[int]:
    lines: set[int] = set()
    for body in _bodies(ast.parse(source)):
        first = body[0] if body else None
        if _is_docstring(first):
            assert first is not None
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for body in _bodies(tree):
        if body and _is_docstring(body[0]):
            del body[0]
    return tree


def _bodies(tree: ast.AST) -> list[list[ast.stmt]]:
    return [
        node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
    ]


def _is_docstring(statement: ast.stmt | None) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
