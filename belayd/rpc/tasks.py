"""TaskService: code that runs on a board."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from belayd.detached import Detached
from belayd.outcome import Outcome
from belayd.rpc import convert
from belayd.rpc.calls import code_job, function_call, result_message
from belayd.rpc.conversation import Conversation
from belayd.rpc.jobs import Jobs, pump, settle
from belayd.rpc.runs import DetachedRuns
from belayd.rpc.sight import Sight
from belayd.run import Feed, Job, Run, Transcript
from belayd.session import Emit, Session
from belayd.store import Runs
from belayd.v1 import tasks_pb2


class Tasks(DetachedRuns):
    """Runs code and calls functions, for clients that wait and for those that leave."""

    def __init__(self, jobs: Jobs, sight: Sight, detached: Detached, records: Runs) -> None:
        super().__init__(sight, detached, records)
        self._jobs = jobs

    async def RunTask(self, request: tasks_pb2.RunTaskRequest, context: Any) -> None:
        """See the proto."""
        feed = Feed()
        name = convert.board_name(request.board)
        job, held_bytes = code_job(request)
        board, run = self._jobs.submit(
            request, context, "run", job, feed.write, name=name, held_bytes=held_bytes
        )
        write = context.write
        outcome = await pump(
            board,
            run,
            feed,
            queued=lambda before: write(_step(queued=tasks_pb2.TaskQueued(jobs_before=before))),
            started=lambda: write(_step(started=tasks_pb2.TaskStarted())),
            output=lambda data: write(_step(output=data)),
        )
        await write(_step(result=_result(outcome, run)))

    async def CallTask(self, request: tasks_pb2.CallTaskRequest, context: Any) -> tasks_pb2.CallTaskResponse:
        """See the proto."""
        transcript = Transcript()
        name = convert.board_name(request.board)
        job, held_bytes = _call(request)
        _, run = self._jobs.submit(
            request, context, "call", job, transcript.write, name=name, held_bytes=held_bytes
        )
        outcome = await settle(run)
        return tasks_pb2.CallTaskResponse(
            result=_result(outcome, run),
            output=transcript.kept,
            output_dropped_bytes=transcript.dropped_bytes,
        )

    async def Converse(self, requests: AsyncIterator[tasks_pb2.ConverseRequest], context: Any) -> None:
        """See the proto."""
        await Conversation(self._jobs, context).hold(requests)


_step = tasks_pb2.RunTaskResponse


def _call(request: tasks_pb2.CallTaskRequest) -> tuple[Job[Outcome], int]:
    """Return the job and the bytes it holds."""
    call = function_call(request)

    async def job(session: Session, emit: Emit) -> Outcome:
        return await session.call(call, emit)

    return job, call.held_bytes


def _result(outcome: Outcome, run: Run[Outcome]) -> tasks_pb2.TaskResult:
    return result_message(outcome, run.queued, run.ran)
