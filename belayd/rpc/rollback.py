"""DeploymentService's way back: what boards had, bringing it back, and how they differ now."""

from __future__ import annotations

from typing import Any

from belayd import access
from belayd.access import Role
from belayd.errors import BelaydError, RequestInvalid
from belayd.events import DeploymentEnded, Events
from belayd.records import Asked, Deployed, Drift, Records
from belayd.rpc import auth, convert
from belayd.rpc.jobs import Jobs, left, settle
from belayd.rpc.sight import Sight
from belayd.rpc.steps import Steps, summary_message
from belayd.run import Run, RunState, Transcript
from belayd.session import Emit, Session
from belayd.store import DeploymentOutcome, DeploymentRecord
from belayd.v1 import deployments_pb2, deployments_pb2_grpc

DEPLOY_TIMEOUT = 600.0
DRIFT_TIMEOUT = 120.0
PAGE_SIZE = 50
MOST_PER_PAGE = 100
_OUTCOMES = {
    DeploymentOutcome.OPEN: deployments_pb2.DEPLOYMENT_OUTCOME_OPEN,
    DeploymentOutcome.DONE: deployments_pb2.DEPLOYMENT_OUTCOME_DONE,
    DeploymentOutcome.UNDONE: deployments_pb2.DEPLOYMENT_OUTCOME_UNDONE,
    DeploymentOutcome.MIXED: deployments_pb2.DEPLOYMENT_OUTCOME_MIXED,
}


class RollBacks(deployments_pb2_grpc.DeploymentServiceServicer):
    """The part of DeploymentService that looks back."""

    def __init__(self, jobs: Jobs, sight: Sight, records: Records, events: Events) -> None:
        self._jobs = jobs
        self._sight = sight
        self._records = records
        self._events = events

    async def RollBack(self, request: deployments_pb2.RollBackRequest, context: Any) -> None:
        """See the proto."""
        caller = auth.principal(context)
        name = convert.deployment_name(request.deployment) if request.deployment else ""
        board = self._sight.board(convert.board_name(request.board)).name

        def allow(record: DeploymentRecord) -> None:
            if record.principal != caller.name:
                access.require_role(caller, Role.OPERATOR, f"a deployment of {record.principal!r}")

        # Refused before it waits for the board; chosen again when it has it, since more may have happened.
        await self._records.choose(board, name, allow)
        steps = Steps()
        asked = Asked(board, caller.name)

        async def job(session: Session, emit: Emit) -> Deployed:
            return await self._records.roll_back(
                session,
                asked,
                name,
                steps.report,
                allow=allow,
                dry_run=request.dry_run,
                in_place=request.in_place,
            )

        _, run = self._jobs.submit(
            request,
            context,
            "deploy",
            job,
            Transcript().write,
            name=board,
            default_timeout=DEPLOY_TIMEOUT,
        )
        await self.follow(run, steps, board, context, deployments_pb2.RollBackResponse, request.dry_run)

    async def ListDeployments(
        self, request: deployments_pb2.ListDeploymentsRequest, context: Any
    ) -> deployments_pb2.ListDeploymentsResponse:
        """See the proto."""
        if not 0 <= request.page_size <= MOST_PER_PAGE:
            raise RequestInvalid(f"page_size: 0 to {MOST_PER_PAGE}", field="page_size")
        board = self._sight.board(convert.board_name(request.board)).name
        found, page = await self._records.of_board(
            board, request.page_size or PAGE_SIZE, _page(request.page_token)
        )
        return deployments_pb2.ListDeploymentsResponse(
            deployments=[_deployment(record) for record in found],
            next_page_token="" if page is None else str(page),
        )

    async def GetDrift(
        self, request: deployments_pb2.GetDriftRequest, context: Any
    ) -> deployments_pb2.GetDriftResponse:
        """See the proto."""
        name = convert.board_name(request.board)

        async def job(session: Session, emit: Emit) -> tuple[DeploymentRecord, Drift] | None:
            return await self._records.drift(session, name)

        _, run = self._jobs.submit(
            request, context, "drift", job, Transcript().write, name=name, default_timeout=DRIFT_TIMEOUT
        )
        found = await settle(run)
        if found is None:
            return deployments_pb2.GetDriftResponse()
        record, drift = found
        return deployments_pb2.GetDriftResponse(
            deployment=_deployment(record), changed=drift.changed, missing=drift.missing, extra=drift.extra
        )

    async def follow(
        self, run: Run[Deployed], steps: Steps, board: str, context: Any, response: Any, dry_run: bool
    ) -> None:
        """Tell of a deployment to its end; how it ended is published even if its caller left before."""

        def publish() -> None:
            if run.state is RunState.ENDED:
                self._events.publish(_ended(board, run))

        run.watch(steps.changed.set)
        if not dry_run:
            run.watch(publish)
        await steps.tell(run, context, response)
        deployed = await settle(run)
        await context.write(response(summary=summary_message(deployed, run.ran)))


def _ended(board: str, run: Run[Deployed]) -> DeploymentEnded:
    error = left() if run.outcome.cancelled() else run.outcome.exception()
    if error is not None:
        outcome = error.reason if isinstance(error, BelaydError) else "INTERNAL"
        return DeploymentEnded(board, outcome.lower(), 0, 0, 0, run.ran)
    summary = run.outcome.result().summary
    sizes = (summary.payload_bytes, summary.wire_bytes, summary.skipped_bytes)
    return DeploymentEnded(board, "ok", *sizes, run.ran)


def _deployment(record: DeploymentRecord) -> deployments_pb2.Deployment:
    return deployments_pb2.Deployment(
        name=f"deployments/{record.name}",
        board=f"boards/{record.board}",
        principal=record.principal,
        create_time=convert.timestamp(record.created),
        destination=record.destination,
        outcome=_OUTCOMES[record.outcome],
        files_written=record.files_written,
        files_deleted=record.files_deleted,
        payload_bytes=record.payload_bytes,
        reversible=record.reversible,
        rolls_back=f"deployments/{record.rolls_back}" if record.rolls_back else "",
    )


def _page(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdecimal() and len(token) < 19):
        raise RequestInvalid("page_token: not one that this daemon gave", field="page_token")
    return int(token)
