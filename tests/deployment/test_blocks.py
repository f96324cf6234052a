"""Blocks: what a board unpacks is what was meant, and no byte of them means anything to its REPL."""

from __future__ import annotations

import hashlib
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.deployment import blocks
from belayd.deployment.blocks import Block, Operation, Packer, Shape, encode, shape, substitute
from belayd.snapshot import Facts

SHAPE = Shape(4096, 12)
SHAPES = pytest.mark.parametrize(
    "chosen", [SHAPE, Shape(512, 9), Shape(1024, 0)], ids=["usual", "small", "plain"]
)
CONTENTS = st.one_of(st.binary(max_size=3000), st.text(max_size=2000).map(str.encode))


def unsubstituted(body: bytes) -> bytes:
    """Undo the segments as onboard/receiver.py does."""
    data = b""
    while body:
        length = (body[0] & 127) << 7 | body[1] & 127
        part = body[5 : 5 + length]
        for stand_in, meant in zip(body[2:5], blocks.MEANT, strict=True):
            part = part.replace(bytes((stand_in,)), bytes((meant,)))
        data += part
        body = body[5 + length :]
    return data


def decoded(wire: bytes, window_bits: int) -> bytes:
    """Undo a block, its check included."""
    body = wire[5:]
    assert len(body) == int(wire[:4], 16)
    data = unsubstituted(body)
    assert data[:4] == hashlib.sha256(data[4:]).digest()[:4]
    return zlib.decompress(data[4:], -window_bits) if wire[4:5] == b"z" else data[4:]


def contents_of(packed: list[Block]) -> bytes:
    return b"".join(each.payload for block in packed for each in block.operations if each.kind == b"w")


@given(CONTENTS)
def test_what_was_substituted_comes_back_and_holds_nothing_for_the_prompt(data: bytes) -> None:
    body = substitute(data)

    assert unsubstituted(body) == data
    assert not set(body) & set(blocks.MEANT)
    assert len(body) <= len(data) + len(data) // 16 + 64


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 40,
        b"\3" * 9000,
        b"",
        *(random.Random(seed).randbytes(30_000) for seed in range(5)),
    ],
    ids=["every value", "Ctrl-C", "none", *(f"random {seed}" for seed in range(5))],
)
def test_the_worst_bytes_are_hardly_longer(data: bytes) -> None:
    assert unsubstituted(substitute(data)) == data
    assert len(substitute(data)) <= len(data) + len(data) // 16 + 64


@given(CONTENTS, st.sampled_from([0, 9, 12]))
def test_a_block_is_whole_by_itself(raw: bytes, window_bits: int) -> None:
    assert decoded(encode(raw, window_bits), window_bits) == raw


def test_random_bytes_take_less_than_two_hundredths_more() -> None:
    assert len(encode(random.Random(1).randbytes(8192), 13)) < 1.02 * 8192


@SHAPES
@given(data=CONTENTS, path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=900))
def test_packed_operations_are_all_there_in_order_and_fit_the_board(
    chosen: Shape, data: bytes, path: str
) -> None:
    packer = Packer(chosen)
    packed = packer.path(b"o", path, 0)
    start = 0
    while start < len(data):
        room = packer.room if packer.room > 0 else chosen.size - blocks.HEAD_BYTES
        packed += packer.add(Operation(b"w", data[start : start + room], 0))
        start += room
    packed += packer.add(Operation(b"c", b"x" * 32, 0))
    packed += packer.flush()

    assert contents_of(packed) == data
    named = [each for block in packed for each in block.operations if each.kind in b"po"]
    assert b"".join(each.payload for each in named).decode() == path
    assert [each.kind for each in named][-1] == b"o"
    for block in packed:
        raw = decoded(block.wire, chosen.window_bits)
        assert len(raw) <= chosen.size and len(block.wire) - 5 <= chosen.most


@pytest.mark.parametrize(
    ("free", "modules", "expected"),
    [
        (500_000, {"deflate"}, Shape(8192, 13)),
        (100_000, {"deflate"}, Shape(4096, 12)),
        (30_000, {"zlib"}, Shape(1024, 10)),
        (12_000, {"deflate"}, Shape(512, 9)),
        (None, {"deflate"}, Shape(2048, 11)),
        (500_000, {"binascii"}, Shape(8192, 0)),
    ],
    ids=["roomy", "usual", "small", "smallest", "unknown", "no inflating"],
)
def test_blocks_follow_the_boards_memory_and_modules(
    free: int | None, modules: set[str], expected: Shape
) -> None:
    facts = Facts("micropython", "1.29", "rp2", "Pico", None, frozenset(modules), free, None, True)

    assert shape(facts) == expected


def test_smaller_blocks_come_to_an_end() -> None:
    sizes = []
    chosen: Shape | None = SHAPE
    while chosen is not None:
        sizes.append((chosen.size, chosen.window_bits))
        chosen = chosen.smaller()

    assert sizes == [(4096, 12), (2048, 11), (1024, 10), (512, 9)]
