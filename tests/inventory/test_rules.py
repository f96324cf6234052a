# ruff: noqa: E501 - tables of texts read better unbroken
from __future__ import annotations

from collections.abc import Callable

import pytest

from belayd.inventory import Inventory, UsbLink, could_be_same

Read = Callable[[str], Inventory]
Mistakes = Callable[[str], list[str]]


def boards(*entries: str) -> str:
    return "version: 1\nboards:\n" + "".join(f"  {entry}\n" for entry in entries)


CLASH = (
    "4: boards.b.usb: could match the same device as boards.a (line 3); "
    "name in both what differs (vid and pid, serial_number, location), or a unique_id in each"
)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("vid: 2e8a", "vid: 2e8a"),
        ("vid: 2e8a", "vid: 2E8A, pid: 5"),
        ("serial_number: x", "location: 1-1"),
        ("location: 1-1", "location: 1-1:1.2"),
        ("serial_number: x, vid: 1", "serial_number: x, pid: 2"),
        ("vid: 1, serial_number: x", "vid: 1"),
        ("vid: 1", "vid: 1, serial_number: x"),
    ],
)
def test_entries_that_could_match_one_device_clash(a: str, b: str, mistakes: Mistakes) -> None:
    assert mistakes(boards(f"a: {{usb: {{{a}}}}}", f"b: {{usb: {{{b}}}}}")) == [CLASH]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("serial_number: x", "serial_number: X"),
        ("vid: 1, serial_number: x", "vid: 2, location: 1-1"),
        ("location: 1-1", "location: 1-1.4"),
        ("location: 1-1:1.0", "location: 1-1:1.2"),
        ("product: Pico", "product: Feather"),
    ],
)
def test_entries_that_differ_somewhere_do_not_clash(a: str, b: str, read: Read) -> None:
    inventory = read(boards(f"a: {{usb: {{{a}}}}}", f"b: {{usb: {{{b}}}}}"))

    assert list(inventory.boards) == ["a", "b"]


def test_a_shared_match_is_fine_if_each_has_a_unique_id(read: Read, mistakes: Mistakes) -> None:
    one = "a: {usb: {vid: 2e8a}, unique_id: e661}"
    other = "b: {usb: {vid: 2e8a}, unique_id: e662}"

    assert list(read(boards(one, other)).boards) == ["a", "b"]
    assert mistakes(boards(one, "b: {usb: {vid: 2e8a}}")) == [CLASH]


def test_each_clashing_entry_is_told_once(mistakes: Mistakes) -> None:
    told = mistakes(boards(*(f"{name}: {{usb: {{vid: 2e8a}}}}" for name in "abcd")))

    assert [line.split(":")[0] for line in told] == ["4", "5", "6"]


@pytest.mark.parametrize(
    ("a", "b", "key"),
    [
        ("serial: {port: /dev/x}", "serial: {port: /dev/y/../x, baudrate: 9600}", "serial"),
        ('tcp: {url: "socket://H:1"}', 'tcp: {url: "rfc2217://h:1"}', "tcp"),
        (
            'webrepl: {url: "ws://h", password_env: A}',
            'webrepl: {url: "ws://H:8266", password_env: B}',
            "webrepl",
        ),
        ("simulated: {folder: x}", "simulated: {folder: ./x}", "simulated"),
    ],
    ids=["serial", "tcp", "webrepl", "simulated"],
)
def test_two_boards_on_one_port_are_a_mistake(a: str, b: str, key: str, mistakes: Mistakes) -> None:
    told = mistakes(boards(f"a: {{{a}}}", f"b: {{{b}}}"))

    assert told == [f"4: boards.b.{key}: is on the same port as boards.a (line 3); give each board its own"]


def test_two_boards_with_one_unique_id_are_a_mistake(mistakes: Mistakes) -> None:
    told = mistakes(boards("a: {simulated: {}, unique_id: AABB}", "b: {simulated: {}, unique_id: aabb}"))

    assert len(told) == 1
    assert told[0].startswith("4: boards.b.unique_id: has the unique_id of boards.a (line 3)")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{}", "3: boards.a: has no link; add one of usb, serial, webrepl, tcp, simulated"),
        ("{labels: {x: y}}", "3: boards.a: has no link; add one of usb, serial, webrepl, tcp, simulated"),
        ("{simulated: {}, tcp: {url: 'socket://h:1'}}", "3: boards.a: has 2 links: tcp, simulated; keep exactly one"),
        ("{usb: {}}", "3: boards.a.usb: would match every device; add one of vid, pid, serial_number, manufacturer, product, location"),
        ("{usb: }", "3: boards.a.usb: would match every device; add one of vid, pid, serial_number, manufacturer, product, location"),
        ("{usb: {dtr: true}}", "3: boards.a.usb: would match every device; add one of vid, pid, serial_number, manufacturer, product, location"),
        ('{webrepl: {url: "ws://h"}}', "3: boards.a.webrepl: names no password; add password_env: VARIABLE or password_file: FILE"),
        ('{webrepl: {url: "ws://h", password_env: A, password_file: b}}', "3: boards.a.webrepl: names two passwords; keep password_env or password_file"),
    ],
    ids=["empty", "labels only", "two links", "empty usb", "nothing in usb", "no identity", "no password", "two passwords"],
)  # fmt: skip
def test_what_an_entry_must_say_once_it_says_once(entry: str, told: str, mistakes: Mistakes) -> None:
    assert mistakes(boards(f"a: {entry}")) == [told]


@pytest.mark.parametrize(
    "rule",
    [
        '{usb: {vid: 1}, name: "pico-{serial_number}"}',
        '{usb: {vid: 1}, name: "{vid}-{pid}-{location}", max: 1000}',
        "{usb: {vid: 1}, name: pico, max: 1}",
    ],
)
def test_a_name_template_takes_usb_attributes(rule: str, read: Read) -> None:
    assert len(read(f"version: 1\nadopt:\n  - {rule}\n").adopt) == 1


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ('{usb: {vid: 1}, name: "p-{serial}"}', "3: adopt[0].name: has no field {serial}; did you mean serial_number?"),
        ('{usb: {vid: 1}, name: "p-{}"}', "3: adopt[0].name: has no field {}; permitted: vid, pid, "),
        ('{usb: {vid: 1}, name: "p-{vid.__class__}"}', "3: adopt[0].name: has no field {vid.__class__}"),
        ('{usb: {vid: 1}, name: "p-{vid:>9999999}"}', "3: adopt[0].name: fields take no format; write {vid}"),
        ('{usb: {vid: 1}, name: "p-{vid!r}"}', "3: adopt[0].name: fields take no format; write {vid}"),
        ('{usb: {vid: 1}, name: "P_{vid}"}', "3: adopt[0].name: holds what no board's name may; use a-z, 0-9 and -"),
        ('{usb: {vid: 1}, name: "p-{vid"}', "3: adopt[0].name: is not a template"),
        ("{usb: {vid: 1}, name: pico}", '3: adopt[0].name: gives every board the same name; write "pico-{serial_number}"'),
        ('{usb: {}, name: "p-{vid}"}', "3: adopt[0].usb: would match every device"),
        ('{usb: {vid: 1}, name: "p-{vid}", max: 0}', "3: adopt[0].max: 0 is out of range; from 1 to 1000"),
        ('{name: "p-{vid}"}', "3: adopt[0].usb: is missing; write usb: {vid: 2e8a}"),
        ("x", "3: adopt[0]: is text where a mapping belongs"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_work_is_told(rule: str, told: str, mistakes: Mistakes) -> None:
    problems = mistakes(f"version: 1\nadopt:\n  - {rule}\n")

    assert len(problems) == 1
    assert problems[0].startswith(told)


def test_a_wrong_rule_does_not_shift_the_lines_of_the_next(mistakes: Mistakes) -> None:
    told = mistakes(
        'version: 1\nadopt:\n- {usb: {vid: x}, name: "p-{vid}"}\n- {usb: {vid: 1}, name: "p-{x}"}\n'
    )

    assert [line.split(":")[0] + line.split(":")[1] for line in told] == [
        "3 adopt[0].usb.vid",
        "4 adopt[1].name",
    ]


def test_a_cluster_is_peers_or_etcd(mistakes: Mistakes) -> None:
    told = mistakes('version: 1\ncluster:\n  peers: ["h:1"]\n  etcd: {endpoints: ["h:2379"]}\n')

    assert told == ["4: cluster.etcd: stands beside peers; keep one of the two"]


def test_more_boards_than_a_host_can_have_are_refused(mistakes: Mistakes) -> None:
    told = mistakes(boards(*(f"b{number}: {{simulated: {{}}}}" for number in range(2001))))

    assert told == ["2: boards: holds 2001 boards, at most 2000 are possible"]


def test_many_clashing_boards_are_told_in_reasonable_time(mistakes: Mistakes) -> None:
    told = mistakes(
        boards(
            *(f"b{number}: {{usb: {{location: 1-{number}}}}}" for number in range(1000)), "x: {usb: {vid: 1}}"
        )
    )

    assert len(told) == 1


@pytest.mark.parametrize("key", ["vid", "pid", "serial_number", "manufacturer", "product", "location"])
def test_any_attribute_can_tell_two_devices_apart(key: str) -> None:
    one, other = ({key: 1}, {key: 2}) if key in ("vid", "pid") else ({key: "a"}, {key: "b"})

    assert not could_be_same(UsbLink(**one), UsbLink(**other))
    assert could_be_same(UsbLink(**one), UsbLink(**one))
