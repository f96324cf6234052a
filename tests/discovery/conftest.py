from __future__ import annotations

from collections.abc import Callable

import pytest

from belayd.discovery import Port

MakePort = Callable[..., Port]


@pytest.fixture
def pico() -> MakePort:
    """Make the port of a Pico with this serial number, on ttyACM of this number."""

    def make(serial_number: str | None = "A", number: int = 0, location: str | None = None) -> Port:
        path = f"/dev/ttyACM{number}"
        place = location or f"1-{number + 1}:1.0"
        return Port(path, path, 0x2E8A, 5, serial_number, "MicroPython", "Board in FS mode", place)

    return make


@pytest.fixture
def bridge() -> MakePort:
    """Make the port of a CH340, which has no serial number, plugged in at this place."""

    def make(location: str = "1-4", number: int = 0) -> Port:
        path = f"/dev/ttyUSB{number}"
        return Port(path, path, 0x1A86, 0x7523, None, None, "USB Serial", location)

    return make
