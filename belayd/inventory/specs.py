"""What an inventory says, as frozen values: the boards, the server, the rules for strangers.

Made by `inventory.loading`; the rest of the daemon reads them and never sees
YAML. Paths are absolute, durations seconds, labels already merged with the
defaults. No password is ever in here, only where one is to be found.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from belayd.inventory.problems import Problem

DEFAULT_BAUDRATE = 115_200  # what MicroPython's UART REPLs run at


@dataclass(frozen=True, slots=True)
class UsbLink:
    """A serial port found by its USB identity; None matches anything.

    Attributes:
        location: Stable USB path such as "1-1.4", with an interface ("1-1.4:1.2")
            for one of several ports of the same board.
        baudrate, dtr, rts, hupcl, low_latency: How to open it, no part of the identity;
            None as the chip family wants it.
    """

    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    location: str | None = None
    baudrate: int = DEFAULT_BAUDRATE
    dtr: bool | None = None
    rts: bool | None = None
    hupcl: bool | None = None
    low_latency: bool = True

    kind = "usb"

    def describe(self) -> str:
        """Return the identity for people, such as "vid 2e8a, serial_number E66"."""
        parts = []
        if self.vid is not None:
            parts.append(f"vid {self.vid:04x}")
        if self.pid is not None:
            parts.append(f"pid {self.pid:04x}")
        for name in ("serial_number", "manufacturer", "product", "location"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name} {value}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class SerialLink:
    """A serial port or pty by its path; the rest as in `UsbLink`."""

    port: str
    baudrate: int = DEFAULT_BAUDRATE
    dtr: bool | None = None
    rts: bool | None = None
    hupcl: bool | None = None
    low_latency: bool = True

    kind = "serial"


@dataclass(frozen=True, slots=True)
class WebreplLink:
    """A board's WebREPL; exactly one of the two says where its password is."""

    url: str
    password_env: str | None = None
    password_file: Path | None = None

    kind = "webrepl"


@dataclass(frozen=True, slots=True)
class TcpLink:
    """A serial port served over TCP: `scheme` is socket (raw) or rfc2217."""

    url: str
    scheme: str
    host: str
    port: int

    kind = "tcp"


@dataclass(frozen=True, slots=True)
class SimulatedLink:
    """A real MicroPython in a child process.

    Attributes:
        micropython: The interpreter, None to look for one.
        folder: Holds the board's files, None for one that belayd makes.
        heap_kib: Of the interpreter.
        flash_kib: Of a LittleFS image that holds the files; None keeps them in `folder` as they are.
    """

    micropython: Path | None = None
    folder: Path | None = None
    heap_kib: int = 512
    flash_kib: int | None = None

    kind = "simulated"


Link = UsbLink | SerialLink | WebreplLink | TcpLink | SimulatedLink
LINK_KINDS = ("usb", "serial", "webrepl", "tcp", "simulated")


class Attach(enum.Enum):
    """What happens to a running main.py when the board appears."""

    INTERRUPT = "interrupt"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class SoftReset:
    """Between holders: a soft reset."""


@dataclass(frozen=True, slots=True)
class Wipe:
    """Between holders: every file goes."""


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a folder to deploy: its path below it, its whole SHA-256, its content."""

    path: str
    sha256: bytes
    content: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class DeployTree:
    """Between holders: the board's files are made equal to `folder`, as it was when the inventory was read."""

    folder: Path
    files: tuple[TreeFile, ...] = field(default=(), repr=False)


Between = SoftReset | Wipe | DeployTree


@dataclass(frozen=True, slots=True)
class PowerHook:
    """A command, never through a shell, that cuts and restores a board's power."""

    cycle: tuple[str, ...]
    timeout: float = 20.0


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """One board as the inventory, or an adopt rule, describes it.

    Attributes:
        unique_id: Lower-case hexadecimal; any other board on the link is refused.
    """

    name: str
    link: Link
    labels: Mapping[str, str] = field(default_factory=dict)
    unique_id: str | None = None
    attach: Attach = Attach.INTERRUPT
    between: Between = field(default_factory=SoftReset)
    power: PowerHook | None = None


@dataclass(frozen=True, slots=True)
class AdoptRule:
    """Takes in boards that no entry lists.

    Attributes:
        name: A template such as "pico-{serial_number}"; fields are the USB attributes.
        max: Boards that this rule may hold at once, absent ones included.
    """

    usb: UsbLink
    name: str
    max: int = 20
    labels: Mapping[str, str] = field(default_factory=dict)
    attach: Attach = Attach.INTERRUPT
    between: Between = field(default_factory=SoftReset)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; with `client_ca`, clients must bring a certificate of it."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the daemon serves; command-line flags win.

    Attributes:
        listen, metrics: HOST:PORT.
        max_hold: Seconds that a lease may be held in all.
        idle: Seconds without a job after which a lease ends.
        per_user: Leases that one principal may hold and wait for together; None for any number.
        metric_labels: Labels of boards that belayd_board_info carries.
    """

    listen: str = "localhost:50951"
    metrics: str = "localhost:9951"
    tls: TlsFiles | None = None
    max_hold: float = 8 * 3600.0
    idle: float = 30 * 60.0
    per_user: int | None = None
    metric_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Other hosts: named one by one, or found through etcd; at most one of the two is not empty."""

    peers: tuple[str, ...] = ()
    etcd_endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """A valid inventory.

    Attributes:
        boards: By name, in the file's order.
        warnings: What is allowed and yet deserves a look.
    """

    path: Path
    server: ServerSettings = field(default_factory=ServerSettings)
    boards: Mapping[str, BoardSpec] = field(default_factory=dict)
    adopt: tuple[AdoptRule, ...] = ()
    cluster: ClusterSettings | None = None
    warnings: tuple[Problem, ...] = ()
