"""Power lost at every single write of a block while a deployment is staged, carried out or settled."""

from __future__ import annotations

import ast
import random

import pytest

from belayd.deployment.journal import STAGING, Settled, settle
from belayd.errors import BelaydError
from belayd.outcome import BoardRaised

POWER = """
graves=[]
class Power(Disk):
 def __init__(self,disk):
  self.file=disk.file
  self.blocks=disk.blocks
  self.size=disk.size
  self.damages=0
  self.left=-1
  self.gone=False
 def writeblocks(self,block,buffer,offset=0):
  if self.gone: return
  if self.left==0: raise OSError(5)
  self.left-=1
  Disk.writeblocks(self,block,buffer,offset)
 def ioctl(self,op,value):
  if op==6 and not self.gone: self.writeblocks(value,b'\\xff'*self.size)
  return Disk.ioctl(self,op,value)
"""
FILL = """
try: os.mkdir('/fill')
except OSError: pass
try:
 with open('/fill/it','wb') as f:
  while 1: f.write(b'#'*512)
except OSError: pass
os.remove('/fill/it')
"""
# At once: what is collected meanwhile complains in the middle of what is printed.
READ = """
found={}
def read(folder):
 for e in os.ilistdir(folder or '/'):
  p=folder+'/'+e[0]
  found[p]=None
  if e[1]==0x4000:
   read(p)
  else:
   with open(p,'rb') as f: found[p]=f.read()
read('')
text='\\x1e'+repr(found)
import gc
gc.collect()
print(text)
"""
# Another disk, since what the old one had in memory is lost with the power. It is kept, as files that could
# not be closed point into it, and is deaf, as they are closed when they are collected.
AGAIN = """
import gc
graves+=[m[0] for m in vfs.mount() if m[1]=='/']
vfs.umount('/')
disk.gone=True
disk=Power(disk)
vfs.mount(disk,'/')
os.chdir('/')
gc.collect()
"""


class Powered:
    """A board whose disk loses power after any number of writes; only what is on the disk survives that."""

    def __init__(self, bench, kind: str, swap) -> None:
        self.bench = bench
        self.old = swap.old
        self.new = swap.new
        self.told: list[Settled] = []
        # Erased, or what an earlier round left would be read after a cut.
        anew = f"\nfor block in range(disk.blocks): disk.ioctl(6,block)\nvfs.{kind}.mkfs(disk)\nvfs.mount"
        self._fresh = AGAIN.replace("\nvfs.mount", anew) + "write(old)"
        self._staging = f"os.mkdir({'/' + STAGING!r})\nwrite(staged)"

    async def begin(self) -> None:
        """Make the disk anew, with the old tree."""
        self.told = []
        await self.bench.run(self._fresh)

    async def stage(self, writes: int = -1) -> bool:
        """Stage all that is new and return whether power lasted."""
        await self.bench.run(f"disk.left={writes}")
        try:
            await self.bench.run(self._staging)
        except BoardRaised:
            return False
        return True

    async def settle(self, writes: int = -1) -> bool:
        """Settle until so many writes were made and power is lost; return whether it lasted."""
        await self.bench.run(f"disk.left={writes}")
        lasted = True
        try:
            await settle(self.bench.session, self._tell)
        except BelaydError:
            lasted = False
        await self.restart()
        return lasted

    async def restart(self) -> None:
        """Have power again."""
        await self.bench.run(AGAIN)

    async def tree(self) -> dict[str, bytes | None]:
        """Return what the board has after every free block was overwritten: no file may stand in one."""
        await self.bench.run(FILL)
        output = await self.bench.session.command(READ)
        tree: dict[str, bytes | None] = ast.literal_eval(output.split(b"\x1e")[1].decode().strip())
        del tree["/fill"]
        return tree

    async def _tell(self, settled: Settled) -> None:
        self.told.append(settled)


@pytest.fixture(params=[("VfsLfs2", 128, 1024), ("VfsFat", 256, 512)], ids=["VfsLfs2", "VfsFat"])
async def powered(request, bench, swap):
    """A board with a disk of each kind."""
    kind, blocks, size = request.param
    await bench.mount_disk(kind, blocks, size)
    await bench.run(POWER)
    await bench.run(AGAIN)
    return Powered(bench, kind, await swap(bench))


async def test_power_lost_at_any_write_of_a_block_leaves_a_tree_that_is_completed(powered) -> None:
    writes = 0
    finished = False
    while not finished:
        await powered.begin()
        await powered.stage()
        finished = await powered.settle(writes)
        await powered.settle()
        assert await powered.tree() == powered.new, f"cut after {writes} writes"
        assert set(powered.told) == {Settled.COMPLETED}, writes
        writes += 1
    assert writes > 20


async def test_power_lost_again_and_again_leaves_a_tree_that_is_completed(powered) -> None:
    chance = random.Random(7)
    for _ in range(60):
        await powered.begin()
        await powered.stage()
        cuts = [chance.randrange(most) for most in (60, 40, 20, 20, 20)]
        for writes in cuts:
            await powered.settle(writes)
        await powered.settle()
        assert await powered.tree() == powered.new, cuts
        assert set(powered.told) == {Settled.COMPLETED}, cuts


async def test_power_lost_while_files_are_staged_leaves_the_old_tree(powered) -> None:
    chance = random.Random(9)
    for _ in range(60):
        await powered.begin()
        writes = chance.randrange(1, 90)
        finished = await powered.stage(writes)
        await powered.restart()
        await powered.settle(chance.randrange(1, 12))
        await powered.settle()
        assert await powered.tree() == (powered.new if finished else powered.old), writes
        assert Settled.COMPLETED in powered.told if finished else Settled.COMPLETED not in powered.told
