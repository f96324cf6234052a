"""Values read from boards and written for boards, compared with a real MicroPython."""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import math
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belayd.values import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_RENDERED,
    Repr,
    digits_from_int,
    int_from_digits,
    parse,
    render,
)

needs_micropython = pytest.mark.skipif(
    importlib.util.find_spec("micropython_unix") is None, reason="no MicroPython unix port for this platform"
)

text = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | text | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
words = st.integers(-(2**62), 2**62)
ranges = st.builds(range, words, words, st.integers(1, 99) | st.integers(-99, -1))


def trees(floats: st.SearchStrategy[float]) -> st.SearchStrategy[object]:
    return st.recursive(
        keys | floats | st.binary().map(bytearray) | ranges,
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.lists(inner, max_size=5).map(tuple)
            | st.dictionaries(keys, inner, max_size=5)
            | st.sets(keys, max_size=5)
        ),
        max_leaves=20,
    )


values = trees(st.floats())
# Floats that MicroPython reads and prints to the last bit; beyond 15 digits it may miss by one.
plain_floats = st.sampled_from([math.nan, math.inf, -math.inf, -0.0]) | st.builds(
    lambda mantissa, exponent: float(f"{mantissa}e{exponent}"),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(-20, 6),
)
plain_values = trees(plain_floats)


def canonical(value: object) -> str:
    """A text that is equal for equal values of equal types, nan and -0.0 told apart."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return f"{kind}{sorted((canonical(k), canonical(v)) for k, v in value.items())}"
    if isinstance(value, set | frozenset):
        return f"{kind}{sorted(map(canonical, value))}"
    if isinstance(value, list | tuple):
        return f"{kind}{[*map(canonical, value)]}"
    return f"{kind} {hex(value) if type(value) is int else repr(value)}"


def run_on_micropython(source: str, folder: Path) -> list[str]:
    program = folder / "program.py"
    program.write_text(source, encoding="ascii")
    ran = subprocess.run(
        [sys.executable, "-m", "micropython_unix", str(program)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env={"HOME": str(folder)},
    )
    assert ran.returncode == 0, ran.stdout[-500:] + ran.stderr[-500:]
    return ran.stdout.splitlines()


# What boards print.

PRINTED = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "-1": -1,
    "1000000000000000000000000000000": 10**30,
    "0.1": 0.1,
    "-0.0": -0.0,
    "1e+16": 1e16,
    "4.940656458412465e-324": 5e-324,
    "nan": math.nan,
    "-inf": -math.inf,
    "[nan, inf, -inf, 1]": [math.nan, math.inf, -math.inf, 1],
    "(1+2j)": 1 + 2j,
    "(1-0j)": complex(1, -0.0),
    "2j": 2j,
    "-2j": complex(0, -2),
    "(nan+1j)": complex(math.nan, 1),
    "(inf-infj)": complex(math.inf, -math.inf),
    "(1e+300+1e-300j)": complex(1e300, 1e-300),
    "''": "",
    '"it\'s"': "it's",
    "'\\'\"'": "'\"",
    r"'\\\n\r\t\x07\x7f'": "\\\n\r\t\x07\x7f",
    r"'\xe9\u1234\U0001f600'": "é\u1234\U0001f600",
    "'é\u1234\U0001f600'": "é\u1234\U0001f600",
    r"'é\\é\né'": "é\\é\né",
    r"'\\x41'": r"\x41",
    "b''": b"",
    r"b'\x00\xff\\\'" + "\"'": b"\x00\xff\\'\"",
    "bytearray(b'a\\x00')": bytearray(b"a\x00"),
    "[]": [],
    "[1, 2]": [1, 2],
    "[1, [2, 3], (4, 5)]": [1, [2, 3], (4, 5)],
    "()": (),
    "(1,)": (1,),
    "((1,),)": ((1,),),
    "(1, 2.5)": (1, 2.5),
    "{}": {},
    "{'a': [1], 1: {}}": {"a": [1], 1: {}},
    "{(1, 2): frozenset({1})}": {(1, 2): frozenset({1})},
    "set()": set(),
    "{1, 'a'}": {1, "a"},
    "frozenset()": frozenset(),
    "frozenset({2, 1})": frozenset({1, 2}),
    "range(0, 3)": range(3),
    "range(5, 1, -1)": range(5, 1, -1),
}


@pytest.mark.parametrize(("printed", "value"), PRINTED.items(), ids=PRINTED)
def test_what_a_board_prints_is_read_with_its_exact_type(printed: str, value: object) -> None:
    assert canonical(parse(printed)) == canonical(value)


REFUSED = [
    *["", " 1", "1 ", "1 2", "1_0", "00", "+1", "0x10", "- 1", "1.e5", "1.5.2", "1+2j", "1" * 5000 + "]"],
    *["(1)", "(1, )", "[1", "[1}", "[1,, 2]", "(1, 2]", "[1, 2)", "{1, 2", "{1: 2, 3}", "{1, 2: 3}", "{{}}"],
    *["'a", "'a' 'b'", r"'\q'", "'\n'", r"b'\u1234'", "b'é'", r"'\U00110000'", "Ellipsis", "None1", "nano"],
    *["True()", "<Pin 3>", "P(a=1, b=2)", "dict_keys([1])", "OrderedDict({1: 2})", "array('i', [1, 2])"],
    *["object()", "__import__('os').getcwd()", "[x for x in y]", "frozenset([1])", "{[1]: 2}", "{[1]}"],
    *["range(0, 3, 0)", f"range(0, {2**63})", "range(3)"],
]


@pytest.mark.parametrize("printed", REFUSED)
def test_whatever_else_is_printed_is_refused(printed: str) -> None:
    with pytest.raises(ValueError):
        parse(printed)


def test_half_a_surrogate_pair_is_refused_however_it_is_printed() -> None:
    with pytest.raises(ValueError):
        parse(r"'\ud800'")
    with pytest.raises(ValueError):
        parse("'\udc80'")


def test_keys_that_print_alike_are_refused_rather_than_merged() -> None:
    with pytest.raises(ValueError, match="told apart"):
        parse("{0.3333333: 1, 0.3333333: 2}")
    with pytest.raises(ValueError, match="told apart"):
        parse("{0.3333333, 0.3333333}")


def test_depth_is_bounded_on_both_ways() -> None:
    fits, too_deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)

    assert render(parse(fits)) == fits
    with pytest.raises(ValueError, match="nested deeper"):
        parse(too_deep)
    with pytest.raises(ValueError, match="nested deeper"):
        parse("{(" * 100_000)
    with pytest.raises(ValueError, match=r"value\[0\].*nested deeper"):
        render([parse(fits)])


def test_ints_beyond_the_limit_of_cpython_are_read_and_written() -> None:
    number = -(10**MAX_DIGITS) + 1

    assert parse("-" + "9" * MAX_DIGITS) == number
    assert parse(f"[1, -{'9' * MAX_DIGITS}, 2]") == [1, number, 2]
    assert digits_from_int(number) == "-" + "9" * MAX_DIGITS
    assert eval(render(number)) == number
    with pytest.raises(ValueError, match="digits"):
        parse("1" + "0" * MAX_DIGITS)
    with pytest.raises(ValueError, match="digits"):
        digits_from_int(10**MAX_DIGITS)


@pytest.mark.parametrize("digits", ["", "-", "--1", "1.0", "٣", "+1", " 1", "0x1"])
def test_only_decimal_digits_make_an_int(digits: str) -> None:
    with pytest.raises(ValueError):
        int_from_digits(digits)


def test_big_values_are_read() -> None:
    content, numbers = bytes(range(256)) * 4096, list(range(100_000))

    assert parse(repr(content)) == content
    assert parse(repr(numbers)) == numbers
    assert parse(repr(tuple(map(float, numbers)))) == tuple(map(float, numbers))
    assert parse(repr({str(n): [n, None] for n in numbers})) == {str(n): [n, None] for n in numbers}


@given(values)
def test_what_python_prints_is_read_back(value: object) -> None:
    assert canonical(parse(repr(value))) == canonical(value)


@given(st.text("0123456789.,-+ejinfa[](){}'\"\\xub: rgst", max_size=40))
def test_any_text_is_read_or_refused_with_a_value_error(printed: str) -> None:
    value = None
    with contextlib.suppress(ValueError):
        value = parse(printed)
    assert canonical(parse(repr(value))) == canonical(value)


# What boards read.


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "arguments[2]: a value of type 'object'"),
        (Colour.RED, "arguments[2]: a value of type 'Colour'"),
        (Text("a"), "arguments[2]: a value of type 'Text'"),
        (Point(1, 2), "arguments[2]: a value of type 'Point'"),
        ([1, {"x": Colour.RED}], "arguments[2][1]['x']: a value of type 'Colour'"),
        ({(1, Repr("Pin", "Pin(3)")): 1}, "arguments[2][<tuple key>][1]: a value of type 'Repr'"),
        ({10**5000: ...}, "arguments[2][<int key>]: a value of type 'ellipsis'"),
        (memoryview(b""), "arguments[2]: a value of type 'memoryview'"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_literal_form_is_refused_with_its_path_and_type(value: object, named: str) -> None:
    with pytest.raises(TypeError) as refused:
        render(value, "arguments[2]")
    assert str(refused.value).startswith(named)


@pytest.mark.parametrize(
    "value",
    ["a" * (MAX_RENDERED - 1), b"a" * MAX_RENDERED, [["a" * 1000] * 1000] * 1000, 1 << (4 * MAX_RENDERED)],
    ids=["str", "bytes", "repeated", "int"],
)
def test_the_length_is_bounded(value: object) -> None:
    with pytest.raises(ValueError, match="longer than"):
        render(value)


@given(values | st.complex_numbers())
def test_what_is_written_is_printable_ascii_and_means_the_value(value: object) -> None:
    written = render(value)

    assert written.isascii()
    assert written.isprintable()
    assert canonical(eval(written)) == canonical(value)


@needs_micropython
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plain_values, min_size=10, max_size=60))
def test_a_real_micropython_reads_and_prints_each_value_back(tmp_path: Path, sent: list[object]) -> None:
    source = "".join(f"print(repr({render(value)}))\n" for value in sent)

    printed = run_on_micropython(source, tmp_path)

    assert [*map(canonical, map(parse, printed))] == [*map(canonical, sent)]


@needs_micropython
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.builds(complex, plain_floats, plain_floats), min_size=10, max_size=60))
def test_a_real_micropython_reads_complex_numbers_to_the_signs_of_zeros(
    tmp_path: Path, sent: list[complex]
) -> None:
    source = "".join(f"c={render(value)}\nprint((c.real,c.imag))\n" for value in sent)

    printed = run_on_micropython(source, tmp_path)

    assert [*map(canonical, map(parse, printed))] == [canonical((c.real, c.imag)) for c in sent]


@needs_micropython
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=100, max_size=200))
def test_a_real_micropython_misses_any_float_by_its_last_bits_at_most(
    tmp_path: Path, sent: list[float]
) -> None:
    printed = run_on_micropython("".join(f"print({render(value)})\n" for value in sent), tmp_path)

    for line, value in zip(printed, sent, strict=True):
        received = parse(line)
        assert isinstance(received, float)
        assert abs(received - value) <= 2 * math.ulp(value)


@needs_micropython
def test_a_real_micropython_prints_complex_numbers_that_are_read(tmp_path: Path) -> None:
    sent = [1 + 2j, -1 - 1j, 2j, complex(0, -2), complex(math.nan, math.inf), complex(1e300, -1e-300)]
    source = "".join(f"print({render(value)})\n" for value in sent)

    printed = run_on_micropython(source, tmp_path)

    assert [*map(canonical, map(parse, printed))] == [*map(canonical, sent)]
