"""Names changed on real boards."""

from __future__ import annotations

import pytest

from belayd.errors import FileNotFound, ReadOnly, RequestInvalid, Unsupported
from belayd.files import delete, list_files, make_folder, move, touch

NAMES = ['it\'s "so".py', " a b ", "grüße 日本 \U0001f600", "back\\slash", "%s{}#", "\t\x01\x04\n"]


async def paths(bench, top: str = "/") -> list[str]:
    found = await list_files(bench.session, top, recursive=True)
    return [file.path for file in found if not file.path.startswith("/disk-")]


async def content(bench, path: str) -> object:
    return await bench.evaluate(f"open({path!r},'rb').read()")


async def test_folders_are_made_with_those_that_lead_to_them(stored) -> None:
    made = await make_folder(stored.session, "/a/b/c", parents=True)
    again = await make_folder(stored.session, "/a/b/c", parents=True)
    one = await make_folder(stored.session, "/a/d")

    assert (made, again, one) == (3, 0, 1)
    assert await paths(stored) == ["/a", "/a/b", "/a/b/c", "/a/d"]


async def test_a_folder_that_cannot_be_made_says_why(stored) -> None:
    await stored.put("/file", b"")

    with pytest.raises(FileNotFound, match="/a/b"):
        await make_folder(stored.session, "/a/b/c")
    with pytest.raises(RequestInvalid, match="there already"):
        await make_folder(stored.session, "/file")
    with pytest.raises(RequestInvalid, match="through a file"):
        await make_folder(stored.session, "/file/a", parents=True)
    with pytest.raises(RequestInvalid, match="through a file"):
        await make_folder(stored.session, "/file", parents=True)
    assert await paths(stored) == ["/file"]


async def test_a_file_is_touched_and_one_that_is_there_stays(stored) -> None:
    await stored.put("/b", b"12")

    results = [await touch(stored.session, path) for path in ("/a", "/a", "/b")]
    deep = await touch(stored.session, "/c/d/e", parents=True)

    assert (results, deep) == ([True, False, False], True)
    assert await content(stored, "/b") == b"12"
    assert await content(stored, "/c/d/e") == b""
    with pytest.raises(RequestInvalid, match="is a folder"):
        await touch(stored.session, "/c")
    with pytest.raises(FileNotFound, match="/x"):
        await touch(stored.session, "/x/y")


async def test_files_and_folders_are_deleted(stored) -> None:
    await make_folder(stored.session, "/a/b/c", parents=True)
    for path in ("/a/x", "/a/b/y", "/z"):
        await stored.put(path, b"1")

    with pytest.raises(RequestInvalid, match="not empty"):
        await delete(stored.session, "/a")
    assert await paths(stored) == ["/a", "/a/b", "/a/b/c", "/a/b/y", "/a/x", "/z"]
    one = await delete(stored.session, "/z")
    empty = await delete(stored.session, "/a/b/c")
    rest = await delete(stored.session, "/a", recursive=True)

    assert (one, empty, rest) == (1, 1, 4)
    assert await paths(stored) == []


async def test_what_is_not_there_is_deleted_only_if_that_is_wanted(stored) -> None:
    with pytest.raises(FileNotFound, match="/a"):
        await delete(stored.session, "/a")
    assert await delete(stored.session, "/a", missing_ok=True) == 0


async def test_two_hundred_folders_are_deleted(bench) -> None:
    await make_folder(bench.session, "/d" * 200, parents=True)

    assert await delete(bench.session, "/d", recursive=True) == 200
    assert list(bench.folder.iterdir()) == []


async def test_a_file_is_renamed(stored) -> None:
    await make_folder(stored.session, "/lib")
    await stored.put("/a", b"1")

    await move(stored.session, "/a", "/lib/b")
    await move(stored.session, "/lib/b", "/lib/b")

    assert await paths(stored) == ["/lib", "/lib/b"]
    assert await content(stored, "/lib/b") == b"1"


async def test_a_folder_is_renamed_with_all_that_is_in_it(stored) -> None:
    await make_folder(stored.session, "/a/b", parents=True)
    await stored.put("/a/b/x", b"1")
    await stored.put("/a/y", b"2")

    await move(stored.session, "/a", "/c")

    assert await paths(stored) == ["/c", "/c/b", "/c/b/x", "/c/y"]
    assert await content(stored, "/c/b/x") == b"1"


async def test_a_file_gives_way_only_if_that_is_wanted(stored) -> None:
    await stored.put("/a", b"1")
    await stored.put("/b", b"2")
    await make_folder(stored.session, "/c")

    with pytest.raises(RequestInvalid, match="'/b' is there already"):
        await move(stored.session, "/a", "/b")
    with pytest.raises(RequestInvalid, match="'/c' is a folder"):
        await move(stored.session, "/a", "/c", replace=True)
    assert await content(stored, "/b") == b"2"
    await move(stored.session, "/a", "/b", replace=True)

    assert await paths(stored) == ["/b", "/c"]
    assert await content(stored, "/b") == b"1"


async def test_a_name_changes_its_case(stored) -> None:
    await stored.put("/name", b"1")

    await move(stored.session, "/name", "/Name")

    assert await paths(stored) == ["/Name"]


async def test_what_cannot_be_renamed_says_why(stored) -> None:
    await make_folder(stored.session, "/a")

    with pytest.raises(FileNotFound, match="/x"):
        await move(stored.session, "/x", "/y")
    with pytest.raises(FileNotFound, match="make the folder first"):
        await move(stored.session, "/a", "/x/y")
    with pytest.raises(RequestInvalid, match="lies in it"):
        await move(stored.session, "/a", "/a/b")
    assert await paths(stored) == ["/a"]


async def test_filesystems_stay_and_nothing_is_renamed_from_one_to_another(bench) -> None:
    await bench.mount_disk("VfsLfs2")
    await make_folder(bench.session, "/m/sd", parents=True)
    await bench.mount_disk("VfsFat", blocks=50, at="/m/sd")
    await bench.put("/m/sd/a", b"1")

    with pytest.raises(RequestInvalid, match="mounted at '/m/sd'"):
        await delete(bench.session, "/m", recursive=True)
    with pytest.raises(RequestInvalid, match="mounted at '/m/sd'"):
        await delete(bench.session, "/m/sd", recursive=True)
    with pytest.raises(RequestInvalid, match="mounted at '/m/sd'"):
        await move(bench.session, "/m", "/n")
    with pytest.raises(RequestInvalid, match="another filesystem"):
        await move(bench.session, "/m/sd/a", "/a")
    assert await content(bench, "/m/sd/a") == b"1"


async def test_what_cannot_be_written_says_so(bench) -> None:
    await bench.mount_disk("VfsLfs2")
    await bench.put("/a", b"1")
    await bench.run(
        "d=[m for m in vfs.mount() if m[1]=='/'][0][0]\nvfs.umount('/')\n"
        "class R:\n"
        " def mount(self,*a):pass\n"
        " def umount(self):pass\n"
        " def stat(self,p):return d.stat(p)\n"
        " def ilistdir(self,p):return d.ilistdir(p)\n"
        " def mkdir(self,p):raise OSError(30)\n"
        " def remove(self,p):raise OSError(30)\n"
        " def rename(self,a,b):raise OSError(30)\n"
        "vfs.mount(R(),'/')"
    )

    with pytest.raises(ReadOnly, match="'/a' cannot be deleted"):
        await delete(bench.session, "/a")
    with pytest.raises(ReadOnly, match="cannot be renamed"):
        await move(bench.session, "/a", "/b")
    with pytest.raises(ReadOnly, match="cannot be made"):
        await make_folder(bench.session, "/c")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stored", ["folder", "VfsLfs2"], indirect=True)
async def test_any_name_goes(stored, name: str) -> None:
    await make_folder(stored.session, f"/{name}")
    await touch(stored.session, f"/{name}/{name}")
    await move(stored.session, f"/{name}/{name}", f"/{name}x")
    there = await paths(stored)
    await delete(stored.session, f"/{name}x")
    await delete(stored.session, f"/{name}", recursive=True)

    assert there == sorted([f"/{name}", f"/{name}x"])
    assert await paths(stored) == []


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    before = await bench.evaluate("sorted(globals())")

    await make_folder(bench.session, "/a")
    await touch(bench.session, "/b")
    await delete(bench.session, "/b")

    assert await bench.evaluate("sorted(globals())") == before


async def test_a_micro_bit_does_what_it_can(microbit) -> None:
    results = [await touch(microbit, "/a"), await touch(microbit, "/a")]
    deleted = [await delete(microbit, "/a"), await delete(microbit, "/a", missing_ok=True)]

    assert (results, deleted) == ([True, False], [1, 0])
    with pytest.raises(FileNotFound):
        await delete(microbit, "/a")
    with pytest.raises(Unsupported):
        await make_folder(microbit, "/a")
    with pytest.raises(Unsupported):
        await move(microbit, "/a", "/b")
