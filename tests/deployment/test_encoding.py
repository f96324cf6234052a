"""Contents as source: what CPython reads back is what was meant."""

from __future__ import annotations

import ast
import base64
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.deployment import encoding
from belayd.deployment.encoding import Means, bytes_literal, cut, means, text_literal
from belayd.snapshot import Facts

FULL = Means(base64=True, window_bits=12, piece_bytes=16384, command_bytes=4096)
BASE64 = replace(FULL, window_bits=0)
REPR = replace(BASE64, base64=False)
EVERY = pytest.mark.parametrize("chosen", [FULL, BASE64, REPR], ids=["deflate", "base64", "repr"])


def facts(free: int | None, *modules: str) -> Facts:
    return Facts("micropython", "1.29", "rp2", "Pico", None, frozenset(modules), free, None, True)


def content(step: str) -> bytes:
    """Read a step as the board does."""
    kind, value, *rest = ast.literal_eval(step)
    data = base64.b64decode(value, validate=True) if isinstance(value, str) else value
    return zlib.decompress(data, -rest[0]) if kind == "z" else data


@EVERY
@given(data=st.binary(max_size=5000))
def test_pieces_put_together_are_the_content(chosen: Means, data: bytes) -> None:
    pieces = []
    start = 0
    while start < len(data):
        step, length = cut(data, start, chosen, 600)
        assert length > 0
        pieces.append(content(step))
        start += length

    assert b"".join(pieces) == data


@EVERY
@given(data=st.binary(max_size=3000), room=st.integers(400, 5000))
def test_a_step_fits_its_room_and_holds_no_control_bytes(chosen: Means, data: bytes, room: int) -> None:
    step, length = cut(data + b"x", 0, chosen, room)

    assert len(step) <= room or length <= encoding.SMALLEST_PIECE_BYTES
    assert all(32 <= ord(character) < 127 for character in step)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_read_back_and_holds_no_control_bytes(text: str) -> None:
    literal = text_literal(text)

    assert ast.literal_eval(literal) == text
    assert not set(literal) & {chr(code) for code in (*range(32), 127)}


def test_source_is_sent_as_it_is_where_base64_would_be_longer() -> None:
    source = b"def blink(pin):\n    pin.toggle()\n"

    assert bytes_literal(source, BASE64) == repr(source)


def test_python_source_takes_less_than_half_its_size() -> None:
    source = encoding.__loader__.get_data(encoding.__file__)  # type: ignore[union-attr]

    step, length = cut(source, 0, FULL, 4096)

    assert len(step) < length * 0.6


@pytest.mark.parametrize(
    ("board", "window_bits", "base64_known", "command_bytes"),
    [
        (facts(190_000, "binascii", "deflate"), 12, True, 8192),
        (facts(20_000, "binascii", "deflate"), 10, True, 1250),
        (facts(None, "binascii", "zlib"), 12, True, 4096),
        (facts(100_000, "binascii"), 0, True, 6250),
        (facts(9_000, "deflate"), 0, False, 562),
    ],
    ids=["roomy", "small", "CircuitPython", "no inflating", "no base64"],
)
def test_means_follow_the_boards_modules_and_memory(
    board: Facts, window_bits: int, base64_known: bool, command_bytes: int
) -> None:
    chosen = means(board)

    assert (chosen.window_bits, chosen.base64) == (window_bits, base64_known)
    assert chosen.command_bytes == command_bytes


def test_smaller_means_come_to_an_end() -> None:
    steps = []
    chosen: Means | None = means(facts(None, "binascii", "deflate"))
    while chosen is not None:
        steps.append((chosen.command_bytes, chosen.window_bits))
        chosen = chosen.smaller()

    assert steps == [(4096, 12), (2048, 12), (1024, 12), (512, 12), (512, 0)]
