# ruff: noqa: E501 - tables of texts read better unbroken
from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd.inventory import (
    AdoptRule,
    Attach,
    BoardSpec,
    ClusterSettings,
    DeployTree,
    Inventory,
    InventoryError,
    PowerHook,
    SerialLink,
    ServerSettings,
    SimulatedLink,
    SoftReset,
    TcpLink,
    TlsFiles,
    UsbLink,
    WebreplLink,
    Wipe,
    load,
    parse,
)

Read = Callable[[str], Inventory]
Mistakes = Callable[[str], list[str]]

EVERYTHING = """\
version: 1
server:                                        # all optional; flags win
  listen: localhost:50951
  metrics: "[::1]:9951"
  tls: {cert: server.pem, key: /etc/belayd/server.key, client_ca: ca.pem}
  limits: {max_hold: 4h, idle: 1.5s}
  metric_labels: [chip, rack]
defaults:
  labels: {lab: north, chip: other}
  between: wipe
boards:
  pico-1:
    usb: {serial_number: "e6614c311b7e6f35", vid: 2e8a, pid: "0005", location: "1-1.4"}
    unique_id: E6614C311B7E6F35
    labels: {chip: rp2, rack: "2"}
    attach: passive
    between: soft_reset
  esp-roof:
    webrepl: {url: "ws://10.0.0.7", password_env: ESP_ROOF_PASSWORD}
  esp-attic:
    webrepl: {url: "ws://10.0.0.8:8267", password_file: attic.password}
  bench-tty:
    serial: {port: /dev/serial/by-id/x, baudrate: 9600, dtr: false, rts: true}
    power: {cycle: [bin/cycle, -l, "1-1"], timeout: 5s}
  far-serial:
    tcp: {url: "rfc2217://10.0.0.9:4000"}
    between: {deploy: images/clean}
  sim-1:
    simulated:
  sim-2:
    simulated: {micropython: /opt/micropython, folder: sim-2, heap: 128, flash: 1024}
adopt:
  - usb: {vid: 2e8a}
    name: "pico-{serial_number}"
    max: 3
    labels: {chip: rp2}
cluster:
  peers: ["bench-2:50951"]
"""


def test_every_key_of_the_inventory_becomes_its_value(read: Read) -> None:
    inventory = read(EVERYTHING)

    lab = Path("/lab")
    assert inventory.server == ServerSettings(
        listen="localhost:50951",
        metrics="[::1]:9951",
        tls=TlsFiles(lab / "server.pem", Path("/etc/belayd/server.key"), lab / "ca.pem"),
        max_hold=4 * 3600.0,
        idle=1.5,
        metric_labels=("chip", "rack"),
    )
    north = {"lab": "north", "chip": "other"}
    assert inventory.boards == {
        "pico-1": BoardSpec(
            "pico-1",
            UsbLink(vid=0x2E8A, pid=5, serial_number="e6614c311b7e6f35", location="1-1.4"),
            {"lab": "north", "chip": "rp2", "rack": "2"},
            "e6614c311b7e6f35",
            Attach.PASSIVE,
            SoftReset(),
        ),
        "esp-roof": BoardSpec(
            "esp-roof",
            WebreplLink("ws://10.0.0.7:8266", password_env="ESP_ROOF_PASSWORD"),
            north,
            between=Wipe(),
        ),
        "esp-attic": BoardSpec(
            "esp-attic",
            WebreplLink("ws://10.0.0.8:8267", password_file=lab / "attic.password"),
            north,
            between=Wipe(),
        ),
        "bench-tty": BoardSpec(
            "bench-tty",
            SerialLink("/dev/serial/by-id/x", 9600, False, True),
            north,
            between=Wipe(),
            power=PowerHook(("/lab/bin/cycle", "-l", "1-1"), 5.0),
        ),
        "far-serial": BoardSpec(
            "far-serial",
            TcpLink("rfc2217://10.0.0.9:4000", "rfc2217", "10.0.0.9", 4000),
            north,
            between=DeployTree(lab / "images/clean"),
        ),
        "sim-1": BoardSpec("sim-1", SimulatedLink(), north, between=Wipe()),
        "sim-2": BoardSpec(
            "sim-2", SimulatedLink(Path("/opt/micropython"), lab / "sim-2", 128, 1024), north, between=Wipe()
        ),
    }
    assert list(inventory.boards)[:2] == ["pico-1", "esp-roof"]
    assert inventory.adopt == (
        AdoptRule(
            UsbLink(vid=0x2E8A), "pico-{serial_number}", 3, {"lab": "north", "chip": "rp2"}, between=Wipe()
        ),
    )
    assert inventory.cluster == ClusterSettings(peers=("bench-2:50951",))


def test_what_is_left_out_has_the_documented_defaults(read: Read) -> None:
    inventory = read("version: 1")

    assert inventory == Inventory(Path("/lab/lab.yaml"))
    assert inventory.server == ServerSettings(
        "localhost:50951", "localhost:9951", None, max_hold=28_800.0, idle=1800.0, metric_labels=()
    )


def test_sections_with_nothing_under_them_are_empty(read: Read) -> None:
    text = "version: 1\nserver:\ndefaults:\nboards:\nadopt:\ncluster:\n"

    assert read(text) == Inventory(Path("/lab/lab.yaml"), cluster=ClusterSettings())


def test_relative_paths_are_those_of_the_inventory_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab.yaml").write_text("version: 1\nboards: {a: {serial: {port: ports/a}}}")
    monkeypatch.chdir(tmp_path)

    inventory = load("lab.yaml")

    assert inventory.boards["a"].link == SerialLink(str(tmp_path / "ports/a"))


def test_a_power_command_without_a_slash_is_left_to_the_path(read: Read) -> None:
    inventory = read("version: 1\nboards: {a: {simulated: {}, power: {cycle: [uhubctl, ./x]}}}")

    assert inventory.boards["a"].power == PowerHook(("uhubctl", "./x"), 20.0)


def test_two_hundred_boards_load_in_well_under_a_second(tmp_path: Path) -> None:
    entry = '  pico-{0}:\n    usb: {{serial_number: "{0:016x}"}}\n    unique_id: {0:016x}\n    labels: {{rack: "{0}"}}\n'
    path = tmp_path / "lab.yaml"
    path.write_text("version: 1\nboards:\n" + "".join(entry.format(number) for number in range(200)))

    started = time.perf_counter()
    inventory = load(path)
    took = time.perf_counter() - started

    assert len(inventory.boards) == 200
    # 18-30 ms on two shared cores; benchmarks measure, this only notices something quadratic.
    assert took < 1.0


def test_warnings_are_told_and_refuse_nothing(read: Read) -> None:
    inventory = read("""\
        version: 1
        boards:
          roof:
            webrepl: {url: "ws://10.0.0.7:8266", password_env: ROOF}
          bench:
            serial: {port: /dev/ttyACM3}
          other:
            serial: {port: /dev/serial/by-id/usb-x}
        """)

    assert [(warning.line, warning.key) for warning in inventory.warnings] == [
        (4, "boards.roof.webrepl"),
        (6, "boards.bench.serial"),
    ]
    assert "plaintext" in inventory.warnings[0].message


def test_an_inventory_shows_no_password_when_printed(tmp_path: Path) -> None:
    (tmp_path / "roof.password").write_text("hunter2")
    path = tmp_path / "lab.yaml"
    path.write_text('version: 1\nboards: {a: {webrepl: {url: "ws://h", password_file: roof.password}}}')

    inventory = load(path)

    assert "hunter2" not in repr(inventory)


def test_all_kinds_of_mistakes_are_told_in_one_run_sorted_by_line(mistakes: Mistakes) -> None:
    text = """\
        version: 1
        boards:
          a:
            usb: {vid: 2e8a}
            attach: passiv
          b:
            usb: {vid: 2e8a}
          c:
            usb: {vid: 2e8a, serial_number: x}
          c:
            simulated: {}
          d: {}
        adopt:
          - name: "x-{serial}"
        server: {listen: "localhost:0"}
        """

    told = mistakes(text)

    assert [line.split(":")[0] + line.split(":")[1] for line in told] == [
        "5 boards.a.attach",
        "9 boards.c.usb",
        "10 boards.c",
        "12 boards.d",
        "14 adopt[0].name",
        "14 adopt[0].usb",
        "15 server.listen",
    ]


def test_a_missing_file_is_one_problem_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "lab.yaml")

    assert str(caught.value) == f"{tmp_path}/lab.yaml:1: cannot be read: No such file or directory"


def test_how_a_port_is_held_may_be_said_and_is_open_otherwise() -> None:
    inventory = parse(
        "version: 1\nboards:\n  a: {serial: {port: /dev/x}}\n"
        "  b: {usb: {vid: 1, dtr: false, rts: true, hupcl: true, low_latency: false}}\n",
        Path("/etc/belayd/lab.yaml"),
    )

    assert inventory.boards["a"].link == SerialLink("/dev/x", dtr=None, rts=None, hupcl=None)
    assert inventory.boards["b"].link == UsbLink(vid=1, dtr=False, rts=True, hupcl=True, low_latency=False)
