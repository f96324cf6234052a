from __future__ import annotations

from pathlib import Path

import pytest

from belayd.transport import manners
from belayd.transport.manners import BRIDGE, NATIVE, SERIAL_JTAG, UNKNOWN, Manners, manners_of, usb_ids


@pytest.mark.parametrize(
    ("vid", "pid", "dtr", "rts", "hupcl"),
    [
        pytest.param(0x10C4, 0xEA60, False, False, False, id="CP210x"),
        pytest.param(0x1A86, 0x7523, False, False, False, id="CH340"),
        pytest.param(0x1A86, 0x55D4, False, False, False, id="CH9102"),
        pytest.param(0x0403, 0x6001, False, False, False, id="FTDI"),
        pytest.param(0x067B, 0x2303, False, False, False, id="PL2303"),
        pytest.param(0x2E8A, 0x0005, True, True, True, id="Pico"),
        pytest.param(0xF055, 0x9802, True, True, True, id="STM32, SAMD"),
        pytest.param(0x239A, 0x80F4, True, True, True, id="CircuitPython"),
        pytest.param(0x303A, 0x4001, True, True, False, id="ESP32-S3 TinyUSB"),
        pytest.param(0x303A, 0x8123, True, True, False, id="another ESP32-S3"),
        pytest.param(0x303A, 0x1001, True, True, False, id="USB-Serial-JTAG"),
        pytest.param(0x0D28, 0x0204, True, True, False, id="micro:bit"),
        pytest.param(0x2E8A, 0x000C, True, True, False, id="debug probe, not a Pico"),
        pytest.param(0x1234, 0x0001, True, True, False, id="nobody knows it"),
        pytest.param(None, None, True, True, False, id="no USB at all"),
    ],
)
def test_each_family_has_its_manners(
    vid: int | None, pid: int | None, dtr: bool, rts: bool, hupcl: bool
) -> None:
    found = manners_of(vid, pid)

    assert (found.dtr, found.rts, found.hupcl) == (dtr, rts, hupcl)


@pytest.mark.parametrize(
    ("vid", "pid", "steady"),
    [
        pytest.param(0x2E8A, 0x0005, True, id="Pico"),
        pytest.param(0x303A, 0x4001, True, id="ESP32-S3 TinyUSB"),
        pytest.param(0x303A, 0x1001, True, id="USB-Serial-JTAG"),
        pytest.param(0xF055, 0x9802, False, id="STM32, whose input drops"),
        pytest.param(0x10C4, 0xEA60, False, id="a UART behind CP210x"),
        pytest.param(0x2E8A, 0x000C, False, id="a UART behind a probe"),
        pytest.param(0x1234, 0x0001, False, id="nobody knows it"),
        pytest.param(None, None, False, id="a pty, whose far end may be anything"),
    ],
)
def test_only_links_that_hold_back_are_steady(vid: int | None, pid: int | None, steady: bool) -> None:
    assert manners_of(vid, pid).steady is steady


def rows() -> list[Manners]:
    return [value for value in vars(manners).values() if isinstance(value, Manners)]


def test_no_family_holds_the_lines_apart() -> None:
    # RTS without DTR is an ESP's reset, DTR without RTS its boot mode.
    assert len(rows()) > 5
    assert [row.family for row in rows() if row.dtr != row.rts] == []


def test_nothing_that_may_reset_on_its_lines_sees_them_fall() -> None:
    assert not BRIDGE.hupcl
    assert not SERIAL_JTAG.hupcl
    assert not UNKNOWN.hupcl
    assert NATIVE.dtr


def device(system: Path, tty: str, interface: str, ids: tuple[str, str] | None) -> None:
    """Lay out what Linux shows of a tty: its link leads to an interface below the USB device."""
    place = system / "devices" / "usb1" / "1-1" / interface
    place.mkdir(parents=True)
    if ids is not None:
        for name, value in zip(("idVendor", "idProduct"), ids, strict=True):
            (place.parent / name).write_text(f"{value}\n")
    (system / "class" / "tty" / tty).mkdir(parents=True)
    (system / "class" / "tty" / tty / "device").symlink_to(place)


@pytest.mark.parametrize("interface", ["1-1:1.0", "1-1:1.0/ttyUSB0"], ids=["cdc-acm", "a bridge's driver"])
def test_the_device_behind_a_tty_is_found_through_any_path_to_it(tmp_path: Path, interface: str) -> None:
    device(tmp_path / "sys", "ttyUSB0", interface, ("1a86", "7523"))
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")

    assert usb_ids(str(tmp_path / "by-id"), tmp_path / "sys") == (0x1A86, 0x7523)


def test_a_port_that_is_on_no_usb_has_no_ids(tmp_path: Path) -> None:
    device(tmp_path / "sys", "ttyS0", "serial8250", None)

    assert usb_ids("/dev/ttyS0", tmp_path / "sys") == (None, None)
    assert usb_ids("/dev/pts/0", tmp_path / "sys") == (None, None)
    assert usb_ids("/dev/pts/0", tmp_path / "nothing") == (None, None)


def test_ids_that_are_no_numbers_are_none(tmp_path: Path) -> None:
    device(tmp_path / "sys", "ttyACM0", "1-1:1.0", ("what", "ever"))

    assert usb_ids("/dev/ttyACM0", tmp_path / "sys") == (None, None)
