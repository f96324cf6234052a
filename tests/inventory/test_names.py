from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.inventory import BOARD_NAME, clean_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("E661-4C31", "e661-4c31"),
        ("Pico W (rev 2)", "pico-w-rev-2"),
        ("Küche", "kuche"),
        ("../../etc", "etc"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "--b", "a" * 62),
        ("日本", ""),
        ("", ""),
    ],
)
def test_text_from_strangers_becomes_a_name(text: str, name: str) -> None:
    assert clean_name(text) == name


@given(st.text())
def test_whatever_is_left_is_a_name(text: str) -> None:
    name = clean_name(text)

    assert name == "" or BOARD_NAME.fullmatch(name)
    assert clean_name(name) == name
