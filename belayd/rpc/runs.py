"""TaskService's detached runs: begun, looked at, watched and cancelled.

A user gets its own runs, an operator those of everybody on the boards it sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Any

from belayd import access
from belayd.access import Role
from belayd.detached import Asked, Detached, Live
from belayd.errors import BelaydError, QuotaExceeded, RequestInvalid, RunCancelled, RunNotFound
from belayd.outcome import Outcome
from belayd.rpc import auth, convert
from belayd.rpc.calls import code_job, result_message
from belayd.rpc.sight import Sight
from belayd.store import RunRecord, Runs, RunState
from belayd.v1 import tasks_pb2, tasks_pb2_grpc

PAGE_SIZE = 50
MOST_PER_PAGE = 100
MOST_OUTCOME = 256 * 1024
"""Bytes kept of how a run ended: a page of runs is read with their outcomes."""
PIECE_BYTES = 256 * 1024
"""Output in one message, and what a watcher that stops reading costs."""
PACE = 0.02
"""Seconds between two looks for output of a run that goes on: each costs a commit and a read."""
_MOST_OFFSET = 1 << 62  # SQLite counts in 64 bits, signed


class DetachedRuns(tasks_pb2_grpc.TaskServiceServicer):
    """The part of TaskService whose runs outlive their clients."""

    def __init__(self, sight: Sight, detached: Detached, runs: Runs) -> None:
        self._sight = sight
        self._detached = detached
        self._runs = runs

    async def StartRun(self, request: tasks_pb2.StartRunRequest, context: Any) -> tasks_pb2.StartRunResponse:
        """See the proto."""
        board = self._sight.board(convert.board_name(request.board))
        if request.release_lease and not request.lease_token:
            raise RequestInvalid("release_lease: there is no lease_token", field="release_lease")
        job, held_bytes = code_job(request)
        code = getattr(request, request.WhichOneof("code") or "source")
        asked = Asked(
            principal=auth.principal(context).name,
            token=request.lease_token,
            job=job,
            what=hashlib.sha256(code.encode()).digest(),
            held_bytes=held_bytes,
            timeout=convert.seconds(request, "timeout"),
            release=request.release_lease,
            stay=auth.stay(),
        )
        name = await self._detached.start(board, asked)
        return tasks_pb2.StartRunResponse(run=_run(await self._get(name), whole=True))

    async def GetRun(self, request: tasks_pb2.GetRunRequest, context: Any) -> tasks_pb2.GetRunResponse:
        """See the proto."""
        return tasks_pb2.GetRunResponse(run=_run(await self._allowed(request.name), whole=True))

    async def ListRuns(self, request: tasks_pb2.ListRunsRequest, context: Any) -> tasks_pb2.ListRunsResponse:
        """See the proto."""
        if not 0 <= request.page_size <= MOST_PER_PAGE:
            raise RequestInvalid(f"page_size: 0 to {MOST_PER_PAGE}", field="page_size")
        caller = auth.principal(context)
        found, before = await self._runs.list(
            principal=None if caller.role >= Role.OPERATOR else caller.name,
            board=convert.board_name(request.board) if request.board else None,
            limit=request.page_size or PAGE_SIZE,
            page=_page(request.page_token),
        )
        shown = [run for run in found if run.principal == caller.name or self._sight.shows(run.board)]
        token = "" if before is None else str(before)
        return tasks_pb2.ListRunsResponse(
            runs=[_run(run, whole=False) for run in shown], next_page_token=token
        )

    async def WatchRun(self, request: tasks_pb2.WatchRunRequest, context: Any) -> None:
        """See the proto."""
        name = (await self._allowed(request.name)).name
        position = min(request.offset, _MOST_OFFSET)
        while True:
            # Asked for before reading: what comes meanwhile is not missed.
            live = self._detached.live(name)
            news = live.news() if live else None
            piece = await self._runs.read(name, position, PIECE_BYTES)
            if piece.data:
                output = tasks_pb2.RunOutput(offset=piece.position, data=piece.data)
                await context.write(tasks_pb2.WatchRunResponse(output=output))
                position = piece.position + len(piece.data)
                if live and len(piece.data) < PIECE_BYTES:
                    await _pause(live)
            elif news:
                await news.wait()
            else:
                ended = _run(await self._get(name), whole=True)
                await context.write(tasks_pb2.WatchRunResponse(ended=ended))
                return

    async def CancelRun(
        self, request: tasks_pb2.CancelRunRequest, context: Any
    ) -> tasks_pb2.CancelRunResponse:
        """See the proto."""
        name = (await self._allowed(request.name)).name
        by = auth.principal(context).name
        await self._detached.cancel(name, RunCancelled(f"{by} cancelled the run", by=by))
        return tasks_pb2.CancelRunResponse(run=_run(await self._get(name), whole=True))

    async def _get(self, name: str) -> RunRecord:
        run = await self._runs.get(name)
        if run is None:
            raise RunNotFound(
                f"there is no run {name!r}, or it is kept no more; `belayctl runs` lists yours", run=name
            )
        return run

    async def _allowed(self, resource: str) -> RunRecord:
        """Return a run if the caller may have it."""
        run = await self._get(convert.run_name(resource))
        caller = auth.current()
        if run.principal != caller.name:
            access.require_role(caller, Role.OPERATOR, f"a run of {run.principal!r}")
            self._sight.check(run.board)
        return run


def outcome_bytes(outcome: Outcome | BelaydError, queued: float, ran: float) -> bytes:
    """Return how a run ended as it is kept: a serialised RunOutcome."""
    spelled = _spelled(outcome, queued, ran)
    if len(spelled) <= MOST_OUTCOME:
        return spelled
    return _spelled(
        QuotaExceeded(
            f"the run ended, and what came of it takes {len(spelled)} bytes of the {MOST_OUTCOME} that are kept; "
            "let it print what is long",
            size=len(spelled),
            limit=MOST_OUTCOME,
        ),
        queued,
        ran,
    )


def _spelled(outcome: Outcome | BelaydError, queued: float, ran: float) -> bytes:
    message = tasks_pb2.RunOutcome()
    if isinstance(outcome, BelaydError):
        message.error.reason = outcome.reason
        message.error.message = outcome.message
        message.error.fields.update(outcome.fields)
    else:
        message.result.CopyFrom(result_message(outcome, queued, ran))
    return message.SerializeToString()


def _run(record: RunRecord, *, whole: bool) -> tasks_pb2.Run:
    """Return a run as a message, with its outcome if `whole`."""
    outcome = tasks_pb2.RunOutcome.FromString(record.outcome or b"")
    state, why = _state(record.state, outcome)
    message = tasks_pb2.Run(
        name=f"runs/{record.name}",
        board=f"boards/{record.board}",
        principal=record.principal,
        lease=f"leases/{record.lease}" if record.lease else "",
        code_sha256=record.what,
        state=state,
        state_reason=why,
        create_time=convert.timestamp(record.created),
        output_bytes=record.output_end,
        output_dropped_bytes=record.dropped,
    )
    if record.started is not None:
        message.start_time.CopyFrom(convert.timestamp(record.started))
    if record.ended is not None:
        message.end_time.CopyFrom(convert.timestamp(record.ended))
    if whole and record.outcome is not None:
        message.outcome.CopyFrom(outcome)
    return message


def _state(state: RunState, outcome: tasks_pb2.RunOutcome) -> tuple[tasks_pb2.RunState.ValueType, str]:
    if state is not RunState.ENDED:
        return _STATES[state], ""
    if outcome.HasField("error"):
        return tasks_pb2.RUN_STATE_FAILED, outcome.error.reason
    if outcome.result.HasField("exception"):
        return tasks_pb2.RUN_STATE_RAISED, outcome.result.exception.type_name
    return tasks_pb2.RUN_STATE_SUCCEEDED, ""


_STATES = {
    RunState.QUEUED: tasks_pb2.RUN_STATE_QUEUED,
    RunState.RUNNING: tasks_pb2.RUN_STATE_RUNNING,
    RunState.LOST: tasks_pb2.RUN_STATE_LOST,
}


def _page(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdecimal() and len(token) < 19):
        raise RequestInvalid("page_token: not one that this daemon gave", field="page_token")
    return int(token)


async def _pause(live: Live) -> None:
    """Let output gather, unless the run ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PACE):
            await live.ended.wait()
