"""Calls as they are rendered: what is refused, and when JSON may stand for source."""

from __future__ import annotations

import keyword
import random
import subprocess
from pathlib import Path

import pytest

from belayd import values
from belayd.call import MOST_BYTES, MOST_CONTENT_BYTES, Call, prepare
from belayd.errors import RequestInvalid

# Reads pairs of lines, a body and its expression; says of each pair whether both mean the same.
# A board prints the values' types too: repr(True) is not repr(1).
COMPARE = """\
import json, sys

def f(*arguments):
    return repr(arguments)

for path in sys.argv[1:]:
    with open(path) as file:
        for body in file:
            name, *arguments = json.loads(body)
            print(name == "f" and f(*arguments) == eval(file.readline()))
"""


def nested(depth: int) -> list[object]:
    inner: list[object] = [depth]
    for _ in range(depth - 1):
        inner = [inner]
    return inner


def any_value(chance: random.Random, depth: int = 0) -> object:
    """Return a value for which JSON will do."""
    kind = chance.randrange(4 if depth == 4 else 5)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.randrange(-(1 << 62) + 1, 1 << 62) >> chance.randrange(62)
    if kind == 2:
        return "".join(chr(chance.randrange(0xD800)) for _ in range(chance.randrange(9)))
    if kind == 3:
        return "".join(chr(chance.randrange(128)) for _ in range(chance.randrange(9)))
    return [any_value(chance, depth + 1) for _ in range(chance.randrange(5))]


def test_a_call_is_source_and_json() -> None:
    assert prepare("add", [2, "drei", [None, True]], {}) == Call(
        "add(2,'drei',[None,True])", '["add",2,"drei",[null,true]]'
    )
    assert prepare("sensor.read", [], {"samples": 3}) == Call("sensor.read(samples=3)", None)


@pytest.mark.parametrize(
    "function",
    [
        "",
        "1st",
        "a b",
        "a.",
        ".a",
        "a..b",
        "f()",
        "f;g",
        "a-b",
        "f\n",
        "x" * 201,
        "lambda",
        "a.import",
        "not.b",
    ],
    ids=ascii,
)
def test_what_names_no_function_is_refused(function: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        prepare(function, [], {})

    assert caught.value.fields["field"] == "function"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("word", keyword.kwlist)
def test_a_keyword_of_the_language_is_no_name(word: str) -> None:
    assert {"None", "True", "False"} < set(keyword.kwlist)
    for function, keywords, field in (
        (word, {}, "function"),
        (f"a.{word}", {}, "function"),
        (f"{word}.a", {}, "function"),
        ("f", {word: 1}, "keywords"),
    ):
        with pytest.raises(RequestInvalid) as caught:
            prepare(function, [], keywords)
        assert caught.value.fields["field"] == field


@pytest.mark.parametrize("name", ["", "1st", "a b", "a=1,b", "a.b", "x" * 5000], ids=lambda name: name[:9])
def test_what_is_no_name_is_no_keyword_argument(name: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        prepare("f", [], {name: 1})

    assert caught.value.fields["field"] == "keywords"
    assert len(caught.value.message) < 400


def test_an_argument_without_a_literal_is_named() -> None:
    with pytest.raises(RequestInvalid) as caught:
        prepare("f", [1, [2, object()]], {})

    assert caught.value.fields["field"] == "arguments[1]"
    assert "arguments[1][1]" in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (["x" * (MOST_BYTES // 3)] * 3, {}),
        ([], dict.fromkeys("abc", "x" * (MOST_BYTES // 3))),
        (["x"] * (MOST_BYTES // 4), {}),
        (["\0" * (MOST_BYTES // 6)], {"text": "x" * (MOST_BYTES // 3)}),
    ],
    ids=["a few long ones", "by keywords", "many short ones", "long only as source"],
)
def test_a_call_is_bounded_in_total(arguments: list[object], keywords: dict[str, object]) -> None:
    with pytest.raises(RequestInvalid, match=str(1 << 20)) as caught:
        prepare("f", arguments, keywords)

    assert caught.value.fields["field"] == "arguments"


def test_a_call_within_the_bound_says_what_it_holds() -> None:
    call = prepare("f", ["x" * 500_000, "y" * 500_000], {})

    assert len(call.expression) < MOST_BYTES
    assert call.body is not None
    assert call.held_bytes == len(call.expression) + len(call.body)


def test_bytes_too_long_for_source_go_beside_it() -> None:
    long, longer = bytes(range(200)), bytearray(b"\xff" * 1000)

    call = prepare("f", ["¶", long, [b"short", {"a": longer}]], {"more": long})

    assert call.contents == (long, longer, long)
    assert call.body is None
    assert call.placed == "lambda _p:f('\\xb6',_p[0],[b'short',{'a':_p[1]}],more=_p[2])"
    assert call.spelled_out() == f"f('\\xb6',{long!r},[b'short',{{'a':{longer!r}}}],more={long!r})"
    assert len(call.spelled_out()) <= call.spelled_bytes
    assert call.held_bytes == len(call.expression) + 1400


@pytest.mark.parametrize("function", ["_p", "_p.read"])
def test_the_name_of_what_goes_beside_it_does_not_hide_the_function(function: str) -> None:
    assert prepare(function, [bytes(200)], {}).placed == f"lambda _q:{function}(_q[0])"


def test_bytes_beside_the_source_are_bounded_in_total() -> None:
    fits = [bytes(MOST_CONTENT_BYTES // 2)] * 2

    assert prepare("f", fits, {}).held_bytes > MOST_CONTENT_BYTES
    with pytest.raises(RequestInvalid, match=str(8 << 20)) as caught:
        prepare("f", [*fits, [bytes(200)]], {})
    assert caught.value.fields["field"] == "arguments"


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        "\U0001f600",
        "a\udfffb",
        (),
        (1,),
        1.0,
        float("nan"),
        float("inf"),
        1j,
        b"bytes",
        bytearray(b"bytes"),
        {},
        {"a": 1},
        set(),
        frozenset({1}),
        range(3),
        1 << 62,
        -(1 << 62),
        1 << 300,
    ],
    ids=ascii,
)
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_what_json_would_change_goes_as_source_only(value: object, depth: int) -> None:
    for _ in range(depth):
        value = [1, value]

    call = prepare("f", ["before", value], {})

    assert call.body is None
    assert call.expression == f"f('before',{values.render(value)})"


@pytest.mark.parametrize("function", ["sensor.read", "mäßig"])
def test_a_function_that_is_not_looked_up_by_its_name_goes_as_source_only(function: str) -> None:
    assert prepare(function, [1], {}).body is None


def test_where_json_is_used_a_board_reads_the_same_value(micropython_binary: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    below_surrogates = [chr(code) for code in range(0xD800)]
    above_surrogates = [chr(code) for code in range(0xE000, 0x10000)]
    characters = below_surrogates + above_surrogates
    arguments: list[list[object]] = [
        ["".join(characters[start : start + 997])] for start in range(0, len(characters), 997)
    ]
    arguments += [[sign * (1 << bits) + by] for sign in (1, -1) for bits in range(62) for by in (-1, 0, 1)]
    arguments += [[], [None], [True, 1, False, 0], [[]], [[[]], []], ["", " ", "'\"\\/"], nested(20)]
    arguments += [[any_value(chance) for _ in range(chance.randrange(4))] for _ in range(300)]
    calls = [prepare("f", each, {}) for each in arguments]
    (tmp_path / "compare.py").write_text(COMPARE)
    (tmp_path / "calls").write_text("".join(f"{call.body}\n{call.expression}\n" for call in calls))

    done = subprocess.run(
        [micropython_binary, tmp_path / "compare.py", tmp_path / "calls"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stderr == ""
    assert all(call.body is not None and call.body.isascii() and call.body.isprintable() for call in calls)
    assert done.stdout.split() == ["True"] * len(calls), done.stdout
