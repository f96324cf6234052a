"""The interpreter's process: started, interrupted, ended.

Its standard input and output are one end of a socket pair, not a pty: the unix
port's prompt asks for no terminal when started with -i, a round trip costs half
(0.06 ms against 0.12, 2-core Linux), and input that one interpreter leaves unread
is still there for the next, as it is in a board's ring over a soft reset.
"""

from __future__ import annotations

import array
import contextlib
import enum
import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from belayd.simulation import kernel
from belayd.simulation.interpreter import Interpreter
from belayd.simulation.mode import ReplMode
from belayd.simulation.moments import Moments

_CHANNEL_BYTES = 65536  # each way; a pty's 4 KiB would make 1 MB of output 250 switches between processes
_LINE_BYTES = 64
_WAIT = 0.5  # seconds for a moment that does no harm; code that only collects has one in fifty
_LOOK = 0.00005  # seconds between looks for it


class Ending(enum.Enum):
    """What the end of the interpreter means for the board."""

    SOFT_RESET = enum.auto()
    HARD_RESET = enum.auto()
    CRASH = enum.auto()


@dataclass(frozen=True, slots=True)
class Launch:
    """How the interpreter is started; the same for every start of a board.

    Attributes:
        folder: What the board sees as "/", or where its flash image lies.
        flash_kib: Size of the flash image; None to use the folder itself.
        unique_id: What machine.unique_id() returns.
    """

    interpreter: Interpreter
    folder: Path
    heap_kib: int
    flash_kib: int | None
    unique_id: bytes


class Child:
    """One board's interpreter, which many processes are in turn.

    Attributes:
        channel: Our end of the interpreter's input and output; does not block.
        line: Readable when the board asks for a reset; then call `pull`.
        killed_by: The signal that ended the last interpreter, 0 for none.
    """

    __slots__ = (
        "_asked",
        "_bind",
        "_launch",
        "_line_in",
        "_moments",
        "_process",
        "_theirs",
        "channel",
        "killed_by",
        "line",
    )

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self.channel, self._theirs = socket.socketpair()
        for end in (self.channel, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL_BYTES)
        self.channel.setblocking(False)
        self.line, self._line_in = os.pipe()
        os.set_blocking(self.line, False)
        self._bind = kernel.dies_with_parent()
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: Ending | None = None
        self._moments = Moments()
        self.killed_by = 0

    def start(self, mode: ReplMode, token: bytes, cause: int) -> None:
        """Start an interpreter; `token` and `cause` are firmware/start.py's."""
        launch = self._launch
        firmware = files("belayd.simulation").joinpath("firmware", "start.py")
        self._asked = None
        self._process = subprocess.Popen(
            [
                *launch.interpreter.command,
                "-X",
                f"heapsize={launch.heap_kib}K",
                "-i",
                str(firmware),
                str(launch.folder),
                mode.value,
                token.decode("ascii"),
                launch.unique_id.hex(),
                str(cause),
                str(launch.flash_kib or 0),
                str(self._line_in),
            ],
            stdin=self._theirs.fileno(),
            stdout=self._theirs.fileno(),
            stderr=self._theirs.fileno(),
            pass_fds=[self._line_in],
            # Nothing of ours: not a variable, not a home.
            env={"HOME": "/nonexistent"},
            cwd=launch.folder,
            start_new_session=True,
            preexec_fn=_before(self._bind),
        )

    def pull(self) -> None:
        """Do the reset that was asked for on the line."""
        asked = os.read(self.line, _LINE_BYTES)
        if self._process is not None and self._process.poll() is None:
            self._asked = Ending.HARD_RESET if b"H" in asked else Ending.SOFT_RESET
            self._process.kill()

    def ended(self) -> Ending | None:
        """Return how the interpreter ended, None while it runs; its own children end with it."""
        process = self._process
        if process is None or process.poll() is None:
            return None
        self._process = None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        self.killed_by = max(0, -process.returncode)
        if self._asked is not None:
            return self._asked
        return Ending.SOFT_RESET if process.returncode >= 0 else Ending.CRASH

    def interrupt(self) -> bool:
        """Raise KeyboardInterrupt in the code that runs; return False where there is none.

        Without a handler SIGINT ends the interpreter, and it removes its handler the
        moment code ends. So it is stopped for the look: without that, one in ten of
        the interrupts that came at the very end killed it. And the handler raises in the
        middle of whatever is done, so a harmless moment is waited for.
        """
        if self._process is None:
            return False
        pid = self._process.pid
        latest = time.monotonic() + _WAIT
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                running = kernel.catches_interrupt(pid)
                if not running or self._moments.harmless(pid) or time.monotonic() >= latest:
                    break
                os.kill(pid, signal.SIGCONT)
                time.sleep(_LOOK)
            if running:
                os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGCONT)
        except (ProcessLookupError, ChildProcessError):
            return False
        return running

    def executes(self) -> bool:
        """Return whether code runs that Ctrl-C may stop; false at prompts."""
        return self._process is not None and kernel.catches_interrupt(self._process.pid)

    def unread_bytes(self) -> int:
        """Return how much input the interpreter has not read yet."""
        count = array.array("i", [0])
        fcntl.ioctl(self._theirs, termios.FIONREAD, count)
        return count[0]

    def take_unread(self) -> bytes:
        """Remove and return the input that an ended interpreter has left."""
        taken = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := self._theirs.recv(_CHANNEL_BYTES, socket.MSG_DONTWAIT):
                taken += data
        return bytes(taken)

    def kill(self) -> None:
        """End the interpreter, if one runs, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.ended()


def _before(bind: Callable[[], None]) -> Callable[[], None]:
    """Return what the child does before it becomes the interpreter."""

    def prepare() -> None:
        bind()
        # CPython would install a handler of its own, which looks like MicroPython's.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    return prepare
