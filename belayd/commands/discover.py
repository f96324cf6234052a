"""`belayd discover`: the boards on USB, as entries of an inventory."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from belayd.discovery import Finding, Lister
    from belayd.inventory import Entry, Inventory

_EXAMPLES = """\
examples:
  belayd discover                      # what is plugged in, as YAML to copy
  belayd discover --write lab.yaml     # add what lab.yaml does not list yet
  belayd discover --json

No port is opened, so nothing that runs on a board is disturbed. What a USB
bridge hides cannot be seen that way: look at such entries before you keep them.
Exit codes: 0 done, 2 the file is no valid inventory or cannot be changed,
5 the ports cannot be listed now.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "discover",
        help="print the boards on USB as inventory entries",
        description="Print the boards on USB as entries of an inventory, or add them to one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--write", metavar="FILE", type=Path, help="add the new ones to this inventory; its comments stay"
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, lister: Lister | None = None) -> int:
    """Look, and print or write; returns the exit code."""
    from belayd.discovery import ListingFailed, list_ports, propose
    from belayd.inventory import InventoryError, MergeRefused, SerialLink

    try:
        inventory = _existing(args.write)
        specs = list(inventory.boards.values()) if inventory else []
        paths = [spec.link.port for spec in specs if isinstance(spec.link, SerialLink)]
        findings = propose((lister or list_ports)(paths), specs)
        if args.write is not None:
            _write(args.write, inventory, findings)
    except InventoryError as error:
        print(error, file=sys.stderr)
        return 2
    except (MergeRefused, OSError) as error:
        print(f"{args.write}: not changed: {error}", file=sys.stderr)
        return 2
    except ListingFailed as error:
        print(error, file=sys.stderr)
        return 5
    if args.json:
        print(json.dumps([_as_json(finding) for finding in findings], indent=2))
    else:
        _print(args.write, findings)
    return 0


def _existing(path: Path | None) -> Inventory | None:
    from belayd.inventory import load

    return load(path) if path is not None and path.exists() else None


def _write(path: Path, inventory: Inventory | None, findings: Sequence[Finding]) -> None:
    from belayd.inventory import merge, new_inventory, read_text, replace_text

    entries = [entry for finding in findings if (entry := _entry(finding))]
    if entries:
        text = merge(read_text(path), entries, path) if inventory else new_inventory(entries)
        replace_text(path, text)


def _entry(finding: Finding) -> Entry | None:
    from belayd.inventory import Entry, quoted

    if finding.link is None:
        return None
    usb = ", ".join(f"{key}: {quoted(value)}" for key, value in _usb(finding).items())
    values = {"usb": f"{{{usb}}}"}
    if finding.recognition.chip:
        values["labels"] = f"{{chip: {finding.recognition.chip}}}"
    return Entry(finding.name, values, f"{finding.recognition.what}, now on {finding.port.address}")


def _usb(finding: Finding) -> dict[str, str]:
    link = finding.link
    if link is None:
        return {}
    numbers = {"vid": link.vid, "pid": link.pid}
    texts = {"serial_number": link.serial_number, "location": link.location}
    return {key: f"{value:04x}" for key, value in numbers.items() if value is not None} | {
        key: value for key, value in texts.items() if value is not None
    }


def _print(path: Path | None, findings: Sequence[Finding]) -> None:
    new = [(finding, entry) for finding in findings if (entry := _entry(finding))]
    for finding in findings:
        if not finding.name:
            print(f"# {finding.port.address}: {_why_not(finding)}", file=sys.stderr)
    if path is not None:
        added = ", ".join(finding.name for finding, _ in new)
        print(f"{path}: {f'added {added}' if added else 'nothing to add'}")
    elif new:
        print("boards:")
        for _, entry in new:
            print("\n".join(entry.lines("  ")))
    else:
        print("No new board on USB.", file=sys.stderr)


def _why_not(finding: Finding) -> str:
    if finding.listed_as:
        return f"listed as {finding.listed_as}"
    what = f"{finding.recognition.what} ({finding.port.vid or 0:04x}:{finding.port.pid or 0:04x})"
    if finding.blocked_by:
        return f"{what}: the entry {finding.blocked_by} could match it too; name vid and pid there, and try again"
    return f"{what}, no entry"


def _as_json(finding: Finding) -> dict[str, Any]:
    port = finding.port
    return {
        "port": port.address,
        "listed_as": finding.listed_as,
        "blocked_by": finding.blocked_by,
        "name": finding.name,
        "usb": _usb(finding),
        "labels": {"chip": finding.recognition.chip} if finding.recognition.chip else {},
        "kind": finding.recognition.kind.value,
        "what": finding.recognition.what,
        "manufacturer": port.manufacturer,
        "product": port.product,
    }
