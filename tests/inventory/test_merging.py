# ruff: noqa: E501 - tables of texts read better unbroken
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.inventory import Entry, InventoryError, MergeRefused, UsbLink, merge, new_inventory, parse, quoted

FILE = Path("/lab/lab.yaml")
NEW = Entry("pico-9", {"usb": '{serial_number: "9"}', "labels": "{chip: rp2}"}, "a Pico, now on /dev/ttyACM0")


def test_new_boards_follow_the_last_one_and_every_comment_stays() -> None:
    text = """\
# our lab
version: 1

boards:
    # the first
    pico-1:   # by the door
        usb: {serial_number: "1"}
    sim-1:
        simulated:
            heap: 64   # small
    # pico-2 is being repaired

# strangers
adopt:
  - {usb: {vid: 2e8a}, name: "x-{serial_number}"}
"""

    merged = merge(text, [NEW], FILE)

    assert merged == text.replace(
        "    # pico-2 is being repaired\n",
        """\
    # pico-2 is being repaired
    # a Pico, now on /dev/ttyACM0
    pico-9:
      usb: {serial_number: "9"}
      labels: {chip: rp2}
""",
    )
    assert list(parse(merged, FILE).boards) == ["pico-1", "sim-1", "pico-9"]


ADDED = '  # a Pico, now on /dev/ttyACM0\n  pico-9:\n    usb: {serial_number: "9"}\n    labels: {chip: rp2}\n'


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        ("version: 1\n", f"version: 1\nboards:\n{ADDED}"),
        ("version: 1", f"version: 1\nboards:\n{ADDED}"),
        ("version: 1\nboards:\nserver:\n", f"version: 1\nboards:\n{ADDED}server:\n"),
        ("version: 1\nboards: {}  # none yet\nserver:\n", f"version: 1\nboards:  # none yet\n{ADDED}server:\n"),
        ("boards:\n  a: {simulated: {}}\nversion: 1", f"boards:\n  a: {{simulated: {{}}}}\n{ADDED}version: 1\n"),
        ("version: 1\nboards:\n  a:\n    simulated:\n", f"version: 1\nboards:\n  a:\n    simulated:\n{ADDED}"),
        ("version: 1\nboards: &b\n  a: {simulated: {}}", f"version: 1\nboards: &b\n  a: {{simulated: {{}}}}\n{ADDED}"),
        (
            'version: 1\nboards:\n  a:\n    serial:\n      port: |-\n        /dev/x\n',
            f'version: 1\nboards:\n  a:\n    serial:\n      port: |-\n        /dev/x\n{ADDED}',
        ),
        (
            "version: 1\nboards:\n  a: {simulated: {},\n    attach: passive}\n\n\n# end\n",
            f"version: 1\nboards:\n  a: {{simulated: {{}},\n    attach: passive}}\n{ADDED}\n\n# end\n",
        ),
    ],
    ids=[
        "no boards",
        "no line end",
        "nothing under boards",
        "empty braces",
        "boards first",
        "nothing at the end",
        "an anchor",
        "a block scalar",
        "braces over lines",
    ],
)  # fmt: skip
def test_lines_are_inserted_where_they_belong(text: str, merged: str) -> None:
    assert merge(text, [NEW], FILE) == merged


def test_windows_line_ends_stay() -> None:
    merged = merge("version: 1\r\nboards:\r\n  a: {simulated: {}}\r\n", [NEW], FILE)

    assert merged == ("version: 1\nboards:\n  a: {simulated: {}}\n" + ADDED).replace("\n", "\r\n")


def test_nothing_to_add_changes_nothing() -> None:
    assert merge("version: 1  # x", [], FILE) == "version: 1  # x"


@pytest.mark.parametrize(
    "text",
    [
        "{version: 1}",
        "version: 1\nboards: {a: {simulated: {}}}",
        "version: 1\nboards: {\n}\n",
        "version: 1\nboards:\n  {}\n",
        "version: 1\nboards:\n  pico-9: {simulated: {}}\n",
        "version: 1\nboards:\n  pico-1: {usb: {vid: 2e8a}}\n",
        "version: 1\n...\n",
        "boards:\n  a:\n   simulated: {}\n   labels: {a: b}\nversion: 1\nadopt: []\n...\n# x\n---\n".removesuffix(
            "---\n"
        ).replace("boards:\n", "boards: !!map\n"),
    ],
    ids=[
        "braces",
        "boards in braces",
        "braces over lines",
        "braces below",
        "name taken",
        "clash",
        "ended",
        "a tag",
    ],
)
def test_what_has_no_place_for_lines_is_refused_and_says_so(text: str) -> None:
    with pytest.raises((MergeRefused, InventoryError)):
        merge(text, [NEW], FILE)


def test_a_wrong_inventory_is_not_added_to() -> None:
    with pytest.raises(InventoryError):
        merge("version: 1\nboards:\n  a: {}\n", [NEW], FILE)


def test_an_inventory_from_nothing_is_right() -> None:
    inventory = parse(new_inventory([NEW]), FILE)

    assert inventory.boards["pico-9"].link == UsbLink(serial_number="9")
    assert inventory.boards["pico-9"].labels == {"chip": "rp2"}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_of_a_stranger_s_device_survives_quoting_on_one_line(text: str) -> None:
    entry = Entry("a", {"usb": f"{{serial_number: {quoted(text)}}}"})

    written = new_inventory([entry])

    assert len(written.splitlines()) == 4
    assert parse(written, FILE).boards["a"].link == UsbLink(serial_number=text)
