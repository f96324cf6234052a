"""A serial port, USB or not, or a pty.

pyserial opens and configures; the event loop reads and writes the descriptor
itself (0.13 ms for an echo, through pyserial's asyncio classes 0.2, measured on a
pty). Rules of the hardware that are kept here:
- DTR is raised on native USB, or the board discards its output; DTR and RTS reset
  many ESP boards. So both are set before the port opens, and closing leaves them
  alone (no HUPCL).
- 1200 baud puts many boards into their bootloader.
- An FTDI bridge waits 16 ms before it passes on a short answer, unless told not to.
Source: MicroPython's mp_usbd_cdc.c and ESP32 issues 9659, 17532, 18001; pyserial 3.5's serialposix.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import termios
from functools import partial
from pathlib import Path

import serial

from belayd.transport.contract import Transport, TransportError
from belayd.transport.descriptor import open_in_thread

_BOOTLOADER_BAUDRATE = 1200


async def open_serial(
    port: str,
    *,
    baudrate: int = 115200,
    dtr: bool | None = None,
    rts: bool | None = None,
    exclusive: bool = True,
) -> Transport:
    """Open a serial port or a pty; what waited in it is discarded.

    Args:
        port: Path of the port.
        baudrate: Never 1200.
        dtr: The line's level while open; None as the system raises it.
        rts: Likewise.
        exclusive: Refuse to share it with any other program, and lock others out.

    Raises:
        TransportError: It cannot be opened now; the message says what to do.
    """
    if baudrate == _BOOTLOADER_BAUDRATE:
        raise TransportError(f"{port}: 1200 baud puts boards into their bootloader; set another baudrate")
    return await open_in_thread(partial(_open, port, baudrate, dtr, rts, exclusive))


class _SerialPort:
    """An open port."""

    def __init__(self, line: serial.Serial, exclusive: bool) -> None:
        self.fd: int = line.fileno()
        self.address = str(line.port)
        self._line = line
        self._exclusive = exclusive

    def release(self) -> None:
        """Close it at once: output that a board does not take is thrown away."""
        with contextlib.suppress(OSError, termios.error):
            if self._exclusive:
                fcntl.ioctl(self.fd, termios.TIOCNXCL)
            termios.tcflush(self.fd, termios.TCIOFLUSH)  # else close may wait 30 s for output to drain
        with contextlib.suppress(OSError):
            self._line.close()


def _open(port: str, baudrate: int, dtr: bool | None, rts: bool | None, exclusive: bool) -> _SerialPort:
    line = serial.Serial()
    line.port = port
    line.exclusive = exclusive
    try:
        line.baudrate = baudrate
        if dtr is not None:
            line.dtr = dtr
        if rts is not None:
            line.rts = rts
        line.open()
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise TransportError(_explain(port, error)) from error
    opened = _SerialPort(line, exclusive)
    try:
        _configure(opened.fd)
        if exclusive:
            fcntl.ioctl(opened.fd, termios.TIOCEXCL)
    except (OSError, termios.error) as error:
        opened.release()
        raise TransportError(f"{port}: cannot be configured: {error}; is it a serial port?") from error
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        line.set_low_latency_mode(True)  # only some drivers know it
    return opened


def _configure(fd: int) -> None:
    """Set what pyserial leaves otherwise."""
    os.set_blocking(fd, False)
    attributes = termios.tcgetattr(fd)
    attributes[2] &= ~termios.HUPCL
    # pyserial sets VMIN to 0: a read that finds nothing would return b"", which means the end.
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _explain(port: str, error: OSError | ValueError) -> str:
    """Return what went wrong and what to do about it."""
    match getattr(error, "errno", None):
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{port}: no such port; is the board plugged in?"
        case errno.EACCES | errno.EPERM:
            return f"{port}: permission denied; {_who_may(port)}"
        case errno.EBUSY | errno.EAGAIN:
            return f"{port}: in use{_held_by(port)}; close it there"
        case _:
            return f"{port}: cannot be opened: {error}; unplug the board and plug it in again"


def _who_may(port: str) -> str:
    try:
        group = grp.getgrgid(Path(port).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "ask the owner of the host"
    return f"add the daemon's user to the group {group} (usermod -aG {group} USER) and start it again"


def _held_by(port: str) -> str:
    """Return " by NAME (process N)" for each holder that can be seen, which without root are one's own."""
    wanted = os.path.realpath(port)
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) == wanted for fd in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                itself = " itself" if int(process.name) == os.getpid() else ""
                holders.append(f"{name}{itself} (process {process.name})")
    return f" by {', '.join(sorted(holders))}" if holders else " by another program"
