"""Who calls: what an RPC shows of its caller, and the principal that the border made of it.

The principal goes with the RPC's task and the tasks it starts (a context variable),
so that nothing below has to pass it on and nobody can forget to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

from belayd.access import Principal
from belayd.attempts import origin
from belayd.entrance import Caller, Door, bearer
from belayd.errors import BelaydError

Stay = Callable[[], BelaydError | None]
"""Returns why a caller may stay no longer; None while it may."""

_PRINCIPAL: ContextVar[Principal] = ContextVar("principal")
_STAY: ContextVar[Stay] = ContextVar("stay")


def principal(context: Any) -> Principal:
    """Return the caller of the RPC that `context` belongs to."""
    return current()


def current() -> Principal:
    """Return the caller of the RPC that this task belongs to.

    Raises:
        LookupError: It belongs to none.
    """
    return _PRINCIPAL.get()


def enter(principal: Principal) -> None:
    """Say whose RPC this task serves."""
    _PRINCIPAL.set(principal)


def let_stay(stay: Stay) -> None:
    """Say how long whoever this task serves may stay."""
    _STAY.set(stay)


def stay() -> Stay:
    """Return what tells whether the caller may stay, for what outlives its RPC."""
    return _STAY.get(lambda: None)


def caller(context: Any, door: Door) -> Caller:
    """Return what the caller of `context` shows."""
    metadata = context.invocation_metadata() or ()
    headers = [value for key, value in metadata if key == "authorization" and isinstance(value, str)]
    token, problem = bearer(headers)
    return Caller(address_of(context.peer()), token, _names(context) if door.encrypted else (), problem)


def address_of(peer: str) -> str:
    """Return what failures of a gRPC peer such as "ipv4:10.0.0.7:4711" are counted by."""
    scheme, _, rest = peer.partition(":")
    return origin(unquote(rest).rpartition(":")[0]) if scheme in ("ipv4", "ipv6") else scheme


def _names(context: Any) -> tuple[str, ...]:
    shown = context.auth_context()
    names = (*shown.get("peer_email", ()), *shown.get("peer_dns", ()))
    return tuple(name.decode(errors="replace") for name in names)
