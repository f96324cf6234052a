"""What lies on real boards, and answers of boards that lie."""

from __future__ import annotations

from hashlib import sha256

import pytest

from belayd.errors import FileNotFound, InternalError, Unsupported
from belayd.files import Found, list_files, read_file, usage
from belayd.files.listing import parse

NAMES = ['it\'s "so".py', " a b ", "grüße 日本 \U0001f600", "back\\slash", "%s{}#", "\t\x01\x04\n"]


def hashed(path: str, data: bytes) -> Found:
    return Found(path, size=len(data), sha256=sha256(data).digest())


async def test_a_folder_tells_what_lies_in_it_by_name(stored) -> None:
    await stored.run("import os\nos.mkdir('/b')\nos.mkdir('/b/c')")
    await stored.put("/b/d", b"12")
    await stored.put("/b.py", b"1")
    await stored.put("/a", b"")

    top = [file for file in await list_files(stored.session, "/") if not file.path.startswith("/disk-")]
    inner = await list_files(stored.session, "/b")
    everything = await list_files(stored.session, "/", recursive=True, hashed=True)
    one = await list_files(stored.session, "/b/d", hashed=True)

    assert top == [Found("/a"), Found("/b", folder=True), Found("/b.py", size=1)]
    assert inner == [Found("/b/c", folder=True), Found("/b/d", size=2)]
    assert [file for file in everything if not file.path.startswith("/disk-")] == [
        hashed("/a", b""),
        Found("/b", folder=True),
        Found("/b/c", folder=True),
        hashed("/b/d", b"12"),
        hashed("/b.py", b"1"),
    ]
    assert one == [hashed("/b/d", b"12")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stored", ["folder", "VfsLfs2"], indirect=True)
async def test_any_name_is_told_as_it_is(stored, name: str) -> None:
    await stored.run(f"import os\nos.mkdir({'/' + name!r})")
    await stored.put(f"/{name}/{name}", b"1")

    found = await list_files(stored.session, f"/{name}", recursive=True, hashed=True)

    assert found == [hashed(f"/{name}/{name}", b"1")]


async def test_two_hundred_folders_deep_is_no_matter(bench) -> None:
    path = "/d" * 200
    (bench.folder / path[1:]).mkdir(parents=True)
    (bench.folder / path[1:] / "a.py").write_bytes(b"1")

    found = await list_files(bench.session, "/", recursive=True)

    assert len(found) == 201
    assert found[-1] == Found(f"{path}/a.py", size=1)


async def test_what_is_not_there_is_told_as_that(stored) -> None:
    with pytest.raises(FileNotFound, match="/nothing"):
        await list_files(stored.session, "/nothing")


async def test_what_cannot_be_read_is_told_and_hides_nothing_else(bench) -> None:
    (bench.folder / "gone").symlink_to("nowhere")
    (bench.folder / "a").write_bytes(b"1")

    found = await list_files(bench.session, "/", recursive=True, hashed=True)

    assert found == [hashed("/a", b"1"), Found("/gone", errno=22)]


async def test_another_filesystem_is_not_looked_into(bench) -> None:
    await bench.mount_disk("VfsLfs2", at="/")
    await bench.run("os.mkdir('/sd')")
    await bench.put("/sd/x", b"")
    await bench.run("vfs.mount(vfs.VfsPosix(),'/sd')")

    found = await list_files(bench.session, "/", recursive=True)

    assert found == [Found("/sd", folder=True, mount=True)]


async def test_what_deployments_keep_for_themselves_is_not_told(bench) -> None:
    for name in (".belayd", "lib"):
        (bench.folder / name).mkdir()
        (bench.folder / name / "0").write_bytes(b"")
    (bench.folder / ".belayd-0123456789ab").write_bytes(b"")

    found = await list_files(bench.session, "/", recursive=True)

    assert [file.path for file in found] == ["/lib", "/lib/0"]


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    before = await bench.evaluate("sorted(globals())")

    await list_files(bench.session, "/", recursive=True, hashed=True)
    await usage(bench.session)

    assert await bench.evaluate("sorted(globals())") == before


async def test_filesystems_tell_how_full_they_are(bench) -> None:
    await bench.mount_disk("VfsLfs2", blocks=100)
    await bench.run("os.mkdir('/sd')")
    await bench.mount_disk("VfsFat", blocks=50, at="/sd")

    root, card = await usage(bench.session)

    assert (root.path, root.total_bytes, root.block_bytes, root.read_only) == ("/", 409600, 4096, False)
    assert 0 < root.free_bytes < root.total_bytes
    assert (card.path, card.block_bytes) == ("/sd", 4096)
    assert card.total_bytes < 50 * 4096


HOSTILE = {
    "leads up": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('..', 1, None)\n\x1eZ(3,)\n",
    "has a slash": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('a/../../b', 1, None)\n\x1eZ(3,)\n",
    "is absolute": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eS('/etc',)\n\x1eZ(3,)\n",
    "has a NUL": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('a\\0b', 1, None)\n\x1eZ(3,)\n",
    "comes from nowhere": "\x1eT(None, 16384, False)\n\x1eD('/../etc',)\n\x1eF('b', 1, None)\n\x1eZ(3,)\n",
    "is empty": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('', 1, None)\n\x1eZ(3,)\n",
    "is code": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF(__import__('os'), 1, None)\n\x1eZ(3,)\n",
    "has no end": "\x1eT(None, 16384, False)\n\x1eD('',)\n",
    "lacks a record": "\x1eT(None, 16384, False)\n\x1eZ(5,)\n",
    "goes on": "\x1eT(None, 0, False)\n\x1eZ(1,)\n\x1eS('x',)\n",
    "a hash too short": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('a', 1, 'AAAA')\n\x1eZ(3,)\n",
    "a negative size": "\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('a', -1, None)\n\x1eZ(3,)\n",
    "a size no disk has": f"\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eF('a', {1 << 63}, None)\n\x1eZ(3,)\n",
    "an errno too large": f"\x1eT(None, 16384, False)\n\x1eD('',)\n\x1eE('a', {1 << 31})\n\x1eZ(3,)\n",
}


@pytest.mark.parametrize("output", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_answer_that_cannot_be_is_refused(output: str) -> None:
    with pytest.raises(InternalError, match="cannot be read"):
        parse("/", output.encode())


@pytest.mark.parametrize("name", ["..", "../boot.py", "/etc/passwd", "a\0b", ""])
async def test_a_board_that_makes_names_up_is_not_believed(bench, name: str) -> None:
    await bench.run(
        "import os,sys\n"
        "class Os:\n"
        " stat=staticmethod(os.stat)\n"
        f" ilistdir=staticmethod(lambda path:[({name!r},0x8000,0,1)])\n"
        "sys.modules['os']=Os"
    )

    with pytest.raises(InternalError, match="leads elsewhere"):
        await list_files(bench.session, "/")


NUMBERS = """
import os,sys
class Os:
 listdir=os.listdir
 stat=staticmethod(lambda path:(0x8000,0,0,0,0,0,1<<70,0,0,0))
 statvfs=staticmethod(lambda path:(4096,4096,1<<70,0,0,0,0,0,0,0))
sys.modules['os']=Os
"""


async def test_a_board_that_makes_numbers_up_is_not_believed(bench) -> None:
    async def take(data: bytes) -> None:
        raise AssertionError(data)

    (bench.folder / "a").touch()
    await bench.run(NUMBERS)

    with pytest.raises(InternalError, match="cannot be read"):
        await usage(bench.session)
    with pytest.raises(InternalError, match="cannot be read"):
        await list_files(bench.session, "/a")
    with pytest.raises(InternalError, match="cannot be read"):
        await read_file(bench.session, "/a", take)


async def test_a_micro_bit_tells_its_files(microbit) -> None:
    await microbit.command("f=open('a b.py','wb')\nf.write(b'12')\nf.close()")

    assert await list_files(microbit, "/") == [Found("/a b.py", size=2)]
    assert await list_files(microbit, "/a b.py") == [Found("/a b.py", size=2)]
    with pytest.raises(FileNotFound):
        await list_files(microbit, "/b")
    with pytest.raises(Unsupported, match="how full"):
        await usage(microbit)
