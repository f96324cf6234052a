"""What must hold between keys and between boards, beyond the type of each value.

Checked on whatever is valid by itself, so that one run tells everything.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from belayd.inventory.document import Document, Value
from belayd.inventory.problems import Findings, Path, Problem, nearest, shown, suggest
from belayd.inventory.specs import (
    LINK_KINDS,
    BoardSpec,
    Inventory,
    Link,
    SerialLink,
    SimulatedLink,
    TcpLink,
    UsbLink,
    WebreplLink,
)

MAX_BOARDS = 2000  # of one host: sixteen full USB buses
USB_KEYS = ("vid", "pid", "serial_number", "manufacturer", "product", "location")


def check_shape(document: Document, findings: Findings) -> None:
    """Check what one mapping's keys say together: one link, one password, one identity."""
    root = document.value
    if not isinstance(root, dict):
        return
    boards = _items(root.get("boards"))
    if len(boards) > MAX_BOARDS:
        path: Path = ("boards",)
        findings.add(
            document.line(path), path, f"holds {len(boards)} boards, at most {MAX_BOARDS} are possible"
        )
    for name, board in boards[:MAX_BOARDS]:
        if isinstance(board, dict):
            _check_board(board, ("boards", name), document, findings)
    rules = root.get("adopt")
    for index, rule in enumerate(rules if isinstance(rules, list) else []):
        if isinstance(rule, dict):
            _check_rule(rule, ("adopt", index), document, findings)
    cluster = root.get("cluster")
    if isinstance(cluster, dict) and cluster.get("peers") and cluster.get("etcd"):
        path = ("cluster", "etcd")
        findings.add(document.line(path), path, "stands beside peers", "keep one of the two")


def _items(value: Value) -> list[tuple[str, Value]]:
    return list(value.items()) if isinstance(value, dict) else []


def _check_board(board: dict[str, Value], path: Path, document: Document, findings: Findings) -> None:
    links = [kind for kind in LINK_KINDS if kind in board]
    line = document.line(path)
    if len(links) > 1:
        findings.add(line, path, f"has {len(links)} links: {', '.join(links)}", "keep exactly one")
    # A misspelt link is an unknown key with its own suggestion: once is enough.
    elif not links and not any(nearest(key, LINK_KINDS) for key in board):
        findings.add(line, path, "has no link", f"add one of {', '.join(LINK_KINDS)}")
    if "usb" in board:
        _check_usb(board["usb"], (*path, "usb"), document, findings)
    webrepl = board.get("webrepl")
    if isinstance(webrepl, dict):
        _check_password(webrepl, (*path, "webrepl"), document, findings)


def _check_usb(usb: Value, path: Path, document: Document, findings: Findings) -> None:
    keys = () if usb is None else usb
    if isinstance(keys, str | list):
        return
    if not set(keys) & set(USB_KEYS) and not any(nearest(key, USB_KEYS) for key in keys):
        findings.add(
            document.line(path), path, "would match every device", f"add one of {', '.join(USB_KEYS)}"
        )


def _check_password(webrepl: dict[str, Value], path: Path, document: Document, findings: Findings) -> None:
    named = [key for key in ("password_env", "password_file") if key in webrepl]
    if len(named) == 2:
        findings.add(document.line(path), path, "names two passwords", "keep password_env or password_file")
    elif not named and not any(means_password(key) for key in webrepl):
        findings.add(
            document.line(path),
            path,
            "names no password",
            "add password_env: VARIABLE or password_file: FILE",
        )


def means_password(key: str) -> bool:
    """Return whether somebody who writes this key probably writes a password beside it."""
    return any(word in key.lower() for word in ("pas", "pw", "secret", "token"))


def _check_rule(rule: dict[str, Value], path: Path, document: Document, findings: Findings) -> None:
    if "usb" in rule:
        _check_usb(rule["usb"], (*path, "usb"), document, findings)
    name = rule.get("name")
    if isinstance(name, str):
        _check_template(name, rule.get("max") == "1", (*path, "name"), document, findings)


def _check_template(name: str, single: bool, path: Path, document: Document, findings: Findings) -> None:
    line = document.line(path)
    try:
        parts = list(string.Formatter().parse(name))
    except ValueError:
        findings.add(line, path, "is not a template", 'write for example "pico-{serial_number}"')
        return
    fields = [(field, spec, conversion) for _, field, spec, conversion in parts if field is not None]
    for field, spec, conversion in fields:
        if field not in USB_KEYS:
            findings.add(line, path, f"has no field {{{shown(field)}}}", suggest(field, USB_KEYS))
        elif spec or conversion:
            findings.add(line, path, "fields take no format", f"write {{{field}}}")
    literal = "".join(text for text, *_ in parts)
    if not re.fullmatch(r"[a-z0-9-]*", literal):
        findings.add(line, path, "holds what no board's name may", "use a-z, 0-9 and -")
    elif not fields and not single:
        findings.add(line, path, "gives every board the same name", f'write "{name}-{{serial_number}}"')


def check_boards(boards: Mapping[str, BoardSpec], document: Document, findings: Findings) -> None:
    """Check that no two boards claim the same thing; each clash is noted once, at the later one."""
    specs = list(boards.values())[:MAX_BOARDS]
    _check_unique(specs, _endpoint, "is on the same port as", "give each board its own", document, findings)
    _check_unique(
        specs,
        lambda spec: ("unique_id", spec.unique_id) if spec.unique_id else None,
        "has the unique_id of",
        "read it again on each board: machine.unique_id().hex()",
        document,
        findings,
    )
    _check_usb_clashes(specs, document, findings)


def _check_usb_clashes(specs: list[BoardSpec], document: Document, findings: Findings) -> None:
    # Most name a serial number: those need comparing only with the same one and with those that name none.
    by_serial: dict[str | None, list[tuple[BoardSpec, UsbLink]]] = {}
    every: list[tuple[BoardSpec, UsbLink]] = []
    for spec in specs:
        link = spec.link
        # One that names nothing is a mistake already noted, and would clash with all others.
        if not isinstance(link, UsbLink) or not link.describe():
            continue
        serial = link.serial_number
        near = every if serial is None else [*by_serial.get(serial, []), *by_serial.get(None, [])]
        for earlier, other in near:
            if could_be_same(link, other) and not (spec.unique_id and earlier.unique_id):
                path = ("boards", spec.name, "usb")
                first = document.line(("boards", earlier.name, "usb"))
                findings.add(
                    document.line(path),
                    path,
                    f"could match the same device as boards.{earlier.name} (line {first})",
                    "name in both what differs (vid and pid, serial_number, location), or a unique_id in each",
                )
                break
        by_serial.setdefault(serial, []).append((spec, link))
        every.append((spec, link))


def could_be_same(one: UsbLink, other: UsbLink) -> bool:
    """Return whether some device could match both: no attribute that both name differs."""
    for key in USB_KEYS:
        left, right = getattr(one, key), getattr(other, key)
        if left is None or right is None or left == right:
            continue
        # "1-1.4" is the board there, "1-1.4:1.2" one of its interfaces.
        if key == "location" and (left.startswith(f"{right}:") or right.startswith(f"{left}:")):
            continue
        return False
    return True


def _endpoint(spec: BoardSpec) -> tuple[str, ...] | None:
    link: Link = spec.link
    match link:
        case UsbLink():
            return None
        case SerialLink():
            return ("serial", os.path.normpath(link.port))
        case TcpLink():
            return ("tcp", link.host, str(link.port))
        case WebreplLink():
            return ("tcp", *urlsplit(link.url).netloc.lower().rsplit(":", 1))
        case SimulatedLink():
            return ("simulated", os.path.normpath(link.folder)) if link.folder else None


def _check_unique(
    specs: list[BoardSpec],
    claim: Callable[[BoardSpec], tuple[str, ...] | None],
    message: str,
    suggestion: str,
    document: Document,
    findings: Findings,
) -> None:
    first: dict[tuple[str, ...], BoardSpec] = {}
    for spec in specs:
        claimed = claim(spec)
        if claimed is None:
            continue
        earlier = first.setdefault(claimed, spec)
        if earlier is not spec:
            key = claimed[0] if claimed[0] == "unique_id" else spec.link.kind
            path = ("boards", spec.name, key)
            line = document.line(("boards", earlier.name))
            findings.add(
                document.line(path), path, f"{message} boards.{earlier.name} (line {line})", suggestion
            )


def warn(inventory: Inventory, document: Document) -> tuple[Problem, ...]:
    """Return what is allowed and yet deserves a look."""
    findings = Findings(str(inventory.path))
    for spec in inventory.boards.values():
        path = ("boards", spec.name, spec.link.kind)
        if isinstance(spec.link, WebreplLink):
            findings.add(
                document.line(path),
                path,
                "WebREPL is plaintext, and a door past the lease for whoever knows its password",
                "give the board a password of its own and a network of its own",
            )
        if isinstance(spec.link, SerialLink) and _numbered_by_plugging(spec.link.port):
            findings.add(
                document.line(path),
                path,
                f"{FilePath(spec.link.port).name} changes with the order of plugging in",
                "use usb: (`belayd discover` writes it) or a path in /dev/serial/by-id",
            )
    return tuple(findings.problems)


def _numbered_by_plugging(port: str) -> bool:
    return port.startswith(("/dev/ttyACM", "/dev/ttyUSB"))
