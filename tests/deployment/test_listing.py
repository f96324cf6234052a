"""Listings as real boards print them, and as a hostile one might."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.deployment import listing
from belayd.deployment.listing import BoardFile, Listing, parse
from belayd.errors import InternalError, Unsupported

LARGEST = 1 << 30
NAMES = [
    'it\'s "so".py',
    " a b ",
    "gr\u00fc\u00dfe \u65e5\u672c \U0001f600",
    "back\\slash",
    "line\nend",
    "%s{}",
    "#",
]
START = b"\x1eU(4096, 4096, 32, 30, 30, 0, 0, 0, 0, 255)\r\n\x1eW('/',)\r\n\x1eT(16384,)\r\n\x1eD('',)\r\n"


async def list_board(bench, top: str = "/", largest: int = LARGEST) -> Listing:
    return parse(await bench.session.command(listing.sources(top, largest, bench.session.facts)[0]))


def entry(data: bytes) -> BoardFile:
    return BoardFile(len(data), sha256(data).digest()[:16])


@pytest.mark.parametrize("kind", ["VfsLfs2", "VfsFat"])
async def test_a_disk_is_listed_with_sizes_hashes_folders_and_room(bench, kind: str) -> None:
    await bench.mount_disk(kind)
    await bench.put("/main.py", b"print(1)")
    await bench.put("/empty", b"")
    await bench.run("os.mkdir('/lib')\nos.mkdir('/lib/x')\nos.mkdir('/none')")
    await bench.put("/lib/x/a.py", b"x" * 3000)

    found = await list_board(bench)

    assert found.files == {
        "main.py": entry(b"print(1)"),
        "empty": entry(b""),
        "lib/x/a.py": entry(b"x" * 3000),
    }
    assert found.folders == {"lib", "lib/x", "none"}
    assert found.exists and not found.is_file and found.filesystems == ("/",)
    assert found.usage is not None and 0 < found.usage.free_bytes < found.usage.total_bytes <= 128 * 4096


async def test_a_hosts_folder_is_listed_with_true_sizes(bench) -> None:
    root = bench.folder
    (root / "a.py").write_bytes(b"x" * 1234)

    assert (await list_board(bench)).files == {"a.py": entry(b"x" * 1234)}


async def test_any_name_comes_back_as_it_is(bench) -> None:
    root = bench.folder
    for name in NAMES:
        (root / name).mkdir()
        (root / name / name).write_text(name)

    found = await list_board(bench)

    assert found.folders == set(NAMES)
    assert found.files == {f"{name}/{name}": entry(name.encode()) for name in NAMES}


async def test_two_hundred_folders_deep_is_no_matter(small_bench) -> None:
    root: Path = small_bench.folder
    deep = root.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "a.py").write_bytes(b"1")

    found = await list_board(small_bench)

    assert found.files == {"d/" * 200 + "a.py": entry(b"1")}
    assert len(found.folders) == 200


async def test_files_larger_than_any_wanted_are_not_read(bench) -> None:
    await bench.mount_disk()
    await bench.put("/log", b"x" * 1001)
    await bench.put("/a.py", b"x" * 1000)

    found = await list_board(bench, largest=1000)

    assert found.files == {"log": BoardFile(1001, None), "a.py": entry(b"x" * 1000)}


async def test_what_cannot_be_read_is_told_and_the_rest_is_listed(bench) -> None:
    root = bench.folder
    (root / "gone").symlink_to("nowhere")
    (root / "loop").symlink_to(root)
    (root / "zz.py").write_bytes(b"1")

    found = await list_board(bench)

    assert found.files["zz.py"] == entry(b"1")
    assert {name for name, file in found.files.items() if file.errno} == {"gone", "loop"}
    assert found.folders == frozenset()


async def test_an_error_in_the_middle_of_a_folder_is_told(bench) -> None:
    await bench.mount_disk()
    await bench.run("os.mkdir('/bad')\nos.mkdir('/good')")
    await bench.put("/good/a.py", b"1")
    await bench.run(
        """
class Failing:
 def __init__(self,whole):
  self.whole=whole
 def __getattr__(self,name):
  return getattr(self.whole,name)
 def ilistdir(self,path):
  for entry in self.whole.ilistdir(path):
   yield entry
  if 'bad' in path:
   raise OSError(5)
whole=vfs.VfsLfs2(disk)
vfs.umount('/')
vfs.mount(Failing(whole),'/')
"""
    )

    found = await list_board(bench)

    assert found.unreadable_folders == {"bad": 5}
    assert found.files == {"good/a.py": entry(b"1")}


@pytest.mark.parametrize("top", ["/nowhere", "/no/where/at/all"])
async def test_a_missing_folder_is_told_with_the_room_there(bench, top: str) -> None:

    found = await list_board(bench, top)

    assert not found.exists and not found.is_file and found.files == {}
    assert found.usage is not None and found.usage.total_bytes > 0


async def test_a_file_where_the_folder_should_be_is_told(bench) -> None:
    await bench.mount_disk()
    await bench.put("/app", b"")

    found = await list_board(bench, "/app")

    assert found.is_file and not found.exists


async def test_another_filesystem_below_is_not_walked_into(bench) -> None:
    root = bench.folder
    for path in ("card", "sd", "sd/x"):
        (root / path).mkdir()
    (root / "card" / "photo").write_bytes(b"1")
    await bench.run(f"import vfs\nvfs.mount(vfs.VfsPosix({str(root / 'card')!r}),'/sd')")

    found = await list_board(bench)

    assert found.mounts == {"sd"}
    assert found.files == {"card/photo": entry(b"1")}
    assert set(found.filesystems) == {"/", "/sd"}


async def test_a_folder_of_a_mounted_filesystem_can_be_listed_itself(bench) -> None:
    await bench.mount_disk()
    await bench.run("vfs.umount('/')\nvfs.mount(disk,'/flash')\nos.mkdir('/flash/lib')")

    inside, root = await list_board(bench, "/flash"), await list_board(bench, "/")

    assert inside.folders == {"lib"} and inside.usage is not None and inside.usage.free_bytes > 0
    assert root.filesystems == ("/flash",) and root.mounts == {"flash"}


CIRCUITPYTHON = """
import sys,os,hashlib
class Os:
 pass
for name in 'listdir stat statvfs mkdir remove rmdir rename'.split():
 setattr(Os,name,staticmethod(getattr(os,name)))
class Hashlib:
 def new(name,sha256=hashlib.sha256):
  if name!='sha256':
   raise ValueError('unsupported')
  return sha256()
Hashlib.new=staticmethod(Hashlib.new)
sys.modules['os']=Os
sys.modules['hashlib']=Hashlib
sys.modules['vfs']=sys
"""


async def test_a_board_without_ilistdir_and_a_mount_table_is_listed_alike(bench) -> None:
    await bench.mount_disk()
    await bench.run("os.mkdir('/lib')")
    await bench.put("/lib/a.py", b"x" * 700)
    await bench.run(CIRCUITPYTHON)

    found = await list_board(bench)

    assert found.files == {"lib/a.py": entry(b"x" * 700)}
    assert found.folders == {"lib"} and found.filesystems == ()


async def test_a_board_without_base64_is_listed_alike(bench) -> None:
    await bench.mount_disk()
    await bench.put("/a.py", b"1")
    await bench.run("import sys\nsys.modules['binascii']=sys")

    lean = listing.sources("/", 99, bench.session.facts)[1]

    assert parse(await bench.session.command(lean)).files == {"a.py": entry(b"1")}


async def test_a_board_without_sha256_is_unsupported(bench) -> None:
    await bench.run("import sys\nsys.modules['hashlib']=type('H',(),{'new':lambda name:int('x')})")

    with pytest.raises(Unsupported, match="SHA-256"):
        await list_board(bench)


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    await bench.mount_disk()
    before = await bench.session.command("print(sorted(globals()))")

    await list_board(bench)

    assert await bench.session.command("print(sorted(globals()))") == before


def test_temporary_files_are_leftovers_and_not_files() -> None:
    output = START + b"\x1eF('.belayd-0123456789ab', 5, None)\r\n\x1eZ(5,)\r\n"

    found = parse(output)

    assert found.files == {} and found.leftovers == {".belayd-0123456789ab": 5}


def test_what_others_print_between_the_lines_is_passed_over() -> None:
    output = b"boo\r\n" + START + b"tick\r\ntock\x1eF('a', 5, None)\r\ntick\x1eZ(5,)\r\n"

    assert parse(output).files == {"a": BoardFile(5, None)}


HOSTILE = {
    "nothing": b"",
    "no end": START,
    "a record lost": START + b"\x1eZ(5,)\n",
    "more after the end": START + b"\x1eZ(4,)\n\x1eF('a',1,None)\n",
    "up": START + b"\x1eF('..',1,None)\n\x1eZ(5,)\n",
    "a path as name": START + b"\x1eF('../boot.py',1,None)\n\x1eZ(5,)\n",
    "an empty name": START + b"\x1eF('',1,None)\n\x1eZ(5,)\n",
    "NUL": START + b"\x1eF('a\\x00',1,None)\n\x1eZ(5,)\n",
    "a folder from nowhere": START + b"\x1eD('/a/b',)\n\x1eZ(5,)\n",
    "a folder up": START + b"\x1eD('/..',)\n\x1eZ(5,)\n",
    "no tuple": START + b"\x1eF5\n\x1eZ(5,)\n",
    "a call": START + b"\x1eF(exit(),)\n\x1eZ(5,)\n",
    "another type": START + b"\x1eF(5,'a',None)\n\x1eZ(5,)\n",
    "a short digest": START + b"\x1eF('a',5,'AAAA')\n\x1eZ(5,)\n",
    "no base64": START + b"\x1eF('a',5,'!!!!!!!!!!!!!!!!!!!!!!')\n\x1eZ(5,)\n",
    "too deep": START + b"\x1eF" + b"(" * 60_000 + b"\n\x1eZ(5,)\n",
    "too long": START + b"\x1eF('" + b"a" * 70_000 + b"',1,None)\n\x1eZ(5,)\n",
    "no UTF-8": START + b"\x1eF('\xff',1,None)\n\x1eZ(5,)\n",
    "an empty record": START + b"\x1e\x1eZ(5,)\n",
    "the unknown": START + b"\x1eQ(1,)\n\x1eZ(5,)\n",
}


@pytest.mark.parametrize("output", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_listing_that_makes_no_sense_is_refused(output: bytes) -> None:
    with pytest.raises(InternalError):
        parse(output)


@given(st.binary(max_size=200), st.integers(0, 100))
def test_no_bytes_at_all_break_the_reader(noise: bytes, at: int) -> None:
    output = START[:at] + noise + START[at:] + b"\x1eZ(4,)\n"

    try:
        found = parse(output)
    except (InternalError, Unsupported):
        return
    assert not any(part in ("", "..", ".") for path in found.files for part in path.split("/"))
