"""What becomes of a board's files between two holders, on a real MicroPython."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from belayd.between import tidy_for
from belayd.cleaning import Tidy
from belayd.errors import ReadOnly
from belayd.inventory import (
    Between,
    BoardSpec,
    DeployTree,
    SimulatedLink,
    SoftReset,
    TreeFile,
    WebreplLink,
    Wipe,
)
from belayd.session import Session
from belayd.transport.contract import Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

DISK = """\
import os,vfs
class Disk:
 def __init__(self):
  self.data=bytearray(64*4096)
 def readblocks(self,block,buffer,offset=0):
  at=block*4096+offset
  buffer[:]=self.data[at:at+len(buffer)]
 def writeblocks(self,block,buffer,offset=0):
  at=block*4096+offset
  self.data[at:at+len(buffer)]=buffer
 def ioctl(self,op,value):
  return 64 if op==4 else 4096 if op==5 else 0
"""
MANY = """\
import os
os.mkdir('/deep')
os.mkdir('/deep/er')
os.mkdir('/empty')
for folder in ('','/deep','/deep/er'):
 for number in range(40):
  open('%s/f%d'%(folder,number),'w').close()
open('/boot.py','w').close()
"""
COUNT = """\
import os
def count(folder):
 n=0
 for e in os.ilistdir(folder or '/'):
  n+=1
  if e[1]==0x4000: n+=count(folder+'/'+e[0])
 return n
print(count(''))
"""


async def idle(data: bytes) -> None:
    pass


@asynccontextmanager
async def started(transport: Transport) -> AsyncIterator[Session]:
    session = Session("bench", transport, lambda letters: secrets.token_hex(letters)[:letters])
    try:
        await session.start(idle)
        yield session
    finally:
        await session.close()


@pytest.fixture(params=[None, 1024], ids=["folder", "littlefs"])
async def board(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Session]:
    async with started(
        await open_simulated(tmp_path / "root", heap_kib=4096, flash_kib=request.param)
    ) as session:
        yield session


def tidy(between: Between, *, webrepl: bool = False) -> Tidy:
    link = WebreplLink("ws://roof", password_env="P") if webrepl else SimulatedLink()
    made = tidy_for(BoardSpec("bench", link, between=between))
    assert made is not None
    return made


def tree(**files: bytes) -> DeployTree:
    named = {name.replace("__", "/").replace("_", "."): content for name, content in files.items()}
    return DeployTree(
        Path("/tree"), tuple(TreeFile(path, sha256(data).digest(), data) for path, data in named.items())
    )


async def told(board: Session, expression: str) -> str:
    return (await board.command(f"print({expression})")).decode().replace("\r\n", "\n").rstrip("\n")


async def names(board: Session) -> list[str]:
    told = await board.command("import os\nprint(*sorted(os.listdir('/')))")
    return told.decode().split()


def test_a_soft_reset_alone_needs_nothing_more() -> None:
    assert tidy_for(BoardSpec("bench", SimulatedLink(), between=SoftReset())) is None


async def test_a_wipe_removes_every_file_and_folder_and_then_finds_nothing(board: Session) -> None:
    await board.command(MANY)
    assert int(await board.command(COUNT)) == 124

    removed = await tidy(Wipe())(board)
    again = await tidy(Wipe())(board)

    assert (removed, again) == (True, False)
    assert int(await board.command(COUNT)) == 0


async def test_a_wipe_over_webrepl_leaves_the_doors_open(board: Session) -> None:
    await board.command("for n in ('boot.py','webrepl_cfg.py','main.py'): open('/'+n,'w').close()")

    removed = await tidy(Wipe(), webrepl=True)(board)
    again = await tidy(Wipe(), webrepl=True)(board)

    assert (removed, again) == (True, False)
    assert await names(board) == ["boot.py", "webrepl_cfg.py"]


async def test_a_wipe_goes_into_what_is_mounted_and_leaves_alone_what_cannot_be_written(
    board: Session,
) -> None:
    await board.command(DISK)
    await board.command("sd=Disk()\nvfs.VfsLfs2.mkfs(sd)\nvfs.mount(sd,'/sd')\nopen('/sd/left','w').close()")
    await board.command("rom=Disk()\nvfs.VfsLfs2.mkfs(rom)\nvfs.mount(rom,'/rom')\nos.mkdir('/rom/in')")
    await board.command(
        "open('/rom/in/kept','w').close()\nvfs.umount('/rom')\nvfs.mount(rom,'/rom',readonly=True)"
    )

    removed = await tidy(Wipe())(board)
    again = await tidy(Wipe())(board)

    assert (removed, again) == (True, False)
    assert await told(board, "os.listdir('/sd'),os.listdir('/rom/in')") == "[] ['kept']"


async def test_a_wipe_of_a_filesystem_that_cannot_be_written_says_so(board: Session) -> None:
    await board.command(DISK)
    await board.command("d=Disk()\nvfs.VfsLfs2.mkfs(d)\nvfs.umount('/')\nvfs.mount(d,'/')\nos.mkdir('/lib')")
    await board.command("open('/lib/a.py','w').close()\nvfs.umount('/')\nvfs.mount(d,'/',readonly=True)")

    with pytest.raises(ReadOnly, match=r"'/lib.* could not be removed \(errno 30\)"):
        await tidy(Wipe())(board)


async def test_a_wipe_does_not_follow_links_out_of_a_simulated_board(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "dangling").symlink_to(tmp_path / "nowhere")

    async with started(await open_simulated(tmp_path / "root")) as board:
        assert await tidy(Wipe())(board)

    assert (tmp_path / "outside" / "precious").exists()
    assert not (tmp_path / "root" / "link").is_symlink()
    assert not (tmp_path / "root" / "dangling").is_symlink()


async def test_a_micro_bit_is_wiped_too(microbit_port: Path) -> None:
    async with started(await open_serial(str(microbit_port))) as board:
        await board.command("for n in ('a.py','b.py'):\n f=open(n,'w')\n f.write('x')\n f.close()")
        removed = await tidy(Wipe())(board)
        again = await tidy(Wipe())(board)
        left = (await board.command("import os\nprint(os.listdir())")).strip()

    assert (removed, again, left) == (True, False, b"[]")


async def test_a_deployed_board_has_the_folders_files_and_no_others(board: Session) -> None:
    await board.command(MANY)
    await board.command("os.mkdir('/lib')\nopen('/lib/left.py','w').close()")
    wanted = tidy(tree(main_py=b"x = 1\n", lib__a_py=b"y = 2\n"))

    changed = await wanted(board)
    again = await wanted(board)

    assert (changed, again) == (True, False)
    assert await names(board) == ["lib", "main.py"]
    assert await told(board, "open('/lib/a.py').read(),os.listdir('/lib')") == "y = 2\n ['a.py']"


async def test_a_board_deployed_over_webrepl_keeps_its_doors_but_takes_those_of_the_folder(
    board: Session,
) -> None:
    await board.command("for n in ('boot.py','webrepl_cfg.py','main.py'): open('/'+n,'w').close()")

    await tidy(tree(boot_py=b"import webrepl\n"), webrepl=True)(board)

    assert await names(board) == ["boot.py", "webrepl_cfg.py"]
    assert await told(board, "open('/boot.py').read()") == "import webrepl"


async def test_a_board_whose_filesystem_is_elsewhere_is_deployed_to_there(board: Session) -> None:
    await board.command(DISK)
    await board.command(
        "d=Disk()\nvfs.VfsLfs2.mkfs(d)\nvfs.umount('/')\nvfs.mount(d,'/flash')\nos.chdir('/flash')"
    )
    await board.command("open('/flash/left','w').close()")

    changed = await tidy(tree(main_py=b"x = 1\n"))(board)

    assert changed
    assert await told(board, "os.listdir('/flash')") == "['main.py']"


async def test_a_board_whose_filesystem_is_elsewhere_is_wiped(board: Session) -> None:
    await board.command(DISK)
    await board.command(
        "d=Disk()\nvfs.VfsLfs2.mkfs(d)\nvfs.umount('/')\nvfs.mount(d,'/flash')\nos.chdir('/flash')"
    )
    await board.command("open('/flash/left','w').close()\nopen('/flash/boot.py','w').close()")

    assert await tidy(Wipe(), webrepl=True)(board)

    assert await told(board, "os.listdir('/flash')") == "['boot.py']"
