from __future__ import annotations

import os
from pathlib import Path

from belayd.discovery import Port, list_ports


def test_the_real_lister_returns_usb_ports_and_the_paths_asked_for(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    tty = os.ttyname(theirs)
    link = tmp_path / "board"
    link.symlink_to(tty)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)

    ports = list_ports([str(link), str(tmp_path / "missing"), str(circle), tty])
    os.close(ours)
    os.close(theirs)

    assert [port for port in ports if port.vid is None] == [Port(str(link), tty), Port(tty, tty)]
    assert all(port.real_path.startswith("/dev/") for port in ports)


def test_ports_are_sorted_by_place_with_numbers_as_numbers() -> None:
    places = ["1-10:1.0", "1-9.10:1.0", "1-9.9:1.10", "1-9.9:1.2", None]
    ports = [Port(f"/dev/ttyACM{number}", location=place) for number, place in enumerate(places)]

    ordered = [port.location for port in sorted(ports, key=lambda port: port.order)]

    assert ordered == [None, "1-9.9:1.2", "1-9.9:1.10", "1-9.10:1.0", "1-10:1.0"]


def test_all_interfaces_of_a_device_share_its_place() -> None:
    assert Port("x", location="1-1.4:1.2").usb_path == "1-1.4"
    assert Port("x", location="1-1.4").usb_path == "1-1.4"
    assert Port("x").usb_path is None
