from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.inventory import Inventory, UsbLink
from belayd.inventory.document import Document, Value, compose, to_document
from belayd.inventory.problems import Findings

Read = Callable[[str], Inventory]
Mistakes = Callable[[str], list[str]]

SURPRISES = [
    "0012345",
    "no",
    "3:4",
    "1e5",
    "null",
    "~",
    "0x10",
    "1_000",
    ".inf",
    "2024-01-01",
    "=",
    "Yes",
    "0o17",
]


def value_of(text: str) -> Value:
    findings = Findings("f")
    root = compose(text, findings)
    assert root is not None, findings.problems
    document = to_document(root, findings)
    assert findings.problems == []
    return document.value


def problems_of(text: str) -> list[str]:
    findings = Findings("f")
    root = compose(text, findings)
    if root is not None:
        to_document(root, findings)
    return [str(problem).removeprefix("f:") for problem in findings.problems]


@pytest.mark.parametrize("written", SURPRISES)
def test_a_plain_scalar_stays_as_written(written: str, read: Read) -> None:
    inventory = read(f"version: 1\nboards: {{a: {{usb: {{serial_number: {written}}}}}}}")

    assert inventory.boards["a"].link == UsbLink(serial_number=written)


@given(st.from_regex(r"[0-9A-Za-z._+~][0-9A-Za-z._+~-]{0,20}", fullmatch=True))
def test_any_plain_word_is_read_back_as_written(written: str) -> None:
    assert value_of(f"a: {written}\nb: [{written}, {written}]\n{written}0: x") == {
        "a": written,
        "b": [written, written],
        f"{written}0": "x",
    }


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_quoted_text_is_read_back_as_written(written: str) -> None:
    quoted = json.dumps(written, ensure_ascii=False)

    assert value_of(f"a: {quoted}") == {"a": written}


def test_nothing_is_not_the_same_as_empty_text() -> None:
    assert value_of('a:\nb: ""\nc: null') == {"a": None, "b": "", "c": "null"}


def test_block_scalars_are_text() -> None:
    assert value_of("a: |\n  x\n  y\nb: >-\n  x\n  y\n") == {"a": "x\ny\n", "b": "x y"}


def test_anchors_and_aliases_share_values() -> None:
    assert value_of("a: &x {k: [1]}\nb: *x\nc: &y z\nd: *y") == {
        "a": {"k": ["1"]},
        "b": {"k": ["1"]},
        "c": "z",
        "d": "z",
    }


def test_merged_mappings_give_way_to_what_stands_beside_them() -> None:
    text = "x: &x {a: x, b: x}\ny: &y {b: y, c: y}\nz:\n  <<: [*x, *y]\n  a: z\n"

    value = value_of(text)

    assert isinstance(value, dict)
    assert value["z"] == {"a": "z", "b": "x", "c": "y"}


def test_a_quoted_merge_sign_is_an_ordinary_key() -> None:
    assert value_of('"<<": a') == {"<<": "a"}


def test_an_alias_s_mistake_is_told_at_the_line_where_it_is_written(mistakes: Mistakes) -> None:
    told = mistakes("version: 1\nboards:\n  a: &a\n    simulated: {hep: 1}\n  b: *a\n")

    assert [line.split(":")[0] for line in told] == ["4", "4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "a: 1\na: 2\nb: {c: 1, c: 2}",
            ["2: a: is written twice, first in line 1", "3: b.c: is written twice, first in line 3"],
        ),
        ("a:\n\t- b", ["2: is not YAML: found character"]),
        ("a: [1\nb: 2", ["2: is not YAML"]),
        ("a: b: c", ["1: is not YAML: mapping values are not allowed"]),
        ("a: x\n'", ["2: is not YAML"]),
        ("a: x\nb: \x07", ["2: is not YAML: it holds a control character"]),
        ("a: *x", ["1: the alias *x has no anchor before it"]),
        ("a: &a [*a]", ["1: the alias *a has no anchor before it"]),
        ("a: 1\n--- \nb: 2", ["2: a second document starts here"]),
        (
            "a: !!int 3\nb: !secret x",
            ["1: the tag tag:yaml.org,2002:int has no meaning here", "2: the tag !secret has no"],
        ),
        ("{a: b}: c", ["1: a key must be text"]),
        ("a: {<<: x}", ["1: a.<<: merges mappings only"]),
    ],
    ids=[
        "duplicate keys",
        "tab",
        "open bracket",
        "two colons",
        "open quote",
        "control character",
        "unknown alias",
        "alias inside itself",
        "two documents",
        "tags",
        "mapping as key",
        "merged text",
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, told: list[str]) -> None:
    problems = problems_of(text)

    assert len(problems) == len(told)
    assert [problem[: len(start)] for problem, start in zip(problems, told, strict=True)] == told


def test_tabs_and_colons_get_advice() -> None:
    assert problems_of("a:\n\t- b")[0].endswith("; indent with spaces, not tabs")
    assert problems_of("a: b: c")[0].endswith('; put quotes around a value that holds ": "')


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "a:\n" + "".join(" " * i + "a:\n" for i in range(1, 900)),
    ],
    ids=["brackets", "braces", "dashes", "indentation"],
)
def test_deep_nesting_is_refused_and_not_descended_into(text: str) -> None:
    assert [problem.partition(": ")[2] for problem in problems_of(text)] == ["is nested more than 32 deep"]


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    assert [problem.partition(": ")[2] for problem in problems_of("\n".join(lines))] == [
        "its aliases expand to more than 200000 values"
    ]


def test_aliases_that_nest_deeper_and_deeper_are_refused() -> None:
    lines = ["a0: &a0 x", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 5000))]

    assert [problem.partition(": ")[2] for problem in problems_of("\n".join(lines))] == [
        "its aliases nest more than 32 deep"
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "--- # x\n...\n"])
def test_an_empty_file_says_how_to_start(text: str, mistakes: Mistakes) -> None:
    told = mistakes(text)

    assert len(told) == 1
    assert told[0].endswith("; start with `version: 1` and `boards:`")


@pytest.mark.parametrize("text", ["hello", "- a", "[]"])
def test_a_file_that_is_no_mapping_is_refused(text: str, mistakes: Mistakes) -> None:
    assert mistakes(text) == ["1: is not a mapping; start with `version: 1` and `boards:`"]


@given(st.text())
def test_no_text_at_all_makes_it_fail_otherwise(text: str) -> None:
    findings = Findings("f")
    root = compose(text.encode(errors="ignore").decode(), findings)

    assert root is None or isinstance(to_document(root, findings), Document)


@given(st.text(alphabet="ab:-[]{}&*!<|>'\"#\n \t,?%", max_size=60))
def test_no_yaml_lookalike_makes_it_fail_otherwise(text: str) -> None:
    findings = Findings("f")
    root = compose(text, findings)

    assert root is None or isinstance(to_document(root, findings), Document)
