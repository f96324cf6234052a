"""Python source with less to send: no comments, no docstrings, one space a level.

Every line stays on its own line, so that a traceback says what it said. A
result is handed out only if it is provably the same program: its syntax tree is
the original's without docstrings, node by node and line by line, and it compiles
to the same code. Whatever is in doubt comes back as it was: source that
names __doc__, that this Python cannot parse, or whose bytes are out of
the ordinary.

MicroPython keeps no docstrings (MICROPY_ENABLE_DOC_STRING is off in every port),
so that leaving them out changes nothing there.
"""

from __future__ import annotations

import ast
import io
import itertools
import tokenize
import types
import warnings
from collections.abc import Iterator

_SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)
# Strings with parts in them are several tokens since Python 3.12; "" where there is no such kind.
_STARTS = tuple(getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START"))
_ENDS = tuple(getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END"))

# Deeper trees than compilers take: comparing them must not run out of stack either. SystemError: CPython
# 3.11 counts the depth of two trees that are made at one time as one (github.com/python/cpython/issues/106905).
_DOUBTS = (SyntaxError, ValueError, RecursionError, MemoryError, SystemError, tokenize.TokenError)


def minify(source: bytes) -> bytes:
    """Return what does the same in fewer bytes, or `source` itself."""
    try:
        text = source.decode()
    except UnicodeDecodeError:
        return source
    # MicroPython reads "\r\n" as "\n", in strings too, and so does CPython.
    text = text.replace("\r\n", "\n")
    if "__doc__" in text or any(odd in text for odd in "\r\f\v\0\ufeff"):
        return source
    with warnings.catch_warnings():
        # An odd escape is the author's; which warnings are errors is this process's affair.
        warnings.simplefilter("ignore")
        try:
            less = _less(text)
            if len(less.encode()) >= len(source) or not _same(text, less):
                return source
        except _DOUBTS:
            return source
    return less.encode()


def _less(text: str) -> str:
    """Return the text without comments, docstrings and most of its indentation."""
    lines = text.split("\n")
    tree = ast.parse(text)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    inside = set(_lines_inside_strings(tokens))
    levels = _levels(tokens, len(lines))
    # A comment within a string stands between the parts of one that has some.
    parted = [(first.start, last.end) for first, last in _strings(tokens) if first is not last]
    for token in reversed(tokens):
        if token.type == tokenize.COMMENT and not any(a < token.start < b for a, b in parted):
            number, column = token.start
            lines[number - 1] = lines[number - 1][:column]
    for first, last, stand_in in _docstrings(tree, tokens):
        for number in range(first, last + 1):
            lines[number - 1] = ""
            inside.discard(number)
            inside.discard(number + 1)
        lines[first - 1] = stand_in
    ends_inside = {number - 1 for number in inside}
    for at, line in enumerate(lines):
        number = at + 1
        if number not in inside:
            continued = at > 0 and lines[at - 1].endswith("\\")
            line = line.lstrip(" \t")
            line = " " * (1 if continued else levels[at]) + line if line else ""
        if number not in ends_inside:
            line = line.rstrip(" \t")
        lines[at] = line
    while len(lines) > 1 and not lines[-1] and not lines[-2]:
        lines.pop()
    return "\n".join(lines)


def _levels(tokens: list[tokenize.TokenInfo], count: int) -> list[int]:
    """Return for each line how deep a statement that begins there is; 0 where none does."""
    levels, level, fresh = [0] * (count + 1), 0, True
    for token in tokens:
        if token.type == tokenize.INDENT:
            level += 1
        elif token.type == tokenize.DEDENT:
            level -= 1
        elif token.type == tokenize.NEWLINE:
            fresh = True
        elif token.type not in _SKIPPED and fresh:
            levels[token.start[0] - 1] = level
            fresh = False
    return levels


def _lines_inside_strings(tokens: list[tokenize.TokenInfo]) -> Iterator[int]:
    """Yield the numbers of lines that begin within a string, whose spaces are its value."""
    for first, last in _strings(tokens):
        yield from range(first.start[0] + 1, last.end[0] + 1)


def _strings(tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[tokenize.TokenInfo, tokenize.TokenInfo]]:
    """Yield the first and the last token of each string."""
    open_ones: list[tokenize.TokenInfo] = []
    for token in tokens:
        if token.type in _STARTS:
            open_ones.append(token)
        elif token.type in _ENDS:
            start = open_ones.pop()
            if not open_ones:
                yield start, token
        elif token.type == tokenize.STRING and not open_ones:
            yield token, token


def _docstrings(tree: ast.Module, tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[int, int, str]]:
    """Yield first and last line of each docstring that has its lines for itself, and what replaces it."""
    statements = {
        tuple(part): bool(all(token.type in (tokenize.STRING, tokenize.NEWLINE) for token in line))
        for line, part in _logical_lines(tokens)
    }
    for body, must_stay in _bodies(tree):
        if _is_docstring(body[0]):
            first, last = body[0].lineno, body[0].end_lineno or body[0].lineno
            if statements.get((first, last)):
                yield first, last, "pass" if must_stay and len(body) == 1 else ""


def _logical_lines(
    tokens: list[tokenize.TokenInfo],
) -> Iterator[tuple[list[tokenize.TokenInfo], tuple[int, int]]]:
    line: list[tokenize.TokenInfo] = []
    for token in tokens:
        if token.type in _SKIPPED or token.type == tokenize.ENDMARKER:
            continue
        line.append(token)
        if token.type == tokenize.NEWLINE:
            yield line, (line[0].start[0], token.start[0])
            line = []


def _bodies(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], bool]]:
    """Yield each body that may begin with a docstring, and whether it must not be empty."""
    if tree.body:
        yield tree.body, False
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.body, True


def _is_docstring(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


def _same(text: str, less: str) -> bool:
    """Tell whether both are one program but for docstrings, with every line where it was."""
    full, short = ast.parse(text), ast.parse(less)
    for tree in (full, short):
        for body, must_stay in list(_bodies(tree)):
            if _is_docstring(body[0]):
                first = body[0].lineno
                stand_in = ast.Pass(lineno=first, end_lineno=first, col_offset=0, end_col_offset=0)
                body[:1] = [stand_in] if must_stay and len(body) == 1 else []
    if not all(itertools.starmap(_alike, itertools.zip_longest(_nodes(full), _nodes(short)))):
        return False
    return _alike_code(_compiled(full), _compiled(short))


def _nodes(tree: ast.AST) -> Iterator[object]:
    """Yield a tree's nodes and values in order, without recursion."""
    left: list[object] = [tree]
    while left:
        item = left.pop()
        if isinstance(item, ast.AST):
            yield (type(item), getattr(item, "lineno", 0), _last_line(item))
            left.extend(getattr(item, name, None) for name in reversed(item._fields))
        elif isinstance(item, list):
            yield len(item)
            left.extend(reversed(item))
        else:
            yield (type(item), repr(item))


def _last_line(node: ast.AST) -> int:
    # A body may end with a docstring that is gone: how far it reached is no part of the program.
    if isinstance(node, ast.stmt) and hasattr(node, "body"):
        return 0
    return getattr(node, "end_lineno", None) or 0


def _alike(one: object, other: object) -> bool:
    return one == other


def _compiled(tree: ast.Module) -> types.CodeType:
    return compile(tree, "", "exec", dont_inherit=True, optimize=0)


def _alike_code(one: types.CodeType, other: types.CodeType) -> bool:
    left = [(one, other)]
    while left:
        first, second = left.pop()
        if _traits(first) != _traits(second) or len(first.co_consts) != len(second.co_consts):
            return False
        for a, b in zip(first.co_consts, second.co_consts, strict=True):
            if isinstance(a, types.CodeType) and isinstance(b, types.CodeType):
                left.append((a, b))
            elif type(a) is not type(b) or _spelled(a) != _spelled(b):
                return False
    return True


def _spelled(value: object) -> object:
    """Return a constant's text, which unlike == tells 0.0 from -0.0; that of a set has no fixed order."""
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return [_spelled(item) for item in value] if isinstance(value, tuple) else repr(value)


def _traits(code: types.CodeType) -> tuple[object, ...]:
    return (
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_flags,
        code.co_name,
        code.co_firstlineno,
        code.co_argcount,
        code.co_kwonlyargcount,
        code.co_posonlyargcount,
        list(code.co_lines()),
        code.co_exceptiontable,
    )
