"""A tester's fingers and eyes on a simulated board: bytes in, bytes out, nothing decoded."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 30.0
RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"


class Wire:
    """The far end of a board's link, read up to what is expected."""

    raw_prompt = RAW_PROMPT

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.rest = b""

    def send(self, data: bytes) -> None:
        """Send everything, however slowly it is taken."""
        while data:
            _, writable, _ = select.select([], [self.fd], [], PATIENCE)
            assert writable, f"{len(data)} bytes are not taken"
            data = data[os.write(self.fd, data) :]

    def read(self) -> bytes:
        """Return the next bytes; b"" when the board is gone."""
        ready, _, _ = select.select([self.fd], [], [], PATIENCE)
        assert ready, f"nothing comes; unread so far: {self.rest!r}"
        try:
            return os.read(self.fd, 65536)
        except OSError:
            return b""

    def until(self, end: bytes) -> bytes:
        """Return everything up to and with `end`."""
        deadline = time.monotonic() + PATIENCE
        while end not in self.rest:
            assert time.monotonic() < deadline, f"{end!r} does not come, but {self.rest[-500:]!r}"
            more = self.read()
            assert more, f"gone before {end!r}, after {self.rest[-500:]!r}"
            self.rest += more
        found, _, rest = self.rest.partition(end)
        self.rest = rest
        return found + end

    def until_gone(self) -> bytes:
        """Return everything up to the end of the link."""
        while more := self.read():
            self.rest += more
        found, self.rest = self.rest, b""
        return found

    def enter_raw(self) -> None:
        """Go from a fresh board's prompt to the raw REPL."""
        self.until(b">>> ")
        self.send(b"\x01")
        self.until(RAW_PROMPT)

    def run(self, code: bytes) -> bytes:
        """Return what code at the raw prompt printed, a traceback included."""
        self.send(code + b"\x04")
        answer = self.until(b"\x04>")
        assert answer.startswith(b"OK"), answer
        return answer[2:-2].replace(b"\x04", b"")


@dataclass(frozen=True, slots=True)
class Board:
    """A simulated board at the end of a socket."""

    wire: Wire
    folder: Path
    process: subprocess.Popen[bytes]
    unplug: Callable[[], None]

    @property
    def interpreter(self) -> int:
        """The process number of its interpreter."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@pytest.fixture
def open_wire() -> Iterator[Callable[[Path], Wire]]:
    """A factory of wires to ptys."""
    with ExitStack() as stack:

        def start(path: Path) -> Wire:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            stack.callback(os.close, fd)
            return Wire(fd)

        yield start


@pytest.fixture
def simulated(tmp_path: Path, micropython_binary: str) -> Iterator[Callable[..., Board]]:
    """A factory of simulated boards at the end of a socket, started with options and files."""
    with ExitStack() as stack:

        def start(
            *options: str,
            name: str = "board",
            files: dict[str, str] | None = None,
            environment: dict[str, str] | None = None,
        ) -> Board:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            for file, content in (files or {}).items():
                (folder / file).write_text(content)
            ours, theirs = socket.socketpair()
            with theirs:
                link = f"--terminal-fd={theirs.fileno()}"
                process = subprocess.Popen(
                    [sys.executable, "-m", "belayd.simulation", folder, link, *options],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, **(environment or {})},
                    pass_fds=[theirs.fileno()],
                )
            stack.callback(process.communicate, timeout=PATIENCE)
            stack.enter_context(ours)
            return Board(Wire(ours.fileno()), folder, process, ours.close)

        yield start
