"""A deployment's steps as they are told: its plan once, its progress as fast as the reader reads, its summary.

Deploy and RollBack tell the same; each has messages of its own for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from belayd.deployment.journal import Settled
from belayd.deployment.plan import Plan
from belayd.deployment.transfer import Progress
from belayd.records import Deployed
from belayd.rpc import convert
from belayd.rpc.jobs import left
from belayd.run import Run, RunState
from belayd.v1 import deployments_pb2

Response = Callable[..., Any]
"""DeployResponse or RollBackResponse."""
_SETTLEMENTS = {
    None: deployments_pb2.SETTLEMENT_UNSPECIFIED,
    Settled.COMPLETED: deployments_pb2.SETTLEMENT_COMPLETED,
    Settled.UNDONE: deployments_pb2.SETTLEMENT_UNDONE,
}


class Steps:
    """What a deployment reports, kept for a reader that may be slower: the plan, the latest progress.

    The board never waits for the reader.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._plan: Plan | None = None
        self._progress: Progress | None = None

    async def report(self, step: Plan | Progress) -> None:
        """Take what a deployment reports."""
        if isinstance(step, Plan):
            self._plan = step
        else:
            self._progress = step
        self.changed.set()

    async def tell(self, run: Run[Any], context: Any, response: Response) -> None:
        """Pass on what is reported until the run has ended; a caller that leaves stops it."""
        try:
            while True:
                ended = run.state is RunState.ENDED
                for step in self._take():
                    await context.write(_reported(step, response))
                if ended:
                    return
                await self.changed.wait()
        except asyncio.CancelledError:
            run.stop(left())
            raise

    def _take(self) -> list[Plan | Progress]:
        self.changed.clear()
        steps = [step for step in (self._plan, self._progress) if step is not None]
        self._plan = self._progress = None
        return steps


def summary_message(deployed: Deployed, ran: float) -> deployments_pb2.DeploymentSummary:
    """Return how a deployment ended that ran for so many seconds."""
    summary = deployed.summary
    return deployments_pb2.DeploymentSummary(
        files_written=summary.files_written,
        files_same=summary.files_same,
        files_deleted=summary.files_deleted,
        payload_bytes=summary.payload_bytes,
        wire_bytes=summary.wire_bytes,
        ran=convert.duration(ran),
        skipped_bytes=summary.skipped_bytes,
        round_trips=summary.round_trips,
        deployment=f"deployments/{deployed.name}" if deployed.name else "",
        rollback_refusal=deployed.refusal,
    )


def _reported(step: Plan | Progress, response: Response) -> Any:
    if isinstance(step, Progress):
        progress = deployments_pb2.DeploymentProgress(
            path=step.path, written_bytes=step.written_bytes, total_bytes=step.total_bytes
        )
        return response(progress=progress)
    plan = deployments_pb2.DeploymentPlan(
        write=[write.path for write in step.write],
        same=list(step.same),
        delete=list(step.delete),
        keep=list(step.keep),
        payload_bytes=step.payload_bytes,
        same_bytes=step.same_bytes,
        wire_bytes=step.wire_bytes,
        settled=_SETTLEMENTS[step.settled],
    )
    return response(plan=plan)
