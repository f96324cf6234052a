"""A daemon from Python: its boards, leases, runs and deployments.

    with Client() as client:
        for board in client.boards("chip=rp2"):
            print(board.name, client.evaluate(board.name, "1 + 1"))

A call without a lease is one job that waits its turn; one with a lease runs
under it. Raises what `errors` draws, and BoardException for what the user's own
code raised. Safe to use from several threads; closing it cancels their calls.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self

from belayd.v1 import consoles_pb2, daemon_pb2, daemon_pb2_grpc, leases_pb2
from belayd_client import boards
from belayd_client.board import Board, BoardsChange, Daemon, LeaseRecord, resource, to_daemon
from belayd_client.boards import READ_TIMEOUT
from belayd_client.channel import connect
from belayd_client.console import Console
from belayd_client.deploying import Deploys
from belayd_client.errors import RequestInvalid
from belayd_client.files import Files
from belayd_client.function import Function
from belayd_client.history import History
from belayd_client.lease import Lease, acquire, break_lease, list_leases, release, token_of
from belayd_client.rollback import RollBacks
from belayd_client.rollouts import Rollouts
from belayd_client.runs import DetachedRuns
from belayd_client.task import Tasks
from belayd_client.times import to_duration
from belayd_client.upkeep import Upkeep


class Client(Deploys, DetachedRuns, Files, History, RollBacks, Rollouts, Upkeep):
    """A connection to one daemon; see `channel.connect` for what the arguments mean."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        profile: str | None = None,
        holder: str | None = None,
    ) -> None:
        """Prepare the connection; the first call makes it.

        `holder` is who others read beside a lease; None is "user@host".
        """
        self._link = connect(
            address,
            token=token,
            token_file=_path(token_file),
            ca=_path(ca),
            cert=_path(cert),
            key=_path(key),
            profile=profile,
        )
        self._holder = holder
        self._tasks = Tasks(self._link)

    @property
    def address(self) -> str:
        """Where the daemon is, with its port."""
        return self._link.address

    def daemon(self) -> Daemon:
        """Return what the daemon is and who the caller is to it."""
        stub = self._link.stub(daemon_pb2_grpc.DaemonServiceStub)
        with self._link.calling():
            return to_daemon(
                stub.GetDaemon(
                    daemon_pb2.GetDaemonRequest(), timeout=READ_TIMEOUT, metadata=self._link.metadata
                )
            )

    def boards(self, selector: str | None = None) -> list[Board]:
        """Return the boards that a selector such as "chip=rp2,rack=2" matches, by name; None for all."""
        return boards.list_boards(self._link, selector or "")

    def board(self, name: str) -> Board:
        """Return one board.

        Raises:
            NotFound: The inventory has none of this name.
        """
        return boards.get_board(self._link, name)

    def watch_boards(self, selector: str | None = None) -> Iterator[BoardsChange]:
        """Yield all matching boards once, then those that changed, until closed or the daemon ends."""
        return boards.watch_boards(self._link, selector or "")

    def acquire(
        self,
        board: str | None = None,
        *,
        selector: str | None = None,
        ttl: float = 600,
        wait: float | None = None,
        reason: str = "",
        priority: Literal["low", "normal", "high"] = "normal",
        on_queued: Callable[[int], object] | None = None,
    ) -> Lease:
        """Take one board, or the first free one that a selector matches.

        Args:
            board: The board's name; exactly one of it and `selector`.
            selector: Such as "chip=rp2"; any one board that it matches.
            ttl: Seconds until it ends unless renewed.
            wait: How many seconds to wait while somebody has it; 0 fails at once,
                None waits as long as it takes.
            reason: Why, for others to read.
            priority: "low" goes after all others; "high" before, for operators.
            on_queued: Called with the place in the queue whenever it changes; 1 is next.

        Raises:
            BoardLeased: It was not free in time.
        """
        if (board is None) == (selector is None):
            raise RequestInvalid("acquire takes a board's name or a selector, and exactly one of them")
        request = leases_pb2.AcquireLeaseRequest(
            ttl=to_duration(ttl),
            wait=to_duration(wait),
            holder=self._holder or _user_at_host(),
            reason=reason,
            priority=leases_pb2.LeasePriority.Value(f"LEASE_PRIORITY_{priority.upper()}"),
        )
        if selector is None:
            request.board = resource(board or "")
        else:
            request.selector = selector
        return acquire(self._link, request, on_queued)

    def lease(self, token: str, ttl: float | None = None) -> Lease:
        """Return the lease of a token, renewed; None keeps its own time to live.

        Raises:
            LeaseLost: It has ended.
        """
        return Lease.of_token(self._link, token, ttl)

    def release(self, token: str) -> None:
        """End the lease of a token; what runs under it is interrupted.

        Raises:
            LeaseLost: It has ended already.
        """
        release(self._link, token)

    def break_lease(self, board: str, reason: str, grace: float | None = None) -> LeaseRecord:
        """End somebody's lease, after `grace` seconds of notice if given; for operators.

        Raises:
            LeaseNotFound: Nobody holds the board.
        """
        return break_lease(self._link, board, reason, grace)

    def leases(self) -> list[LeaseRecord]:
        """Return the live leases, oldest first."""
        return list_leases(self._link)

    def run(
        self,
        board: str,
        source: str,
        *,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
        on_queued: Callable[[int], object] | None = None,
    ) -> None:
        """Run statements in the board's global namespace.

        Args:
            board: The board's name.
            source: What to run.
            lease: The caller's lease or its token; None runs as a queued single job.
            timeout: Seconds for queueing and running; None is no limit.
            output: Called with what the board prints as it does; a character may be
                split between two calls. None drops it.
            on_queued: Called with the number of jobs before this one.

        Raises:
            BoardException: The code raised.
            RunTimeout: It took longer than `timeout`; the board was interrupted.
        """
        self._tasks.run(
            board,
            source,
            expression=False,
            token=token_of(lease),
            timeout=timeout,
            output=output,
            on_queued=on_queued,
        )

    def evaluate(
        self,
        board: str,
        expression: str,
        *,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
        on_queued: Callable[[int], object] | None = None,
    ) -> object:
        """Return the value of one expression; a values.Repr where it has no typed form. Else as `run`."""
        return self._tasks.run(
            board,
            expression,
            expression=True,
            token=token_of(lease),
            timeout=timeout,
            output=output,
            on_queued=on_queued,
        )

    def call(
        self,
        board: str,
        function: str,
        /,
        *args: object,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
        **kwargs: object,
    ) -> object:
        """Return what a function in the board's global namespace returns, such as "add" or "sensor.read".

        What it prints comes to `output` at once at the end, the first 64 KiB. Else as `run`.

        Raises:
            TypeError: An argument has no typed form.
        """
        return self.call_with(board, function, args, kwargs, lease=lease, timeout=timeout, output=output)

    def call_with(
        self,
        board: str,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        *,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
    ) -> object:
        """As `call`, for arguments in a sequence and keywords of any name, "timeout" too."""
        return self._tasks.call(
            board, function, arguments, keywords, token=token_of(lease), timeout=timeout, output=output
        )

    def function(
        self,
        board: str,
        name: str,
        *,
        lease: Lease | str | None = None,
        timeout: float | None = None,
        output: Callable[[bytes], object] | None = None,
    ) -> Function[..., object]:
        """Return a function of a board, to be called, or submitted and mapped: many calls at once.

        `output` gets what each call printed, at once at its end; `timeout` is for each. Else as `call`.
        """
        return Function(self._tasks, board, name, lambda: token_of(lease), timeout, output)

    def iterate(
        self,
        board: str,
        function: str,
        arguments: Sequence[object] = (),
        keywords: Mapping[str, object] = MappingProxyType({}),
        *,
        window: int = 64,
        lease: Lease | str | None = None,
        output: Callable[[bytes], object] | None = None,
    ) -> Generator[object, object, None]:
        """Return a generator over what a function yields, up to `window` items ahead; `send` needs 1."""
        return self._tasks.iterate(
            board, function, arguments, keywords, token=token_of(lease), window=window, output=output
        )

    def reset(
        self,
        board: str,
        *,
        hard: bool = False,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> Board:
        """Reset the board's interpreter, or with `hard` the chip; return it when it answers again."""
        return boards.reset_board(self._link, board, token_of(lease), hard, timeout)

    def attach(self, board: str, lease: Lease | str) -> Console:
        """Join the caller to a board: its raw bytes both ways, until the console is left.

        Raises:
            LeaseRequired, LeaseLost: The board is not the caller's.
        """
        return Console(
            self._link, consoles_pb2.AttachStart(board=resource(board), lease_token=token_of(lease))
        )

    def observe(self, board: str) -> Console:
        """Watch what a board prints from now on; whoever holds the board sees who watches."""
        return Console(self._link, consoles_pb2.AttachStart(board=resource(board), observe=True))

    def close(self) -> None:
        """End the connection; calls of other threads end as cancelled. Leases live on until their expiry."""
        if not self._link.forked:  # else they are the other process's
            self._tasks.close()
            self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _user_at_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # No such user in the password database, as in some containers.
        user = str(os.getuid()) if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"[:128]
