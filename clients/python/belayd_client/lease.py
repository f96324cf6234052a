"""A lease as its holder has it: renewed in the background, given up at the end.

A plain lease lasts until its expiry whatever becomes of the program. `keep`
ties it to the program: it is renewed at a third of its time to live, so that
two renewals may fail in a row and a network blip shorter than the time to live
harms nothing, and it is released when the interpreter exits. A program that is
killed leaves a lease that expires by itself.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from belayd.v1 import leases_pb2, leases_pb2_grpc
from belayd_client.board import BreakNotice, LeaseRecord, resource, to_lease_record
from belayd_client.errors import BelaydError, ConnectionLost, LeaseLost
from belayd_client.link import Link
from belayd_client.times import to_duration

# Renewing and releasing never wait for a board: a daemon that needs longer is not well.
_RPC_TIMEOUT = 10.0

# Between two attempts while the daemon cannot be reached, at most.
_RETRY_PAUSE = 1.0


class Lease:
    """One granted lease. Leaving its `with` block releases it. Safe to use from several threads."""

    def __init__(self, link: Link, record: LeaseRecord, token: str) -> None:
        self._link = link.twin()  # Outlives the client, and a Ctrl-C in one of its calls.
        self._record = record
        self._token = token
        self._granted = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loss: LeaseLost | None = None
        self._released = False

    @classmethod
    def of_token(cls, link: Link, token: str, ttl: float | None = None) -> Self:
        """Return the lease of a token, renewed; None keeps its own time to live.

        Raises:
            LeaseLost: It has ended.
        """
        return cls(link, _renew(link, token, ttl, _RPC_TIMEOUT), token)

    def __repr__(self) -> str:
        return f"<Lease {self.name} of {self.board} until {self.expires.isoformat()}>"

    @property
    def name(self) -> str:
        """Its name in the API, such as "leases/7f3a"; no secret."""
        return self._record.name

    @property
    def board(self) -> str:
        """The board's name."""
        return self._record.board

    @property
    def token(self) -> str:
        """The secret; whoever shows it acts as the holder."""
        return self._token

    @property
    def fence(self) -> int:
        """Grows with each lease on its board."""
        return self._record.fence

    @property
    def expires(self) -> datetime:
        """When it ends unless renewed, by the daemon's clock."""
        return self._record.expires

    @property
    def ttl(self) -> float:
        """How far a renewal moves the expiry, in seconds."""
        return self._record.ttl

    @property
    def record(self) -> LeaseRecord:
        """What everybody may know of it."""
        return self._record

    @property
    def notice(self) -> BreakNotice | None:
        """Who will end it, why and when, as of the last renewal; None if nobody said so."""
        return self._record.notice

    @property
    def lost(self) -> bool:
        """Whether it is known to have ended without being released; only renewals find out."""
        return self._loss is not None

    @property
    def loss(self) -> LeaseLost | None:
        """How it was lost, to be raised or shown."""
        return self._loss

    def renew(self, ttl: float | None = None) -> None:
        """Move the expiry to now + ttl; None keeps the lease's own time to live.

        Raises:
            LeaseLost: It has ended.
            BelaydError: It could not be renewed now and may live on.
        """
        self._renew(ttl, _RPC_TIMEOUT)

    def keep(self, on_lost: Callable[[LeaseLost], object] | None = None) -> Self:
        """Renew in the background until released, and release at interpreter exit; return the lease.

        `on_lost` is called once, in the background thread, when the lease has
        ended by itself or could not be renewed before its expiry.
        """
        if self._thread is None and not self._released:
            self._thread = threading.Thread(
                target=self._renew_until_stopped, args=(on_lost,), name=f"renew {self.name}", daemon=True
            )
            atexit.register(self._release_at_exit)
            self._thread.start()
        return self

    def release(self) -> None:
        """End the lease; what runs under it is interrupted. Does nothing when it has ended already.

        Nor in a process that was forked from the holder's: there the lease goes on.

        Raises:
            BelaydError: The daemon could not be told; the lease ends at its expiry.
        """
        if self._released or self._link.forked:
            return
        self._released = True
        self._stop.set()
        atexit.unregister(self._release_at_exit)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_RPC_TIMEOUT)
        try:
            release(self._link, self._token)
        except LeaseLost:
            return
        finally:
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except BelaydError:
            if error is None:  # Else the block's own exception is what the caller must see.
                raise

    def _renew(self, ttl: float | None, timeout: float) -> None:
        begun = time.monotonic()
        try:
            self._record = _renew(self._link, self._token, ttl, timeout)
        except LeaseLost as error:
            self._loss = error
            raise
        self._granted = begun

    def _renew_until_stopped(self, on_lost: Callable[[LeaseLost], object] | None) -> None:
        pause = self.ttl / 3
        while not self._stop.wait(pause):
            try:
                self._renew(None, min(_RPC_TIMEOUT, max(self.ttl / 3, 0.2)))
            except LeaseLost as error:
                return self._report(error, on_lost)
            except BelaydError as error:
                if time.monotonic() >= self._granted + self.ttl:
                    message = (
                        f"the lease on {self.board} ran out, since it could not be renewed: {error.message}"
                    )
                    self._loss = LeaseLost(message, reason="LEASE_EXPIRED")
                    return self._report(self._loss, on_lost)
                pause = min(_RETRY_PAUSE, self.ttl / 10)
            else:
                pause = self.ttl / 3
        return None

    def _report(self, loss: LeaseLost, on_lost: Callable[[LeaseLost], object] | None) -> None:
        atexit.unregister(self._release_at_exit)
        if on_lost is not None and not self._stop.is_set():
            on_lost(loss)

    def _release_at_exit(self) -> None:
        try:
            self.release()
        except BelaydError:
            return  # It ends at its expiry, and there is nobody left to tell.


def break_lease(link: Link, board: str, reason: str, grace: float | None) -> LeaseRecord:
    """End somebody's lease; return it as it was, or with its notice."""
    request = leases_pb2.BreakLeaseRequest(board=resource(board), reason=reason, grace=to_duration(grace))
    with link.calling():
        response = link.stub(leases_pb2_grpc.LeaseServiceStub).BreakLease(
            request, timeout=_RPC_TIMEOUT, metadata=link.metadata
        )
    return to_lease_record(response.lease)


def acquire(
    link: Link, request: leases_pb2.AcquireLeaseRequest, on_queued: Callable[[int], object] | None
) -> Lease:
    """Wait for a grant, telling each place in the queue; leaving early gives the place up.

    Raises:
        BoardLeased: It was not free in time.
    """
    lease: Lease | None = None
    with link.calling():
        call = link.stub(leases_pb2_grpc.LeaseServiceStub).AcquireLease(request, metadata=link.metadata)
        try:
            # To the stream's end: the daemon releases a lease whose stream is cut short.
            for response in call:
                step = response.WhichOneof("step")
                if step == "granted":
                    granted = response.granted
                    lease = Lease(link, to_lease_record(granted.lease), granted.token)
                elif step == "queued" and on_queued:
                    on_queued(response.queued.position)
        finally:
            call.cancel()
    if lease is None:
        raise ConnectionLost(f"belayd at {link.address} ended the acquisition without a lease")
    return lease


def token_of(lease: Lease | str | None) -> str:
    """Return a lease's token, "" for none; raises LeaseLost if it is known to have ended."""
    if isinstance(lease, Lease):
        if lease.loss is not None:
            raise lease.loss
        return lease.token
    return lease or ""


def list_leases(link: Link) -> list[LeaseRecord]:
    """Return the live leases of all pages, oldest first."""
    leases: list[LeaseRecord] = []
    request = leases_pb2.ListLeasesRequest()
    with link.calling():
        while True:
            page = link.stub(leases_pb2_grpc.LeaseServiceStub).ListLeases(
                request, timeout=_RPC_TIMEOUT, metadata=link.metadata
            )
            leases += [to_lease_record(lease) for lease in page.leases]
            if not page.next_page_token:
                return leases
            request.page_token = page.next_page_token


def release(link: Link, token: str) -> None:
    """End the lease of a token; what runs under it is interrupted.

    Raises:
        LeaseLost: It has ended already.
    """
    request = leases_pb2.ReleaseLeaseRequest(lease_token=token)
    with link.calling():
        link.stub(leases_pb2_grpc.LeaseServiceStub).ReleaseLease(
            request, timeout=_RPC_TIMEOUT, metadata=link.metadata
        )


def _renew(link: Link, token: str, ttl: float | None, timeout: float) -> LeaseRecord:
    request = leases_pb2.RenewLeaseRequest(lease_token=token, ttl=to_duration(ttl))
    with link.calling():
        response = link.stub(leases_pb2_grpc.LeaseServiceStub).RenewLease(
            request, timeout=timeout, metadata=link.metadata
        )
    return to_lease_record(response.lease)
