"""Simulated boards (real MicroPython), and the filesystems their files may lie on."""

from __future__ import annotations

import ast
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from belayd.deployment.plan import ManifestFile
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
import os
walk({top.rstrip("/")!r})
"""
        lines = (await self.session.command(source.strip("\n"))).decode().splitlines()
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
