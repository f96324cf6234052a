"""The journal: what is written, and where it is found on a board."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from belayd.deployment import listing
from belayd.deployment.journal import (
    STAGING,
    Settled,
    commit,
    journal_path,
    records,
    root_of,
    settle,
    staged,
)
from belayd.deployment.plan import Deletion, ManifestFile, Plan, Write, plan
from belayd.errors import RequestInvalid

EMPTY = Plan("/", (), (), (), (), (), 0, (), ())


async def listed(bench, top: str) -> listing.Listing:
    return listing.parse(await bench.session.command(listing.sources(top, 100_000, bench.session.facts)[0]))


async def test_a_filesystem_elsewhere_is_settled_by_its_own_journal(bench) -> None:
    await bench.run(
        "import os,vfs\n"
        "class Ram:\n"
        " def __init__(self): self.data=bytearray(64*512)\n"
        " def readblocks(self,n,b,o=0): b[:]=self.data[n*512+o:n*512+o+len(b)]\n"
        " def writeblocks(self,n,b,o=0): self.data[n*512+o:n*512+o+len(b)]=b\n"
        " def ioctl(self,op,x): return 64 if op==4 else 512 if op==5 else 0\n"
        "ram=Ram()\nvfs.VfsLfs2.mkfs(ram)\nvfs.mount(ram,'/sd')\nos.mkdir('/sd/.belayd')"
    )
    await bench.put("/sd/a.py", b"old")
    found = await listed(bench, "/sd")
    wanted = plan(found, [ManifestFile("a.py", sha256(b"new").digest(), 3)], destination="/sd")
    root = root_of("/sd", found.filesystems)
    await bench.put(staged(root, 0), b"new")
    await bench.put(journal_path(root), records(wanted, root))

    settled = await settle(bench.session)

    assert root == "/sd"
    assert settled is Settled.COMPLETED
    assert await bench.tree("/sd") == {"/sd/a.py": b"new"}


async def test_a_file_of_that_name_is_removed_without_a_word(bench) -> None:
    await bench.put(f"/{STAGING}", b"somebody's")

    assert await settle(bench.session) is None
    assert await bench.tree() == {}


async def test_nothing_stays_in_the_users_namespace(bench) -> None:
    await bench.run("import os")
    await bench.put("/a", b"")
    names = await bench.session.command("print(sorted(globals()))")

    await settle(bench.session)
    await bench.run(f"os.mkdir({'/' + STAGING!r})")
    await bench.put(journal_path(""), records(EMPTY, ""))
    await commit(bench.session, "")

    assert await bench.session.command("print(sorted(globals()))") == names


@pytest.mark.parametrize(
    ("destination", "filesystems", "root"),
    [
        ("/", ("/",), ""),
        ("/app/lib", ("/", "/sd"), ""),
        ("/sd/app", ("/", "/sd"), "/sd"),
        ("/sdcard", ("/", "/sd"), ""),
        ("/flash", ("/flash", "/flash/rom"), "/flash"),
        ("/flash/rom/a", ("/flash", "/flash/rom"), "/flash/rom"),
        ("/", (), ""),
        ("/app", (), ""),
        ("/flash/app", (), "/flash"),
    ],
)
def test_the_root_is_the_mount_point_that_holds_the_destination(destination, filesystems, root) -> None:
    assert root_of(destination, filesystems) == root


def test_a_journal_names_what_is_done_in_order_and_ends_with_its_own_hash() -> None:
    wanted = replace(
        EMPTY,
        clear=(Deletion("/a", False, 1), Deletion("/b", True, 0)),
        make_folders=("/c",),
        write=(Write("/c/\u00fc\n", bytes(32), 1, None),),
        prune=(Deletion("/d", False, 1),),
    )

    written = records(wanted, "")

    body = "d0002/ar0002/bc0000m0002/cn00080\0/c/\u00fc\nd0002/d".encode()
    assert written == body + b"z0010" + sha256(body).digest()[:16]


def test_a_path_that_no_record_can_hold_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="no board"):
        records(replace(EMPTY, make_folders=("/" + "a" * 65536,)), "")
