"""Calls as messages: what is asked of a board, and how it ended."""

from __future__ import annotations

from belayd import values, wire
from belayd.call import MOST_NAME, Call, prepare
from belayd.errors import RequestInvalid
from belayd.outcome import Outcome, Raised
from belayd.rpc import convert
from belayd.run import Job
from belayd.session import Emit, Session
from belayd.v1 import tasks_pb2, values_pb2

MOST_SOURCE = 1 << 20
MOST_EXPRESSION = 1 << 16


def function_call(message: tasks_pb2.CallTaskRequest | tasks_pb2.FunctionCall) -> Call:
    """Return the call that a message asks for; raises RequestInvalid."""
    return prepare(
        message.function,
        [
            _argument(argument, f"arguments[{position}]")
            for position, argument in enumerate(message.arguments)
        ],
        {
            name: _argument(argument, f"keywords[{name[:MOST_NAME]!r}]")
            for name, argument in message.keywords.items()
        },
    )


def code_job(
    request: tasks_pb2.RunTaskRequest | tasks_pb2.StartRunRequest,
) -> tuple[Job[Outcome], int]:
    """Return the job that runs a request's code, and the bytes it holds; raises RequestInvalid."""
    kind = request.WhichOneof("code")
    if kind is None:
        raise RequestInvalid("source or expression: one of them must be given", field="source")
    text = getattr(request, kind)
    most = MOST_SOURCE if kind == "source" else MOST_EXPRESSION
    size = len(text.encode())
    if size > most:
        raise RequestInvalid(
            f"{kind}: longer than {most} bytes; deploy it as a file and import it", field=kind
        )
    if not text.strip() and kind == "expression":
        raise RequestInvalid("expression: empty", field="expression")

    async def job(session: Session, emit: Emit) -> Outcome:
        return await (session.run if kind == "source" else session.evaluate)(text, emit)

    return job, size


def literal_of(message: values_pb2.Value) -> str:
    """Return a value as a MicroPython literal; raises RequestInvalid."""
    try:
        return values.render(wire.from_value(message, "send"), "send")
    except (ValueError, TypeError) as error:
        raise RequestInvalid(str(error), field="send") from error


def _argument(value: values_pb2.Value, field: str) -> object:
    try:
        return wire.from_value(value, field)
    except (ValueError, TypeError) as error:
        raise RequestInvalid(str(error), field=field) from error


def result_message(outcome: Outcome, queued: float, ran: float) -> tasks_pb2.TaskResult:
    """Return an outcome as a message; times in seconds."""
    result = tasks_pb2.TaskResult(queued=convert.duration(queued), ran=convert.duration(ran))
    if isinstance(outcome, Raised):
        result.exception.type_name = outcome.exception.type_name
        result.exception.message = outcome.exception.message
        result.exception.traceback = outcome.exception.traceback
    else:
        result.value.CopyFrom(wire.to_value(outcome.value))
    return result
