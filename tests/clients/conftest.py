"""A daemon of a few lines for the client's tests: the API served from memory, code run by this Python.

It keeps to the protos' comments and can be told to fail in the ways that a real
daemon cannot be made to. What the real one does is in test_with_the_daemon.py.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import io
import os
import pty
import queue
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pexpect
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from pexpect import fdpexpect

from belayd import wire
from belayd.v1 import (
    boards_pb2,
    boards_pb2_grpc,
    daemon_pb2,
    daemon_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
    values_pb2,
)

Run = Callable[[tasks_pb2.RunTaskRequest, grpc.ServicerContext], Iterator[tasks_pb2.RunTaskResponse]]


def refuse(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str, **fields: str
) -> None:
    """End the RPC as belayd does: a status with exactly one ErrorInfo."""
    info = error_details_pb2.ErrorInfo(domain="belayd", reason=reason, metadata=fields)
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=getattr(code_pb2, code.name), message=message, details=[packed])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


@dataclass
class Held:
    token: str
    lease: leases_pb2.Lease
    deadline: float


@dataclass
class Lab(
    boards_pb2_grpc.BoardServiceServicer,
    leases_pb2_grpc.LeaseServiceServicer,
    tasks_pb2_grpc.TaskServiceServicer,
    deployments_pb2_grpc.DeploymentServiceServicer,
    daemon_pb2_grpc.DaemonServiceServicer,
):
    """Boards in memory. `changes` are what watchers are sent; `failures` make a method fail by name."""

    boards: dict[str, dict[str, str]]
    globals: dict[str, dict[str, object]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    mpy: dict[str, int] = field(default_factory=dict)
    failures: dict[str, tuple[grpc.StatusCode, str, str, dict[str, str]]] = field(default_factory=dict)
    run: Run | None = None
    call: Callable[[tasks_pb2.CallTaskRequest, grpc.ServicerContext], object] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    renewed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)
    requests: list[object] = field(default_factory=list)
    metadata: list[tuple[tuple[str, str | bytes], ...]] = field(default_factory=list)
    changes: queue.SimpleQueue[boards_pb2.WatchBoardsResponse] = field(default_factory=queue.SimpleQueue)
    page_size: int = 500
    port: int = 0
    server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(32), options=(("grpc.so_reuseport", 0),))
        boards_pb2_grpc.add_BoardServiceServicer_to_server(self, server)
        leases_pb2_grpc.add_LeaseServiceServicer_to_server(self, server)
        tasks_pb2_grpc.add_TaskServiceServicer_to_server(self, server)
        deployments_pb2_grpc.add_DeploymentServiceServicer_to_server(self, server)
        daemon_pb2_grpc.add_DaemonServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self.server = server

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(None).wait(10)
            self.server = None

    def lose_leases(self) -> None:
        self.held.clear()

    # boards

    def GetBoard(self, request, context):
        self._enter("GetBoard", request, context)
        name = request.name.removeprefix("boards/")
        self._known(name, context)
        return boards_pb2.GetBoardResponse(board=self._board(name))

    def ListBoards(self, request, context):
        self._enter("ListBoards", request, context)
        names = self._match(request.selector)
        first = int(request.page_token or 0)
        page = names[first : first + self.page_size]
        more = first + self.page_size < len(names)
        return boards_pb2.ListBoardsResponse(
            boards=[self._board(name) for name in page],
            next_page_token=str(first + self.page_size) if more else "",
        )

    def WatchBoards(self, request, context):
        self._enter("WatchBoards", request, context)
        yield boards_pb2.WatchBoardsResponse(
            boards=[self._board(name) for name in self._match(request.selector)]
        )
        while context.is_active():
            with contextlib.suppress(queue.Empty):
                yield self.changes.get(timeout=0.05)

    def ResetBoard(self, request, context):
        self._enter("ResetBoard", request, context)
        name = request.name.removeprefix("boards/")
        self._check(name, request.lease_token, context)
        self.globals.pop(name, None)
        return boards_pb2.ResetBoardResponse(board=self._board(name))

    # leases

    def AcquireLease(self, request, context):
        self._enter("AcquireLease", request, context)
        if request.WhichOneof("target") == "board":
            names = [request.board.removeprefix("boards/")]
            self._known(names[0], context)
        else:
            names = self._match(request.selector)
        wait = request.wait.ToNanoseconds() / 1e9 if request.HasField("wait") else 1e9
        until = time.monotonic() + wait
        free = [name for name in names if self._holder(name) is None]
        if not free and wait:
            yield leases_pb2.AcquireLeaseResponse(queued=leases_pb2.LeaseQueued(position=1))
        while not free and time.monotonic() < until and context.is_active():
            self.released.wait(0.02)
            free = [name for name in names if self._holder(name) is None]
        if not context.is_active():
            return
        if not free:
            self._refuse_leased(names[0], context)
        ttl = request.ttl.ToNanoseconds() / 1e9 or 600
        number = len(self.requests)
        lease = leases_pb2.Lease(
            name=f"leases/{number}",
            board=f"boards/{free[0]}",
            holder=request.holder,
            reason=request.reason,
            fence=number,
        )
        lease.ttl.FromNanoseconds(round(ttl * 1e9))
        lease.acquire_time.GetCurrentTime()
        held = Held(f"secret-{number}", lease, 0)
        self._extend(held, ttl)
        self.held[held.token] = held
        yield leases_pb2.AcquireLeaseResponse(granted=leases_pb2.LeaseGranted(lease=lease, token=held.token))

    def RenewLease(self, request, context):
        self._enter("RenewLease", request, context)
        held = self._lease(request.lease_token, context)
        self._extend(held, request.ttl.ToNanoseconds() / 1e9 or held.lease.ttl.ToNanoseconds() / 1e9)
        self.renewed.release()
        return leases_pb2.RenewLeaseResponse(lease=held.lease)

    def ReleaseLease(self, request, context):
        self._enter("ReleaseLease", request, context)
        self._lease(request.lease_token, context)
        del self.held[request.lease_token]
        self.released.set()
        return leases_pb2.ReleaseLeaseResponse()

    def ListLeases(self, request, context):
        self._enter("ListLeases", request, context)
        return leases_pb2.ListLeasesResponse(leases=[held.lease for held in self.held.values()])

    # tasks

    def RunTask(self, request, context):
        self._enter("RunTask", request, context)
        name = request.board.removeprefix("boards/")
        self._check(name, request.lease_token, context)
        context.add_callback(self.ended.set)
        if self.run is not None:
            yield from self.run(request, context)
            return
        yield tasks_pb2.RunTaskResponse(started=tasks_pb2.TaskStarted())
        printed = io.StringIO()
        expression = request.WhichOneof("code") == "expression"
        result = self._execute(
            name,
            printed,
            lambda scope: (
                eval(request.expression, scope)
                if expression
                else exec(compile(ast.parse(request.source), "<stdin>", "exec"), scope)
            ),
        )
        if printed.getvalue():
            yield tasks_pb2.RunTaskResponse(output=printed.getvalue().encode())
        yield tasks_pb2.RunTaskResponse(result=result)

    def CallTask(self, request, context):
        self._enter("CallTask", request, context)
        name = request.board.removeprefix("boards/")
        self._check(name, request.lease_token, context)
        context.add_callback(self.ended.set)
        if self.call is not None:
            self.call(request, context)
        arguments = [wire.from_value(value) for value in request.arguments]
        keywords = {key: wire.from_value(value) for key, value in request.keywords.items()}
        printed = io.StringIO()
        result = self._execute(
            name,
            printed,
            lambda scope: eval(request.function, scope)(*arguments, **keywords),
        )
        output = printed.getvalue().encode()
        return tasks_pb2.CallTaskResponse(
            result=result, output=output[:65536], output_dropped_bytes=len(output[65536:])
        )

    # deployments

    def PutBlobs(self, requests, context):
        offer = next(requests).offer
        self._enter("PutBlobs", offer, context)
        wanted = [blob for blob in offer.blobs if blob.sha256 not in self.blobs]
        yield deployments_pb2.PutBlobsResponse(
            wanted=deployments_pb2.BlobWanted(sha256=[blob.sha256 for blob in wanted])
        )
        for blob in wanted:
            content = bytearray()
            while len(content) < blob.size:
                content += next(requests).chunk
            assert hashlib.sha256(content).digest() == blob.sha256
            self.blobs[blob.sha256] = bytes(content)
        yield deployments_pb2.PutBlobsResponse(stored=deployments_pb2.BlobsStored(count=len(wanted)))

    def Deploy(self, request, context):
        self._enter("Deploy", request, context)
        name = request.board.removeprefix("boards/")
        self._check(name, request.lease_token, context)
        files = self.files.setdefault(name, {})
        root = request.destination.rstrip("/")
        wanted = {f"{root}/{file.path}": file for file in request.files}
        same = [
            path
            for path, file in wanted.items()
            if path in files and hashlib.sha256(files[path]).digest() == file.sha256
        ]
        write = [path for path in wanted if path not in same]
        delete = [path for path in files if path not in wanted] if request.prune else []
        total = sum(wanted[path].size for path in write)
        yield deployments_pb2.DeployResponse(
            plan=deployments_pb2.DeploymentPlan(write=write, same=same, delete=delete, payload_bytes=total)
        )
        summary = deployments_pb2.DeploymentSummary(files_same=len(same))
        if not request.dry_run:
            for path in write:
                files[path] = self.blobs[wanted[path].sha256]
                summary.files_written += 1
                summary.payload_bytes += wanted[path].size
                yield deployments_pb2.DeployResponse(
                    progress=deployments_pb2.DeploymentProgress(
                        path=path, written_bytes=summary.payload_bytes, total_bytes=total
                    )
                )
            for path in delete:
                del files[path]
                summary.files_deleted += 1
        yield deployments_pb2.DeployResponse(summary=summary)

    def GetDaemon(self, request, context):
        self._enter("GetDaemon", request, context)
        return daemon_pb2.GetDaemonResponse(version="0", host="here", boards=len(self.boards), role="user")

    def _enter(self, method: str, request: object, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(tuple(context.invocation_metadata()))
        if method in self.failures:
            code, reason, message, fields = self.failures[method]
            if reason:
                refuse(context, code, reason, message, **fields)
            context.abort(code, message)

    def _match(self, selector: str) -> list[str]:
        wanted = dict(term.split("=") for term in selector.split(",") if term)
        return sorted(
            name for name, labels in self.boards.items() if wanted.items() <= {"name": name, **labels}.items()
        )

    def _known(self, name: str, context: grpc.ServicerContext) -> None:
        if name not in self.boards:
            refuse(context, grpc.StatusCode.NOT_FOUND, "BOARD_NOT_FOUND", f"there is no board {name}")

    def _board(self, name: str) -> boards_pb2.Board:
        board = boards_pb2.Board(
            name=f"boards/{name}",
            state=boards_pb2.BOARD_STATE_READY,
            version=1,
            labels=self.boards[name],
            transport="simulated",
        )
        if name in self.mpy:
            board.facts.implementation = "micropython"
            board.facts.mpy = self.mpy[name]
        held = self._holder(name)
        if held is not None:
            board.lease.holder = held.lease.holder
            board.lease.acquire_time.CopyFrom(held.lease.acquire_time)
            board.lease.expire_time.CopyFrom(held.lease.expire_time)
        return board

    def _holder(self, name: str) -> Held | None:
        live = [held for held in self.held.values() if held.deadline > time.monotonic()]
        return next((held for held in live if held.lease.board == f"boards/{name}"), None)

    def _check(self, name: str, token: str, context: grpc.ServicerContext) -> None:
        self._known(name, context)
        if token:
            self._lease(token, context)
        elif self._holder(name) is not None:
            self._refuse_leased(name, context)

    def _refuse_leased(self, name: str, context: grpc.ServicerContext) -> None:
        held = self._holder(name)
        holder = held.lease.holder if held else "nobody"
        refuse(
            context,
            grpc.StatusCode.FAILED_PRECONDITION,
            "BOARD_LEASED",
            f"{name} is leased by {holder}",
            holder=holder,
            since="2026-11-22T10:00:00Z",
            expires="2026-11-22T10:10:00Z",
            queue_length="2",
        )

    def _lease(self, token: str, context: grpc.ServicerContext) -> Held:
        held = self.held.get(token)
        if held is None or held.deadline <= time.monotonic():
            refuse(context, grpc.StatusCode.ABORTED, "LEASE_EXPIRED", "the lease has ended; acquire again")
        assert held is not None
        return held

    def _extend(self, held: Held, ttl: float) -> None:
        held.deadline = time.monotonic() + ttl
        held.lease.expire_time.FromNanoseconds(time.time_ns() + round(ttl * 1e9))

    def _execute(
        self, name: str, printed: io.StringIO, work: Callable[[dict[str, object]], object]
    ) -> tasks_pb2.TaskResult:
        scope = self.globals.setdefault(name, {})
        scope["print"] = functools.partial(print, file=printed)
        try:
            return tasks_pb2.TaskResult(value=wire.to_value(work(scope)))
        except Exception as error:  # It stands for a board, which reports whatever was raised.
            return tasks_pb2.TaskResult(
                exception=values_pb2.BoardException(
                    type_name=type(error).__name__,
                    message=str(error),
                    traceback="".join(traceback.format_exception(error)),
                )
            )


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab(boards={"pico-1": {"chip": "rp2"}, "pico-2": {"chip": "rp2"}, "esp-1": {"chip": "esp32"}})
    lab.start()
    yield lab
    lab.stop()


@pytest.fixture
def unused_address() -> str:
    """A loopback address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def environment(tmp_path: Path, lab: Lab) -> dict[str, str]:
    """A user's clean environment that points at the lab."""
    names = ("PATH", "LANG", "LC_ALL", "PYTHONPATH")
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "BELAYD_ADDRESS": lab.address,
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def belayctl() -> tuple[str, ...]:
    """The words that start belayctl."""
    return (sys.executable, "-m", "belayd_client.cli")


# Makes its stdin the controlling terminal, so that Ctrl-C on it is a signal, and becomes the program.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal(fdpexpect.fdspawn):
    """A program on a terminal of its own.

    Not pexpect.spawn: that forks, and gRPC, which serves the lab in this process,
    then writes into the child's terminal.
    """

    def __init__(self, words: Sequence[str], environment: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *words],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        super().__init__(ours, encoding="utf-8", timeout=60)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.send("\x03")

    def finish(self) -> int:
        """Read all there is; return the program's exit code. `before` is what it wrote since the last match."""
        self.expect(pexpect.EOF)
        return self.program.wait(30)


@pytest.fixture
def terminal(belayctl: tuple[str, ...], environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """Start belayctl on a terminal."""
    with contextlib.ExitStack() as stack:

        def start(*words: str) -> Terminal:
            terminal = Terminal([*belayctl, *words], environment)
            stack.callback(terminal.close)
            stack.callback(terminal.program.wait, 30)
            stack.callback(terminal.program.kill)
            return terminal

        yield start
