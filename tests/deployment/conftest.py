"""Simulated boards (real MicroPython), and the filesystems their files may lie on."""

from __future__ import annotations

import ast
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from belayd.deployment import listing
from belayd.deployment.journal import journal_path, records, staged
from belayd.deployment.plan import ManifestFile, plan
from belayd.deployment.transfer import Options, Plan, Progress, Summary, deploy
from belayd.session import Session
from belayd.transport.contract import Transport
from belayd.transport.process import open_simulated

Files = Mapping[str, bytes]

DISK = """
import os,vfs
class Disk:
 def __init__(self,path,blocks,size):
  self.file=open(path,'w+b')
  self.blocks=blocks
  self.size=size
  self.damage=None
  self.damages=0
  for i in range(blocks):
   self.file.write(b'\\xff'*size)
 def readblocks(self,block,buffer,offset=0):
  self.file.seek(block*self.size+offset)
  self.file.readinto(buffer)
 def writeblocks(self,block,buffer,offset=0):
  self.file.seek(block*self.size+offset)
  if self.damages and self.damage in bytes(buffer):
   self.damages-=1
   buffer=bytes(buffer).replace(self.damage,b'?'*len(self.damage))
  self.file.write(buffer)
 def ioctl(self,op,value):
  return self.blocks if op==4 else self.size if op==5 else 0
disk=Disk('/disk',{blocks},{size})
"""
MOUNT = """
vfs.{kind}.mkfs(disk)
vfs.umount('/')
vfs.mount(disk,'/')
os.chdir('/')
"""


class Bench:
    """A board in a session, and what a test does with it."""

    def __init__(self, session: Session, transport: Transport, folder: Path) -> None:
        self.session = session
        self.transport = transport
        self.folder = folder
        self.plans: list[Plan] = []
        self.progress: list[Progress] = []

    async def run(self, source: str) -> None:
        """Run lines of MicroPython in its namespace."""
        await self.session.command(source.strip("\n"))

    async def number(self, expression: str) -> int:
        """Evaluate there."""
        return int(await self.session.command(f"print({expression})"))

    async def mount_disk(self, kind: str = "VfsLfs2", blocks: int = 128, size: int = 4096) -> None:
        """Make a disk, an image in the board's folder, the board's root instead of that folder."""
        await self.run(DISK.format(blocks=blocks, size=size))
        await self.run(MOUNT.format(kind=kind))

    async def put(self, path: str, content: bytes) -> None:
        """Write a file of at most a few kB."""
        await self.run(f"with open({path!r},'wb') as f: f.write({content!r})")

    async def tree(self, top: str = "/") -> dict[str, bytes | None]:
        """Read everything below a folder; folders are None."""
        source = f"""
def walk(folder):
 for entry in os.ilistdir(folder or '/'):
  path=folder+'/'+entry[0]
  if entry[1]==0x4000:
   print(repr(path),None)
   walk(path)
  else:
   with open(path,'rb') as f:
    print(repr(path),end=' ')
    while 1:
     data=f.read(1024)
     if not data:
      break
     print(data.hex(),end='')
    print()
import gc, os
gc.collect()
print(chr(30))
walk({top.rstrip("/")!r})
"""
        # Before the mark: files that could not be closed complain when they are collected.
        output = (await self.session.command(source.strip("\n"))).decode()
        lines = output.rpartition("\x1e")[2].split("\n")[1:-1]
        found: dict[str, bytes | None] = {}
        for line in lines:
            name, _, content = line.rpartition(" ")
            found[ast.literal_eval(name)] = None if content == "None" else bytes.fromhex(content)
        return found

    async def deploy(self, files: Files, options: Options | None = None) -> Summary:
        """Deploy contents by path, keeping what is reported."""
        contents = {sha256(data).digest(): data for data in files.values()}

        async def content(digest: bytes) -> bytes:
            return contents[digest]

        async def report(step: Plan | Progress) -> None:
            if isinstance(step, Plan):
                self.plans.append(step)
            else:
                self.progress.append(step)

        return await deploy(self.session, manifest_from(files), content, options or Options(), report)


def manifest_from(files: Files) -> list[ManifestFile]:
    return [ManifestFile(path, sha256(data).digest(), len(data)) for path, data in files.items()]


@pytest.fixture
def manifest_of() -> Callable[[Files], list[ManifestFile]]:
    """What makes a manifest of contents."""
    return manifest_from


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A board with plenty of heap whose root is a folder of the host."""
    async with opened(tmp_path, heap_kib=4096) as opened_bench:
        yield opened_bench


@pytest.fixture
async def small_bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A board with little heap."""
    async with opened(tmp_path, heap_kib=72) as opened_bench:
        yield opened_bench


@contextlib.asynccontextmanager
async def opened(folder: Path, heap_kib: int) -> AsyncIterator[Bench]:
    root = folder / "root"
    transport = await open_simulated(root, heap_kib=heap_kib)
    try:
        session = Session("bench", transport, lambda letters: secrets.token_hex(letters)[:letters])
        await session.start(idle)
        yield Bench(session, transport, root)
    finally:
        await transport.close()


async def idle(data: bytes) -> None:
    pass


OLD = {
    "/main.py": b"import old\n",
    "/boot.py": b"# old\n" * 300,
    "/keep.txt": b"the same",
    "/swap/inner/a.py": b"a folder will be a file",
    "/swap/b.py": b"b",
    "/flip": b"a file will be a folder",
    "/OTHER.PY": b"one file to FAT",
    "/gone/deep/c.py": b"c" * 700,
    "/gone.txt": b"gone",
    "/lib/spared.py": b"spared",
}
NEW = {
    "main.py": b"import new\n",
    "boot.py": b"# new and longer\n" * 400,
    "keep.txt": b"the same",
    "swap": b"a file now",
    "flip/b/c.py": b"below a folder now",
    "other.py": b"the other name",
    "twins/one.py": b"twin" * 200,
    "twins/two.py": b"twin" * 200,
    "empty": b"",
    "it's \u00fc.txt": b"a name",
}
OLD_TREE = {
    **OLD,
    **dict.fromkeys(("/swap", "/swap/inner", "/gone", "/gone/deep", "/lib")),
}
NEW_TREE = {
    **{f"/{path}": content for path, content in NEW.items()},
    **dict.fromkeys(("/flip", "/flip/b", "/twins", "/lib")),
    "/lib/spared.py": b"spared",
}
PREPARE = """
import os
def wipe(folder):
 for e in list(os.ilistdir(folder or '/')):
  p=folder+'/'+e[0]
  if p=='/disk': continue
  if e[1]==0x4000:
   wipe(p)
   os.rmdir(p)
  else:
   os.remove(p)
def write(files):
 for path,content in files:
  for i,c in enumerate(path):
   if c=='/' and i:
    try: os.mkdir(path[:i])
    except OSError: pass
  with open(path,'wb') as f: f.write(content)
"""


class Swap:
    """An old tree on a board, and a new one that replaces as much of it as can be.

    Attributes:
        plan: What makes the one the other.
        old: The old tree, folders too; `new`: the new one.
    """

    def __init__(self, bench: Bench, plan: Plan) -> None:
        self.plan = plan
        self.old: dict[str, bytes | None] = OLD_TREE
        self.new: dict[str, bytes | None] = NEW_TREE
        self._bench = bench

    @property
    def staging(self) -> list[tuple[str, bytes]]:
        """All that is staged, the journal last."""
        contents = [NEW[write.path[1:]] for write in self.plan.write]
        files = [(staged("", index), content) for index, content in enumerate(contents)]
        return [*files, (journal_path(""), records(self.plan, ""))]


@pytest.fixture
def swap() -> Callable[[Bench], Awaitable[Swap]]:
    """What puts the old tree on a board, with `wipe`, `write`, `old` and `staged` among its names."""

    async def swap(bench: Bench) -> Swap:
        await bench.run(PREPARE)
        await bench.run(f"old={list(OLD.items())!r}")
        await bench.run("write(old)")
        text = listing.sources("/", 100_000, bench.session.facts)[0]
        found = listing.parse(await bench.session.command(text))
        made = Swap(bench, plan(found, manifest_from(NEW), prune=True, keep=["/disk"]))
        await bench.run(f"staged={made.staging!r}")
        return made

    return swap
