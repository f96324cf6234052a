"""How each family of USB chips wants its port held: DTR and RTS, and what closing does with them.

One table, by vendor and product id. Nothing in it was tried on hardware: rows marked
READ stand in source, data sheets or issues, rows marked KNOWN are what everybody says.
The inventory's own keys win over all of it. What the lines do:
- Native USB (TinyUSB, and the older stack of STM32 ports) takes DTR for "somebody
  listens": without it output is thrown away, and with it, when nobody reads, each
  print waits up to 500 ms. So it is up while belayd is there and falls at closing.
- Most ESP boards hang their reset on a bridge's lines: EN low while RTS=1 and DTR=0,
  boot mode while DTR=1 and RTS=0, both equal is "run". A few wire each line straight to
  its pin (ESP32-CAM-MB) and run only with both down. So both are down, and stay.
- An ESP's own USB peripheral resets on the same patterns, and both up is "no action".
Linux raises both lines at each open, in one request; `serial.py` then sets both in one
request too, so that no board sees them differ on the way.
Source: MicroPython's shared/tinyusb/mp_usbd_cdc.c and ESP32 issues 9659, 17532, 18001;
the ESP32-C3's technical reference, "USB Serial/JTAG"; mpremote's transport_serial.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from pathlib import Path


class Certainty(enum.Enum):
    """Where a row comes from; none was tried."""

    READ = "read in source, data sheets or issues"
    KNOWN = "common knowledge, unchecked"


@dataclass(frozen=True, slots=True)
class Manners:
    """How a port is held.

    Attributes:
        dtr, rts: The lines while it is open.
        hupcl: Whether they fall when it is closed.
        steady: Whether it holds back what the board does not read, as `contract.Traffic` has it.
    """

    family: str
    dtr: bool
    rts: bool
    hupcl: bool
    certainty: Certainty
    steady: bool = False


_READ, _KNOWN = Certainty.READ, Certainty.KNOWN

NATIVE = Manners("native USB", dtr=True, rts=True, hupcl=True, certainty=_READ)
# TinyUSB refuses what its buffer does not hold (NAK), and so the host waits.
TINYUSB = replace(NATIVE, family="native USB by TinyUSB", steady=True)
BRIDGE = Manners("USB bridge", dtr=False, rts=False, hupcl=False, certainty=_READ)
# Closing leaves the lines: the chips that reset on them are not to see one change.
ESPRESSIF = Manners("native USB of an ESP32-S2 or S3", True, True, False, _READ, steady=True)
SERIAL_JTAG = Manners("USB-Serial-JTAG of an ESP32", True, True, False, _READ, steady=True)
PROBE = Manners("UART of a debug probe", dtr=True, rts=True, hupcl=False, certainty=_KNOWN)
UNKNOWN = Manners("unknown", dtr=True, rts=True, hupcl=False, certainty=_KNOWN)

_PRODUCTS = {
    (0x303A, 0x1001): SERIAL_JTAG,
    (0x2E8A, 0x0004): PROBE,
    (0x2E8A, 0x000C): PROBE,
}
_VENDORS = {
    0x10C4: BRIDGE,  # CP210x
    0x1A86: BRIDGE,  # CH340, CH343, CH9102
    0x0403: BRIDGE,  # FTDI
    0x067B: BRIDGE,  # PL2303
    0x2E8A: TINYUSB,  # RP2
    0xF055: NATIVE,  # MicroPython's own: SAMD, i.MX RT, Renesas, and STM32, whose older stack drops
    0x239A: TINYUSB,  # Adafruit, CircuitPython
    0x2341: NATIVE,  # Arduino
    0x2A03: NATIVE,
    0x303A: ESPRESSIF,
    0x0D28: PROBE,  # DAPLink of the micro:bit
    0x0483: PROBE,  # ST-Link
}


def manners_of(vid: int | None, pid: int | None) -> Manners:
    """Return what is right for a USB device; None is a port that is on no USB, such as a pty."""
    if vid is None or pid is None:
        return UNKNOWN
    return _PRODUCTS.get((vid, pid)) or _VENDORS.get(vid, UNKNOWN)


def usb_ids(port: str, system: Path = Path("/sys")) -> tuple[int | None, int | None]:
    """Return vendor and product id of the USB device behind a tty; None for both where there is none.

    Reads Linux's `system` tree, since a path in /dev, unlike what discovery lists, does
    not tell. Other systems have none: there the inventory's keys decide.
    """
    name = Path(port).resolve().name
    place = (system / "class" / "tty" / name / "device").resolve()
    for folder in (place, *place.parents):
        try:
            return _hexadecimal(folder / "idVendor"), _hexadecimal(folder / "idProduct")
        except (OSError, ValueError):
            continue  # the tty's own device and its interface come first
    return None, None


def _hexadecimal(file: Path) -> int:
    return int(file.read_text("ascii"), 16)
