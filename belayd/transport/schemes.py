"""The table of schemes: which opener serves which kind of link of the inventory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from belayd.transport.contract import Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial
from belayd.transport.tcp import open_tcp
from belayd.transport.websocket import open_webrepl

OPENERS: Mapping[str, Callable[..., Awaitable[Transport]]] = MappingProxyType(
    {
        "serial": open_serial,
        "simulated": open_simulated,
        "tcp": open_tcp,
        "webrepl": open_webrepl,
    }
)
