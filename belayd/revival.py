"""Leases as they are kept and as they come back: between the table's clock and what a store can keep.

The table counts seconds of a clock that starts anew with the host; a store keeps how
many had passed or were left. Times of day are for people to read and may jump: they
end no lease early and let none live longer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from belayd.snapshot import LeaseView, NoticeView
from belayd.store import LeaseRecord
from belayd.terms import Lease, Notice

TimeOfDay = Callable[[float], datetime]


def view_of(lease: Lease, time_of_day: TimeOfDay, seen: LeaseView | None) -> LeaseView:
    """Return what everybody may see of a lease; `seen` is what they saw before, with its time of grant."""
    notice = lease.notice
    return LeaseView(
        name=lease.name,
        board=lease.board,
        holder=lease.holder,
        reason=lease.reason,
        fence=lease.fence,
        acquired=seen.acquired if seen else time_of_day(lease.acquired),
        expires=time_of_day(lease.expires),
        ttl=lease.ttl,
        notice=NoticeView(notice.by, notice.why, time_of_day(notice.ends)) if notice else None,
    )


def record_of(lease: Lease, view: LeaseView, now: float) -> LeaseRecord:
    """Return a lease as it is stored at `now`."""
    left = lease.notice.ends - now if lease.notice else 0.0
    return LeaseRecord(view, lease.principal, lease.token_hash, held=now - lease.acquired, notice_left=left)


def revived(record: LeaseRecord, now: float, max_hold: float) -> Lease:
    """Return a stored lease as it lives on from `now`.

    It gets one full ttl, since nobody could renew it meanwhile, but not beyond the
    longest hold or an operator's notice. Where the host started anew, what it was away
    does not count. One that had ended ends again at once, and by that its board is
    cleaned.
    """
    view, away = record.view, record.away or 0.0
    acquired = now - record.held - away
    left = max(0.0, record.notice_left - away)
    notice = Notice(view.notice.by, view.notice.why, now + left) if view.notice else None
    return Lease(
        name=view.name,
        board=view.board,
        principal=record.principal,
        holder=view.holder,
        reason=view.reason,
        ttl=view.ttl,
        token_hash=record.token_hash,
        fence=view.fence,
        acquired=acquired,
        expires=now if record.ended else min(now + view.ttl, acquired + max_hold),
        notice=notice,
    )
