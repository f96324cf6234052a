"""LeaseService: who may use a board, and until when."""

from __future__ import annotations

import asyncio
from typing import Any

from belayd.access import Principal, Role, require_role
from belayd.board import Board
from belayd.errors import BoardNotFound, RequestInvalid
from belayd.leasing import Leasing
from belayd.rpc import auth, convert
from belayd.rpc.sight import Sight
from belayd.selector import Selector
from belayd.terms import Priority
from belayd.ticket import Grant, Ticket
from belayd.v1 import leases_pb2, leases_pb2_grpc

MOST_HOLDER = 128
MOST_REASON = 256
MOST_GRACE = 3600.0
_step = leases_pb2.AcquireLeaseResponse


class Leases(leases_pb2_grpc.LeaseServiceServicer):
    """Grants, renews and ends leases."""

    def __init__(self, fleet: Sight, leasing: Leasing) -> None:
        self._fleet = fleet
        self._leasing = leasing

    async def AcquireLease(self, request: leases_pb2.AcquireLeaseRequest, context: Any) -> None:
        """See the proto."""
        wait = convert.seconds(request, "wait")
        ttl = convert.seconds(request, "ttl")
        ticket = self._leasing.request(
            [board.name for board in self._wanted(request)],
            principal=auth.principal(context).name,
            holder=convert.text(request.holder, "holder", MOST_HOLDER) or "somebody",
            reason=convert.text(request.reason, "reason", MOST_REASON),
            ttl=ttl,
            priority=_priority(request, auth.principal(context)),
        )
        try:
            grant = await self._granted(ticket, wait, context)
            await self._leasing.settled()  # a token that was told works after any restart
            granted = leases_pb2.LeaseGranted(lease=convert.lease(grant.view), token=grant.token)
            await context.write(_step(granted=granted))
            ticket.deliver()
        finally:
            ticket.withdraw()

    async def RenewLease(
        self, request: leases_pb2.RenewLeaseRequest, context: Any
    ) -> leases_pb2.RenewLeaseResponse:
        """See the proto."""
        ttl = convert.seconds(request, "ttl")
        view = self._leasing.renew(request.lease_token, auth.principal(context).name, ttl)
        await self._leasing.settled()
        return leases_pb2.RenewLeaseResponse(lease=convert.lease(view))

    async def ReleaseLease(
        self, request: leases_pb2.ReleaseLeaseRequest, context: Any
    ) -> leases_pb2.ReleaseLeaseResponse:
        """See the proto."""
        self._leasing.release(request.lease_token, auth.principal(context).name)
        await self._leasing.settled()
        return leases_pb2.ReleaseLeaseResponse()

    async def BreakLease(
        self, request: leases_pb2.BreakLeaseRequest, context: Any
    ) -> leases_pb2.BreakLeaseResponse:
        """See the proto."""
        board = self._fleet.board(convert.board_name(request.board)).name
        why = convert.text(request.reason, "reason", MOST_REASON)
        if not why.strip():
            raise RequestInvalid("reason: say why, for the holder to read", field="reason")
        grace = convert.seconds(request, "grace") or 0.0
        if grace > MOST_GRACE:
            raise RequestInvalid(f"grace: at most {MOST_GRACE:g} s", field="grace")
        broken = self._leasing.break_(board, auth.principal(context).name, why, grace)
        await self._leasing.settled()
        return leases_pb2.BreakLeaseResponse(lease=convert.lease(broken))

    async def GetLease(
        self, request: leases_pb2.GetLeaseRequest, context: Any
    ) -> leases_pb2.GetLeaseResponse:
        """See the proto."""
        view = self._leasing.get(convert.lease_name(request.name))
        self._fleet.check(view.board)
        return leases_pb2.GetLeaseResponse(lease=convert.lease(view))

    async def ListLeases(
        self, request: leases_pb2.ListLeasesRequest, context: Any
    ) -> leases_pb2.ListLeasesResponse:
        """See the proto."""
        views = [view for view in self._leasing.list() if self._fleet.shows(view.board)]
        chosen, token = convert.page(
            views, [f"{view.acquired.isoformat()} {view.name}" for view in views], request
        )
        messages = [convert.lease(view) for view in chosen]
        return leases_pb2.ListLeasesResponse(leases=messages, next_page_token=token)

    async def _granted(self, ticket: Ticket, wait: float | None, context: Any) -> Grant:
        """Wait for the grant and tell the place in the queue meanwhile.

        The time limit must not cut off a write: an RPC whose write was cancelled hangs.
        """
        deadline = None if wait is None else asyncio.get_running_loop().time() + wait
        told = 0
        while ticket.granted is None:
            if ticket.position != told and wait != 0:
                told = ticket.position
                await context.write(_step(queued=leases_pb2.LeaseQueued(position=told)))
            try:
                async with asyncio.timeout_at(deadline):
                    await ticket.changed()
            except TimeoutError:
                if ticket.granted is None:
                    ticket.withdraw()  # first: a refusal tells how many others wait
                    raise ticket.refusal() from None
        return ticket.granted

    def _wanted(self, request: leases_pb2.AcquireLeaseRequest) -> list[Board]:
        match request.WhichOneof("target"):
            case "board":
                return [self._fleet.board(convert.board_name(request.board))]
            case "selector":
                boards = self._fleet.select(Selector.parse(request.selector))
                if not boards:
                    raise BoardNotFound(
                        f"no board matches {request.selector!r}; belayctl boards shows their labels",
                        selector=request.selector,
                    )
                return boards
            case _:
                raise RequestInvalid("board or selector: one of them must be given", field="board")


def _priority(request: leases_pb2.AcquireLeaseRequest, principal: Principal) -> Priority:
    if request.priority == leases_pb2.LEASE_PRIORITY_HIGH:
        require_role(principal, Role.OPERATOR, "high priority")
    try:
        return Priority(request.priority or Priority.NORMAL)
    except ValueError:
        raise RequestInvalid("priority: this daemon does not know it", field="priority") from None
