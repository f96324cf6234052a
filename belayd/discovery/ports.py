"""The ports that are there now, with what their USB device says of itself.

Source: serial.tools.list_ports of pyserial 3.5. Its `location` is the USB path,
with the interface ("1-1.4:1.0") where the device has several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports as pyserial_list_ports
from serial.tools.list_ports_common import ListPortInfo


class ListingFailed(Exception):
    """The ports cannot be listed now; the next time usually succeeds."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port; two are equal if nothing shows that the device has changed.

    Attributes:
        address: What to open: the tty's path, the inventory's own path for a
            `serial` link, or for links without a port their address.
        real_path: `address` with links followed, by which two paths to one port are known.
        location: USB path, with the interface where there are several.
    """

    address: str
    real_path: str = ""
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    location: str | None = None

    @property
    def usb_path(self) -> str | None:
        """Where the USB device is plugged in, the same for all its interfaces."""
        return self.location.split(":")[0] if self.location else None

    @property
    def order(self) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
        """Sorts ports by their place, numbers as numbers."""
        return _numbers_apart(self.location or ""), _numbers_apart(self.address)


Lister = Callable[[Sequence[str]], Sequence[Port]]
"""Returns the USB ports, and those of the given paths that exist.

Called in a thread, since it may block.

Raises:
    ListingFailed: Not now.
"""


def list_ports(paths: Sequence[str]) -> list[Port]:
    """List the host's USB ports, and those of `paths` that exist; opens none.

    Raises:
        ListingFailed: The operating system changed its mind twice while being asked.
    """
    ports = [_port(info) for info in _comports() if info.vid is not None]
    for path in paths:
        try:
            real_path = Path(path).resolve(strict=True)
        except (OSError, RuntimeError):
            # Gone, or a link to itself.
            continue
        ports.append(Port(path, str(real_path)))
    return ports


def _comports() -> Iterable[ListPortInfo]:
    # pyserial reads several files of a device one after the other; one unplugged in
    # between makes it fail with TypeError (int(None)). By the second time it is gone.
    try:
        return pyserial_list_ports.comports()
    except (OSError, TypeError, ValueError):
        pass
    try:
        return pyserial_list_ports.comports()
    except (OSError, TypeError, ValueError) as error:
        raise ListingFailed(f"the ports cannot be listed: {error}") from error


def _port(info: ListPortInfo) -> Port:
    return Port(
        address=info.device,
        real_path=str(Path(info.device).resolve()),
        vid=info.vid,
        pid=info.pid,
        serial_number=info.serial_number or None,
        manufacturer=info.manufacturer or None,
        product=info.product or None,
        location=info.location or None,
    )


def _numbers_apart(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text) if part]
