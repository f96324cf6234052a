from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from belayd.discovery import Kind, Port, propose
from belayd.inventory import BoardSpec, SerialLink, SimulatedLink, UsbLink

MakePort = Callable[..., Port]


def test_a_board_is_named_by_its_kind_and_known_by_its_serial_number(pico: MakePort) -> None:
    (finding,) = propose([pico("A")], [])

    assert finding.recognition.kind is Kind.BOARD
    assert finding.name == "pico-1"
    assert finding.link == UsbLink(vid=0x2E8A, pid=5, serial_number="A")


def test_names_that_are_taken_are_passed_over(pico: MakePort) -> None:
    specs = [BoardSpec("pico-1", SimulatedLink()), BoardSpec("pico-3", SimulatedLink())]

    findings = propose([pico("A", 0), pico("B", 1)], specs)

    assert [finding.name for finding in findings] == ["pico-2", "pico-4"]


def test_a_bridge_without_a_serial_number_is_known_by_its_place(bridge: MakePort) -> None:
    findings = propose([bridge("1-1.2", 0), bridge("1-1.10", 1)], [])

    assert [finding.link for finding in findings] == [
        UsbLink(vid=0x1A86, pid=0x7523, location="1-1.2"),
        UsbLink(vid=0x1A86, pid=0x7523, location="1-1.10"),
    ]


def test_clones_with_one_serial_number_are_known_by_number_and_place(pico: MakePort) -> None:
    findings = propose([pico("0001", 0), pico("0001", 1)], [])

    assert [finding.link and finding.link.location for finding in findings] == ["1-1", "1-2"]


def test_a_serial_number_beside_bridges_without_one_gets_its_place_too(bridge: MakePort) -> None:
    findings = propose([bridge("1-1", 0), replace(bridge("1-2", 1), serial_number="S")], [])

    assert findings[1].link == UsbLink(vid=0x1A86, pid=0x7523, serial_number="S", location="1-2")


def test_listed_boards_are_named_and_not_proposed(pico: MakePort, bridge: MakePort) -> None:
    specs = [BoardSpec("mine", UsbLink(serial_number="A")), BoardSpec("tty", SerialLink("/dev/by-id/x"))]
    ports = [pico("A"), bridge("1-9", 0), Port("/dev/by-id/x", "/dev/ttyUSB0")]

    findings = propose(ports, specs)

    assert [(finding.listed_as, finding.link) for finding in findings] == [("mine", None), ("tty", None)]


def test_what_is_no_board_gets_no_entry() -> None:
    (finding,) = propose([Port("/dev/ttyACM0", "/dev/ttyACM0", 0x2E8A, 0x000C, "X", location="1-1")], [])

    assert (finding.recognition.kind, finding.name, finding.link) == (Kind.OTHER, "", None)


def test_a_second_port_of_a_board_is_no_second_board(pico: MakePort) -> None:
    findings = propose([pico("A", 0, "1-1:1.0"), pico("A", 1, "1-1:1.2")], [])

    assert [finding.port.address for finding in findings] == ["/dev/ttyACM0"]


def test_what_clashes_with_an_entry_is_told_apart_by_its_place(pico: MakePort) -> None:
    specs = [BoardSpec("somewhere", UsbLink(vid=0x2E8A, location="1-7"))]

    (finding,) = propose([pico("A", 0, "1-1:1.0")], specs)

    assert finding.link == UsbLink(vid=0x2E8A, pid=5, serial_number="A", location="1-1")


def test_what_cannot_be_told_apart_gets_no_entry(pico: MakePort) -> None:
    specs = [BoardSpec("any", UsbLink(vid=0x2E8A, manufacturer="Somebody"))]

    (finding,) = propose([pico("A")], specs)

    assert (finding.name, finding.link, finding.blocked_by) == ("", None, "any")
