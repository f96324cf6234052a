"""The source of a host function as a board shall define it.

Decorators go, since the host has applied them. An indented function is dedented
unless a string in it spans lines: taking spaces from such a string would change
its value, so it stays indented under an `if 1:`, which defines the same function.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Callable
from typing import Literal


def function_source(function: Callable[..., object]) -> str:
    """Return what defines the function on a board, without its decorators.

    Raises:
        TypeError: It is no plain function: a lambda, a coroutine or a class.
        OSError: Its source cannot be found, as in an interactive interpreter.
    """
    if not inspect.isfunction(function):
        raise TypeError(f"a task must be a function, not {type(function).__name__}")
    name = function.__name__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is async; a task must be a plain function")
    try:
        lines = inspect.getsource(function).rstrip("\n").split("\n")
    except OSError:
        raise OSError(
            f"the source of {name} cannot be found; define tasks in a file, not at a prompt"
        ) from None
    indented = lines[0][:1].isspace()
    shift = 1 if indented else 0
    tree = _parse("\n".join(["if 1:"] * shift + lines), "exec")
    definition = _definition(tree, name)
    body = lines[definition.lineno - 1 - shift : (definition.end_lineno or len(lines)) - shift]
    if not indented:
        return "\n".join(body) + "\n"
    if _has_long_string(definition):
        return "\n".join(["if 1:", *body]) + "\n"
    margin = body[0][: len(body[0]) - len(body[0].lstrip())]
    return "\n".join(line.removeprefix(margin) for line in body) + "\n"


def takes_values(source: str) -> bool:
    """Tell whether a generator's source uses what is sent into it: a yield that stands for a value."""
    tree = _parse(source, "exec")
    plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return any(isinstance(node, ast.Yield) and id(node) not in plain for node in ast.walk(tree))


def is_expression(code: str) -> bool:
    """Tell whether code is one expression, whose value a caller expects, rather than statements."""
    try:
        _parse(code.strip(), "eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _parse(code: str, mode: Literal["exec", "eval"]) -> ast.AST:
    with warnings.catch_warnings():
        # An odd escape in the user's code is not ours to report, nor to fail at under -W error.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(code, mode=mode)


def _definition(tree: ast.AST, name: str) -> ast.FunctionDef:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise TypeError(f"{name} is not defined by a def statement; a task must be")


def _has_long_string(definition: ast.FunctionDef) -> bool:
    return any(
        isinstance(node, ast.Constant | ast.JoinedStr)
        and node.end_lineno is not None
        and node.end_lineno > node.lineno
        for node in ast.walk(definition)
    )
