"""Makers: each opens one kind of transport to a far end that plays a given part.

A part is a program that runs on a real MicroPython and on CPython alike, so that
the far end of any link can play it. It waits for "?", answers "!", then does what
it is there for.
"""

from __future__ import annotations

import os
import pty
import socket
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
from belayd.transport.tcp import open_tcp
from belayd.transport.websocket import open_webrepl

PASSWORD = "roof-4711"
BRIDGE = Path(__file__).with_name("bridge.py")
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


@dataclass(frozen=True, slots=True)
class Served:
    """A process on loopback and where it listens; what is left of it is ended with the test."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def wait_for_no_client(self) -> None:
        """Wait until a login is asked for again, which a board does once its client is gone."""
        host, _, port = self.url.partition("://")[2].partition(":")
        request = (
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: foo\r\n\r\n"
        )
        heard = b""
        while b"Password: " not in heard:
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                connection.sendall(request)
                heard = b""
                while b"Password: " not in heard and (more := connection.recv(4096)):
                    heard += more


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def webrepl(tmp_path: Path, micropython_binary: str) -> Iterator[Callable[..., Served]]:
    """A factory of simulated boards with nothing but a WebREPL, whose password is PASSWORD."""
    with ExitStack() as stack:

        def start(name: str = "board", *options: str, files: dict[str, str] | None = None) -> Served:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            for file, content in (files or {}).items():
                (folder / file).write_text(content)
            secret = tmp_path / "password"
            secret.write_text(PASSWORD + "\n")
            command = [sys.executable, "-m", "belayd.simulation", folder, "--webrepl=0"]
            process = subprocess.Popen(
                [*command, f"--password-file={secret}", *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
            stack.callback(end, process)
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            assert url.startswith("ws://"), url
            return Served(url, folder, process)

        yield start


@pytest.fixture
def bridge(simulated_pty: Callable[..., Any]) -> Iterator[Callable[..., Served]]:
    """A factory of simulated boards whose pty is served over TCP, raw or by pyserial's RFC 2217 server."""
    with ExitStack() as stack:

        def start(scheme: str, *options: str, files: dict[str, str] | None = None) -> Served:
            board = simulated_pty("board", *options, files=files)
            mode = "rfc2217" if scheme == "rfc2217" else "raw"
            process = subprocess.Popen(
                [sys.executable, BRIDGE, board.path, mode],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
            stack.callback(end, process)
            assert process.stdout is not None
            port = process.stdout.readline().decode().strip()
            assert port, "the bridge does not start"
            return Served(f"{scheme}://127.0.0.1:{port}", board.folder, process)

        yield start


KINDS = ["process", "serial on a simulated board", "serial on a pty", "webrepl", "socket", "rfc2217"]


@pytest.fixture(params=KINDS)
async def maker(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    simulated_pty: Callable[..., Any],
    pty_peer: Callable[..., Any],
    webrepl: Callable[..., Served],
    bridge: Callable[..., Served],
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
            elif request.param == "webrepl":
                served = webrepl(files={"main.py": main})
                transport = await open_webrepl(served.url, password=PASSWORD)
                vanish = served.process.kill
            elif request.param in ("socket", "rfc2217"):
                served = bridge(request.param, files={"main.py": main})
                transport = await open_tcp(served.url)
                vanish = served.process.kill
            else:
                path, vanish = pty_peer(part)
                transport = await open_serial(str(path))
            stack.push_async_callback(transport.close)
            await greet(transport)
            return Link(transport, vanish)

        yield make
