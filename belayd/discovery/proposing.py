"""Inventory entries for the USB ports that nobody has listed yet: names, identities, labels; pure.

An identity is as short as it can be while no other entry could match the same
device: the serial number, with the place beside it where others of its kind have
none, else the place alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from belayd.discovery.matching import consoles, matches
from belayd.discovery.ports import Port
from belayd.discovery.recognition import Kind, Recognition, recognise
from belayd.inventory import BoardSpec, SerialLink, UsbLink, could_be_same


@dataclass(frozen=True, slots=True)
class Finding:
    """One USB device with a port.

    Attributes:
        listed_as: The board that the inventory has for it, "" for none.
        blocked_by: The board whose entry says too little to tell the two apart, "" for none.
        name, link: What to call it in the inventory; "" and None where it is
            listed already, is no board, or cannot be told apart.
    """

    port: Port
    recognition: Recognition
    listed_as: str = ""
    blocked_by: str = ""
    name: str = ""
    link: UsbLink | None = None


def propose(ports: Sequence[Port], specs: Iterable[BoardSpec]) -> list[Finding]:
    """Return what is on each USB port, with a name and an identity for each new board."""
    specs = list(specs)
    listed = {
        port.real_path: spec.name
        for spec in specs
        if isinstance(spec.link, SerialLink)
        for port in ports
        if port.vid is None and port.address == spec.link.port
    }
    names = {spec.name for spec in specs}
    links = {spec.name: spec.link for spec in specs if isinstance(spec.link, UsbLink)}
    found = consoles(sorted((port for port in ports if port.vid is not None), key=lambda port: port.order))
    findings = []
    for port in found:
        recognition = recognise(port)
        listed_as = listed.get(port.real_path) or _listed_as(port, specs)
        finding = Finding(port, recognition, listed_as)
        if not listed_as and recognition.kind is not Kind.OTHER:
            link, blocked_by = _identity(port, found, links)
            name = _free_name(recognition.stem, names) if link else ""
            finding = Finding(port, recognition, "", blocked_by, name, link)
            if link is not None:
                names.add(name)
                links[name] = link
        findings.append(finding)
    return findings


def _listed_as(port: Port, specs: Iterable[BoardSpec]) -> str:
    names = (spec.name for spec in specs if isinstance(spec.link, UsbLink) and matches(spec.link, port))
    return next(names, "")


def _free_name(stem: str, names: set[str]) -> str:
    number = 1
    while f"{stem}-{number}" in names:
        number += 1
    return f"{stem}-{number}"


def _identity(port: Port, found: Sequence[Port], links: Mapping[str, UsbLink]) -> tuple[UsbLink | None, str]:
    """Return the shortest identity that is only this port's, or None and the entry that is in its way."""
    blocked_by = ""
    serial, place = port.serial_number, port.usb_path
    for serial_number, location in [(serial, None), (serial, place), (None, place)]:
        if serial_number is None and location is None:
            continue
        link = UsbLink(vid=port.vid, pid=port.pid, serial_number=serial_number, location=location)
        if any(matches(link, other) for other in found if other is not port):
            continue
        blocked_by = next((name for name, other in links.items() if could_be_same(link, other)), "")
        if not blocked_by:
            return link, ""
    return None, blocked_by
