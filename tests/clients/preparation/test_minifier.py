"""The minifier against the standard library, MicroPython's own compiler, and programs made at random."""

from __future__ import annotations

import ast
import subprocess
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd_client.preparation.compiler import Compiler
from belayd_client.preparation.minifier import minify


def less(text: str) -> str:
    return minify(text.encode()).decode()


def test_comments_docstrings_and_indentation_go_and_lines_stay() -> None:
    source = '''"""A module."""  # a comment

import sys  # another


class A:
    """Two
    lines."""

    def f(self, a,  # first
          b):
        # alone
        "one line"
        return (a +
                b)   # the end

    def g(self):
        """Only this."""
'''

    assert less(source).split("\n") == [
        *["", "", "import sys", "", "", "class A:", "", "", ""],
        *[" def f(self, a,", "b):", "", "", "  return (a +", "b)", ""],
        *[" def g(self):", "  pass", ""],
    ]


@pytest.mark.parametrize(
    "source",
    [
        "'hello'\nx = 'hello'  # PEERS: a leading string is no docstring of an expression\n",
        "def f(x):  # braces\n    return f'{{ {x} }}'\n",
        "x = '''  # no comment\n    two\n'''  # a comment\n",
        "x = f'''{1}  # no comment\n    two {2}\n'''  # a comment\n",
        "def f(): 'doc'; return 1  # one line\n",
        "def f():\n    'a' 'b'  # two parts\n    return 1\n",
        "def f():\n    'doc'; x = 1  # beside\n    return x\n",
        "def f():\n    ('doc')  # in brackets\n    return 1\n",
        "if 1:\n    x = 1 + \\\n        2  # continued\n    assert x == 3, 'asserts stay'\n",
        "x = [\n    # alone in brackets\n    1,\n        2,\n]\n",
        "class A:\n\n    '''doc'''\n    # and no more\nx = 1\n",
        "def f():\n    return -0.0, 0.0, {'a', 'b'} == {'b', 'a'}  # constants\n",
        "try:\n    x = 1  # try\nexcept* ValueError:\n    pass\n",
        "if 1:\n\tx = 1  # a tab\n",
        "if 1:\r\n    x = '''a\r\n  b'''  # windows\r\n",
        "async def f():\n    '''doc'''\n    async with x as y:  # async\n        await y\n",
        "# last line without an end",
        "@d  # decorated\ndef f(a='#', *, b=\"'#\"):  # quotes\n    return a\n",
        "def f():\n    global x  # first\n    'no docstring'\n    x = 1\n",
        "lambda: (yield)  # odd\n",
    ],
)
def test_whatever_it_makes_is_the_same_program(source: str) -> None:
    made = less(source)

    assert len(made) < len(source)
    assert stripped(made) == stripped(source)


@pytest.mark.parametrize(
    "source",
    [
        b"print(__doc__)  # used\n",
        b"x = (  # broken\n",
        b"print 'two'  # another Python\n",
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"\xef\xbb\xbfx = 1  # marked\n",
        b"x = 1\x0c  # form feed\n",
        b"x = 1  # lone return\ry = 2\n",
        b"x = 1  # nul\0\n",
        b"x = " + b"(" * 5000 + b"1" + b")" * 5000 + b"  # deep\n",
        b"x=1\n",
        b"",
    ],
    ids=["doc", "broken", "py2", "latin-1", "bom", "form feed", "return", "nul", "deep", "least", "empty"],
)
def test_what_is_in_doubt_comes_back_as_it_was(source: bytes) -> None:
    assert minify(source) == source


@pytest.mark.timeout(600)
def test_the_whole_standard_library_stays_the_same_program(library: list[Path]) -> None:
    sizes = {True: 0, False: 0}
    changed = 0
    assert len(library) > 500
    for path in library:
        source = path.read_bytes()
        made = minify(source)
        sizes[False] += len(source)
        sizes[True] += len(made)
        changed += made != source
        assert made == source or stripped(made.decode()) == stripped(source.decode()), path
        assert made.count(b"\n") <= source.count(b"\n"), path

    assert changed > 0.8 * len(library)
    assert sizes[True] < 0.7 * sizes[False]


@pytest.mark.timeout(600)
def test_micropythons_own_compiler_makes_the_same_of_it(
    library: list[Path], compiler: Callable[..., Compiler], tmp_path: Path
) -> None:
    """By bytes, with line numbers left out: a docstring's line has its own entry though it has no code."""
    program = compiler("6.3").program

    def compiled(folder: Path, source: bytes) -> bytes:
        (folder / "in.py").write_bytes(source)
        words = ["-O3", "-s", "x.py", "-o", folder / "out.mpy", folder / "in.py"]
        done = subprocess.run([program, *words], capture_output=True)
        return (folder / "out.mpy").read_bytes() if done.returncode == 0 else b"refused"

    def compare(path: Path) -> str:
        folder = tmp_path / path.as_posix().strip("/").replace("/", "-")
        folder.mkdir()
        source = path.read_bytes()
        full, short = compiled(folder, source), compiled(folder, minify(source))
        return "refused" if full == short == b"refused" else "same" if full == short else str(path)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(compare, library[::3]))

    assert set(outcomes) == {"same", "refused"}
    assert outcomes.count("same") > 100


def test_lines_keep_their_numbers_in_micropython(compiler: Callable[..., Compiler]) -> None:
    source = (
        b"# first\nimport a  # second\n\n\nif a:\n    # a comment\n    a.b(  # here\n        1)\n    a.c()\n"
    )

    full = compiler("6.3").compile(source, "x.py", "x.py")
    short = compiler("6.3").compile(minify(source), "x.py", "x.py")

    assert minify(source) != source
    assert full == short


LEAVES = [
    "x = 1",
    "pass",
    "'doc'",
    '"""two\n   lines # no"""',
    "x = f'{1}#'",
    "x = '''a\n  b'''",
    "x = [1,\n  2]",
]
LEAVES += ["x = 1 + \\\n  2", "'''a''' 'b'", "return_ = 'x'; y = 2", "x = {'a': 1, **{}}", "assert 1, '#'"]
HEADS = ["def f():", "class A:", "if 1:", "while 0:", "async def g(a, b='#'):", "with x as y:", "try:"]


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Statements of every kind with comments and blanks between, indented by any width."""
    lines: list[str] = []

    def comment() -> str:
        return draw(st.sampled_from(["", "", "  # note", " #'''", "   "]))

    def block(indent: str, depth: int) -> None:
        for _ in range(draw(st.integers(1, 3))):
            if draw(st.booleans()):
                lines.append(draw(st.sampled_from(["", indent + "# alone", "# at the margin", "   "])))
            if depth < 3 and draw(st.integers(0, 2)) == 0:
                head = draw(st.sampled_from(HEADS))
                lines.append(indent + head + comment())
                block(indent + draw(st.sampled_from([" ", "  ", "    ", "\t"])), depth + 1)
                if head == "try:":
                    lines.append(indent + "finally:" + comment())
                    lines.append(indent + " pass")
            else:
                leaf = draw(st.sampled_from(LEAVES))
                lines.append(indent + leaf + comment())

    block("", 0)
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n\n"]))


@given(programs())
def test_any_program_stays_the_same_program(source: str) -> None:
    ast.parse(source)

    assert stripped(less(source)) == stripped(source)


@given(st.text(alphabet="#'\"\\\n \tx=():[]{}f1,;", max_size=60))
def test_any_text_stays_what_it_was(source: str) -> None:
    made = less(source)

    assert made == source or stripped(made) == stripped(source)


def stripped(source: str) -> list[str]:
    """Return a program's nodes with their lines, docstrings left out; written apart from the minifier's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape is the author's
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.body and ast.get_docstring(node, clean=False) is not None:
                node.body.pop(0)
            node.body = [part for part in node.body if not isinstance(part, ast.Pass)]
    return [
        ast.dump(tree),
        *(
            f"{type(node).__name__} {node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.stmt | ast.expr)
        ),
    ]
