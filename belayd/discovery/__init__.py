"""Which boards are present, and on which ports: identity from USB, never from ttyACM numbers.

`ports` sees what is there, `matching` says which board is where (pure),
`polling` does both again and again and reports differences. For people who write
an inventory, `recognition` tells what a USB id probably is, and `proposing` makes
entries of it.
"""

from __future__ import annotations

from belayd.discovery.matching import Adoption, Matching, match
from belayd.discovery.polling import (
    Adopted,
    Attached,
    Detached,
    Discovery,
    DiscoveryEvent,
    DiscoveryListener,
    Forgotten,
    Readopted,
    identity_of,
    rule_identity,
)
from belayd.discovery.ports import Lister, ListingFailed, Port, list_ports
from belayd.discovery.proposing import Finding, propose
from belayd.discovery.recognition import Kind, Recognition, recognise

__all__ = [
    "Adopted",
    "Adoption",
    "Attached",
    "Detached",
    "Discovery",
    "DiscoveryEvent",
    "DiscoveryListener",
    "Finding",
    "Forgotten",
    "Kind",
    "Lister",
    "ListingFailed",
    "Matching",
    "Port",
    "Readopted",
    "Recognition",
    "identity_of",
    "list_ports",
    "match",
    "propose",
    "recognise",
    "rule_identity",
]
