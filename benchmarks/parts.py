"""Real parts for benchmarks: boards, a daemon, a byte counter between a client and a board."""

from __future__ import annotations

import contextlib
import os
import platform
import pty
import re
import select
import shutil
import statistics
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from belayd_client import BoardState, Client

PATIENCE = 60.0
FIRMWARE = Path("/usr/share/firmware-microbit-micropython/firmware.hex")


@contextmanager
def process(command: list[str], pattern: str) -> Iterator[re.Match[str]]:
    """Run a part and yield what its first line of output matches."""
    part = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
    try:
        assert part.stdout is not None
        ready, _, _ = select.select([part.stdout], [], [], PATIENCE)
        line = part.stdout.readline().decode() if ready else ""
        found = re.search(pattern, line)
        if found is None:
            raise RuntimeError(f"{command[0]} said {line!r}")
        yield found
    finally:
        part.terminate()
        part.wait(PATIENCE)
        assert part.stdout is not None
        part.stdout.close()


@contextmanager
def simulated_board(folder: Path, *options: str) -> Iterator[str]:
    """Yield the pty of a simulated board; `options` are those of `belayd.simulation`."""
    link = folder / "board.tty"
    root = folder / "board"
    command = [sys.executable, "-m", "belayd.simulation", str(root), "--pty", "--link", str(link)]
    with process([*command, *options], "."):
        yield str(link)


@contextmanager
def webrepl_board(folder: Path, password: str) -> Iterator[str]:
    """Yield the URL of a simulated board whose only door is its WebREPL; folder/password holds the password."""
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    command = [sys.executable, "-m", "belayd.simulation", str(folder / "board"), "--webrepl", "0"]
    with process([*command, "--password-file", str(secret)], r"ws://\S+") as found:
        yield found[0]


@contextmanager
def microbit() -> Iterator[str]:
    """Yield the pty of a micro:bit's firmware in QEMU."""
    emulator = shutil.which("qemu-system-arm")
    if emulator is None or not FIRMWARE.exists():
        raise SystemExit("apt-get install qemu-system-arm firmware-microbit-micropython")
    command = [emulator, "-M", "microbit", "-device", f"loader,file={FIRMWARE}", "-serial", "pty"]
    with process([*command, "-display", "none", "-monitor", "none"], r"/dev/\S+") as found:
        yield found[0]


@contextmanager
def daemon(folder: Path, boards: str, log_level: str = "warning") -> Iterator[str]:
    """Yield the address of a daemon that serves `boards`, lines of an inventory."""
    inventory = folder / "lab.yaml"
    inventory.write_text(f"version: 1\nboards:\n{boards}")
    command = [sys.executable, "-m", "belayd", "serve", "--inventory", str(inventory)]
    command += ["--state", str(folder / "state"), "--listen", "localhost:0", "--metrics", "localhost:0"]
    with process([*command, "--log-level", log_level], r"gRPC (\S+)") as found:
        yield found[1]


def wait_until_ready(client: Client, names: Collection[str]) -> None:
    """Wait until these boards of a daemon are READY."""
    deadline = time.monotonic() + PATIENCE
    while waiting := [b.name for b in client.boards() if b.name in names and b.state is not BoardState.READY]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"never became ready: {', '.join(waiting)}")
        time.sleep(0.05)


def machine() -> str:
    """Return what a table has to say of where it was measured."""
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()} {platform.system()}"


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


@dataclass
class Count:
    """Bytes to and from a board, and how often the direction turned towards the host."""

    sent: int = 0
    received: int = 0
    round_trips: int = 0


class Counter:
    """A pty between a client and a board's pty, that counts what passes or stops it; not for timing."""

    def __init__(self, board: str) -> None:
        self.count = Count()
        self._stalled = False
        self._board = os.open(board, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._board)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def reset(self) -> Count:
        """Return what was counted and start anew."""
        count, self.count = self.count, Count()
        return count

    def stall(self) -> None:
        """Pass nothing on any more, either way, for ever."""
        self._stalled = True

    def close(self) -> None:
        """Take the pty away."""
        os.write(self._wake, b".")
        self._thread.join()
        for fd in (self._slave, self._master, self._board, self._woken, self._wake):
            os.close(fd)

    def _pass_on(self) -> None:
        with contextlib.suppress(OSError):  # the board or the client is gone
            self._shovel()

    def _shovel(self) -> None:
        towards_board = False
        while True:
            for fd in select.select([self._master, self._board, self._woken], [], [])[0]:
                if self._stalled or fd == self._woken:
                    return
                data = os.read(fd, 65536)
                if not data:
                    return
                if fd == self._master:
                    os.write(self._board, data)
                    self.count.sent += len(data)
                    towards_board = True
                else:
                    os.write(self._master, data)
                    self.count.received += len(data)
                    self.count.round_trips += towards_board
                    towards_board = False
