"""Files from real boards, byte by byte: what comes, what it costs, and what is refused."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from hashlib import sha256

import pytest

from belayd.errors import FileNotFound, InternalError, RequestInvalid
from belayd.files import read_file
from belayd.session import Session
from belayd.transport.process import open_simulated

EVERY_BYTE = bytes(range(256))
RANDOM = random.Random(1).randbytes(70_001)
CONTENTS = {
    "empty": b"",
    "one byte": b"\x04",
    "what a prompt reads": b"\x01\x02\x03\x04\x05\r\n\x00>" * 9,
    "one block": EVERY_BYTE * 16,
    "a byte more": EVERY_BYTE * 16 + b"x",
    "the window": EVERY_BYTE * 256,
    "beyond the window": EVERY_BYTE * 256 + b"x",
    "random": RANDOM,
}


class Sink:
    """Takes what is read."""

    def __init__(self) -> None:
        self.data = b""
        self.size: int | None = None

    async def begin(self, size: int) -> None:
        assert not self.data
        self.size = size

    async def take(self, data: bytes) -> None:
        assert data
        self.data += data


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_a_file_comes_byte_by_byte_with_its_hash(stored, content: bytes) -> None:
    await stored.put("/a b.bin", content)
    sink = Sink()

    digest = await read_file(stored.session, "/a b.bin", sink.take, sink.begin)

    assert (sink.data, sink.size, digest) == (content, len(content), sha256(content).digest())
    assert stored.session.proven


@pytest.mark.parametrize(
    "modules",
    [
        {"hashlib", "binascii", "sys.stdout", "sys.stdin"},
        {"hashlib", "sys.stdout", "sys.stdin"},
        {"hashlib", "binascii", "sys.stdout"},
    ],
    ids=["base64 in blocks", "repr in pieces", "base64 in pieces"],
)
async def test_a_link_that_changes_bytes_or_a_board_that_reads_none_costs_only_time(bench, modules) -> None:
    await bench.put("/a.bin", RANDOM)
    await bench.run("import sys\n" + ("" if "binascii" in modules else "sys.modules['binascii']=sys"))
    bench.session.facts = replace(bench.session.facts, clear=False, modules=frozenset(modules))
    sink = Sink()

    digest = await read_file(bench.session, "/a.bin", sink.take, sink.begin)

    assert (sink.data, sink.size, digest) == (RANDOM, len(RANDOM), sha256(RANDOM).digest())


async def test_a_board_without_hashes_sends_none(bench) -> None:
    await bench.put("/a.bin", RANDOM)
    await bench.run("import sys\nsys.modules['hashlib']=sys")
    sink = Sink()

    assert await read_file(bench.session, "/a.bin", sink.take) == b""
    assert sink.data == RANDOM


async def test_what_is_no_file_is_refused_and_the_board_serves_on(stored) -> None:
    await stored.run("import os\nos.mkdir('/folder')")

    with pytest.raises(FileNotFound, match="/nothing"):
        await read_file(stored.session, "/nothing", Sink().take)
    with pytest.raises(RequestInvalid, match="is a folder"):
        await read_file(stored.session, "/folder", Sink().take)

    assert stored.session.proven
    assert await stored.evaluate("6*7") == 42


async def test_the_board_waits_for_whoever_takes_the_bytes(bench) -> None:
    await bench.put("/a.bin", EVERY_BYTE * 4096)
    sink = Sink()
    ahead: list[int] = []

    async def take(data: bytes) -> None:
        await sink.take(data)
        for _ in range(20):  # rounds of the loop, in which the link reads what has come
            await asyncio.sleep(0)
        ahead.append(bench.session.traffic.received_bytes - before - len(sink.data))

    before = bench.session.traffic.received_bytes
    await read_file(bench.session, "/a.bin", take)

    assert max(ahead) <= 5 * 16_500
    assert sink.data == EVERY_BYTE * 4096


async def test_reading_that_is_cancelled_is_interrupted_and_the_board_serves_on(bench) -> None:
    await bench.put("/a.bin", EVERY_BYTE * 4096)
    first = asyncio.Event()

    async def take(data: bytes) -> None:
        first.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(read_file(bench.session, "/a.bin", take))
    await asyncio.wait_for(first.wait(), 30)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not bench.session.proven
    await bench.session.recovery(Sink().take)[0].action()

    sink = Sink()
    await read_file(bench.session, "/a.bin", sink.take)
    assert sink.data == EVERY_BYTE * 4096


@pytest.mark.parametrize("gone", [5_000, 50_000], ids=["before the window is full", "after"])
async def test_a_file_that_is_cut_short_meanwhile_is_an_error(bench, gone: int) -> None:
    await bench.put("/a.bin", RANDOM)
    taken = 0

    async def take(data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        (bench.folder / "a.bin").write_bytes(RANDOM[:gone])

    with pytest.raises(InternalError, match="shorter"):
        await read_file(bench.session, "/a.bin", take)

    assert taken < len(RANDOM)
    assert bench.session.proven
    assert await bench.evaluate("1+1") == 2


async def test_a_megabyte_costs_half_a_percent_at_most_on_the_wire(bench) -> None:
    data = random.Random(2).randbytes(1 << 20)
    (bench.folder / "a.bin").write_bytes(data)
    before = bench.wire_bytes
    sink = Sink()

    await read_file(bench.session, "/a.bin", sink.take)

    assert sink.data == data
    assert (bench.wire_bytes - before) / len(data) < 1.005


@pytest.mark.parametrize("heap_kib", [72, 160], ids=["smallest blocks", "medium blocks"])
async def test_a_board_with_little_memory_sends_smaller_blocks(tmp_path, heap_kib: int) -> None:
    transport = await open_simulated(tmp_path, heap_kib=heap_kib)
    session = Session("small", transport, lambda length: secrets.token_hex(length)[:length])
    await session.start(Sink().take)
    (tmp_path / "a.bin").write_bytes(RANDOM)
    sink = Sink()

    digest = await read_file(session, "/a.bin", sink.take)
    wire_bytes = transport.traffic.sent_bytes + transport.traffic.received_bytes
    await session.close()

    assert (sink.data, digest) == (RANDOM, sha256(RANDOM).digest())
    assert wire_bytes < 1.2 * len(RANDOM)


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    await bench.put("/a.bin", RANDOM)
    before = await bench.evaluate("sorted(globals())")

    await read_file(bench.session, "/a.bin", Sink().take)

    assert await bench.evaluate("sorted(globals())") == before


async def test_a_micro_bits_files_come_too(microbit) -> None:
    data = EVERY_BYTE * 2
    await microbit.command("f=open('a.bin','wb')")
    await microbit.command(f"f.write({data!r})")
    await microbit.command("f.close()")
    sink = Sink()

    digest = await read_file(microbit, "/a.bin", sink.take, sink.begin)

    assert (sink.data, sink.size, digest) == (data, len(data), b"")
    with pytest.raises(FileNotFound, match=r"/b\.bin"):
        await read_file(microbit, "/b.bin", sink.take)
    with pytest.raises(FileNotFound, match="no folders"):
        await read_file(microbit, "/lib/b.bin", sink.take)
