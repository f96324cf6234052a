"""When an interrupt does the interpreter no harm.

The unix port raises KeyboardInterrupt from its signal handler, in the middle of
whatever it does; a board does so between two steps of its code. In the middle of
a collection the heap stays locked for ever, in that of taking a lock the next one
waits for ever, in that of folding constants it is taken for their error (each about
once in a hundred interrupts of code that allocates or compiles, MicroPython 1.29
preview). The program's symbols say which functions those are. A program without
symbols is interrupted at any moment.
Source: MicroPython py/gc.c, py/qstr.c, py/parse.c and ports/unix/unix_mphal.c (MICROPY_ASYNC_KBD_INTR);
System V ABI, "ELF", for the layout.
"""

from __future__ import annotations

import bisect
import struct
from pathlib import Path

from belayd.simulation import kernel

_HEAP = (b"gc_", b"m_malloc", b"m_realloc", b"m_free")
_LOCKS = (b"qst", b"mp_thread_", b"nlr_")
_FOLDING = (b"binary_op_maybe", b"mp_binary_op", b"mp_unary_op")
_DELICATE = (*_HEAP, *_LOCKS, *_FOLDING)
_FUNCTION = 2  # STT_FUNC
_SYMBOL_TABLE = 2  # SHT_SYMTAB


class Moments:
    """Judges moments of one interpreter after the other, which run the same program."""

    __slots__ = ("_base", "_harmless", "_pid")

    def __init__(self) -> None:
        self._pid = 0
        self._base = 0
        self._harmless: list[tuple[int, int]] | None = None

    def harmless(self, pid: int) -> bool:
        """Return whether a stopped interpreter may be interrupted where it is."""
        if pid != self._pid:
            self._locate(pid)
        if not self._harmless or (now := kernel.doing(pid)) is None:
            return True
        waits, counter = now
        # Libraries, and what leads to them, may be taking a lock.
        at = bisect.bisect_right(self._harmless, (counter - self._base, 1 << 64)) - 1
        return waits or (at >= 0 and counter - self._base < self._harmless[at][1])

    def _locate(self, pid: int) -> None:
        """Find the program in a new process, and its symbols the first time."""
        self._pid = pid
        for code in kernel.code_of(pid):
            if "micropython" in code.path.name:
                if self._harmless is None:
                    self._harmless = harmless_functions(code.path)
                self._base = code.base
                return


def harmless_functions(program: Path) -> list[tuple[int, int]]:
    """Return where a program's functions begin and end, in order, without the delicate ones.

    Empty for a program without symbols.
    """
    with program.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return []
        sections_at, size, count = (
            *struct.unpack_from("<Q", header, 40),
            *struct.unpack_from("<HH", header, 58),
        )
        file.seek(sections_at)
        sections = [struct.unpack("<IIQQQQIIQQ", file.read(size)[:64]) for _ in range(count)]
        found = []
        for section in sections:
            if section[1] != _SYMBOL_TABLE:
                continue
            file.seek(section[4])
            symbols = file.read(section[5])
            file.seek(sections[section[6]][4])
            names = file.read(sections[section[6]][5])
            for name, info, _, _, value, length in struct.iter_unpack("<IBBHQQ", symbols):
                if info & 15 == _FUNCTION and not names.startswith(_DELICATE, name):
                    found.append((value, value + length))
    return sorted(found)
