"""What the simulated board asks of the kernel beyond POSIX; all of it is here. Linux only.

Another system needs two answers: which signals a stopped process catches (macOS:
sysctl KERN_PROC, `p_sigcatch`, unchecked), and a way for a child to end with its
parent (macOS: a pty of the child's own as its controlling terminal, whose hangup
comes when the parent dies). Until somebody has one at hand to try, `require` refuses.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# mmap, mprotect, munmap, brk, mremap, madvise, futex: <asm/unistd.h>
_DELICATE_CALLS = {"x86_64": (9, 10, 11, 12, 25, 28, 202), "aarch64": (222, 226, 215, 214, 216, 233, 98)}


class Unsupported(Exception):
    """This system lacks what the simulated board needs; the message says what."""


def require() -> None:
    """Make sure that this system will do.

    Raises:
        Unsupported: It will not.
    """
    if not sys.platform.startswith("linux"):
        raise Unsupported(f"simulated boards need Linux's /proc and prctl; this is {sys.platform}")


def catches_interrupt(pid: int) -> bool:
    """Return whether a process has a handler for SIGINT installed now.

    MicroPython installs one exactly while it executes code that Ctrl-C may stop,
    so this is false at prompts, while source is read, and after kbd_intr(-1).
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123 - on the way of every Ctrl-C
            for line in status:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


@dataclass(frozen=True, slots=True)
class Code:
    """A file with instructions in a process's memory, and where the file begins there."""

    path: Path
    base: int


def code_of(pid: int) -> list[Code]:
    """Return the executable files in a process; [] where the kernel does not tell.

    Sound for position-independent files, which all builds of today are.
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    bases: dict[str, int] = {}
    found = []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            span, permissions, *_, path = fields
            bases.setdefault(path, int(span.partition("-")[0], 16))
            if "x" in permissions:
                found.append(Code(Path(path), bases[path]))
    return found


def doing(pid: int) -> tuple[bool, int] | None:
    """Return what a stopped process was at: whether in a harmless system call, and its next instruction.

    Harmless are those that wait or move bytes; those of locks and memory are not.
    None where the kernel does not tell.
    """
    try:
        with open(f"/proc/{pid}/syscall", "rb") as call:  # noqa: PTH123
            fields = call.read().split()
        number, counter = int(fields[0]), int(fields[-1], 16)
    except (OSError, ValueError, IndexError):  # a running process has no instruction to tell
        return None
    return number >= 0 and number not in _DELICATE_CALLS.get(os.uname().machine, ()), counter


def dies_with_parent() -> Callable[[], None]:
    """Return what a child calls before it becomes another program, to be killed when its parent is.

    The parent's thread that forks must live as long as the parent: the kernel
    watches the thread.
    """
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return bind
