"""Source of the host as a board shall run it: a function's, or statements.

Decorators go, since the host has applied them. Indented source is dedented
unless a string in it spans lines: taking spaces from such a string would change
its value, so it stays indented under an `if 1:`, which means the same.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Callable
from typing import Literal

from belayd_client.errors import RequestInvalid


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


def refuse_halves(code: str) -> None:
    """Raise RequestInvalid for code that no file could hold, such as one with half a surrogate pair."""
    try:
        code.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(
            f"code: no Unicode text, {code[error.start]!a} at position {error.start} is half a character; "
            "write it as an escape in the board's own code",
            reason="REQUEST_INVALID",
            fields={"field": "code"},
        ) from None


def statements(code: str) -> str:
    """Return statements without the margin that they have in the caller's own source.

    What is no Python is returned as it is: the board says what is wrong with it.
    """
    lines = code.split("\n")
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    margin = first[: len(first) - len(first.lstrip())]
    if not margin:
        return code
    # An empty first line makes room, and the board counts lines as the caller does.
    framed = ["if 1:", *lines[0 if lines[0].strip() else 1 :]]
    try:
        tree = _parse("\n".join(framed), "exec")
    except (SyntaxError, ValueError):
        return code
    match tree:
        case ast.Module(body=[ast.If(orelse=[])]):
            pass
        case _:
            return code  # not all of it has the margin
    return "\n".join(framed if _has_long_string(tree) else [line.removeprefix(margin) for line in lines])


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


def _has_long_string(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Constant | ast.JoinedStr)
        and node.end_lineno is not None
        and node.end_lineno > node.lineno
        for node in ast.walk(tree)
    )
