"""A function on a board: called, or many calls of it on their way at once.

The names are those of concurrent.futures and multiprocessing: `submit` gives a
future, `map` and `starmap` give the results in order. Calls that are on their way
share messages, and under a lease they go to the board back to back.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, ParamSpec, TypeVar, cast

from belayd_client.conversation import Conversation, Output, Waiting, call_step
from belayd_client.errors import BelaydError
from belayd_client.task import Tasks

P = ParamSpec("P")
R = TypeVar("R")

WINDOW = 256
"""Calls of a map on their way under a lease: enough that the board never waits for the next."""
WINDOW_SHARED = 16
"""The same without a lease: each is a job before which others' jobs wait."""
WINDOW_BYTES = 1 << 20
"""What they may take together; one call is on its way in any case."""


class Function(Generic[P, R]):
    """A function that is defined on a board; calling it runs it there. Safe to use from several threads."""

    def __init__(
        self,
        tasks: Tasks,
        board: str,
        name: str,
        token: Callable[[], str],
        timeout: float | None,
        output: Output | None,
    ) -> None:
        """`token` gives the lease's, or raises how it was lost; `output` gets what each call printed."""
        self._tasks = tasks
        self._board = board
        self._name = name
        self._token = token
        self._timeout = timeout
        self._output = output

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what it returns.

        Raises:
            BoardException: It raised.
            TypeError: An argument has no typed form.
        """
        value = self._tasks.call(
            self._board,
            self._name,
            args,
            kwargs,
            token=self._token(),
            timeout=self._timeout,
            output=self._output,
        )
        return cast(R, value)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call it and return at once, with the call's future.

        Cancelling the future withdraws a call that has not left this host, and
        returns True. Of one that has left, the daemon is asked to cancel it: the
        future ends with RunCancelled, or with its result if it ran before. Callbacks
        run in a thread that reads for all futures of the board: they should be brief.

        Raises:
            TypeError: An argument has no typed form; nothing was sent.
        """
        step = call_step(self._name, args, kwargs, self._timeout)
        future = self._tasks.stream(self._board, self._token()).submit(step, self._output)
        return cast(Future[R], future)

    def map(self, *iterables: Iterable[Any], window: int | None = None) -> Iterator[R]:
        """Return an iterator over the results for arguments from each iterable, in their order.

        As the builtin, the shortest iterable ends it. A call that raised raises at its
        place, and the iterator can go on after it. Leaving early cancels what is on
        its way; some of it may have run.

        Args:
            iterables: One for each argument; asked for no more than `window` ahead.
            window: Calls on their way before their result is asked for; None for as
                many as pay, and for one at a time where calls have a time limit, which
                counts from the sending.
        """
        return self.starmap(zip(*iterables, strict=False), window=window)

    def starmap(self, arguments: Iterable[Iterable[Any]], *, window: int | None = None) -> Iterator[R]:
        """Return an iterator over the results for each tuple of arguments; else as `map`."""
        token = self._token()
        if window is None:
            window = 1 if self._timeout is not None else WINDOW if token else WINDOW_SHARED
        elif window < 1:
            raise ValueError(f"window: at least 1, not {window}")
        conversation = self._tasks.stream(self._board, token)
        step = functools.partial(call_step, self._name, keywords={}, timeout=self._timeout)

        def send(arguments: Sequence[object]) -> tuple[Waiting, int]:
            made = step(arguments)
            return conversation.send(made), made.ByteSize()

        return Results(conversation, map(tuple, arguments), send, window, self._output)


class Results(Iterator[R]):
    """What calls return, in their order; for one thread at a time."""

    def __init__(
        self,
        conversation: Conversation,
        arguments: Iterator[Sequence[object]],
        send: Callable[[Sequence[object]], tuple[Waiting, int]],
        window: int,
        output: Output | None,
    ) -> None:
        self._conversation = conversation
        self._arguments: Iterator[Sequence[object]] | None = arguments
        self._send = send
        self._window = window
        self._output = output
        # An exception stands for a call that could not be sent.
        self._ahead: deque[tuple[Waiting | Exception, int]] = deque()
        self._ahead_bytes = 0

    def __next__(self) -> R:
        if len(self._ahead) <= self._window // 2:
            self._send_ahead()
        if not self._ahead:
            raise StopIteration
        waiting, size = self._ahead[0]
        if isinstance(waiting, Exception):
            self._ahead.popleft()
            raise waiting
        self._conversation.await_news(waiting)
        self._ahead.popleft()
        self._ahead_bytes -= size
        return cast(R, self._conversation.settle(waiting, self._output))

    def close(self) -> None:
        """Cancel what is on its way, without waiting; the iterator has ended then."""
        self._arguments = None
        while self._ahead:
            waiting, _ = self._ahead.pop()  # the last first: nothing of it may begin meanwhile
            if isinstance(waiting, Waiting):
                self._conversation.cancel(waiting)

    def __del__(self) -> None:
        self.close()

    def _send_ahead(self) -> None:
        while (
            self._arguments is not None
            and len(self._ahead) < self._window
            and (self._ahead_bytes < WINDOW_BYTES or not self._ahead)
        ):
            try:
                arguments = next(self._arguments)
            except StopIteration:
                self._arguments = None
                return
            except Exception as error:  # of the caller's own iterable; it comes at its place
                self._arguments = None
                self._ahead.append((error, 0))
                return
            try:
                waiting, size = self._send(arguments)
            except (TypeError, ValueError, BelaydError) as error:
                self._ahead.append((error, 0))
            else:
                self._ahead.append((waiting, size))
                self._ahead_bytes += size
