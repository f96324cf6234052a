"""The inventory: YAML to frozen values, or every mistake with its file, line and key.

`load` is all that the daemon calls. What is inside: `source` reads the file,
`document` knows the lines, `model` and `scalars` the grammar, `rules` what must
hold between keys, `trees` reads the folders that boards get between holders,
`explaining` and `problems` word the mistakes, `merging` adds boards to a file that
people wrote.
"""

from __future__ import annotations

from belayd.inventory.loading import load, parse
from belayd.inventory.merging import Entry, MergeRefused, merge, new_inventory, quoted
from belayd.inventory.model import json_schema
from belayd.inventory.names import BOARD_NAME, clean_name
from belayd.inventory.problems import InventoryError, Problem
from belayd.inventory.rules import could_be_same
from belayd.inventory.source import read_text, replace_text
from belayd.inventory.specs import (
    LINK_KINDS,
    AdoptRule,
    Attach,
    Between,
    BoardSpec,
    ClusterSettings,
    DeployTree,
    Inventory,
    Link,
    PowerHook,
    SerialLink,
    ServerSettings,
    SimulatedLink,
    SoftReset,
    TcpLink,
    TlsFiles,
    TreeFile,
    UsbLink,
    WebreplLink,
    Wipe,
)

__all__ = [
    "BOARD_NAME",
    "LINK_KINDS",
    "AdoptRule",
    "Attach",
    "Between",
    "BoardSpec",
    "ClusterSettings",
    "DeployTree",
    "Entry",
    "Inventory",
    "InventoryError",
    "Link",
    "MergeRefused",
    "PowerHook",
    "Problem",
    "SerialLink",
    "ServerSettings",
    "SimulatedLink",
    "SoftReset",
    "TcpLink",
    "TlsFiles",
    "TreeFile",
    "UsbLink",
    "WebreplLink",
    "Wipe",
    "clean_name",
    "could_be_same",
    "json_schema",
    "load",
    "merge",
    "new_inventory",
    "parse",
    "quoted",
    "read_text",
    "replace_text",
]
