from __future__ import annotations

import functools
import warnings

import pytest

from belayd_client.source import function_source, is_expression, statements, takes_values


def marked(*_: object, **__: object):
    return lambda function: function


def plain(a, b=2):
    return a + b


@marked(1, option="two\nlines")
@marked(
    3,
)
def decorated(a):
    # A comment.
    return f"{{{a}}} {a!r:>{8}}"


class Holder:
    @staticmethod
    @marked()
    def indented(a):
        text = "one line"
        if a:
            return (text, a)
        return "not a docstring"

    @staticmethod
    def with_long_string():
        """A docstring
        of two lines."""
        return """
        eight spaces
    four
none"""

    @staticmethod
    def with_joined_lines(a):
        return (
            f"""
            {a}"""
            + "a\
            b"
        )


def outer(seven=7):
    def inner(x: int) -> int:
        def innermost(y):
            return y * 2

        return innermost(x)

    return inner


def unusual(a, /, b, *, c=[1, 2], **d):  # noqa: B006
    return a, b, c, d


def one_line(a):
    return a + 1


FUNCTIONS = {
    "plain": (plain, (1,), {}),
    "decorated": (decorated, ("x",), {}),
    "indented": (Holder.indented, (1,), {}),
    "indented, other branch": (Holder.indented, (0,), {}),
    "a string of several lines": (Holder.with_long_string, (), {}),
    "an f-string of several lines": (Holder.with_joined_lines, (5,), {}),
    "nested": (outer(), (21,), {}),
    "unusual parameters": (unusual, (1, 2), {"c": 3, "e": 4}),
    "one line": (one_line, (1,), {}),
}


@pytest.mark.parametrize(("function", "args", "keywords"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_the_source_defines_the_same_function(function, args, keywords) -> None:
    scope: dict[str, object] = {}

    exec(function_source(function), scope)

    assert scope[function.__name__](*args, **keywords) == function(*args, **keywords)


def test_no_decorator_is_left() -> None:
    assert "@" not in function_source(decorated)
    assert function_source(decorated).startswith("def decorated(a):")


def test_a_function_is_dedented_when_that_changes_nothing() -> None:
    assert function_source(Holder.indented).startswith("def indented(a):\n    text")


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda: 1, TypeError, "def statement"),
        (functools.partial(plain, 1), TypeError, "must be a function"),
        (Holder, TypeError, "must be a function"),
        (print, TypeError, "must be a function"),
    ],
    ids=["lambda", "partial", "class", "builtin"],
)
def test_what_is_no_function_of_its_own_is_refused(function, error, words) -> None:
    with pytest.raises(error, match=words):
        function_source(function)


@pytest.mark.parametrize(
    ("body", "takes"),
    [("yield 1", False), ("x = yield", True), ("for i in f(): yield i", False), ("print((yield 1))", True)],
)
def test_a_generator_that_is_sent_values_is_told_from_one_that_is_not(body: str, takes: bool) -> None:
    assert takes_values(f"def items():\n    {body}\n") is takes


def test_a_coroutine_is_refused() -> None:
    async def later():
        return 1

    with pytest.raises(TypeError, match="async"):
        function_source(later)


def test_a_function_without_a_file_is_refused_with_what_to_do() -> None:
    scope: dict[str, object] = {}
    exec("def made(): return 1", scope)

    with pytest.raises(OSError, match="define tasks in a file"):
        function_source(scope["made"])


@pytest.mark.parametrize(
    ("code", "expression"),
    [
        ("1 + 1", True),
        ("  f(x)\n", True),
        ("'hello'", True),
        ("[x for x in y]", True),
        ("(\n1,\n2)", True),
        ("x = 1", False),
        ("import machine", False),
        ("f()\ng()", False),
        ("", False),
        ("pass", False),
        ("print 1", False),
        ("a\x00b", False),
    ],
)
def test_an_expression_is_told_from_statements(code: str, expression: bool) -> None:
    assert is_expression(code) is expression


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        ("x = 1\nif x:\n    y = 2\n", "x = 1\nif x:\n    y = 2\n"),
        ("    x = 1\n    y = 2", "x = 1\ny = 2"),
        ("\n    # a\n    if x:\n\n        y = 2\n    ", "\n# a\nif x:\n\n    y = 2\n"),
        ("\tx = 1\n# less\n\ty = 2", "x = 1\n# less\ny = 2"),
        ("\n  x = '''a\n  b'''\n  y = 2\n", "if 1:\n  x = '''a\n  b'''\n  y = 2\n"),
        ("  x = 'a\\\n  b'", "if 1:\n  x = 'a\\\n  b'"),
        ("    x = 1\ny = 2", "    x = 1\ny = 2"),
        ("    x = 1\nelse:\n    y = 2", "    x = 1\nelse:\n    y = 2"),
        ("  x ==", "  x =="),
        ("  # only", "  # only"),
        ("", ""),
    ],
)
def test_statements_lose_their_margin_and_nothing_else(code: str, sent: str) -> None:
    assert statements(code) == sent


def test_an_odd_escape_neither_warns_nor_changes_what_the_code_is() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert is_expression(r"'\d'")
