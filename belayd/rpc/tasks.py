"""TaskService: code that runs on a board."""

from __future__ import annotations

import re
from typing import Any

from belayd import values, wire
from belayd.errors import RequestInvalid
from belayd.outcome import Outcome, Raised
from belayd.rpc import convert
from belayd.rpc.jobs import Jobs, pump, settle
from belayd.run import Feed, Job, Run, Transcript
from belayd.session import Emit, Session
from belayd.v1 import tasks_pb2, tasks_pb2_grpc, values_pb2

MOST_SOURCE = 1 << 20
MOST_EXPRESSION = 1 << 16
MOST_FUNCTION = 200
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Tasks(tasks_pb2_grpc.TaskServiceServicer):
    """Runs code and calls functions."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def RunTask(self, request: tasks_pb2.RunTaskRequest, context: Any) -> None:
        """See the proto."""
        feed = Feed()
        name = convert.board_name(request.board)
        board, run = self._jobs.submit(request, context, "run", _code(request), feed.write, name=name)
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
        _, run = self._jobs.submit(request, context, "call", _call(request), transcript.write, name=name)
        outcome = await settle(run)
        return tasks_pb2.CallTaskResponse(
            result=_result(outcome, run),
            output=transcript.kept,
            output_dropped_bytes=transcript.dropped_bytes,
        )


_step = tasks_pb2.RunTaskResponse


def _code(request: tasks_pb2.RunTaskRequest) -> Job[Outcome]:
    kind = request.WhichOneof("code")
    if kind is None:
        raise RequestInvalid("source or expression: one of them must be given", field="source")
    text = getattr(request, kind)
    most = MOST_SOURCE if kind == "source" else MOST_EXPRESSION
    if len(text.encode()) > most:
        raise RequestInvalid(
            f"{kind}: longer than {most} bytes; deploy it as a file and import it", field=kind
        )
    if not text.strip() and kind == "expression":
        raise RequestInvalid("expression: empty", field="expression")

    async def job(session: Session, emit: Emit) -> Outcome:
        return await (session.run if kind == "source" else session.evaluate)(text, emit)

    return job


def _call(request: tasks_pb2.CallTaskRequest) -> Job[Outcome]:
    function = request.function
    if len(function) > MOST_FUNCTION or not _FUNCTION.fullmatch(function):
        raise RequestInvalid(
            f"function: {function[:MOST_FUNCTION]!r} is not the name of a function, such as add or sensor.read",
            field="function",
        )
    parts = [
        _argument(argument, f"arguments[{position}]") for position, argument in enumerate(request.arguments)
    ]
    for keyword, argument in request.keywords.items():
        if not keyword.isidentifier():
            raise RequestInvalid(f"keywords: {keyword!r} is not a name", field="keywords")
        parts.append(f"{keyword}={_argument(argument, f'keywords[{keyword!r}]')}")
    arguments = ",".join(parts)

    async def job(session: Session, emit: Emit) -> Outcome:
        return await session.call(function, arguments, emit)

    return job


def _argument(value: values_pb2.Value, field: str) -> str:
    try:
        return values.render(wire.from_value(value, field), field)
    except (ValueError, TypeError) as error:
        raise RequestInvalid(str(error), field=field) from error


def _result(outcome: Outcome, run: Run[Outcome]) -> tasks_pb2.TaskResult:
    result = tasks_pb2.TaskResult(queued=convert.duration(run.queued), ran=convert.duration(run.ran))
    if isinstance(outcome, Raised):
        result.exception.type_name = outcome.exception.type_name
        result.exception.message = outcome.exception.message
        result.exception.traceback = outcome.exception.traceback
    else:
        result.value.CopyFrom(wire.to_value(outcome.value))
    return result
