# ruff: noqa: E501 - tables of texts read better unbroken
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.inventory import InventoryError, parse

Mistakes = Callable[[str], list[str]]

# A line that is right, and the same with a mistake, for each place of an inventory.
LINES = [
    ("server: {listen: 'localhost:1'}", "server: {lisen: 'localhost:1'}"),
    ("defaults: {between: wipe}", "defaults: {between: vipe}"),
    ("boards:", "bords:"),
    ("  pico-1: {usb: {serial_number: 1}}", "  Pico 1: {usb: {serial_number: 1}}"),
    ("  pico-2: {usb: {vid: 2e8a, serial_number: 2}}", "  pico-2: {usb: {vid: 2e8x, serial_number: 2}}"),
    (
        "  esp-1: {webrepl: {url: 'ws://h', password_env: A}}",
        "  esp-1: {webrepl: {url: 'ws://h', password: A}}",
    ),
    ("  tty-1: {serial: {port: /dev/x}}", "  tty-1: {serial: {port: /dev/x, baudrate: 1200}}"),
    ("  far-1: {tcp: {url: 'socket://h:1'}}", "  far-1: {tcp: {url: 'socket://h:1', simulated: {}}}"),
    ("  sim-1: {simulated: {}}", "  sim-1: {simulatd: {}}"),
    ("  sim-2: {simulated: {}, labels: {a: b}}", "  sim-2: {simulated: {}, labels: {a: b, a: c}}"),
    ("adopt:", "adobt:"),
    ("- {usb: {vid: 2e8a}, name: 'x-{serial_number}'}", "- {usb: {vid: 2e8a}, name: 'x-{serialnumber}'}"),
]
SECTIONS = {2, 10}  # what hangs below them is one mistake with them


def text_with(wrong: set[int]) -> str:
    return "\n".join(["version: 1", *(line[index in wrong] for index, line in enumerate(LINES))])


def test_the_inventory_without_mistakes_is_right() -> None:
    assert len(parse(text_with(set()), Path("f")).boards) == 7


@given(st.sets(st.sampled_from([i for i in range(len(LINES)) if i not in SECTIONS]), min_size=3, max_size=3))
def test_three_mistakes_give_three_lines_with_three_line_numbers(wrong: set[int]) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(text_with(wrong), Path("lab.yaml"))

    assert [problem.line for problem in caught.value.problems] == [index + 2 for index in sorted(wrong)]
    lines = str(caught.value).splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["lab.yaml", str(index + 2)] for index in sorted(wrong)
    ]


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_misspelt_section_is_one_mistake(section: int) -> None:
    with pytest.raises(InventoryError) as caught:
        parse(text_with({section}), Path("lab.yaml"))

    assert [problem.line for problem in caught.value.problems] == [section + 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("versoin: 1", ["1: versoin: unknown key; did you mean version?"]),
        ("{}", ["1: version: is missing; write version: 1"]),
        ("version: 1\nxyzzy: 1", ["2: xyzzy: unknown key; permitted: version, server, defaults, boards, adopt, cluster"]),
        ("version: 1\nboards: {a: {usb: {Serial: x}}}", ["2: boards.a.usb.Serial: unknown key; did you mean serial_number?"]),
        ("version: 1\nboards: {a: {serial: {prot: x}}}", ["2: boards.a.serial.prot: unknown key; did you mean port?"]),
        ("version: 1\nboards: {a: {usbb: {vid: 1}}}", ["2: boards.a.usbb: unknown key; did you mean usb?"]),
        ("version: 1\nboards: [a]", ["2: boards: is a list where a mapping belongs; write boards: {sim-1: {simulated: {}}}"]),
        ("version: 1\nboards: {a: x}", ["2: boards.a: is text where a mapping belongs"]),
        ("version: 1\nboards: {a: }", ["2: boards.a: is nothing where a mapping belongs"]),
        ("version: 1\nadopt: {a: b}", ["2: adopt: is a mapping where a list belongs; write adopt: [{usb: "]),
        ("version: 1\nserver: {tls: {cert: a, key: b, ca: c}}", ["2: server.tls.ca: unknown key; permitted: cert, key, client_ca"]),
        ("version: 1\nserver: {limits: {max-hold: 1h}}", ["2: server.limits.max-hold: unknown key; did you mean max_hold?"]),
        ("version: 1\nadopt:\n- usb: {vdi: 1}\n  name: x-{vid}", ["3: adopt[0].usb.vdi: unknown key; did you mean vid?"]),
        ("version: 1\ncluster: {etcd: {endpoint: x}}", ["2: cluster.etcd.endpoint: unknown key; did you mean endpoints?"]),
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_place_is_told_with_what_was_meant(
    text: str, told: list[str], mistakes: Mistakes
) -> None:
    problems = mistakes(text)

    assert len(problems) == len(told)
    assert [problem[: len(start)] for problem, start in zip(problems, told, strict=True)] == told


def test_a_mistake_is_told_at_its_own_line_however_deep(mistakes: Mistakes) -> None:
    told = mistakes(
        "version: 1\nboards:\n  a:\n    # why\n    power:\n      cycle: [x]\n\n      timeout: soon\n    simulated: {}\n"
    )

    assert told[0].startswith("8: boards.a.power.timeout: soon is not a duration")
