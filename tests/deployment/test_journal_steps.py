"""The journal on real MicroPython: a folder of the host, LittleFS and FAT, cut at every single step."""

from __future__ import annotations

import contextlib
import random

import pytest

from belayd.deployment import listing
from belayd.deployment.journal import (
    STAGING,
    Settled,
    commit,
    guard,
    journal_path,
    records,
    settle,
)
from belayd.errors import BoardFull, InternalError
from belayd.outcome import BoardRaised

CUTTING = """
import os,vfs
class Cut(Exception): pass
class File:
 def __init__(self,file,disk):
  self.file=file
  self.disk=disk
  self.read=file.read
  self.readinto=file.readinto
  self.seek=file.seek
  self.close=file.close
 def __enter__(self):
  return self
 def __exit__(self,*a):
  self.close()
 def write(self,data):
  self.disk.step()
  return self.file.write(data)
class Cutting:
 def __init__(self,disk):
  self.disk=disk
  self.left=-1
  self.ilistdir=disk.ilistdir
  self.stat=disk.stat
  self.statvfs=disk.statvfs
  self.chdir=disk.chdir
  self.getcwd=disk.getcwd
 def mount(self,readonly,mkfs):
  pass
 def umount(self):
  pass
 def step(self):
  if self.left==0: raise Cut
  self.left-=1
 def open(self,path,mode):
  if 'r' in mode: return self.disk.open(path,mode)
  self.step()
  return File(self.disk.open(path,mode),self)
 def remove(self,path):
  self.step()
  self.disk.remove(path)
 def rmdir(self,path):
  self.step()
  self.disk.rmdir(path)
 def mkdir(self,path):
  self.step()
  self.disk.mkdir(path)
 def rename(self,old,new):
  self.step()
  self.disk.rename(old,new)
inner=[m[0] for m in vfs.mount() if m[1]=='/'][0]
vfs.umount('/')
cutting=Cutting(inner)
vfs.mount(cutting,'/')
os.chdir('/')
"""


class Stage:
    """A board whose tree is OLD, and where NEW can be staged again and again."""

    def __init__(self, bench, swap) -> None:
        self.bench = bench
        self.plan = swap.plan
        self.old = swap.old
        self.new = swap.new
        self.told: list[object] = []

    async def prepare(self) -> None:
        """Make the tree the old one, with nothing beside it."""
        self.told = []
        await self.bench.run("cutting.left=-1\nwipe('')\nwrite(old)")

    async def stage(self) -> None:
        """Stage all that is new, the journal last."""
        await self.bench.run(f"os.mkdir({'/' + STAGING!r})\nwrite(staged)")

    async def cut_after(self, steps: int) -> None:
        """Let everything that would change the filesystem fail from then on."""
        await self.bench.run(f"cutting.left={steps}")

    async def steps_left(self) -> int:
        """Return how many of the steps granted were not needed."""
        return await self.bench.number("cutting.left")

    async def commit(self) -> None:
        """Carry out the journal."""

        async def told() -> None:
            self.told.append(Settled.COMPLETED)

        await commit(self.bench.session, "", told)

    async def settle(self) -> Settled | None:
        """Settle what is there."""

        async def told(settled: Settled) -> None:
            self.told.append(settled)

        return await settle(self.bench.session, told)

    async def tree(self) -> dict[str, bytes | None]:
        """Return what the board has, without the image of its own disk."""
        tree: dict[str, bytes | None] = await self.bench.tree()
        tree.pop("/disk", None)
        return tree


@pytest.fixture(params=["folder", "VfsLfs2", "VfsFat"])
async def stage(request, bench, swap):
    """A board, once with each filesystem."""
    if request.param != "folder":
        await bench.mount_disk(request.param, blocks=256)
    await bench.run(CUTTING)
    return Stage(bench, await swap(bench))


async def test_a_commit_makes_the_tree_exactly_the_new_one_and_leaves_nothing_beside_it(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.commit()

    assert await stage.tree() == stage.new
    assert await stage.settle() is None
    assert stage.told == [Settled.COMPLETED]


async def test_a_commit_cut_at_any_step_is_completed_by_the_next_contact_which_says_so(stage) -> None:
    steps = 0
    finished = False
    while not finished:
        await stage.prepare()
        await stage.stage()
        await stage.cut_after(steps)
        try:
            await stage.commit()
            finished = True
        except InternalError:
            pass
        await stage.cut_after(-1)
        settled = await stage.settle()
        assert await stage.tree() == stage.new, f"cut after {steps} steps"
        assert Settled.COMPLETED in stage.told and Settled.UNDONE not in stage.told, f"{steps}: {settled}"
        steps += 1
    assert steps > 20


async def test_contacts_that_are_cut_themselves_complete_it_in_the_end(stage) -> None:
    chance = random.Random(5)
    for _ in range(25):
        await stage.prepare()
        await stage.stage()
        cuts = [chance.randrange(most) for most in (28, 24, 18, 12, 8)]
        for steps in cuts:
            await stage.cut_after(steps)
            with contextlib.suppress(InternalError):
                await stage.settle()
        await stage.cut_after(-1)
        await stage.settle()
        assert await stage.tree() == stage.new, cuts
        assert set(stage.told) == {Settled.COMPLETED}, cuts


async def test_staging_cut_at_any_step_leaves_the_old_tree_and_says_so(stage) -> None:
    steps = 0
    finished = False
    while not finished:
        await stage.prepare()
        await stage.cut_after(steps)
        try:
            await stage.stage()
            finished = True
        except BoardRaised:
            await stage.cut_after(-1)
            settled = await stage.settle()
            assert await stage.tree() == stage.old, f"cut after {steps} steps"
            assert settled is (Settled.UNDONE if steps > 2 else None)
        steps += 1
    assert steps > 10


async def test_undoing_that_is_cut_at_any_step_is_finished_by_the_next_contact(stage) -> None:
    steps = 0
    settled: object = None
    while settled is None:
        await stage.prepare()
        await stage.bench.run(
            f"os.mkdir({'/' + STAGING!r})\nwrite(staged[:4])\nwrite([('/.belayd/journal',b'd')])"
        )
        await stage.cut_after(steps)
        with contextlib.suppress(InternalError):
            settled = await stage.settle()
        await stage.cut_after(-1)
        await stage.settle()
        assert await stage.tree() == stage.old, f"cut after {steps} steps"
        assert set(stage.told) <= {Settled.UNDONE}
        steps += 1
    assert steps == 7


async def test_a_journal_that_is_not_whole_counts_as_none(stage) -> None:
    await stage.prepare()
    whole = records(stage.plan, "")
    damaged = bytearray(whole)
    damaged[20] ^= 1
    cut = [whole[:length] for length in (0, 1, 4, 5, 9, len(whole) // 2, *range(len(whole) - 22, len(whole)))]

    for journal in (*cut, bytes(damaged), b"\xff" * 40, b"d-fff" + whole):
        await stage.bench.run(f"os.mkdir({'/' + STAGING!r})\nwrite(staged[:-1])")
        await stage.bench.run(f"write([({journal_path('')!r},{journal!r})])")
        with pytest.raises(InternalError, match="nothing was changed"):
            await stage.commit()
        assert stage.told == []
    assert await stage.tree() == stage.old


async def test_what_is_pruned_makes_room_where_there_is_none(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.bench.run(
        "def full(path,mkdir=cutting.mkdir):\n"
        " if 'gone.txt' in os.listdir('/'): raise OSError(28)\n"
        " mkdir(path)\n"
        "cutting.mkdir=full"
    )

    await stage.commit()

    assert await stage.tree() == stage.new


async def test_a_board_that_renames_over_no_file_is_served_too(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.bench.run(
        "def careful(old,new,rename=cutting.rename):\n"
        " if cutting.exists(new): raise OSError(17)\n"
        " rename(old,new)\n"
        "def exists(path):\n"
        " try: cutting.stat(path)\n"
        " except OSError: return False\n"
        " return True\n"
        "cutting.exists=exists\n"
        "cutting.rename=careful"
    )

    await stage.commit()

    assert await stage.tree() == stage.new


async def test_a_tree_whose_folders_do_not_fit_is_refused_before_anything_is_touched(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.bench.run("cutting.statvfs=lambda path:(512,512,100,3,3,0,0,0,0,255)")

    with pytest.raises(BoardFull, match="nothing was changed") as refused:
        await stage.commit()

    assert refused.value.fields["free"] == "1536"
    assert await stage.tree() == stage.old


async def test_a_step_that_fails_is_named_and_the_next_contact_completes_the_rest(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.bench.run(
        "def refuse(path,mkdir=cutting.mkdir): raise OSError(28)\nmkdir=cutting.mkdir\ncutting.mkdir=refuse"
    )

    with pytest.raises(BoardFull, match="completed at the next contact") as refused:
        await stage.settle()
    told = list(stage.told)
    await stage.bench.run("cutting.mkdir=mkdir")
    settled = await stage.settle()

    assert refused.value.fields["path"] == "/flip"
    assert told == []
    assert settled is Settled.COMPLETED
    assert await stage.tree() == stage.new


async def test_a_journal_damaged_after_it_has_begun_is_an_error_and_no_journal_any_more(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.cut_after(20)
    with pytest.raises(InternalError):
        await stage.settle()
    await stage.cut_after(-1)
    await stage.bench.run(f"write([({journal_path('')!r},b'd0001')])")

    with pytest.raises(InternalError, match="partly old and partly new"):
        await stage.settle()

    assert await stage.settle() is None
    assert stage.told == []


async def test_a_boot_guard_completes_what_is_journalled_and_leaves_the_telling_to_the_contact(stage) -> None:
    await stage.prepare()
    await stage.stage()
    await stage.cut_after(18)
    with pytest.raises(InternalError):
        await stage.commit()
    await stage.cut_after(-1)

    await stage.bench.run(f"exec({guard().decode()!r},{{}})")
    guarded = await stage.tree()
    settled = await stage.settle()

    assert {path: data for path, data in guarded.items() if STAGING not in path} == stage.new
    assert settled is Settled.COMPLETED
    assert await stage.tree() == stage.new


async def test_a_boot_guard_touches_nothing_of_what_is_not_journalled_yet(stage) -> None:
    await stage.prepare()
    await stage.bench.run(f"os.mkdir({'/' + STAGING!r})\nwrite(staged[:-1])")

    await stage.bench.run(f"exec({guard().decode()!r},{{}})")

    assert await stage.settle() is Settled.UNDONE
    assert await stage.tree() == stage.old


async def test_what_is_not_settled_is_no_part_of_a_listing_but_told_of(stage) -> None:
    await stage.prepare()
    await stage.stage()

    found = await listed(stage.bench, "/")
    below = await listed(stage.bench, "/lib")
    await stage.settle()
    after = await listed(stage.bench, "/")

    assert found.unsettled
    assert below.unsettled
    assert not any(STAGING in path for path in (*found.files, *found.folders))
    assert not after.unsettled


async def listed(bench, top: str) -> listing.Listing:
    return listing.parse(await bench.session.command(listing.sources(top, 100_000, bench.session.facts)[0]))
