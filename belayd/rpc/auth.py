"""Who calls: the principal behind a request's credentials.

An address without credentials is served on loopback only (`server.py` refuses
others), and whoever reaches it is the local user.
"""

from __future__ import annotations

from typing import Any

from belayd.access import LOCAL, Principal


def principal(context: Any) -> Principal:
    """Return the caller of the RPC that `context` belongs to."""
    return LOCAL
