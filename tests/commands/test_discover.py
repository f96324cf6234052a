from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from belayd.__main__ import main
from belayd.commands.discover import run
from belayd.discovery import ListingFailed, Port
from belayd.inventory import UsbLink, load, parse

PICO = Port("/dev/ttyACM0", "/dev/ttyACM0", 0x2E8A, 5, "E66", "MicroPython", "Board in FS mode", "1-1:1.0")
NASTY = Port("/dev/ttyACM1", "/dev/ttyACM1", 0x2E8A, 5, 'x"\n#\x1b[2J}', "a\nb", "c\nd: e", "1-2:1.0")
BRIDGE = Port("/dev/ttyUSB0", "/dev/ttyUSB0", 0x1A86, 0x7523, None, None, "USB Serial", "1-4")
PROBE = Port("/dev/ttyACM2", "/dev/ttyACM2", 0x2E8A, 0xC, "P", "Raspberry Pi", "Debug Probe", "1-3:1.1")

Discover = Callable[..., int]


@pytest.fixture
def discover() -> Discover:
    """Run the command on a bench with these ports."""

    def look(*ports: Port, write: Path | None = None, as_json: bool = False) -> int:
        return run(argparse.Namespace(write=write, json=as_json), lambda paths: list(ports))

    return look


def test_the_output_is_an_inventory_s_boards(discover: Discover, capsys: pytest.CaptureFixture[str]) -> None:
    code = discover(PICO, BRIDGE, PROBE)

    out, err = capsys.readouterr()
    assert code == 0
    assert (
        out
        == """\
boards:
  # RP2 board with MicroPython, now on /dev/ttyACM0
  pico-1:
    usb: {vid: "2e8a", pid: "0005", serial_number: "E66"}
    labels: {chip: rp2}
  # CH340 bridge, now on /dev/ttyUSB0
  board-1:
    usb: {vid: "1a86", pid: "7523", location: "1-4"}
"""
    )
    assert err == "# /dev/ttyACM2: Raspberry Pi Debug Probe (2e8a:000c), no entry\n"
    assert list(parse("version: 1\n" + out, Path("lab.yaml")).boards) == ["pico-1", "board-1"]


def test_what_a_stranger_s_device_calls_itself_breaks_no_line(
    discover: Discover, capsys: pytest.CaptureFixture[str]
) -> None:
    discover(NASTY)

    out = capsys.readouterr().out
    assert "\x1b" not in out
    boards = parse("version: 1\n" + out, Path("lab.yaml")).boards
    assert boards["pico-1"].link == UsbLink(vid=0x2E8A, pid=5, serial_number='x"\n#\x1b[2J}')


def test_new_boards_are_written_and_comments_stay(
    discover: Discover, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text('# ours\nversion: 1\nboards:\n  mine: {usb: {vid: 2e8a, serial_number: "E66"}}  # keep\n')

    code = discover(PICO, BRIDGE, write=path)
    again = discover(PICO, BRIDGE, write=path)

    assert (code, again) == (0, 0)
    assert path.read_text() == (
        '# ours\nversion: 1\nboards:\n  mine: {usb: {vid: 2e8a, serial_number: "E66"}}  # keep\n'
        "  # CH340 bridge, now on /dev/ttyUSB0\n"
        '  board-1:\n    usb: {vid: "1a86", pid: "7523", location: "1-4"}\n'
    )
    assert capsys.readouterr().out == f"{path}: added board-1\n{path}: nothing to add\n"


def test_an_entry_that_says_too_little_is_named(
    discover: Discover, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text('version: 1\nboards:\n  mine: {usb: {serial_number: "E66"}}\n')

    assert discover(BRIDGE, write=path) == 0

    out, err = capsys.readouterr()
    told = "the entry mine could match it too; name vid and pid there, and try again"
    assert err == f"# /dev/ttyUSB0: CH340 bridge (1a86:7523): {told}\n"
    assert out == f"{path}: nothing to add\n"


def test_an_inventory_that_is_not_there_yet_is_made(discover: Discover, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"

    assert discover(PICO, write=path) == 0
    assert load(path).boards["pico-1"].link == UsbLink(vid=0x2E8A, pid=5, serial_number="E66")


def test_nothing_found_makes_no_file(discover: Discover, tmp_path: Path) -> None:
    assert discover(write=tmp_path / "lab.yaml") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_inventory_is_left_alone_and_told(
    discover: Discover, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("version: 1\nbords: {}\n")

    assert discover(PICO, write=path) == 2
    assert path.read_text() == "version: 1\nbords: {}\n"
    assert capsys.readouterr().err == f"{path}:2: bords: unknown key; did you mean boards?\n"


def test_an_inventory_in_braces_is_left_alone_and_told(
    discover: Discover, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("{version: 1}\n")

    assert discover(PICO, write=path) == 2
    assert path.read_text() == "{version: 1}\n"
    assert capsys.readouterr().err.startswith(f"{path}: not changed: the inventory is written in braces")


def test_a_folder_that_is_not_there_is_told(
    discover: Discover, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no" / "lab.yaml"

    assert discover(PICO, write=path) == 2
    assert "not changed" in capsys.readouterr().err


def test_ports_that_cannot_be_listed_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(paths: Sequence[str]) -> Sequence[Port]:
        raise ListingFailed("the ports cannot be listed: no")

    assert run(argparse.Namespace(write=None, json=False), fail) == 5
    assert capsys.readouterr().err == "the ports cannot be listed: no\n"


def test_json_tells_everything_found(discover: Discover, capsys: pytest.CaptureFixture[str]) -> None:
    assert discover(PICO, PROBE, as_json=True) == 0

    pico, probe = json.loads(capsys.readouterr().out)
    assert pico == {
        "port": "/dev/ttyACM0",
        "listed_as": "",
        "blocked_by": "",
        "name": "pico-1",
        "usb": {"vid": "2e8a", "pid": "0005", "serial_number": "E66"},
        "labels": {"chip": "rp2"},
        "kind": "board",
        "what": "RP2 board with MicroPython",
        "manufacturer": "MicroPython",
        "product": "Board in FS mode",
    }
    assert (probe["name"], probe["kind"]) == ("", "other")


def test_the_real_ports_of_this_host_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
