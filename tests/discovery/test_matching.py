from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from belayd.discovery import Matching, Port, match
from belayd.inventory import (
    AdoptRule,
    Attach,
    BoardSpec,
    Link,
    SerialLink,
    SimulatedLink,
    TcpLink,
    UsbLink,
    WebreplLink,
    Wipe,
)

MakePort = Callable[..., Port]
RULE = AdoptRule(UsbLink(vid=0x2E8A), "pico-{serial_number}", 2, {"chip": "rp2"}, Attach.PASSIVE, Wipe())


def spec(name: str, link: Link, unique_id: str | None = None) -> BoardSpec:
    return BoardSpec(name, link, unique_id=unique_id)


def addresses(matching: Matching) -> dict[str, str]:
    return {name: port.address for name, port in matching.attached.items()}


@pytest.mark.parametrize(
    "link",
    [
        UsbLink(vid=0x2E8A),
        UsbLink(pid=5),
        UsbLink(serial_number="A"),
        UsbLink(manufacturer="MicroPython"),
        UsbLink(product="Board in FS mode"),
        UsbLink(location="1-1"),
        UsbLink(location="1-1:1.0"),
        UsbLink(vid=0x2E8A, pid=5, serial_number="A", location="1-1"),
    ],
    ids=lambda link: link.describe(),
)
def test_each_attribute_finds_its_board(link: UsbLink, pico: MakePort, bridge: MakePort) -> None:
    matching = match([spec("a", link)], [], [bridge(), pico()])

    assert addresses(matching) == {"a": "/dev/ttyACM0"}
    assert matching.reasons == {}


def test_all_attributes_must_match(pico: MakePort) -> None:
    matching = match([spec("a", UsbLink(serial_number="A", location="1-9"))], [], [pico()])

    assert matching.attached == {}
    assert matching.reasons == {"a": "no USB device with serial_number A, location 1-9 is present"}


def test_two_devices_for_one_entry_attach_none_and_say_why(pico: MakePort) -> None:
    matching = match([spec("a", UsbLink(vid=0x2E8A))], [], [pico("B", 11), pico("A", 2)])

    assert matching.attached == {}
    assert matching.reasons == {
        "a": "2 devices match vid 2e8a: /dev/ttyACM2, /dev/ttyACM11; name one in the inventory"
    }


def test_a_second_device_does_not_disturb_what_stands(pico: MakePort) -> None:
    specs = [spec("a", UsbLink(vid=0x2E8A))]
    standing = match(specs, [], [pico("B", 1)])

    matching = match(specs, [], [pico("A", 0), pico("B", 1)], standing=standing)
    later = match(specs, [], [pico("A", 0), pico("C", 1)], standing=matching)

    assert addresses(matching) == {"a": "/dev/ttyACM1"}
    assert later.attached == {}


def test_of_one_board_s_two_ports_the_first_is_the_console(pico: MakePort) -> None:
    ports = [pico("A", 1, "1-1:1.10"), pico("A", 0, "1-1:1.2")]

    matching = match([spec("a", UsbLink(serial_number="A"))], [], ports)

    assert addresses(matching) == {"a": "/dev/ttyACM0"}


def test_an_interface_can_be_named(pico: MakePort) -> None:
    ports = [pico("A", 0, "1-1:1.0"), pico("A", 1, "1-1:1.2")]

    matching = match(
        [spec("a", UsbLink(location="1-1:1.2")), spec("b", UsbLink(location="1-1:1.0"))], [RULE], ports
    )

    assert addresses(matching) == {"a": "/dev/ttyACM1", "b": "/dev/ttyACM0"}


def test_a_device_of_which_an_entry_has_one_interface_is_not_adopted(pico: MakePort) -> None:
    ports = [pico("A", 0, "1-1:1.0"), pico("A", 1, "1-1:1.2")]

    matching = match([spec("a", UsbLink(location="1-1:1.2"))], [RULE], ports)

    assert addresses(matching) == {"a": "/dev/ttyACM1"}


def test_links_without_a_port_are_always_there() -> None:
    specs = [
        spec("sim", SimulatedLink(folder=Path("/x"))),
        spec("far", TcpLink("socket://h:1", "socket", "h", 1)),
        spec("roof", WebreplLink("ws://h:8266", "P")),
    ]

    assert addresses(match(specs, [], [])) == {
        "sim": "simulated",
        "far": "socket://h:1",
        "roof": "ws://h:8266",
    }


def test_a_serial_path_is_there_when_it_exists() -> None:
    specs = [spec("a", SerialLink("/dev/x")), spec("b", SerialLink("/dev/y"))]

    matching = match(specs, [], [Port("/dev/x", "/dev/pts/3")])

    assert addresses(matching) == {"a": "/dev/x"}
    assert matching.reasons == {"b": "/dev/y does not exist"}


def test_two_paths_to_one_port_attach_one_board() -> None:
    specs = [spec("a", SerialLink("/dev/x")), spec("b", SerialLink("/dev/y"))]
    ports = [Port("/dev/x", "/dev/ttyACM0"), Port("/dev/y", "/dev/ttyACM0")]

    matching = match(specs, [], ports)

    assert addresses(matching) == {"a": "/dev/x"}
    assert matching.reasons == {"b": "/dev/y is the same port as that of board a"}


def test_a_port_taken_by_its_path_is_neither_matched_nor_adopted(pico: MakePort) -> None:
    specs = [spec("usb", UsbLink(vid=0x2E8A)), spec("tty", SerialLink("/dev/by-id/x"))]
    ports = [pico("A", 0), Port("/dev/by-id/x", "/dev/ttyACM0")]

    matching = match(specs, [RULE], ports)

    assert addresses(matching) == {"tty": "/dev/by-id/x"}
    assert matching.reasons == {"usb": "what matches vid 2e8a belongs to tty"}
    assert matching.adoptions == {}


def test_boards_that_share_a_match_find_their_ports_by_what_they_say(pico: MakePort) -> None:
    specs = [spec("a", UsbLink(vid=0x2E8A), "aa"), spec("b", UsbLink(vid=0x2E8A), "bb")]
    ports = [pico(None, 0), pico(None, 1)]

    tried = match(specs, [], ports)
    found = match(specs, [], ports, standing=tried, known_ids={ports[0]: "bb"})
    settled = match(specs, [], ports, standing=found, known_ids={ports[0]: "bb", ports[1]: "aa"})

    assert addresses(tried) == {"a": "/dev/ttyACM0", "b": "/dev/ttyACM1"}
    assert addresses(found) == {"a": "/dev/ttyACM1", "b": "/dev/ttyACM0"}
    assert settled == found


def test_a_board_that_is_known_elsewhere_gives_up_the_port_it_tried(pico: MakePort) -> None:
    specs = [spec("a", UsbLink(vid=0x2E8A), "aa"), spec("b", UsbLink(vid=0x2E8A), "bb")]
    ports = [pico(None, 0), pico(None, 1)]
    tried = match(specs, [], ports)

    found = match(specs, [], ports, standing=tried, known_ids={ports[1]: "aa"})

    assert addresses(found) == {"a": "/dev/ttyACM1", "b": "/dev/ttyACM0"}


def test_three_boards_in_a_circle_all_find_home(pico: MakePort) -> None:
    specs = [spec(name, UsbLink(vid=0x2E8A), name * 2) for name in "abc"]
    ports = [pico(None, number) for number in range(3)]
    tried = match(specs, [], ports)

    found = match(
        specs, [], ports, standing=tried, known_ids=dict(zip(ports, ["bb", "cc", "aa"], strict=True))
    )

    assert addresses(found) == {"a": "/dev/ttyACM2", "b": "/dev/ttyACM0", "c": "/dev/ttyACM1"}


def test_the_only_device_is_attached_though_it_is_the_wrong_one_so_that_somebody_can_say_so(
    pico: MakePort,
) -> None:
    specs = [spec("a", UsbLink(vid=0x2E8A), "aa")]
    port = pico(None)
    tried = match(specs, [], [port])

    known = match(specs, [], [port], standing=tried, known_ids={port: "ff"})

    assert known == tried
    assert addresses(known) == {"a": "/dev/ttyACM0"}


def test_several_wrong_devices_attach_none(pico: MakePort) -> None:
    ports = [pico(None, 0), pico(None, 1)]

    matching = match(
        [spec("a", UsbLink(vid=0x2E8A), "aa")], [], ports, known_ids={ports[0]: "ee", ports[1]: "ff"}
    )

    assert matching.reasons == {"a": "none of the 2 devices that match has the unique_id aa"}


def test_a_rule_takes_in_what_nobody_lists(pico: MakePort, bridge: MakePort) -> None:
    matching = match(
        [spec("a", UsbLink(serial_number="A"))], [RULE], [pico("A", 0), pico("E66:1", 1), bridge()]
    )

    adopted = matching.adoptions["pico-e66-1"].spec
    assert addresses(matching) == {"a": "/dev/ttyACM0", "pico-e66-1": "/dev/ttyACM1"}
    assert adopted == BoardSpec(
        "pico-e66-1",
        UsbLink(vid=0x2E8A, pid=5, serial_number="E66:1"),
        {"chip": "rp2"},
        attach=Attach.PASSIVE,
        between=Wipe(),
    )
    assert matching.ignored == {}


def test_an_adopted_board_is_held_as_its_rule_says(pico: MakePort) -> None:
    held = UsbLink(vid=0x2E8A, baudrate=9600, dtr=False, rts=True, hupcl=False, low_latency=False)

    link = match([], [AdoptRule(held, "pico-{serial_number}")], [pico("A")]).adoptions["pico-a"].spec.link

    assert isinstance(link, UsbLink)
    assert (link.baudrate, link.dtr, link.rts, link.hupcl, link.low_latency) == (
        9600,
        False,
        True,
        False,
        False,
    )


def test_a_device_that_an_entry_matches_is_never_adopted_though_the_entry_cannot_have_it(
    pico: MakePort,
) -> None:
    matching = match([spec("a", UsbLink(vid=0x2E8A))], [RULE], [pico("A", 0), pico("B", 1)])

    assert matching.adoptions == {}
    assert matching.attached == {}


def test_a_rule_has_a_maximum_that_absent_boards_count_for(pico: MakePort) -> None:
    both = match([], [RULE], [pico("A", 0), pico("B", 1), pico("C", 2)])
    one_left = match([], [RULE], [pico("C", 2), pico("A", 0)], standing=both)

    assert list(both.adoptions) == ["pico-a", "pico-b"]
    assert both.ignored == {"/dev/ttyACM2": "the rule for pico-{serial_number} has its 2 boards already"}
    assert list(one_left.adoptions) == ["pico-a", "pico-b"]
    assert one_left.reasons == {"pico-b": "no USB device with vid 2e8a, pid 0005, serial_number B is present"}
    assert "/dev/ttyACM2" in one_left.ignored


def test_an_adopted_board_comes_back_wherever_it_is_plugged_in(pico: MakePort) -> None:
    there = match([], [RULE], [pico("A", 0)])
    gone = match([], [RULE], [], standing=there)
    back = match([], [RULE], [pico("A", 7)], standing=gone)

    assert gone.attached == {}
    assert addresses(back) == {"pico-a": "/dev/ttyACM7"}
    assert back.adoptions == there.adoptions


def test_an_adopted_board_that_is_listed_by_now_is_no_longer_adopted(pico: MakePort) -> None:
    there = match([], [RULE], [pico("A", 0)])

    listed = match([spec("mine", UsbLink(serial_number="A"))], [RULE], [pico("A", 0)], standing=there)

    assert listed.adoptions == {}
    assert addresses(listed) == {"mine": "/dev/ttyACM0"}


def test_an_adopted_board_goes_with_its_rule(pico: MakePort) -> None:
    there = match([], [RULE], [pico("A", 0)])

    assert match([], [], [pico("A", 0)], standing=there) == Matching()


def test_two_devices_with_one_serial_number_are_not_both_adopted(pico: MakePort) -> None:
    one = match([], [RULE], [pico("0001", 0)])
    both = match([], [RULE], [pico("0001", 0), pico("0001", 1)], standing=one)

    assert addresses(both) == {"pico-0001": "/dev/ttyACM0"}
    assert both.ignored == {"/dev/ttyACM1": "another board is called pico-0001 already"}


def test_a_name_that_a_listed_board_has_is_not_given(pico: MakePort) -> None:
    matching = match([spec("pico-a", SimulatedLink())], [RULE], [pico("A", 0)])

    assert matching.ignored == {"/dev/ttyACM0": "another board is called pico-a already"}


def test_a_device_without_what_the_name_needs_is_left_alone(pico: MakePort) -> None:
    matching = match([], [RULE], [pico(None, 0), pico("日本", 1)])

    assert matching.ignored == {
        "/dev/ttyACM0": "it lacks what the name pico-{serial_number} is made of",
        "/dev/ttyACM1": "it lacks what the name pico-{serial_number} is made of",
    }


def test_a_bridge_without_a_serial_number_is_adopted_by_its_place(bridge: MakePort) -> None:
    rule = AdoptRule(UsbLink(vid=0x1A86), "esp-at-{location}-{vid}-{pid}-{product}")

    matching = match([], [rule], [bridge("1-4.2")])

    assert matching.adoptions["esp-at-1-4-2-1a86-7523-usb-serial"].spec.link == UsbLink(
        vid=0x1A86, pid=0x7523, location="1-4.2"
    )


def test_the_first_rule_that_matches_counts(pico: MakePort) -> None:
    rules = [AdoptRule(UsbLink(serial_number="B"), "b-{vid}"), RULE]

    matching = match([], rules, [pico("A", 0), pico("B", 1)])

    assert sorted(matching.adoptions) == ["b-2e8a", "pico-a"]
