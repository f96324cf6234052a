"""Whether a file is Python at all, before it takes a working one's place on a board.

What this Python can parse passes. What it cannot may still be MicroPython, whose
grammar is another; so the newest mpy-cross has the last word where it can be had.
"""

from __future__ import annotations

import ast
import sys
import warnings

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.cache import Cache, key_of
from belayd_client.preparation.compiler import Compiler, Kind, compiler_for

# Its native code is looked at, and never run.
_JUDGE = Kind("6.3", "armv7m")


def check(source: bytes, shown: str, cache: Cache) -> None:
    """Accept a file's source; `shown` is what to call it.

    Raises:
        PreparationFailed: It has a syntax error; the message has `shown` and the line.
    """
    key = key_of("checked", sys.version, source)
    if cache.find(key) is not None:
        return
    problem = _problem(source)
    if problem is not None:
        judge = _judge(cache)
        if judge is not None:
            judge.compile(source, "x.py", shown)
        elif not _doubtful(problem):
            line = f", line {problem.lineno}" if problem.lineno else ""
            raise PreparationFailed(
                f"{shown}{line}: {problem.msg}; mend it, or name it with --as-is to send it unchecked"
            )
    cache.keep(key, b"")


def _problem(source: bytes) -> SyntaxError | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape is the author's
        try:
            ast.parse(source)
        except SyntaxError as error:
            return error
        except (ValueError, RecursionError, MemoryError, SystemError):
            # NUL bytes, or deeper than this Python goes (SystemError: as the minifier has it): nothing
            # that a line could be told of.
            return TabError("not to be parsed here")
    return None


def _doubtful(problem: SyntaxError) -> bool:
    """Tell whether MicroPython may think otherwise: it has no opinion on encodings, and its own on tabs."""
    return isinstance(problem, TabError) or "codec" in problem.msg or "encoding" in problem.msg


def _judge(cache: Cache) -> Compiler | None:
    try:
        return compiler_for(_JUDGE, cache)
    except PreparationFailed:
        return None  # no index within reach: this Python's word has to do
