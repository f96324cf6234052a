# ruff: noqa: E501 - tables of texts read better unbroken
from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.inventory import Inventory, SerialLink, TcpLink, UsbLink, WebreplLink, could_be_same

Read = Callable[[str], Inventory]
Mistakes = Callable[[str], list[str]]


def board(entry: str) -> str:
    return f"version: 1\nboards:\n  a:\n    {entry}\n"


@pytest.mark.parametrize(
    ("written", "vid"),
    [
        ("2e8a", 0x2E8A),
        ('"2e8a"', 0x2E8A),
        ("0x2E8A", 0x2E8A),
        ("2341", 0x2341),
        ("0005", 5),
        ("5", 5),
        ("1e5", 0x1E5),
    ],
)
def test_usb_ids_are_hexadecimal_quoted_or_not(written: str, vid: int, read: Read) -> None:
    inventory = read(board(f"usb: {{vid: {written}}}"))

    assert inventory.boards["a"].link == UsbLink(vid=vid)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("8h", 28_800.0), ("30m", 1800.0), ("20s", 20.0), ("1.5s", 1.5), ("250ms", 0.25), ("2d", 172_800.0)],
)
def test_durations_carry_their_unit(written: str, seconds: float, read: Read) -> None:
    assert read(f"version: 1\nserver: {{limits: {{idle: {written}}}}}").server.idle == seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [("true", True), ("false", False), ('"true"', True)],
    ids=["true", "false", "quoted"],
)
def test_booleans_are_true_and_false(written: str, meant: bool, read: Read) -> None:
    inventory = read(board(f"serial: {{port: /dev/x, dtr: {written}}}"))

    assert inventory.boards["a"].link == SerialLink("/dev/x", dtr=meant)


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("ws://10.0.0.7", "ws://10.0.0.7:8266"),
        ("ws://roof.lab:80/ws", "ws://roof.lab:80/ws"),
        ("wss://roof.lab", "wss://roof.lab:8266"),
        ("ws://[fe80::1]:8266", "ws://[fe80::1]:8266"),
    ],
)
def test_webrepl_urls_get_their_port(url: str, stored: str, read: Read) -> None:
    inventory = read(board(f'webrepl: {{url: "{url}", password_env: P}}'))

    assert inventory.boards["a"].link == WebreplLink(stored, password_env="P")


def test_tcp_urls_are_taken_apart(read: Read) -> None:
    inventory = read(board('tcp: {url: "socket://[::1]:4000/"}'))

    assert inventory.boards["a"].link == TcpLink("socket://[::1]:4000", "socket", "::1", 4000)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("usb: {vid: xyz}", "usb.vid: xyz is not a USB id; write up to four hexadecimal digits, such as 2e8a"),
        ("usb: {pid: 12345}", "usb.pid: 12345 is not a USB id"),
        ("usb: {serial_number: }", "usb.serial_number: has no value"),
        ("usb: {serial_number: [x]}", "usb.serial_number: is a list where text belongs"),
        ("usb: {product: {x: y}}", "usb.product: is a mapping where text belongs"),
        ("usb: {location: /dev/ttyUSB0}", "usb.location: /dev/ttyUSB0 is a path, not a place on the USB tree"),
        ("usb: {vid: 1, dtr: yes}", "usb.dtr: yes is neither true nor false; write true"),
        ("usb: {vid: 1, dtr: OFF}", "usb.dtr: OFF is neither true nor false; write false"),
        ("usb: {vid: 1, dtr: True}", "usb.dtr: True is neither true nor false; write true"),
        ("usb: {vid: 1, dtr: maybe}", "usb.dtr: maybe is neither true nor false; write true or false"),
        ("usb: {vid: 1, baudrate: 1e5}", "usb.baudrate: 1e5 is not a whole number; write digits only, such as 115200"),
        ("serial: {port: /dev/x, baudrate: 1200}", "serial.baudrate: 1200 baud makes many boards start their bootloader"),
        ("serial: {port: /dev/x, baudrate: 0}", "serial.baudrate: 0 is out of range"),
        ("serial: {port: /dev/x, baudrate: -9600}", "serial.baudrate: -9600 is not a whole number"),
        ("serial: {port: /dev/x, baudrate: ٣٠٠}", "serial.baudrate: ٣٠٠ is not a whole number"),
        ('tcp: {url: "socket://h:0"}', "tcp.url: port 0 means any free port, and nobody could find it again"),
        ('tcp: {url: "socket://h:99999"}', "tcp.url: is not a URL"),
        ('tcp: {url: "socket://h"}', "tcp.url: needs a host and a port"),
        ('tcp: {url: "socket://h:1/x"}', "tcp.url: needs a host and a port"),
        ('tcp: {url: "telnet://h:1"}', "tcp.url: is not a socket:// or rfc2217:// URL"),
        ('tcp: {url: "socket://h:1?x=1"}', "tcp.url: has more in its URL than host and port"),
        ('tcp: {url: "socket://:1"}', "tcp.url: has no valid host in its URL"),
        ('tcp: {url: "h:1"}', "tcp.url: is not a socket:// or rfc2217:// URL"),
        ('webrepl: {url: "http://h", password_env: P}', "webrepl.url: is not a ws:// or wss:// URL; write ws://10.0.0.7:8266"),
        ('webrepl: {url: "ws://[h", password_env: P}', "webrepl.url: is not a URL"),
        ("simulated: {heap: 1}", "simulated.heap: 1 is out of range; from 32 to 1048576"),
        ("simulated: {flash: big}", "simulated.flash: big is not a whole number"),
        ("simulated: {folder: }", "simulated.folder: has no value"),
        ("simulated: {}\n    unique_id: xyz", "unique_id: xyz is not a board's id; write what `machine.unique_id().hex()`"),
        ("simulated: {}\n    attach: passiv", "attach: passiv is not known here; did you mean passive?"),
        ("simulated: {}\n    between: reset", "between: reset is not known here; did you mean soft_reset?"),
        ("simulated: {}\n    between: deploy", "between: deploy needs a folder; write {deploy: FOLDER}"),
        ("simulated: {}\n    between: {wipe: x}", "between: is a mapping with other keys than deploy"),
        ("simulated: {}\n    labels: {name: x}", "labels.name: no label can be called name"),
        ("simulated: {}\n    labels: {a b: x}", "labels.a b: is not a label's name"),
        ("simulated: {}\n    labels: {a: 'x,y'}", "labels.a: x,y cannot be a label's value"),
        ("simulated: {}\n    labels: {a: 'x*'}", "labels.a: x* cannot be a label's value"),
        ("simulated: {}\n    labels: {a: }", "labels.a: has no value"),
        ("simulated: {}\n    power: {cycle: uhubctl -a 1}", 'power.cycle: is one text where a list of arguments belongs (no shell runs it); write ["uhubctl", "-a", "1"]'),
        ("simulated: {}\n    power: {cycle: []}", "power.cycle: is a list where a list of arguments belongs"),
        ("simulated: {}\n    power: {cycle: [x, [y]]}", "power.cycle: holds an argument that is not text"),
        ("simulated: {}\n    power: {cycle: [x], timeout: 20}", "power.timeout: 20 is not a duration; did you mean 20s?"),
        ("simulated: {}\n    power: {cycle: [x], timeout: 0s}", "power.timeout: 0s is out of range"),
        ("simulated: {}\n    power: {cycle: [x], timeout: 1 hour}", "power.timeout: 1 hour is not a duration; write a number"),
        ("simulated: {}\n    power: {timeout: 1s}", "power.cycle: is missing; write cycle: [uhubctl"),
    ],
)  # fmt: skip
def test_a_wrong_value_says_what_is_wrong_and_what_to_write(
    entry: str, told: str, mistakes: Mistakes
) -> None:
    problems = mistakes(board(entry))

    assert len(problems) == 1
    line = 4 + entry.count("\n")
    assert problems[0].startswith(f"{line}: boards.a.{told}")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("Pico_1", "pico-1"), ("pico 1", "pico-1"), ("küche", "kuche"), ("a" * 64, "a" * 63), ("_", "")],
)
def test_a_wrong_board_name_gets_one_that_is_right(name: str, suggested: str, mistakes: Mistakes) -> None:
    problems = mistakes(f"version: 1\nboards:\n  {name}: {{simulated: {{}}}}")

    rule = "is not a board's name; use a-z, 0-9 and -, at most 63 of them"
    assert len(problems) == 1
    assert problems[0].endswith(rule + (f", such as {suggested}" if suggested else ""))


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("listen: 50951", "listen: 50951 is not HOST:PORT; write for example localhost:50951 or [::1]:50951"),
        ('listen: "localhost:0"', "listen: port 0 means any free port"),
        ('metrics: "localhost:70000"', "metrics: there is no port 70000"),
        ("limits: {idle: forever}", "limits.idle: forever is not a duration"),
        ("limits: {idle: 9999d}", "limits.idle: 9999d is out of range"),
        ("metric_labels: [chip-kind]", "metric_labels[0]: chip-kind cannot be a Prometheus label"),
        ("metric_labels: [chip, board]", "metric_labels[1]: belayd_board_info has a label board of its own"),
        ("metric_labels: chip", "metric_labels: is text where a list belongs; write metric_labels: [chip]"),
        ("tls: {cert: x}", "tls.key: is missing; write key: server.key"),
    ],
)
def test_a_wrong_setting_of_the_server_is_told(server: str, told: str, mistakes: Mistakes) -> None:
    problems = mistakes(f"version: 1\nserver:\n  {server}\n")

    assert len(problems) == 1
    assert problems[0].startswith(f"3: server.{told}")


@pytest.mark.parametrize("written", ["2", "1.0", '"one"'])
def test_another_version_is_refused(written: str, mistakes: Mistakes) -> None:
    assert mistakes(f"version: {written}")[0].startswith("1: version: this belayd reads version 1, not ")


@pytest.mark.parametrize(
    "webrepl",
    [
        '{url: "ws://h", password: hunter2}',
        '{url: "ws://h", pasword: hunter2}',
        '{url: "ws://h", password: {x: hunter2}}',
        '{url: "ws://me:hunter2@h", password_env: P}',
        '{url: "ws://me:hunter2@[h", password_env: P}',
        '{url: "ws://h", password_env: "hunter2!"}',
        '{url: "ws://h:hunter2", password_env: P}',
    ],
    ids=["inline", "misspelt", "mapping", "in the url", "in a broken url", "as a variable", "as a port"],
)
def test_an_inline_password_is_refused_and_never_shown(webrepl: str, mistakes: Mistakes) -> None:
    problems = mistakes(board(f"webrepl: {webrepl}"))

    assert len(problems) == 1
    assert "hunter2" not in problems[0]


@pytest.mark.parametrize("key", ["password", "pasword", "Passwd", "pw", "secret"])
def test_where_a_password_goes_is_told_instead(key: str, mistakes: Mistakes) -> None:
    problems = mistakes(board(f'webrepl: {{url: "ws://h", {key}: hunter2}}'))

    told = "a password is never written in the inventory; write password_env: VARIABLE or password_file: FILE"
    assert problems == [f"4: boards.a.webrepl.{key}: {told}, and put it there"]


def test_terminal_escapes_in_a_value_are_not_passed_on(mistakes: Mistakes) -> None:
    problems = mistakes(board('usb: {vid: "\\e[31m", "\\e[2J": x}'))

    assert "\x1b" not in "".join(problems)
    assert r"\x1b[31m is not a USB id" in problems[0]


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_two_usb_ids_could_be_the_same_device_only_if_they_are_equal(one: int, other: int) -> None:
    assert could_be_same(UsbLink(vid=one), UsbLink(vid=other)) == (one == other)
