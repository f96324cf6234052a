"""What a USB id probably is: a board, something that may hide one, or no board at all.

A guess for people to check, never a reason to open a port by itself. Sources:
the board definitions of MicroPython and CircuitPython for what runs them; common
knowledge, unchecked, for bridges and boot loaders.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from belayd.discovery.ports import Port


class Kind(enum.Enum):
    """How sure it is that a Python prompt is there."""

    BOARD = "board"
    POSSIBLE = "possible"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Recognition:
    """A guess; `chip` is the label to suggest, "" where it is open, `stem` begins a name."""

    kind: Kind
    what: str
    stem: str = "board"
    chip: str = ""


_B, _S, _O = Kind.BOARD, Kind.POSSIBLE, Kind.OTHER

_EXACT = {
    (0x2E8A, 0x0005): Recognition(_B, "RP2 board with MicroPython", "pico", "rp2"),
    (0x2E8A, 0x000B): Recognition(_B, "Pico 2 with CircuitPython", "pico", "rp2"),
    (0x2E8A, 0x0003): Recognition(_O, "RP2040 in its boot loader"),
    (0x2E8A, 0x000F): Recognition(_O, "RP2350 in its boot loader"),
    (0x2E8A, 0x000C): Recognition(_O, "Raspberry Pi Debug Probe"),
    (0x2E8A, 0x0004): Recognition(_O, "Picoprobe"),
    (0xF055, 0x9802): Recognition(_B, "board with MicroPython (STM32, SAMD or i.MX RT)", "board"),
    (0x0483, 0xDF11): Recognition(_O, "STM32 in its boot loader"),
    (0x0483, 0x374B): Recognition(_S, "ST-Link, perhaps of a Nucleo board", "nucleo", "stm32"),
    (0x0483, 0x374E): Recognition(_S, "ST-Link, perhaps of a Nucleo board", "nucleo", "stm32"),
    (0x303A, 0x4001): Recognition(_B, "ESP32-S2 or S3 with MicroPython", "esp32", "esp32"),
    (0x303A, 0x1001): Recognition(_B, "ESP32-C3, C6, H2 or S3 (USB-Serial-JTAG)", "esp32", "esp32"),
    (0x303A, 0x0002): Recognition(_O, "ESP32-S2 in its boot loader"),
    (0x303A, 0x0009): Recognition(_O, "ESP32-S3 in its boot loader"),
    (0x10C4, 0xEA60): Recognition(_S, "CP210x bridge"),
    (0x1A86, 0x7523): Recognition(_S, "CH340 bridge"),
    (0x1A86, 0x55D4): Recognition(_S, "CH9102 bridge"),
    (0x1A86, 0x55D3): Recognition(_S, "CH343 bridge"),
    (0x0403, 0x6001): Recognition(_S, "FT232R bridge"),
    (0x0403, 0x6010): Recognition(_S, "FT2232 bridge"),
    (0x0403, 0x6014): Recognition(_S, "FT232H bridge"),
    (0x0403, 0x6015): Recognition(_S, "FT231X bridge"),
    (0x067B, 0x2303): Recognition(_S, "PL2303 bridge"),
    (0x0D28, 0x0204): Recognition(_B, "micro:bit", "microbit", "nrf"),
    (0x16C0, 0x0483): Recognition(_O, "Teensy with an Arduino sketch"),
    (0x2341, 0x025E): Recognition(_B, "Arduino Nano RP2040", "nano", "rp2"),
    (0x2341, 0x056B): Recognition(_B, "Arduino Nano ESP32", "nano", "esp32"),
    (0x2341, 0x0468): Recognition(_B, "Arduino Portenta C33", "portenta", "renesas"),
    (0x239A, 0x80F4): Recognition(_B, "Pico with CircuitPython", "pico", "rp2"),
    (0x239A, 0x8120): Recognition(_B, "Pico W with CircuitPython", "pico", "rp2"),
    (0x239A, 0x8086): Recognition(_B, "Teensy 4.0 with CircuitPython", "teensy", "mimxrt"),
    (0x239A, 0x80AE): Recognition(_B, "Teensy 4.1 with CircuitPython", "teensy", "mimxrt"),
    (0x239A, 0x8026): Recognition(_B, "Feather M4 with CircuitPython", "feather", "samd"),
    (0x239A, 0x8019): Recognition(_B, "Circuit Playground Express with CircuitPython", "cpx", "samd"),
    (0x239A, 0x802A): Recognition(_B, "nRF52840 board with CircuitPython", "feather", "nrf"),
}

# Vendor, lowest and highest product id: asked after the exact ones.
_RANGES = (
    (0xF055, 0x9800, 0x980A, Recognition(_B, "pyboard or another STM32 board", "pyboard", "stm32")),
    (0x303A, 0x8000, 0x82FF, Recognition(_B, "ESP32-S2 or S3 board", "esp32", "esp32")),
    (0x239A, 0x0000, 0x00FF, Recognition(_O, "Adafruit board in its boot loader")),
    (0x239A, 0x8000, 0x81FF, Recognition(_B, "Adafruit board with CircuitPython")),
    (0x2341, 0x0000, 0xFFFF, Recognition(_S, "Arduino, with or without Python")),
    (0x2A03, 0x0000, 0xFFFF, Recognition(_S, "Arduino, with or without Python")),
)

# Vendors of boards that ship with MicroPython or CircuitPython, among other things.
_VENDORS = {
    0x2E8A: "RP2 board",
    0x1B4F: "SparkFun board",
    0x2886: "Seeed board",
    0x1209: "pid.codes device",
    0x04D8: "device with a Microchip id",
    0x1FFB: "Pololu board",
    0x16D0: "device with an MCS id",
}


def recognise(port: Port) -> Recognition:
    """Return what is probably on a USB port."""
    if port.vid is None or port.pid is None:
        return Recognition(_O, "no USB device")
    exact = _EXACT.get((port.vid, port.pid))
    if exact is not None:
        return exact
    for vid, lowest, highest, recognition in _RANGES:
        if port.vid == vid and lowest <= port.pid <= highest:
            return recognition
    texts = f"{port.manufacturer or ''} {port.product or ''}".lower()
    for word in ("micropython", "circuitpython"):
        if word in texts:
            return Recognition(_B, "board that names its Python", "board")
    if port.vid in _VENDORS:
        return Recognition(_S, f"{_VENDORS[port.vid]}, with or without Python")
    return Recognition(_O, "unknown device")
