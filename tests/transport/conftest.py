"""Makers: each opens one kind of transport to a far end that plays a given part.

A part is a program that runs on a real MicroPython and on CPython alike, so that
the far end of any link can play it. It waits for "?", answers "!", then does what
it is there for.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from belayd.transport.contract import Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

BLOCK = 1024
BLOCKS = 1024  # 1 MiB in all

OPENING = """\
import sys
try:
    import micropython
    micropython.kbd_intr(-1)
except ImportError:
    pass
r = sys.stdin.buffer.read
w = sys.stdout.buffer.write
while r(1) != b'?': pass
w(b'!')
"""
PARTS = {
    # says what it hears, byte by byte
    "echo": "while 1: w(r(1))\n",
    # the same in blocks of 1 KiB
    "mirror": f"while 1: w(r({BLOCK}))\n",
    # hears a byte, says 1 MiB, then hears nothing
    "flood": f"r(1)\nfor i in range({BLOCKS}): w(b'%04d' % i * {BLOCK // 4})\nwhile 1: pass\n",
    # hears 1 MiB and says its hash
    "sink": f"import hashlib\nh = hashlib.sha256()\nfor i in range({BLOCKS}): h.update(r({BLOCK}))\nw(h.digest())\n"
    "while 1: r(1)\n",
    # neither hears nor says anything
    "mute": "while 1: pass\n",
}


@dataclass(frozen=True, slots=True)
class Link:
    """An open transport, and how to take its far end away."""

    transport: Transport
    vanish: Callable[[], None]


Maker = Callable[[str], Awaitable[Link]]


async def greet(transport: Transport) -> None:
    """Make sure that the far end plays its part."""
    await transport.send(b"?")
    heard = b""
    while not heard.endswith(b"!"):
        more = await transport.receive()
        assert more, heard
        heard += more


def kill_simulation(folder: Path) -> None:
    """Kill the simulated board of a folder, which nobody but its transport knows."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"belayd.simulation" in words and os.fsencode(folder) in words:
            os.kill(int(process.name), 9)
            return
    raise AssertionError(f"no simulated board in {folder}")


@pytest.fixture
def pty_peer() -> Iterator[Callable[[str], tuple[Path, Callable[[], None]]]]:
    """A factory of plain ptys whose far end is a CPython that plays a part."""
    with ExitStack() as stack:

        def start(part: str) -> tuple[Path, Callable[[], None]]:
            near, far = pty.openpty()
            tty.setraw(far)
            path = Path(os.ttyname(far))
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", OPENING + PARTS[part]],
                stdin=near,
                stdout=near,
                stderr=subprocess.DEVNULL,
            )
            os.close(near)
            stack.callback(os.close, far)

            def vanish() -> None:
                process.kill()
                process.wait()

            stack.callback(vanish)
            return path, vanish

        yield start


@pytest.fixture(params=["process", "serial on a simulated board", "serial on a pty"])
async def maker(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    simulated_pty: Callable[..., Any],
    pty_peer: Callable[..., Any],
) -> AsyncIterator[Maker]:
    """Opens a transport of each kind to a far end that plays a part."""
    async with AsyncExitStack() as stack:

        async def make(part: str) -> Link:
            main = OPENING + PARTS[part]
            if request.param == "process":
                folder = tmp_path / "board"
                folder.mkdir()
                (folder / "main.py").write_text(main)
                transport = await open_simulated(folder)
                vanish = lambda: kill_simulation(folder)  # noqa: E731
            elif request.param == "serial on a simulated board":
                board = simulated_pty("board", files={"main.py": main})
                transport = await open_serial(str(board.path))
                vanish = board.process.kill
            else:
                path, vanish = pty_peer(part)
                transport = await open_serial(str(path))
            stack.push_async_callback(transport.close)
            await greet(transport)
            return Link(transport, vanish)

        yield make
