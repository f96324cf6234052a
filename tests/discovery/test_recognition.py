from __future__ import annotations

import pytest

from belayd.discovery import Kind, Port, recognise
from belayd.discovery import recognition as module
from belayd.inventory import clean_name


@pytest.mark.parametrize(
    ("vid", "pid", "kind", "chip"),
    [
        (0x2E8A, 0x0005, Kind.BOARD, "rp2"),
        (0x2E8A, 0x000C, Kind.OTHER, ""),
        (0x2E8A, 0x1234, Kind.POSSIBLE, ""),
        (0xF055, 0x9800, Kind.BOARD, "stm32"),
        (0xF055, 0x9802, Kind.BOARD, ""),
        (0x303A, 0x4001, Kind.BOARD, "esp32"),
        (0x303A, 0x0002, Kind.OTHER, ""),
        (0x303A, 0x8123, Kind.BOARD, "esp32"),
        (0x10C4, 0xEA60, Kind.POSSIBLE, ""),
        (0x0D28, 0x0204, Kind.BOARD, "nrf"),
        (0x239A, 0x00AB, Kind.OTHER, ""),
        (0x239A, 0x8155, Kind.BOARD, ""),
        (0x2341, 0x025E, Kind.BOARD, "rp2"),
        (0x2341, 0x0043, Kind.POSSIBLE, ""),
        (0x1D6B, 0x0002, Kind.OTHER, ""),
    ],
)
def test_a_usb_id_says_what_is_probably_there(vid: int, pid: int, kind: Kind, chip: str) -> None:
    recognition = recognise(Port("/dev/ttyACM0", vid=vid, pid=pid))

    assert (recognition.kind, recognition.chip) == (kind, chip)


def test_an_unknown_board_that_names_its_python_is_a_board() -> None:
    assert recognise(Port("x", vid=1, pid=1, product="Foo CircuitPython CDC")).kind is Kind.BOARD


def test_no_usb_device_is_no_board() -> None:
    assert recognise(Port("/dev/ttyS0")).kind is Kind.OTHER


def test_every_stem_can_begin_a_board_s_name() -> None:
    stems = {recognition.stem for recognition in module._EXACT.values()}
    stems |= {recognition.stem for *_, recognition in module._RANGES}

    assert {stem for stem in stems if clean_name(stem) != stem} == set()
