from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.transport.telnet import TelnetCodec

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
COM_PORT = 44


def outgoing(codec: TelnetCodec) -> bytes:
    taken = bytes(codec.outgoing)
    codec.outgoing.clear()
    return taken


def answer(command: int, value: bytes) -> bytes:
    return bytes((IAC, SB, COM_PORT, 100 + command)) + value.replace(b"\xff", b"\xff\xff") + bytes((IAC, SE))


@given(st.binary(), st.lists(st.integers(1, 7)))
def test_what_one_sends_the_other_receives_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    sender, receiver = TelnetCodec(), TelnetCodec()
    sender.send(data)
    wire = outgoing(sender)

    for cut in cuts:
        receiver.receive(wire[:cut])
        wire = wire[cut:]
    receiver.receive(wire)

    assert receiver.received == data


@given(st.binary())
def test_nothing_that_comes_is_too_strange(wire: bytes) -> None:
    codec = TelnetCodec()

    codec.receive(wire)

    assert len(codec.received) <= len(wire)


def test_every_byte_value_is_escaped_as_the_rfc_says() -> None:
    codec = TelnetCodec()

    codec.send(bytes(range(256)))

    assert outgoing(codec) == bytes(range(255)) + b"\xff\xff"


def test_it_asks_for_binary_both_ways_and_the_com_port() -> None:
    codec = TelnetCodec()

    codec.begin()

    asked = outgoing(codec)
    assert bytes((IAC, WILL, 0)) in asked
    assert bytes((IAC, DO, 0)) in asked
    assert bytes((IAC, WILL, COM_PORT)) in asked


@pytest.mark.parametrize(("verb", "spoken"), [(DO, True), (DONT, False)])
def test_the_server_says_whether_it_speaks_rfc_2217(verb: int, spoken: bool) -> None:
    codec = TelnetCodec()
    before = codec.com_port

    codec.receive(bytes((IAC, verb, COM_PORT)))

    assert (before, codec.com_port) == (None, spoken)


def test_what_is_not_wanted_is_refused_once() -> None:
    codec = TelnetCodec()

    for _ in range(1000):
        codec.receive(bytes((IAC, WILL, 1, IAC, DO, 24)))

    assert outgoing(codec) == bytes((IAC, DONT, 1, IAC, WONT, 24))


def test_settings_are_asked_for_and_done_when_all_are_answered() -> None:
    codec = TelnetCodec()

    codec.configure(0x0001FF00)
    asked = outgoing(codec)
    for command in (1, 2, 3, 4, 5):
        codec.receive(answer(command, b"\x00\x01\xff\x00"))
    early = codec.configured
    codec.receive(answer(12, b"\x03"))

    assert bytes((IAC, SB, COM_PORT, 1, 0, 1, 255, 255, 0, IAC, SE)) in asked
    assert not early
    assert codec.configured
    assert codec.baudrate == 0x0001FF00


def test_what_came_before_the_buffers_were_emptied_is_forgotten() -> None:
    codec = TelnetCodec()
    codec.configure(115200)

    codec.receive(b"stale" + answer(12, b"\x03") + b"fresh")

    assert codec.received == b"fresh"


def test_the_bootloader_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="bootloader"):
        TelnetCodec().configure(1200)


def test_notices_and_commands_leave_no_trace_in_the_data() -> None:
    codec = TelnetCodec()

    codec.receive(b"a" + answer(7, b"\x30") + b"b" + bytes((IAC, 241)) + b"c")

    assert codec.received == b"abc"
    assert outgoing(codec) == b""


def test_a_subnegotiation_without_end_ends_the_connection() -> None:
    codec = TelnetCodec()

    codec.receive(bytes((IAC, SB)) + b"x" * 5000)

    assert codec.ended
