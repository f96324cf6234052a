"""The client that a command line's connection options ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belayd_client.client import Client


def open_client(args: argparse.Namespace) -> Client:
    """Return a client; imports grpc."""
    from belayd_client.client import Client

    return Client(
        getattr(args, "address", None),
        token_file=getattr(args, "token_file", None),
        ca=getattr(args, "ca", None),
        cert=getattr(args, "cert", None),
        key=getattr(args, "key", None),
        profile=getattr(args, "profile", None),
    )
