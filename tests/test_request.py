"""Requests cut into pieces: nothing a REPL acts on, nothing longer than a ring, and all of it there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.call import prepare
from belayd.request import IN_FLIGHT_BYTES, PIECE_BYTES, Request, iteration_of, request_for

data = st.binary(min_size=1, max_size=2000) | st.lists(
    st.sampled_from(range(12)), min_size=1, max_size=600
).map(bytes)


def undone(piece: bytes) -> bytes:
    """Do what the board does with a piece."""
    content = piece[5:]
    for number, stand_in in enumerate(piece[:5], 1):
        if stand_in:
            content = content.replace(bytes([stand_in]), bytes([number]))
    return content


@given(st.lists(data | data.map(bytearray), min_size=1, max_size=4))
def test_bytes_come_out_of_their_pieces_as_they_were(contents: list[bytes | bytearray]) -> None:
    parts = list(Request("e", b"f()", tuple(contents)).parts())

    assert all(len(part) <= IN_FLIGHT_BYTES for part in parts)
    assert not any(byte in part for part in parts for byte in b"\x01\x02\x03\x04\x05")
    for content in contents:
        kind = "a" if isinstance(content, bytearray) else "b"
        count = -(-len(content) // PIECE_BYTES)
        announced = f"{len(content):x}{kind}".encode()
        assert parts.pop(0) == b"%04xl%s" % (len(announced), announced)
        assert b"".join(map(undone, parts[:count])) == content
        del parts[:count]
    assert parts == [b"0003ef()"]


def test_text_longer_than_a_ring_goes_in_pieces_too() -> None:
    body = b"f('%s')" % (b"x" * 1000)
    parts = list(Request("e", body).parts())

    assert parts[0] == b"0004l3ede"
    assert b"".join(map(undone, parts[1:])) == body
    assert [len(part) for part in parts[1:-1]] == [PIECE_BYTES + 5] * 4


@pytest.mark.parametrize("length", [244, 245, 246, 247])
def test_what_fits_a_ring_goes_at_once(length: int) -> None:
    request = Request("e", b"x" * length)

    assert request.long == (len(request.encode()) > IN_FLIGHT_BYTES)


def test_requests_are_made_of_calls() -> None:
    assert request_for(" 1 + 1 ") == Request("e", b"1 + 1")
    assert request_for(prepare("f", [1], {})) == Request("j", b'["f",1]')
    assert request_for(prepare("f", [(1,)], {})) == Request("e", b"f((1,))")
    assert request_for(prepare("f", [bytes(200)], {})) == Request("e", b"lambda _p:f(_p[0])", (bytes(200),))
    assert iteration_of(prepare("f", [1], {}), "nameless", 16) == Request("g", b"nameless0010f(1)")


def test_a_text_that_a_repl_would_act_on_does_not_fit() -> None:
    assert not Request("e", b"'\x03'").fits
    assert not Request("e", b"x" * 70_000).fits
    assert Request("e", b"'\x1e\x00'").fits
