"""Detached runs: begun by a client that may leave, watched by whoever comes later.

The daemon keeps what they print, the latest 1 MiB by default, and how they ended.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client.board import resource
from belayd_client.errors import BelaydError, BoardException, ConnectionLost, TransportLost
from belayd_client.lease import Lease, token_of
from belayd_client.link import Link
from belayd_client.results import value_of
from belayd_client.status import from_reason
from belayd_client.times import to_datetime, to_duration

_RPC_TIMEOUT = 30.0
"""Seconds; beginning waits for the daemon's disk, cancelling for a board's interrupt."""


class RunState(enum.Enum):
    """Where a detached run is in its life."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    RAISED = "raised"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Run:
    """A detached run as it was a moment ago.

    Attributes:
        name: Bare, such as "3f9a0c11d2e4b587".
        principal: Who began it.
        lease: The bare name of the lease it is under; "" without one.
        state_reason: For RAISED the exception's type, for FAILED the error's reason.
        output_bytes: What it printed so far; of that, `dropped_bytes` are kept no more.
        value: Of an expression that has ended; None in lists.
        error: What it ended with instead; None before its end and in lists.
    """

    name: str
    board: str
    principal: str
    lease: str
    code_sha256: str
    state: RunState
    state_reason: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    output_bytes: int
    dropped_bytes: int
    value: object = None
    error: BelaydError | BoardException | None = None


class DetachedRuns:
    """What a client does with detached runs."""

    _link: Link

    def start_run(
        self,
        board: str,
        code: str,
        *,
        expression: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        release: bool = False,
    ) -> Run:
        """Begin a run that goes on when this program ends, and return it once it is on record.

        Args:
            board: The board's name.
            code: Statements, or with `expression` one expression.
            expression: Whether its value is wanted.
            lease: The caller's lease or its token, which the daemon renews from now on while
                the run goes on; its end ends the run. None runs as a queued single job.
            timeout: Seconds for queueing and running; None is no limit.
            release: Whether the lease ends with the run.
        """
        request = tasks_pb2.StartRunRequest(
            board=resource(board),
            lease_token=token_of(lease),
            timeout=to_duration(timeout),
            release_lease=release,
        )
        if expression:
            request.expression = code
        else:
            request.source = code
        with self._link.calling():
            return _run(
                self._link.stub(tasks_pb2_grpc.TaskServiceStub)
                .StartRun(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata)
                .run
            )

    def get_run(self, name: str) -> Run:
        """Return a detached run.

        Raises:
            NotFound: There is none of this name, or it is kept no more.
            Refused: It is somebody else's.
        """
        request = tasks_pb2.GetRunRequest(name=_resource(name))
        with self._link.calling():
            return _run(
                self._link.stub(tasks_pb2_grpc.TaskServiceStub)
                .GetRun(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata)
                .run
            )

    def runs(self, board: str | None = None, limit: int | None = None) -> list[Run]:
        """Return the caller's detached runs, newest first; to operators everybody's.

        Args:
            board: Those on one board; None for all.
            limit: So many at the most; None for all that are kept.
        """
        found: list[Run] = []
        request = tasks_pb2.ListRunsRequest(board=resource(board) if board else "")
        with self._link.calling():
            while True:
                page = self._link.stub(tasks_pb2_grpc.TaskServiceStub).ListRuns(
                    request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata
                )
                found += map(_run, page.runs)
                if not page.next_page_token or (limit is not None and len(found) >= limit):
                    return found[:limit]
                request.page_token = page.next_page_token

    def watch_run(
        self,
        name: str,
        *,
        offset: int = 0,
        output: Callable[[bytes], object] | None = None,
        on_dropped: Callable[[int], object] | None = None,
    ) -> object:
        """Wait for a detached run's end and return its value; leaving early changes nothing.

        Args:
            name: The run's.
            offset: Where in what it printed to begin.
            output: Called with what it printed from there on, as it comes.
            on_dropped: Called with the number of bytes that are missing here, as they are kept no more.

        Raises:
            BoardException: The code raised.
            RunCancelled, RunTimeout, LeaseLost, ...: It ended with that.
            TransportLost: It was lost when the daemon was killed.
        """
        request = tasks_pb2.WatchRunRequest(name=_resource(name), offset=offset)
        with self._link.calling():
            call = self._link.stub(tasks_pb2_grpc.TaskServiceStub).WatchRun(
                request, metadata=self._link.metadata
            )
            try:
                for response in call:
                    if response.WhichOneof("step") == "ended":
                        return _result(_run(response.ended))
                    piece = response.output
                    if piece.offset > offset and on_dropped:
                        on_dropped(piece.offset - offset)
                    offset = piece.offset + len(piece.data)
                    if output:
                        output(piece.data)
            finally:
                call.cancel()
        raise ConnectionLost(f"belayd at {self._link.address} ended the watch; watch again from {offset}")

    def cancel_run(self, name: str) -> Run:
        """End a detached run, and return it when it has ended; one that had stays as it is."""
        request = tasks_pb2.CancelRunRequest(name=_resource(name))
        with self._link.calling():
            return _run(
                self._link.stub(tasks_pb2_grpc.TaskServiceStub)
                .CancelRun(request, timeout=_RPC_TIMEOUT, metadata=self._link.metadata)
                .run
            )


def _result(run: Run) -> object:
    if run.error is not None:
        raise run.error
    return run.value


def _run(message: tasks_pb2.Run) -> Run:
    value, error = _outcome(message)
    return Run(
        name=_bare(message.name),
        board=message.board.removeprefix("boards/"),
        principal=message.principal,
        lease=message.lease.removeprefix("leases/"),
        code_sha256=message.code_sha256.hex(),
        state=_STATES.get(message.state, RunState.UNKNOWN),
        state_reason=message.state_reason,
        created=to_datetime(message.create_time),
        started=to_datetime(message.start_time) if message.HasField("start_time") else None,
        ended=to_datetime(message.end_time) if message.HasField("end_time") else None,
        output_bytes=message.output_bytes,
        dropped_bytes=message.output_dropped_bytes,
        value=value,
        error=error,
    )


def _outcome(message: tasks_pb2.Run) -> tuple[object, BelaydError | BoardException | None]:
    """Return a run's value and what it ended with instead."""
    if message.state == tasks_pb2.RUN_STATE_LOST:
        return None, TransportLost(
            f"run {_bare(message.name)} was lost, as the daemon was killed meanwhile; "
            "what it did on the board is unknown"
        )
    match message.outcome.WhichOneof("outcome"):
        case "result":
            try:
                return value_of(message.outcome.result), None
            except (BelaydError, BoardException) as error:
                return None, error
        case "error":
            told = message.outcome.error
            return None, from_reason(told.reason, told.message, dict(told.fields))
        case _:
            return None, None


_STATES = {
    tasks_pb2.RUN_STATE_QUEUED: RunState.QUEUED,
    tasks_pb2.RUN_STATE_RUNNING: RunState.RUNNING,
    tasks_pb2.RUN_STATE_SUCCEEDED: RunState.SUCCEEDED,
    tasks_pb2.RUN_STATE_RAISED: RunState.RAISED,
    tasks_pb2.RUN_STATE_FAILED: RunState.FAILED,
    tasks_pb2.RUN_STATE_LOST: RunState.LOST,
}


def _bare(name: str) -> str:
    return name.removeprefix("runs/")


def _resource(name: str) -> str:
    return f"runs/{_bare(name)}"
