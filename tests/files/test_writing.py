"""Files onto real boards: whole or as they were, any name, any content."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest

from belayd.errors import BoardFull, FileNotFound, RequestInvalid
from belayd.files import Wanted, list_files, read_file, write_file

EVERY_BYTE = bytes(range(256))
CONTENTS = {
    "empty": b"",
    "every byte": EVERY_BYTE,
    "text": b"print('hello')\r\n" * 500,
    "random": random.Random(1).randbytes(30_000),
}
NAMES = ['it\'s "so".py', " a b ", "grüße 日本 \U0001f600", "back\\slash", "%s{}#", "\t\x01\x04\n"]


async def write(session, path: str, data: bytes, parents: bool = False) -> bool:
    async def contents(digest: bytes) -> bytes:
        assert digest == sha256(data).digest()
        return data

    return await write_file(session, Wanted(path, len(data), sha256(data).digest(), parents), contents)


async def read(session, path: str) -> bytes:
    data = bytearray()

    async def take(chunk: bytes) -> None:
        data.extend(chunk)

    await read_file(session, path, take)
    return bytes(data)


async def paths(session) -> list[str]:
    found = await list_files(session, "/", recursive=True)
    return [file.path for file in found if not file.path.startswith("/disk-")]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
async def test_a_file_is_written_and_written_over(stored, content: bytes) -> None:
    changed = [await write(stored.session, "/a.bin", data) for data in (content, content, b"other", content)]

    assert changed == [True, False, True, True]
    assert await read(stored.session, "/a.bin") == content
    assert await paths(stored.session) == ["/a.bin"]


async def test_two_megabytes_arrive_and_come_back(bench) -> None:
    data = random.Random(2).randbytes(2 << 20)

    await write(bench.session, "/a.bin", data)

    assert (bench.folder / "a.bin").read_bytes() == data
    assert await read(bench.session, "/a.bin") == data


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stored", ["folder", "VfsLfs2"], indirect=True)
async def test_any_name_goes(stored, name: str) -> None:
    await write(stored.session, f"/{name}/{name}", EVERY_BYTE, parents=True)

    assert await paths(stored.session) == [f"/{name}", f"/{name}/{name}"]
    assert await read(stored.session, f"/{name}/{name}") == EVERY_BYTE


async def test_two_hundred_folders_deep_is_no_matter(bench) -> None:
    path = "/d" * 200 + "/a.py"

    await write(bench.session, path, EVERY_BYTE, parents=True)

    assert await read(bench.session, path) == EVERY_BYTE
    assert (bench.folder / path[1:]).read_bytes() == EVERY_BYTE


async def test_a_place_where_no_file_can_be_is_refused_and_nothing_is_touched(stored) -> None:
    await write(stored.session, "/folder/file", b"1", parents=True)

    with pytest.raises(FileNotFound, match="no folder '/x'"):
        await write(stored.session, "/x/y", b"1")
    with pytest.raises(FileNotFound, match="no folder '/x/y'"):
        await write(stored.session, "/x/y/z", b"1")
    with pytest.raises(RequestInvalid, match="is a folder"):
        await write(stored.session, "/folder", b"1")
    with pytest.raises(RequestInvalid, match="through a file"):
        await write(stored.session, "/folder/file/x", b"1", parents=True)
    assert await paths(stored.session) == ["/folder", "/folder/file"]


async def test_what_does_not_fit_is_refused_before_anything_is_touched(bench) -> None:
    await bench.mount_disk("VfsLfs2", blocks=64)
    await write(bench.session, "/a.bin", b"old")

    with pytest.raises(BoardFull) as refusal:
        await write(bench.session, "/a.bin", random.Random(1).randbytes(64 * 4096))

    assert int(refusal.value.fields["need"]) > int(refusal.value.fields["free"])
    assert await paths(bench.session) == ["/a.bin"]
    assert await read(bench.session, "/a.bin") == b"old"


async def test_what_a_writing_that_broke_off_left_makes_room_for_the_next(stored) -> None:
    await stored.run("import os\nos.mkdir('/d')\nos.mkdir('/d/.belayd-0123456789ab')")
    for name in (".belayd-a123456789ab", ".belayd-0123456789abc", ".belayd-0123456789xy"):
        await stored.put(f"/d/{name}", b"1")

    await write(stored.session, "/d/a", b"2")

    assert await stored.evaluate("sorted(os.listdir('/d'))") == [
        ".belayd-0123456789ab",
        ".belayd-0123456789abc",
        ".belayd-0123456789xy",
        "a",
    ]


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    before = await bench.evaluate("sorted(globals())")

    await write(bench.session, "/a.bin", EVERY_BYTE)
    await write(bench.session, "/a.bin", EVERY_BYTE)

    assert await bench.evaluate("sorted(globals())") == before


async def test_a_micro_bit_takes_files_too(microbit) -> None:
    content = EVERY_BYTE * 2

    changed = [await write(microbit, "/a.bin", data) for data in (content, content, b"other", b"", content)]

    assert changed == [True, False, True, True, True]
    assert await read(microbit, "/a.bin") == content
    with pytest.raises(FileNotFound, match="no folders"):
        await write(microbit, "/lib/a.bin", b"1", parents=True)


async def test_a_micro_bit_that_is_full_says_so_and_serves_on(microbit) -> None:
    await microbit.command("f=open('big','wb')")
    await microbit.command("for i in range(150):f.write(b'x'*100)\nf.close()\ndel f")
    before = await list_files(microbit, "/")

    with pytest.raises(BoardFull, match=r"/a\.bin"):
        await write(microbit, "/a.bin", EVERY_BYTE)

    assert await list_files(microbit, "/") == before
