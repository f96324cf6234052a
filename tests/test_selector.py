from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.errors import RequestInvalid
from belayd.selector import Operator, Selector, Term

LABELS = {"chip": "rp2", "rack": "2", "wifi": "true"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("   ", True),
        ("chip=rp2", True),
        ("chip=rp2,rack=2", True),
        (" chip = rp2 , rack = 2 ", True),
        ("chip=rp2,rack=3", False),
        ("chip=RP2", False),
        ("chip!=esp32", True),
        ("chip!=rp2", False),
        ("gpu!=any", True),
        ("gpu=any", False),
        ("wifi", True),
        ("gpu", False),
        ("!gpu", True),
        ("! gpu", True),
        ("!wifi", False),
        ("name=pico-1", True),
        ("name=pico-2", False),
        ("name!=pico-2", True),
        ("name", True),
        ("!name", False),
        ("chip=rp2,chip=esp32", False),
    ],
)
def test_a_selector_means_boards_that_fulfil_every_term(text: str, matches: bool) -> None:
    assert Selector.parse(text).matches("pico-1", LABELS) is matches


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chip=rp2,", "a term is empty"),
        (",", "a term is empty"),
        ("chip=", "'chip=' has no value"),
        ("chip!=", "'chip!=' has no value"),
        ("=rp2", "'' is not a label's name"),
        ("!", "'' is not a label's name"),
        ("!!wifi", "'!wifi' is not a label's name"),
        ("chip==rp2", "'chip==rp2' has two equals signs, one is enough"),
        ("chip=rp*", "'chip=rp*' holds a pattern, and there are none"),
        ("*", "'*' is not a label's name"),
        ("chip in (a)", "'chip in (a)' is not a label's name"),
        ("chip=a=b", "'a=b' cannot be a label's value"),
        ("!chip=a", "'!chip' is not a label's name"),
        ("chip=\x1b[0m", "'\\x1b[0m' cannot be a label's value"),
        ("x" * 2000, "it is longer than 1024 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_form(text: str, problem: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        Selector.parse(text)

    assert (
        f"cannot be read: {problem}; write terms such as chip=rp2, rack!=2, wifi or !wifi"
        in caught.value.message
    )
    assert caught.value.fields["field"] == "selector"


KEYS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True)
VALUES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)
TERMS = st.one_of(
    st.builds(Term, KEYS, st.sampled_from([Operator.EQUALS, Operator.DIFFERS]), VALUES),
    st.builds(Term, KEYS, st.sampled_from([Operator.PRESENT, Operator.ABSENT])),
)


@given(st.lists(TERMS, max_size=5).map(tuple))
def test_the_text_of_a_selector_is_read_back_as_the_same(terms: tuple[Term, ...]) -> None:
    selector = Selector(terms)

    assert len(str(selector)) > 1024 or Selector.parse(str(selector)) == selector


@given(st.text())
def test_no_text_fails_otherwise(text: str) -> None:
    try:
        selector = Selector.parse(text)
    except RequestInvalid:
        return
    assert Selector.parse(str(selector)) == selector


@given(KEYS, VALUES, st.dictionaries(KEYS, VALUES))
def test_a_term_and_its_opposite_never_agree(key: str, value: str, labels: dict[str, str]) -> None:
    equals, differs = Selector.parse(f"{key}={value}"), Selector.parse(f"{key}!={value}")
    present, absent = Selector.parse(key), Selector.parse(f"!{key}")

    assert equals.matches("a", labels) != differs.matches("a", labels)
    assert present.matches("a", labels) != absent.matches("a", labels)
