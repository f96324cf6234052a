"""Real parts for benchmarks: boards, a daemon, a byte counter between a client and a board."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
def simulated_board(folder: Path) -> Iterator[str]:
    """Yield the pty of a simulated board."""
    link = folder / "board.tty"
    root = folder / "board"
    command = [sys.executable, "-m", "belayd.simulation", str(root), "--pty", "--link", str(link)]
    with process(command, "."):
        yield str(link)


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
def daemon(folder: Path, boards: str) -> Iterator[str]:
    """Yield the address of a daemon that serves `boards`, lines of an inventory."""
    inventory = folder / "lab.yaml"
    inventory.write_text(f"version: 1\nboards:\n{boards}")
    command = [sys.executable, "-m", "belayd", "serve", "--inventory", str(inventory)]
    command += ["--state", str(folder / "state"), "--listen", "localhost:0", "--metrics", "localhost:0"]
    with process([*command, "--log-level", "warning"], r"gRPC (\S+)") as found:
        yield found[1]


@dataclass
class Count:
    """Bytes to and from a board, and how often the direction turned towards the host."""

    sent: int = 0
    received: int = 0
    round_trips: int = 0


class Counter:
    """A pty between a client and a board's pty, that counts what passes; not for timing."""

    def __init__(self, board: str) -> None:
        self.count = Count()
        self._board = os.open(board, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._board)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def reset(self) -> Count:
        """Return what was counted and start anew."""
        count, self.count = self.count, Count()
        return count

    def _pass_on(self) -> None:
        towards_board = False
        while True:
            for fd in select.select([self._master, self._board], [], [])[0]:
                data = os.read(fd, 65536)
                if fd == self._master:
                    os.write(self._board, data)
                    self.count.sent += len(data)
                    towards_board = True
                else:
                    os.write(self._master, data)
                    self.count.received += len(data)
                    self.count.round_trips += towards_board
                    towards_board = False
