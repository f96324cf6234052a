"""Real MicroPythons in sessions: on a folder of the host, on LittleFS, on FAT, and on a micro:bit."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belayd.session import Session
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

MEMORY = """
import os,vfs
class Disk:
 def __init__(self,path,blocks):
  self.blocks=blocks
  self.data=bytearray(blocks*4096)
 def readblocks(self,block,buffer,offset=0):
  start=block*4096+offset
  buffer[:]=self.data[start:start+len(buffer)]
 def writeblocks(self,block,buffer,offset=0):
  start=block*4096+offset
  self.data[start:start+len(buffer)]=buffer
 def ioctl(self,op,value):
  return self.blocks if op==4 else 4096 if op==5 else 0
"""
DISK = """
import os,vfs
class Disk:
 def __init__(self,path,blocks):
  self.file=open(path,'w+b')
  self.blocks=blocks
  for i in range(blocks):
   self.file.write(b'\\xff'*4096)
 def readblocks(self,block,buffer,offset=0):
  self.file.seek(block*4096+offset)
  self.file.readinto(buffer)
 def writeblocks(self,block,buffer,offset=0):
  self.file.seek(block*4096+offset)
  self.file.write(buffer)
 def ioctl(self,op,value):
  return self.blocks if op==4 else 4096 if op==5 else 0
"""


class Bench:
    """A board in a session, and what a test does with it."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.folder = folder

    async def run(self, source: str) -> None:
        """Run lines of MicroPython in its namespace."""
        await self.session.command(source.strip("\n"))

    async def evaluate(self, expression: str) -> object:
        """Evaluate there, for what Python reads back."""
        return eval((await self.session.command(f"print(repr({expression}))")).decode().strip())

    async def mount_disk(self, kind: str = "VfsLfs2", blocks: int = 256, at: str = "/") -> None:
        """Mount a disk: at "/" an image in the board's folder, instead of that folder; elsewhere in memory."""
        number = secrets.token_hex(4)
        await self.run(DISK if at == "/" else MEMORY)
        await self.run(f"disk=Disk('/disk-{number}',{blocks})\nvfs.{kind}.mkfs(disk)\ndel Disk")
        if at == "/":
            await self.run("vfs.umount('/')")
        await self.run(f"vfs.mount(disk,{at!r})\nos.chdir('/')\ndel disk")

    async def put(self, path: str, data: bytes) -> None:
        """Write a file, of any size."""
        await self.run(f"f=open({path!r},'wb')")
        for start in range(0, len(data), 4096):
            await self.run(f"f.write({data[start : start + 4096]!r})")
        await self.run("f.close()\ndel f")

    @property
    def wire_bytes(self) -> int:
        """What went through its link so far."""
        return self.session.traffic.sent_bytes + self.session.traffic.received_bytes


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A board with plenty of heap whose root is a folder of the host."""
    root = tmp_path / "root"
    session = Session("bench", await open_simulated(root, heap_kib=4096), letters)
    await session.start(ignore)
    yield Bench(session, root)
    await session.close()


@pytest.fixture(params=["folder", "VfsLfs2", "VfsFat"])
async def stored(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """A board, once with each filesystem."""
    if request.param != "folder":
        await bench.mount_disk(request.param, blocks=1024)
    return bench


@pytest.fixture
async def microbit(microbit_port: Path) -> AsyncIterator[Session]:
    """A micro:bit v1 in a session."""
    session = Session("microbit", await open_serial(str(microbit_port)), letters)
    await session.start(ignore)
    yield session
    await session.close()


async def ignore(data: bytes) -> None:
    pass
