"""Deployments onto real MicroPython: LittleFS, FAT and a folder of the host."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from belayd.deployment.paths import temporary_beside
from belayd.deployment.transfer import Options, Progress, deploy
from belayd.errors import (
    BoardFull,
    InternalError,
    OutOfMemory,
    ReadOnly,
    RequestInvalid,
    TransportLost,
    Unsupported,
)
from belayd.session import Session
from belayd.transport.serial import open_serial

EVERY_BYTE = bytes(range(256))
RANDOM = random.Random(1).randbytes(20_000)
SOURCE = Path(__file__).read_bytes()
TREE = {
    "main.py": b"import app\n",
    "empty.py": b"",
    "app/__init__.py": SOURCE,
    "app/data/bytes.bin": EVERY_BYTE * 5,
    "app/data/random.bin": RANDOM,
    "repl.txt": b"\x01\x02\x03\x04\x05\r\n\x00" * 9,
}


def absolute(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"/{path}": data for path, data in files.items()}


async def files_on(bench, top: str = "/") -> dict[str, bytes]:
    return {path: data for path, data in (await bench.tree(top)).items() if data is not None}


@pytest.fixture(params=["folder", "VfsLfs2", "VfsFat"])
async def stored(request, bench):
    """A board, once with each filesystem."""
    if request.param != "folder":
        await bench.mount_disk(request.param, blocks=256)
    return bench


async def test_a_tree_arrives_byte_by_byte_and_then_nothing_is_left_to_do(stored) -> None:
    first = await stored.deploy(TREE)
    second = await stored.deploy(TREE)

    assert await files_on(stored) == absolute(TREE)
    assert (first.files_written, first.files_same) == (len(TREE), 0)
    assert first.payload_bytes == sum(map(len, TREE.values()))
    assert (second.files_written, second.files_same, second.round_trips) == (0, len(TREE), 1)
    assert second.skipped_bytes == first.payload_bytes
    assert stored.plans[1].empty


async def test_only_what_differs_is_written(stored) -> None:
    await stored.deploy(TREE)

    summary = await stored.deploy({**TREE, "main.py": b"import appl\n", "new.py": b"1"})

    assert summary.files_written == 2
    assert [write.path for write in stored.plans[1].write] == ["/new.py", "/main.py"]
    assert (await files_on(stored))["/main.py"] == b"import appl\n"


async def test_a_file_gives_way_to_a_folder_and_the_reverse(stored) -> None:
    await stored.deploy({"a": b"file", "b/c/d": b"deep", "b/e": b"less"})

    await stored.deploy({"a/x": b"1", "b": b"2"})

    assert await stored.tree() == {"/a": None, "/a/x": b"1", "/b": b"2"}


async def test_prune_deletes_the_rest_but_what_is_kept_or_spared(stored) -> None:
    await stored.deploy({"old/deep/x": b"", "old/y": b"", "boot.py": b"b", "lib/l": b"l", "log/z": b"z"})

    without = await stored.deploy({"main.py": b"m"})
    pruned = await stored.deploy({"main.py": b"m"}, Options(prune=True, keep=["log/"]))
    bare = await stored.deploy(
        {"main.py": b"m"}, Options(prune=True, prune_also=["lib", "boot.py", "webrepl_cfg.py"])
    )

    assert without.files_deleted == 0
    assert stored.plans[2].delete == ("/old/deep/x", "/old/deep", "/old/y", "/old")
    assert pruned.files_deleted == 4
    assert bare.files_deleted == 5
    assert await stored.tree() == {"/main.py": b"m"}


async def test_a_dry_run_tells_the_plan_and_changes_nothing(stored) -> None:
    await stored.deploy({"a": b"1", "old": b""})
    before = await stored.tree()

    summary = await stored.deploy({"a": b"2", "b/c": b"3"}, Options(prune=True, dry_run=True))

    told = stored.plans[1]
    assert [write.path for write in told.write] == ["/a", "/b/c"]
    assert (told.make_folders, told.delete, told.payload_bytes) == (("/b",), ("/old",), 2)
    assert (summary.files_written, summary.round_trips) == (0, 1)
    assert await stored.tree() == before


async def test_a_destination_is_made_and_nothing_beside_it_is_touched(stored) -> None:
    await stored.deploy({"x/y": b"", "main.py": b"m"})

    await stored.deploy({"a/b": b"1"}, Options(destination="/new/app", prune=True))

    assert await files_on(stored) == {"/x/y": b"", "/main.py": b"m", "/new/app/a/b": b"1"}


@pytest.mark.parametrize(
    "name",
    [
        'it\'s "so".py',
        " a b ",
        "gr\u00fc\u00dfe \u65e5\u672c \U0001f600",
        "back\\slash",
        "%s{}#",
        "\t\x01\x04\n",
    ],
    ids=["quotes", "spaces", "beyond ASCII", "backslash", "signs", "control"],
)
@pytest.mark.parametrize("stored", ["folder", "VfsLfs2"], indirect=True)
async def test_any_name_can_be_deployed_compared_and_pruned(stored, name: str) -> None:
    await stored.deploy({f"{name}/{name}": b"1"})
    there = await stored.tree()
    again = await stored.deploy({f"{name}/{name}": b"1"})
    await stored.deploy({}, Options(prune=True))

    assert there == {f"/{name}": None, f"/{name}/{name}": b"1"}
    assert again.files_same == 1
    assert await stored.tree() == {}


async def test_a_name_that_the_filesystem_refuses_is_the_requests_fault(bench) -> None:
    await bench.mount_disk("VfsFat")

    with pytest.raises(RequestInvalid, match="a:b") as refusal:
        await bench.deploy({"a:b": b"1"})

    assert refusal.value.fields["path"] == "/a:b"
    assert await bench.tree() == {}


async def test_two_hundred_folders_deep_is_no_matter(bench) -> None:
    root = bench.folder
    path = "d/" * 200 + "a.py"

    await bench.deploy({path: b"1"})
    await bench.deploy({}, Options(prune=True))

    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "data", [bytes(1 << 20), random.Random(2).randbytes(1 << 20)], ids=["zeros", "random"]
)
async def test_a_megabyte_arrives(bench, data: bytes) -> None:
    root = bench.folder

    summary = await bench.deploy({"big.bin": data})

    assert (root / "big.bin").read_bytes() == data
    assert summary.wire_bytes < 1.4 * len(data)


async def test_progress_only_grows_and_ends_at_the_whole(bench) -> None:
    await bench.mount_disk(blocks=256)

    await bench.deploy(TREE)

    total = sum(map(len, TREE.values()))
    written = [step.written_bytes for step in bench.progress]
    assert written == sorted(written) and written[-1] == total
    assert {step.total_bytes for step in bench.progress} == {total}
    assert len(written) > 3


async def test_twenty_files_take_few_round_trips(bench) -> None:
    await bench.mount_disk(blocks=256)
    tree = {f"app/{number}/a.py": SOURCE[number * 100 :][:5000] for number in range(20)}

    first = await bench.deploy(tree)

    assert first.round_trips <= 40
    assert first.wire_bytes < 0.40 * first.payload_bytes


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    await bench.mount_disk()
    before = await bench.session.command("print(sorted(globals()))")

    await bench.deploy(TREE)

    assert await bench.session.command("print(sorted(globals()))") == before


# Boards that have less


LESS = {
    "no deflate": (("deflate",), ("binascii",)),
    "no binascii": (("deflate", "binascii"), ()),
}


@pytest.mark.parametrize(("missing", "present"), LESS.values(), ids=LESS.keys())
async def test_a_board_with_fewer_modules_is_served(bench, missing, present) -> None:
    await bench.mount_disk(blocks=256)
    await bench.run("import sys\n" + "\n".join(f"sys.modules[{name!r}]=sys" for name in missing))
    bench.session.facts = replace(bench.session.facts, modules=frozenset({"hashlib", *present}))

    await bench.deploy(TREE)
    again = await bench.deploy(TREE)

    assert await files_on(bench) == absolute(TREE)
    assert again.files_same == len(TREE)


CIRCUITPYTHON = """
import sys,os,hashlib,deflate,io
class Os:
 pass
for name in 'listdir stat statvfs mkdir remove rmdir'.split():
 setattr(Os,name,staticmethod(getattr(os,name)))
def rename(old,new,rename=os.rename,stat=os.stat):
 try:
  stat(new)
 except OSError:
  return rename(old,new)
 raise OSError(17)
Os.rename=staticmethod(rename)
class Hashlib:
 new=staticmethod(lambda name,sha256=hashlib.sha256:sha256())
class Zlib:
 @staticmethod
 def decompress(data,bits,inflate=deflate.DeflateIO,file=io.BytesIO):
  return inflate(file(data),1,-bits).read()
sys.modules.update({'os':Os,'hashlib':Hashlib,'zlib':Zlib,'deflate':sys,'vfs':sys})
"""


@pytest.mark.parametrize("in_place", [False, True], ids=["staged", "in place"])
@pytest.mark.parametrize("also", [(), ("sys.stdin", "sys.stdout")], ids=["by steps", "by blocks"])
async def test_a_board_that_is_like_circuitpython_is_served(bench, also, in_place: bool) -> None:
    await bench.mount_disk(blocks=256)
    await bench.put("/main.py", b"old")
    await bench.run(CIRCUITPYTHON)
    modules = frozenset({"hashlib", "binascii", "zlib", *also})
    bench.session.facts = replace(bench.session.facts, modules=modules)

    await bench.deploy(TREE, Options(in_place=in_place))
    await bench.run("sys.modules.clear()\nimport os")

    assert await files_on(bench) == absolute(TREE)


async def test_a_small_heap_is_enough(small_bench) -> None:

    await small_bench.deploy({**TREE, "big": RANDOM * 5})

    assert (small_bench.folder / "big").read_bytes() == RANDOM * 5


async def test_smaller_pieces_are_sent_where_memory_has_become_scarce(small_bench) -> None:
    await small_bench.run(
        "import gc\nhog=[]\ngc.collect()\nwhile gc.mem_free()>24000: hog.append(bytearray(500))"
    )

    await small_bench.deploy({"a.bin": RANDOM, "b.py": SOURCE}, Options(in_place=True))

    assert (small_bench.folder / "a.bin").read_bytes() == RANDOM
    assert (small_bench.folder / "b.py").read_bytes() == SOURCE


async def test_no_memory_at_all_is_told(small_bench) -> None:
    await small_bench.run(
        "import gc\nhog=[]\ngc.collect()\nwhile gc.mem_free()>6000: hog.append(bytearray(100))"
    )

    with pytest.raises(OutOfMemory):
        await small_bench.deploy({"a.bin": RANDOM})

    assert await small_bench.number("1+1") == 2


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"modules": frozenset({"binascii"})}, "no hashlib"), ({"memory_free_bytes": 5000}, "5000 bytes")],
    ids=["no hashlib", "no memory"],
)
async def test_a_board_that_is_too_small_is_unsupported_and_untouched(bench, changes, match) -> None:
    bench.session.facts = replace(bench.session.facts, **changes)
    before = bench.session.traffic.sent_bytes

    with pytest.raises(Unsupported, match=match):
        await bench.deploy({"a": b""})

    assert bench.session.traffic.sent_bytes == before


# What goes wrong


@pytest.mark.parametrize("path", ["../boot.py", "/boot.py", "a//b", ".", ""])
async def test_a_bad_path_is_refused_before_the_board_hears_of_it(bench, path: str) -> None:
    before = bench.session.traffic.sent_bytes

    with pytest.raises(RequestInvalid):
        await bench.deploy({"good.py": b"", path: b""})

    assert bench.session.traffic.sent_bytes == before


async def test_what_does_not_fit_is_refused_before_anything_is_touched(bench) -> None:
    await bench.mount_disk(blocks=32)
    await bench.deploy({"main.py": b"old", "old": b""})
    before = await bench.tree()

    with pytest.raises(BoardFull) as refusal:
        await bench.deploy({"main.py": b"new", "big": bytes(130_000)}, Options(prune=True))

    need, free = (int(refusal.value.fields[name]) for name in ("need", "free"))
    assert need > 130_000 > free > 90_000
    assert await bench.tree() == before


async def test_what_is_said_to_fit_fits(bench) -> None:
    await bench.mount_disk(blocks=68)
    tree = {f"d{number % 5}/a{number}.bin": RANDOM[: number * 420] for number in range(25)}

    await bench.deploy(tree)
    with pytest.raises(BoardFull):
        await bench.deploy({**tree, "one more": RANDOM * 2})

    assert await files_on(bench) == absolute(tree)


async def test_what_fits_only_in_place_is_refused_with_that_advice_and_then_goes(bench) -> None:
    await bench.mount_disk(blocks=48)
    await bench.deploy({f"{number}.bin": RANDOM for number in range(5)}, Options(in_place=True))
    tree = {f"{number}.bin": RANDOM[::-1] for number in range(5)}

    with pytest.raises(BoardFull, match="in_place") as refusal:
        await bench.deploy(tree)
    await bench.deploy(tree, Options(in_place=True))

    assert int(refusal.value.fields["need_in_place"]) <= int(refusal.value.fields["free"])
    assert await files_on(bench) == absolute(tree)


async def test_a_board_with_memory_for_the_files_but_not_for_a_journal_is_told_of_in_place(bench) -> None:
    bench.session.facts = replace(bench.session.facts, memory_free_bytes=15_000)

    with pytest.raises(Unsupported, match="in_place"):
        await bench.deploy({"a.py": b"1"})
    await bench.deploy({"a.py": b"1"}, Options(in_place=True))

    assert await files_on(bench) == {"/a.py": b"1"}


LIAR = """
class Liar:
 def __init__(self,whole):
  self.whole=whole
 def __getattr__(self,name):
  return getattr(self.whole,name)
 def statvfs(self,path):
  return (4096,4096,9999,9999,9999,0,0,0,0,255)
whole=vfs.VfsLfs2(disk)
vfs.umount('/')
vfs.mount(Liar(whole),'/')
"""


async def test_a_filesystem_that_fills_up_all_the_same_keeps_the_old_file(bench) -> None:
    await bench.mount_disk(blocks=32)
    await bench.put("/b.bin", b"old")
    await bench.run(LIAR)

    with pytest.raises(BoardFull) as failure:
        await bench.deploy({"a.bin": b"1" * 5000, "b.bin": RANDOM * 10})

    assert failure.value.fields["path"] == "/b.bin"
    assert await bench.tree() == {"/b.bin": b"old"}


@pytest.mark.parametrize("kind", ["VfsLfs2", "VfsFat"])
async def test_a_filesystem_that_is_read_only_is_told_unless_nothing_is_to_do(bench, kind: str) -> None:
    await bench.mount_disk(kind)
    await bench.put("/a.py", b"1")
    await bench.run("vfs.umount('/')\nvfs.mount(disk,'/',readonly=True)")

    same = await bench.deploy({"a.py": b"1"})
    with pytest.raises(ReadOnly) as failure:
        await bench.deploy({"a.py": b"2"})

    assert same.files_same == 1
    assert failure.value.fields["path"] == "/a.py"


@pytest.mark.parametrize("files", [{"a.py": b""}, {"lib/a.py": b""}], ids=["a file", "a folder first"])
async def test_a_filesystem_in_rom_is_read_only(bench, files) -> None:
    await bench.run("import vfs,os\nvfs.umount('/')\nvfs.mount(vfs.VfsRom(b'\\xd2\\xcd\\x31\\x00'),'/')")

    with pytest.raises(ReadOnly):
        await bench.deploy(files)


async def test_no_filesystem_at_the_destination_is_told_with_those_there_are(bench) -> None:
    await bench.mount_disk()
    await bench.run("vfs.umount('/')\nvfs.mount(disk,'/flash')")

    with pytest.raises(RequestInvalid, match="/flash"):
        await bench.deploy({"a.py": b""})
    await bench.deploy({"a.py": b"1"}, Options(destination="/flash"))

    assert await files_on(bench, "/flash") == {"/flash/a.py": b"1"}


@pytest.mark.parametrize("size", [30, 9000], ids=["in one exec", "over several"])
async def test_a_file_that_comes_out_wrong_is_written_again(bench, size: int) -> None:
    await bench.mount_disk("VfsFat", blocks=1024, size=512)
    data = RANDOM[:size] + b"#damaged#"
    await bench.run("disk.damage=b'#damaged#'\ndisk.damages=1")

    await bench.deploy({"a.py": b"before", "b.bin": data, "c.py": b"after"})

    assert await bench.number("disk.damages") == 0
    assert await files_on(bench) == {"/a.py": b"before", "/b.bin": data, "/c.py": b"after"}
    assert bench.progress[-1].written_bytes == bench.progress[-1].total_bytes


async def test_a_file_that_comes_out_wrong_twice_leaves_the_old_one(bench) -> None:
    await bench.mount_disk("VfsFat", blocks=1024, size=512)
    await bench.put("/b.bin", b"old")
    await bench.run("disk.damage=b'#damaged#'\ndisk.damages=100")

    with pytest.raises(InternalError) as failure:
        await bench.deploy({"b.bin": RANDOM[:9000] + b"#damaged#"})

    assert await bench.number("disk.damages") == 98
    assert await bench.tree() == {"/b.bin": b"old"}
    assert failure.value.fields["expected"] != failure.value.fields["found"]
    assert {len(failure.value.fields[name]) for name in ("expected", "found")} == {64}


async def test_what_a_broken_deployment_left_is_removed_even_without_prune(stored) -> None:
    await stored.deploy({"lib/a.py": b"1", "mine.txt": b""})
    await stored.put(temporary_beside("/lib/a.py"), b"half")
    await stored.put(temporary_beside("/gone.py"), b"half")

    await stored.deploy({"lib/a.py": b"1"})

    assert await files_on(stored) == {"/lib/a.py": b"1", "/mine.txt": b""}


class ContentLost(Exception):
    """What a store may raise."""


async def test_a_failure_of_the_caller_removes_the_temporary_file(bench, manifest_of) -> None:
    await bench.mount_disk()
    files = {"a.bin": RANDOM, "b.bin": RANDOM[:100]}

    async def content(digest: bytes) -> bytes:
        if digest == manifest_of(files)[1].sha256:
            raise ContentLost
        return files["a.bin"]

    async def report(step: object) -> None:
        pass

    with pytest.raises(ContentLost):
        await deploy(bench.session, manifest_of(files), content, Options(), report)

    assert await bench.number("int('_BR' in globals())") == 0
    assert (await bench.deploy(files)).files_written >= 1


async def test_a_listener_that_fails_in_the_middle_of_a_file_leaves_no_half_of_it(bench, manifest_of) -> None:
    await bench.mount_disk()

    async def content(digest: bytes) -> bytes:
        return RANDOM

    async def report(step: object) -> None:
        if isinstance(step, Progress):
            raise ContentLost

    with pytest.raises(ContentLost):
        await deploy(bench.session, manifest_of({"a.bin": RANDOM}), content, Options(), report)

    assert await bench.tree() == {}


@pytest.mark.parametrize("given", [b"other", b"12"], ids=["another content", "another size"])
async def test_content_that_is_not_what_the_manifest_says_is_never_sent(bench, manifest_of, given) -> None:
    await bench.mount_disk()
    manifest = [replace(file, size=1) for file in manifest_of({"a.py": b"12"})]

    async def content(digest: bytes) -> bytes:
        return given

    async def report(step: object) -> None:
        pass

    with pytest.raises((InternalError, RequestInvalid)):
        await deploy(bench.session, manifest, content, Options(), report)

    assert await bench.tree() == {}


async def test_a_board_that_goes_away_in_the_middle_is_lost(bench, manifest_of) -> None:

    async def content(digest: bytes) -> bytes:
        return RANDOM

    async def report(step: object) -> None:
        if isinstance(step, Progress):
            await bench.transport.close()

    with pytest.raises(TransportLost):
        await deploy(bench.session, manifest_of({"a.bin": RANDOM}), content, Options(), report)


@pytest.mark.parametrize("pauses", [0, 1], ids=["in a command", "between commands"])
@pytest.mark.parametrize("reports", range(1, 5))
async def test_a_deployment_cancelled_while_it_stages_leaves_the_old_tree_and_the_next_is_whole(
    bench, manifest_of, reports: int, pauses: int
) -> None:
    await bench.mount_disk(blocks=256)
    await bench.deploy(dict.fromkeys(TREE, b"old"))

    await cancel_after(bench, manifest_of(TREE), reports, pauses)
    found = await files_on(bench)
    await bench.deploy(TREE)

    whole = {path: data for path, data in found.items() if not path.startswith("/.belayd/")}
    assert whole == absolute(dict.fromkeys(TREE, b"old"))
    assert await files_on(bench) == absolute(TREE)


async def cancel_after(bench, manifest, reports: int, pauses: int) -> None:
    """Cancel a deployment after so many reports, and bring the board back as its task does."""
    contents = {file.sha256: data for file, data in zip(manifest, TREE.values(), strict=True)}
    left = reports

    async def content(digest: bytes) -> bytes:
        return contents[digest]

    async def report(step: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            loop.call_soon(job.cancel)
            for _ in range(pauses):
                await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    job = asyncio.create_task(deploy(bench.session, manifest, content, Options(), report))
    await asyncio.wait([job])
    assert job.cancelled()
    if not bench.session.proven:
        await bench.session.recovery(report)[0].action()


async def test_a_micro_bit_is_unsupported_and_told_why(microbit_port: Path, manifest_of) -> None:
    transport = await open_serial(str(microbit_port))
    session = Session("microbit", transport, lambda letters: secrets.token_hex(letters)[:letters])

    async def nothing(*_: object) -> bytes:
        return b""

    try:
        await session.start(nothing)
        with pytest.raises(Unsupported, match="hashlib"):
            await deploy(session, manifest_of({"main.py": b""}), nothing, Options(), nothing)
    finally:
        await transport.close()
