"""What Belay 0.30.1 gets wrong about values and prints, each right through belayd.

The numbers are those of the list of faults that were reproduced in Belay:
1 literals, 2 results that are no literals, 4 prints beside a result. Where it is
quick and certain, the same test shows the fault in Belay on a board of the same
kind, so that the claim stays true. 5, 7 and 8 are in test_peers_faults_live.py,
9 and 10 in test_peers_faults_memory.py.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import belay
import pytest

from belayd.values import Repr
from belayd_client import Device

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim})


@pytest.fixture
def device(lab) -> Iterator[Device]:
    with Device(f"{lab.address}/sim-1", timeout=60) as device:
        yield device


@pytest.fixture
def belays_device(simulated_pty: Callable[..., Any]) -> Iterator[belay.Device]:
    """Belay itself, for comparison."""
    with belay.Device(str(simulated_pty("anchor").path), startup="") as device:
        yield device


@pytest.fixture
def function_from(tmp_path: Path) -> Callable[[str], Callable[..., Any]]:
    """A function as it stands in a user's file, character for character; its name is "it"."""

    def load(source: str) -> Callable[..., Any]:
        path = tmp_path / "users_file.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("users_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.it

    return load


# 1: literals


def test_a_string_literal_is_a_value_not_a_docstring(device: Device, belays_device: belay.Device) -> None:
    assert device("'hello'") == "hello"
    assert belays_device("'hello'") == 0


@pytest.mark.parametrize(
    "expression",
    [
        '"it\'s"',
        "'a' 'b'",
        "'''two\nlines'''",
        "  ' padded '",
        "'x' if 1 else 'y'",
        "'#'",
        "'a' # 'b'",
        "('a;b',\n 'c')",
        "1, 2",
        "b'\\x00\\x03\\x04'",
        "'\\x04>\\x03'",
        "r'\\n' + '\\\\'",
        "'é…😀'",
        "f'{1 + 1}{{x}}{\"q\"}'",
        "[x for x in 'abc' if x != 'b']",
        "not 'x'",
        "-2 ** 70",
        "''",
        "{'': ''}['']",
    ],
)
def test_an_expression_is_what_python_says_it_is(device: Device, expression: str) -> None:
    expected = eval(expression.strip(), {})
    assert device(expression) == expected
    assert type(device(expression)) is type(expected)


@pytest.mark.parametrize(
    ("source", "arguments", "expected"),
    [
        ("def it(x):\n    return f'{{{x}}} {{}} {x!r:>4}'\n", (7,), "{7} {}    7"),
        ("def it(x):\n    return f'{{'\n", (7,), "{"),
        ("def it(d):\n    return f\"{d['a']}'{d['b']!r}\"\n", ({"a": "it's", "b": '"'},), "it's''\"'"),
        ("def it():\n    'only a docstring'\n", (), None),
        ("def it():\n    '''doc'''; return 'doc'\n", (), "doc"),
        ("def it():\n    'a'\n    'b'\n    return 'c'\n", (), "c"),
        ("def it():\n    x = 1; y = 'a;b'; return x, y;\n", (), (1, "a;b")),
        ("def it(): return 'one line'  # it's \"commented\"\n", (), "one line"),
        (
            "def it(a,\n       b='#',  # it's\n       *c):\n    return a + \\\n        b, c\n",
            ("x",),
            ("x#", ()),
        ),
        ("def it(x):\n\tif x:\n\t\treturn 'tabs\tkept'\n\treturn ''\n", (1,), "tabs\tkept"),
        ("def it(größe):\n    naïve = größe * 2\n    return naïve, 'ü'\n", (4,), (8, "ü")),
        ("def it():\n    f = lambda a, *b, c='#': (a, b, c)\n    return f(1, 2)\n", (), (1, (2,), "#")),
        ("def it():\n    return '''a\n    b\n  # c\n'''\n", (), "a\n    b\n  # c\n"),
        ("def it():\n    '''doc\n'''\n    return '\\\\' + \"\\\"\" + '\\'' + r'\\d'\n", (), "\\\"'\\d"),
        ("def it():\n    return 'never # a comment'[6:], \"'#'\"\n", (), ("# a comment", "'#'")),
        ("def it():\n    return (\n        1  # one\n        + 2\n    )\n", (), 3),
        (
            "def it():\n    if True: pass\n    else: pass\n    for _ in (): pass\n    return -1 if not 0 else+1\n",
            (),
            -1,
        ),
    ],
    ids=lambda value: ascii(value)[:60] if isinstance(value, str) else "",
)
def test_a_task_means_on_the_board_what_it_means_here(
    device: Device,
    function_from: Callable[[str], Callable[..., Any]],
    source: str,
    arguments: tuple[object, ...],
    expected: object,
) -> None:
    function = function_from(source)
    task = device.task(function)

    assert task(*arguments) == function(*arguments)
    assert expected is None or task(*arguments) == expected


def test_decorators_over_several_lines_and_on_methods_of_nothing_go(
    device: Device, function_from: Callable[[str], Callable[..., Any]]
) -> None:
    source = (
        "def wrap(*options, **more):\n    return lambda function: function\n"
        "@wrap('def it(): return 1',\n  text='''\ndef it(): return 2\n''',  # @wrap\n)\n"
        "@(lambda function: function)\n"
        "def it(x='@wrap'):\n    return x\n"
    )

    assert device.task(function_from(source))() == "@wrap"


def test_statements_with_a_margin_are_run_and_keep_their_long_strings(device: Device) -> None:
    device(
        """
        if True:
            x = [1]
        # less
        text = '''a
        b'''
        """
    )

    assert device("(x, text)") == ([1], "a\n        b")


def test_statements_keep_their_strings_semicolons_and_comments(device: Device) -> None:
    assert device("'doc'\nx = 1; y = 'a;b'  # c \"d'") is None
    assert device("def f():\n\t'''only a docstring'''\n\nz = '''\n  # kept\n'''") is None
    assert device("(x, y, z, f())") == (1, "a;b", "\n  # kept\n", None)


# 2: results that are no literals


def test_nan_is_nan_and_nothing_falsy(device: Device, belays_device: belay.Device) -> None:
    value = device("float('nan')")

    assert type(value) is float
    assert math.isnan(value)
    assert belays_device("float('nan')") is belay.UNPARSABLE_RESULT


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("float('inf')", math.inf),
        ("-float('inf')", -math.inf),
        ("[1, {'a': (float('-inf'),)}]", [1, {"a": (-math.inf,)}]),
        ("bytearray(b'a\\x00\\x04')", bytearray(b"a\x00\x04")),
        ("range(3, 11, 2)", range(3, 11, 2)),
        ("frozenset([1, 2])", frozenset({1, 2})),
        ("{frozenset(): range(0)}", {frozenset(): range(0)}),
        (
            "[set(), {}, (), [], '', b'', 0, 0.0, False, None]",
            [set(), {}, (), [], "", b"", 0, 0.0, False, None],
        ),
        ("1 - 2j", 1 - 2j),
        ("10 ** 40", 10**40),
        ("[bytearray(2), [bytearray()]]", [bytearray(2), [bytearray()]]),
    ],
)
def test_a_value_that_is_no_literal_is_that_value_everywhere(
    device: Device, expression: str, expected: object
) -> None:
    @device.task
    def echo(value: object) -> object:
        return value

    @device.task
    def twice(value: object) -> Iterator[object]:
        yield value
        yield value

    answers = [device(expression), *(echo(expected) for _ in range(4)), *twice(expected)]

    assert answers == [expected] * 7
    assert {type(answer) for answer in answers} == {type(expected)}


def test_nan_travels_both_ways_and_in_containers(device: Device) -> None:
    @device.task
    def echo(value: object) -> object:
        return [value, {"n": value}]

    for _ in range(4):  # by both ways that a call can go
        alone, within = echo(math.nan)
        assert math.isnan(alone)
        assert math.isnan(within["n"])


@pytest.mark.parametrize(
    ("expression", "type_name", "shows"),
    [
        ("Sly()", "Sly", "0"),
        ("[1, Sly()]", "list", "[1, 0]"),
        ("Sly", "type", "Sly"),
        ("len", "function", "function"),
        ("lambda: 0", "function", "lambda"),
        ("iter([])", "iterator", "iterator"),
        ("object()", "object", "object"),
        ("ValueError('x')", "ValueError", "ValueError('x'"),
        ("Number(0)", "Number", "0"),
        ("__import__('sys')", "module", "sys"),
    ],
)
def test_an_object_is_its_repr_with_its_types_name_and_never_falsy(
    device: Device, expression: str, type_name: str, shows: str
) -> None:
    device("class Sly:\n def __repr__(self): return '0'\nclass Number(int): pass\n")

    value = device(expression)

    assert isinstance(value, Repr)
    assert value
    assert shows in value.text
    assert value.type_name == type_name


# 4: prints beside a result

PRINTED = [
    "x",
    "no\nend",
    "\x04",
    "\x04>",
    "\x04\x04>",
    "OK\x04\x04>raw REPL; CTRL-B to exit\n>",
    "\x03",
    "\x01\x02\x05A\x01",
    "_BELAYX",
    "_BELAYR|1|2\n",
    "_BELAYS\n",
    "\x1e",
    "\x1eV42\x1e",
    "\x1e0123456789",
    "\x1e0123456789V42\x1e0123456789",
    ">>> ",
    "Traceback (most recent call last):\n",
    "é…😀",
    "\n\n",
]


@pytest.mark.parametrize("text", PRINTED, ids=ascii)
def test_what_a_task_prints_never_touches_its_result(
    device: Device, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @device.task
    def say(text: str) -> int:
        print(text, end="")
        return 42

    @device.task
    def count(text: str) -> Iterator[int]:
        for number in range(3):
            print(text, end="")
            yield number

    shown = io.StringIO()
    assert device(f"say({text!r})", stream_out=shown) == 42
    assert shown.getvalue() == text
    for _ in range(4):  # by both ways that a call can go
        assert say(text) == 42
        assert capsys.readouterr().out == text
    assert list(count(text)) == [0, 1, 2]
    assert capsys.readouterr().out == text * 3


def test_a_print_without_a_line_end_leaves_the_result(device: Device, belays_device: belay.Device) -> None:
    source = "def say():\n    print('x', end='')\n    return 42\n"
    shown = io.StringIO()
    for board in (device, belays_device):
        board(source)

    assert device("say()", stream_out=shown) == 42
    assert shown.getvalue() == "x"
    assert belays_device("say()", stream_out=io.StringIO()) is None


@pytest.mark.parametrize("way", ["streamed", "called"])
def test_a_megabyte_of_prints_leaves_the_result(device: Device, way: str, capsys: Any) -> None:
    line = "0123456789" * 10

    @device.task
    def talk(lines: int) -> str:
        for _ in range(lines):
            print("0123456789" * 10)
        return "end"

    ways = {
        "streamed": lambda: device("talk(10000)"),
        # A call carries the first 64 KiB of what it prints, the rest is counted.
        "called": lambda: talk(10000),
    }
    for _ in range(4):
        assert ways[way]() == "end"
        shown = capsys.readouterr().out
        whole = f"{line}\n" * 10_000
        assert shown == (whole if way == "streamed" else whole[: len(shown)])
        assert len(shown) >= 65_000


def test_bytes_that_are_no_text_leave_the_result(device: Device, lab) -> None:
    printed: list[bytes] = []
    device("import sys\ndef write():\n    sys.stdout.buffer.write(bytes(range(256)) * 40)\n    return 42\n")

    answers = [
        lab.client.evaluate("sim-1", "write()", lease=device.lease, output=printed.append),
        *(
            lab.client.call("sim-1", "write", lease=device.lease, output=printed.append)
            for _ in range(4)
        ),
    ]  # fmt: skip

    assert answers == [42] * 5
    assert b"".join(printed) == bytes(range(256)) * 40 * 5
    assert device("write()", stream_out=io.StringIO()) == 42
