"""Code on its way to a board, and what comes back.

Each call is one job of the board's queue. Leaving a call early, by Ctrl-C or
any exception, cancels it, and the daemon interrupts the board.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client.board import resource
from belayd_client.conversation import Conversation
from belayd_client.errors import ConnectionLost, Unsupported
from belayd_client.iteration import Items
from belayd_client.link import Link
from belayd_client.results import value_of
from belayd_client.source import refuse_halves
from belayd_client.times import to_duration

# What the daemon says of a timeout arrives before gRPC's own deadline ends the call.
GRACE = 10.0
PAYS_AFTER = 3
"""Calls on a board from which on a stream pays for its opening."""
MOST_STREAMS = 16
"""Kept open; there are more only while calls are under way on all of them."""
MOST_COUNTED = 1000

logger = logging.getLogger(__name__)


class Tasks:
    """The task calls of one link. Safe to use from several threads."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._conversations: OrderedDict[tuple[str, str], Conversation] = OrderedDict()
        self._conversing = True

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
        refuse_halves(code)
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
                        return value_of(response.result)
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
        """Call a function that is defined on the board; return its value.

        From the third call on a board on, calls share a stream.
        """
        conversation = self._conversation(board, token)
        if conversation is not None:
            try:
                with self._link.calling():
                    return conversation.call(function, arguments, keywords, timeout, output)
            except Unsupported:
                if not conversation.broken:
                    raise
                self._conversing = False  # an older daemon; nothing ran
        return self._call_alone(
            board, function, arguments, keywords, token=token, timeout=timeout, output=output
        )

    def iterate(
        self,
        board: str,
        function: str,
        arguments: Sequence[object],
        keywords: Mapping[str, object],
        *,
        token: str,
        window: int,
        output: Callable[[bytes], object] | None,
    ) -> Items:
        """Return a generator over what a function on the board yields."""
        return self.stream(board, token).iterate(function, arguments, keywords, window, output)

    def stream(self, board: str, token: str) -> Conversation:
        """Return the stream for calls under a token."""
        conversation = self._conversation(board, token, at_once=True)
        if conversation is None:
            raise Unsupported(f"belayd at {self._link.address} has no streams of calls; it is an older one")
        return conversation

    def close(self) -> None:
        """End the streams; calls under way end as cancelled."""
        with self._lock:
            conversations, self._conversations = self._conversations, OrderedDict()
        for conversation in conversations.values():
            conversation.close()

    def _conversation(self, board: str, token: str, *, at_once: bool = False) -> Conversation | None:
        """Return the stream for calls under a token, opened once it pays."""
        key = (board, token)
        self._link.refuse_forked()
        with self._lock:
            conversation = self._conversations.get(key)
            if conversation is not None and not conversation.broken:
                self._conversations.move_to_end(key)
                return conversation
            if len(self._calls) > MOST_COUNTED:
                self._calls.clear()
            self._calls[key] += 1
            if not self._conversing or not (at_once or self._calls[key] >= PAYS_AFTER):
                return None
            if len(self._conversations) >= MOST_STREAMS:
                self._close_an_idle_one()
            conversation = self._conversations[key] = Conversation(self._link, board, token)
            return conversation

    def _close_an_idle_one(self) -> None:
        for key, conversation in self._conversations.items():
            if conversation.idle:
                conversation.close()
                del self._conversations[key]
                return

    def _call_alone(
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
        return value_of(response.result)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else timeout + GRACE
