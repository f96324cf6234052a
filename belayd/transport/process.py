"""A simulated board in a child process, at the other end of a socket pair.

The child is `belayd.simulation`, a program of its own with nothing of the
daemon's environment but PATH, on which it may look for its interpreter. Its end
is the board's end. It ends itself when the socket does, so no board outlives the
daemon, however that ends.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from belayd.transport.contract import Transport, TransportError
from belayd.transport.descriptor import open_in_thread

_START_TIMEOUT = 30.0  # seconds; 0.1 is usual, many boards starting at once on two cores took 6
_END_TIMEOUT = 2.0  # seconds to end by itself, which takes a few ms, before it is killed
_ERROR_BYTES = 4096

_log = logging.getLogger(__name__)


async def open_simulated(
    folder: Path,
    *,
    micropython: str | None = None,
    heap_kib: int = 512,
    flash_kib: int | None = None,
    unique_id: str | None = None,
) -> Transport:
    """Start a simulated board and return the link to it; closing the link ends the board.

    Args:
        folder: The board's files, or where its flash image lies; made if missing.
        micropython: The interpreter; None for the one that is found.
        heap_kib: Memory for Python objects.
        flash_kib: Size of a LittleFS image; None for the folder itself.
        unique_id: What machine.unique_id() returns, hexadecimal; None for one
            derived from the folder's name.

    Raises:
        TransportError: It does not start; the message has the reason it gives.
    """
    options = [f"--heap={heap_kib}"]
    if micropython is not None:
        options.append(f"--micropython={micropython}")
    if flash_kib is not None:
        options.append(f"--flash={flash_kib}")
    if unique_id is not None:
        options.append(f"--unique-id={unique_id}")
    return await open_in_thread(partial(_start, folder, options))


class _ProcessPort:
    """A running simulated board and the daemon's end of its terminal."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], terminal: socket.socket) -> None:
        self.fd = terminal.fileno()
        self.address = f"simulated:{folder.name}"
        self.steady = True  # a socket pair, and a board that reads it when it has room
        self._process = process
        self._terminal = terminal

    def release(self) -> None:
        """End the board and reap it; what it said about its end goes to the log."""
        self._terminal.close()
        complaint = _end(self._process)
        if self._process.returncode:
            _log.warning(
                "%s ended with %s: %s", self.address, self._process.returncode, complaint or "no message"
            )


def _start(folder: Path, options: list[str]) -> _ProcessPort:
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "belayd.simulation",
                str(folder),
                f"--terminal-fd={theirs.fileno()}",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            # A group of its own: Ctrl-C at the daemon's terminal is for the daemon.
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise TransportError(
            f"simulated board {folder.name}: cannot start {sys.executable}: {error}"
        ) from error
    finally:
        theirs.close()
    if _says_ready(process):
        ours.setblocking(False)
        return _ProcessPort(folder, process, ours)
    late = process.poll() is None
    ours.close()
    complaint = _end(process)
    if late and not complaint:
        complaint = f"not ready after {_START_TIMEOUT:.0f} s; is the host overloaded?"
    raise TransportError(f"simulated board {folder.name}: {complaint or 'ended without a message'}")


def _says_ready(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the line that says the interpreter is up; False if it ends or takes too long."""
    assert process.stdout is not None
    with process.stdout as line:
        look = select.poll()
        look.register(line, select.POLLIN)
        return bool(look.poll(_START_TIMEOUT * 1000)) and bool(os.read(line.fileno(), 64))


def _end(process: subprocess.Popen[bytes]) -> str:
    """Wait for a child whose terminal is closed, kill it if need be; return what it complained of."""
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stderr is not None
    with process.stderr as errors:
        text = errors.read(_ERROR_BYTES)
    return text.decode(errors="backslashreplace").strip()
