"""Code on its way to a board, and what comes back.

Each call is one job of the board's queue. Leaving a call early, by Ctrl-C or
any exception, cancels it, and the daemon interrupts the board.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client.board import resource
from belayd_client.errors import BoardException, ConnectionLost, InternalError
from belayd_client.link import Link
from belayd_client.times import to_duration

# What the daemon says of a timeout arrives before gRPC's own deadline ends the call.
GRACE = 10.0

logger = logging.getLogger(__name__)


class Tasks:
    """The task calls of one link. Safe to use from several threads."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def run(
        self,
        board: str,
        code: str,
        *,
        expression: bool,
        token: str,
        timeout: float | None,
        output: Callable[[bytes], object] | None,
        on_queued: Callable[[int], object] | None,
    ) -> object:
        """Run statements or evaluate an expression; return its value, None for statements."""
        request = tasks_pb2.RunTaskRequest(
            board=resource(board),
            lease_token=token,
            timeout=to_duration(timeout),
        )
        if expression:
            request.expression = code
        else:
            request.source = code
        with self._link.calling():
            call = self._link.stub(tasks_pb2_grpc.TaskServiceStub).RunTask(
                request, timeout=_deadline(timeout), metadata=self._link.metadata
            )
            try:
                for response in call:
                    step = response.WhichOneof("step")
                    if step == "output" and output:
                        output(response.output)
                    elif step == "queued" and on_queued:
                        on_queued(response.queued.jobs_before)
                    elif step == "result":
                        return _value(response.result)
            finally:
                call.cancel()
        raise ConnectionLost(
            f"belayd at {self._link.address} ended the run without a result; effects unknown"
        )

    def call(
        self,
        board: str,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        *,
        token: str,
        timeout: float | None,
        output: Callable[[bytes], object] | None,
    ) -> object:
        """Call a function that is defined on the board; return its value."""
        from belayd import wire  # Late: 28 ms that only calls and values need.

        request = tasks_pb2.CallTaskRequest(
            board=resource(board),
            lease_token=token,
            function=function,
            arguments=[wire.to_value(item, f"argument {n}") for n, item in enumerate(arguments, 1)],
            keywords={name: wire.to_value(value, name) for name, value in keywords.items()},
            timeout=to_duration(timeout),
        )
        with self._link.calling():
            response = self._link.stub(tasks_pb2_grpc.TaskServiceStub).CallTask(
                request, timeout=_deadline(timeout), metadata=self._link.metadata
            )
        if response.output and output:
            output(response.output)
        if response.output_dropped_bytes:
            logger.warning(
                "%s: %s printed %d more bytes than a call carries; use run for long output",
                board,
                function,
                response.output_dropped_bytes,
            )
        return _value(response.result)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else timeout + GRACE


def _value(result: tasks_pb2.TaskResult) -> object:
    outcome = result.WhichOneof("outcome")
    if outcome == "value":
        if result.value.HasField("none"):
            return None
        from belayd import wire

        try:
            return wire.from_value(result.value)
        except ValueError as error:
            raise InternalError(f"belayd sent a value that cannot be read: {error}") from None
    if outcome == "exception":
        raised = result.exception
        raise BoardException(raised.type_name, raised.message, raised.traceback)
    raise InternalError("belayd sent a result that this client does not know; is it newer?")
