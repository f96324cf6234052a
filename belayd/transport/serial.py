"""A serial port, USB or not, or a pty.

pyserial opens and configures; the event loop reads and writes the descriptor
itself (0.13 ms for an echo, through pyserial's asyncio classes 0.2, measured on a
pty). Rules of the hardware that are kept here:
- DTR is raised on native USB, or the board discards its output; DTR and RTS reset
  many ESP boards. `manners.py` knows what each family wants; both are set in one
  request, and closing leaves them alone (no HUPCL) where a fall would reset.
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
import struct
import termios
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import serial

from belayd.transport.contract import Transport, TransportError
from belayd.transport.descriptor import open_in_thread
from belayd.transport.manners import manners_of, usb_ids

_BOOTLOADER_BAUDRATE = 1200
_TIOCGEXCL = 0x80045440  # Linux: whether the port is exclusive; termios does not name it


async def open_serial(
    port: str,
    *,
    baudrate: int = 115200,
    dtr: bool | None = None,
    rts: bool | None = None,
    hupcl: bool | None = None,
    low_latency: bool = True,
    exclusive: bool = True,
    steady: bool | None = None,
) -> Transport:
    """Open a serial port or a pty; what waited in it is discarded.

    Args:
        port: Path of the port.
        baudrate: Never 1200.
        dtr: The line's level while open; None as the port's USB chip wants it.
        rts: Likewise.
        hupcl: Whether both fall when the port is closed; None likewise.
        low_latency: Ask the driver not to hold short answers back; few have such a delay.
        exclusive: Refuse to share it with any other program, and lock others out.
        steady: Whether nothing that is sent is ever dropped; None as the port's USB chip
            has it. A pty's far end may be anything, so it is not.

    Raises:
        TransportError: It cannot be opened now; the message says what to do.
    """
    if baudrate == _BOOTLOADER_BAUDRATE:
        raise TransportError(f"{port}: 1200 baud puts boards into their bootloader; set another baudrate")
    wishes = _Wishes(baudrate, dtr, rts, hupcl, low_latency, exclusive, steady)
    return await open_in_thread(partial(_open, port, wishes))


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What `open_serial` was told."""

    baudrate: int
    dtr: bool | None
    rts: bool | None
    hupcl: bool | None
    low_latency: bool
    exclusive: bool
    steady: bool | None


class _Line(serial.Serial):
    """pyserial's port, which sets DTR and RTS one after the other: in between a board may see a reset."""

    def _update_dtr_state(self) -> None:
        assert self.fd is not None
        before = struct.unpack("i", fcntl.ioctl(self.fd, termios.TIOCMGET, b"\0" * 4))[0]
        after = with_lines(before, dtr=self.dtr, rts=self.rts)
        fcntl.ioctl(self.fd, termios.TIOCMSET, struct.pack("i", after))

    def _update_rts_state(self) -> None:
        pass  # set together with DTR


def with_lines(lines: int, *, dtr: bool, rts: bool) -> int:
    """Return a port's modem lines with two of them set, the others as they are."""
    lines &= ~(termios.TIOCM_DTR | termios.TIOCM_RTS)
    return lines | (termios.TIOCM_DTR if dtr else 0) | (termios.TIOCM_RTS if rts else 0)


class _SerialPort:
    """An open port."""

    def __init__(self, line: serial.Serial, exclusive: bool, steady: bool = False) -> None:
        self.fd: int = line.fileno()
        self.steady = steady
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


def _open(port: str, wishes: _Wishes) -> _SerialPort:
    manners = manners_of(*usb_ids(port))
    line = _Line()
    line.port = port
    line.exclusive = wishes.exclusive
    try:
        line.baudrate = wishes.baudrate
        line.dtr = manners.dtr if wishes.dtr is None else wishes.dtr
        line.rts = manners.rts if wishes.rts is None else wishes.rts
        line.open()
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise TransportError(_explain(port, error)) from error
    if wishes.exclusive and _locked_elsewhere(line.fileno(), port):
        held = _held_by(port)
        _SerialPort(line, exclusive=False).release()
        raise TransportError(f"{port}: in use{held}; close it there")
    opened = _SerialPort(line, wishes.exclusive, manners.steady if wishes.steady is None else wishes.steady)
    try:
        _configure(opened.fd, manners.hupcl if wishes.hupcl is None else wishes.hupcl)
        if wishes.exclusive:
            fcntl.ioctl(opened.fd, termios.TIOCEXCL)
    except (OSError, termios.error) as error:
        opened.release()
        raise TransportError(f"{port}: cannot be configured: {error}; is it a serial port?") from error
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        line.set_low_latency_mode(wishes.low_latency)  # only some drivers know it
    return opened


def _configure(fd: int, hupcl: bool) -> None:
    """Set what pyserial leaves otherwise."""
    os.set_blocking(fd, False)
    attributes = termios.tcgetattr(fd)
    attributes[2] = attributes[2] | termios.HUPCL if hupcl else attributes[2] & ~termios.HUPCL
    # pyserial sets VMIN to 0: a read that finds nothing would return b"", which means the end.
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _locked_elsewhere(fd: int, port: str) -> bool:
    """Tell whether another program made the port its own, which the system lets root ignore.

    A pty stays marked when whoever marked it was killed, so somebody must have it open
    who is not its far end.
    """
    try:
        marked = struct.unpack("i", fcntl.ioctl(fd, _TIOCGEXCL, b"\0" * 4))[0]
    except OSError:
        return False  # not on Linux
    return bool(marked) and any(
        process.name != str(os.getpid()) and not _opens(process, "/dev/ptmx", "/dev/pts/ptmx")
        for process in _holders(port)
    )


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
    holders = []
    for process in _holders(port):
        with contextlib.suppress(OSError):
            name = (process / "comm").read_text().strip()
            itself = " itself" if int(process.name) == os.getpid() else ""
            holders.append(f"{name}{itself} (process {process.name})")
    return f" by {', '.join(sorted(holders))}" if holders else " by another program"


def _holders(port: str) -> list[Path]:
    """Return the folders in /proc of the processes that can be seen to have a port open."""
    wanted = os.path.realpath(port)
    return [process for process in Path("/proc").glob("[0-9]*") if _opens(process, wanted)]


def _opens(process: Path, *files: str) -> bool:
    with contextlib.suppress(OSError):
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(fd.readlink()) in files:
                    return True
    return False
