"""What the table of leases refuses, in words that say what to do; pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from belayd.errors import BoardLeased, QuotaExceeded, RequestInvalid
from belayd.terms import MIN_TTL, Lease, Limits


def leased(lease: Lease, waiting: int, time_of_day: Callable[[float], datetime]) -> BoardLeased:
    """Return why somebody else's board cannot be used."""
    board = lease.board
    since, expires = (time_of_day(at).isoformat(timespec="seconds") for at in (lease.acquired, lease.expires))
    return BoardLeased(
        f"board {board!r} is leased by {lease.holder} since {since} until {expires}; "
        f"{waiting} wait for it; acquire it and wait, or take another",
        board=board,
        holder=lease.holder,
        since=since,
        expires=expires,
        queue_length=waiting,
    )


def refuse_ttl(ttl: float, limits: Limits) -> float:
    """Return a ttl that is within bounds.

    Raises:
        RequestInvalid: It is not.
    """
    if not MIN_TTL <= ttl <= limits.max_hold:
        raise RequestInvalid(
            f"a lease's ttl is from {MIN_TTL:g} s to {limits.max_hold:g} s, not {ttl:g} s",
            field="ttl",
        )
    return ttl


def refuse_greed(principal: str, held: int, waiting: int, limits: Limits) -> None:
    """Raise QuotaExceeded for one who holds and waits for as many boards as one may."""
    if limits.per_user is not None and held + waiting >= limits.per_user:
        raise QuotaExceeded(
            f"{principal!r} holds {held} boards and waits for {waiting}, and may have {limits.per_user} "
            "in all; release one first",
            limit=limits.per_user,
            held=held,
            waiting=waiting,
        )
