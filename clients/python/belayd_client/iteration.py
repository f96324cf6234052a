"""A generator on a board as one on the host.

Nothing runs before the first item is asked for. Up to `window` items are on their
way before they are asked for; a window of 1 goes in step with the caller, which
sending values into the generator needs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING

from belayd.v1 import tasks_pb2

if TYPE_CHECKING:
    from belayd_client.conversation import Conversation, Waiting


class Items(Generator[object, object, None]):
    """The items that a board's generator yields, in their order; for one thread at a time."""

    def __init__(
        self,
        conversation: Conversation,
        step: tasks_pb2.ConverseStep,
        window: int,
        output: Callable[[bytes], object] | None,
    ) -> None:
        if window < 1:
            raise ValueError(f"window: at least 1, not {window}")
        self._conversation = conversation
        self._step = step
        self._window = window
        self._output = output
        self._waiting: Waiting | None = None
        self._expected = 0
        self._over = False

    def __next__(self) -> object:
        return self.send(None)

    def send(self, value: object) -> object:
        """Return the next item, having sent `value` into the generator where it is not None.

        Raises:
            StopIteration: There is none.
            RuntimeError: Items are on their way already that know nothing of the value.
            BoardException: The generator raised.
        """
        from belayd import wire

        if self._over:
            raise StopIteration
        waiting = self._started(value)
        if value is not None:
            if self._expected or waiting.items:
                raise RuntimeError("items are on their way already; ask for a window of 1 to send values")
            self._order(tasks_pb2.IterationOrder(send=wire.to_value(value)), 1)
        elif self._expected <= self._window // 2 and not waiting.ended:
            more = self._window - self._expected
            self._order(tasks_pb2.IterationOrder(credit=more), more)
        while not waiting.items:
            if waiting.ended:
                self._over = True
                self._conversation.settle(waiting, self._output)
                raise StopIteration
            self._conversation.await_news(waiting)
        self._conversation.pass_on(waiting, self._output)
        self._expected -= 1
        return wire.from_value(waiting.items.popleft())

    def throw(
        self,
        kind: BaseException | type[BaseException],
        value: object = None,
        trace: TracebackType | None = None,
    ) -> object:
        """Close the board's generator and raise here: exceptions do not travel to boards."""
        self.close()
        raise kind if isinstance(kind, BaseException) else kind(value)

    def close(self) -> None:
        """End the generator; its finally clauses have run when this returns."""
        self._over = True
        waiting = self._waiting
        if waiting is None or waiting.ended:
            return
        self._order(tasks_pb2.IterationOrder(close=tasks_pb2.CloseIteration()), 0)
        while not waiting.ended:
            waiting.items.clear()
            self._conversation.await_news(waiting)
        waiting.items.clear()
        self._conversation.settle(waiting, self._output)

    def __del__(self) -> None:
        # From any thread, at any moment: say so and wait for nothing.
        if self._waiting is not None and not self._waiting.ended:
            self._order(tasks_pb2.IterationOrder(close=tasks_pb2.CloseIteration()), 0)

    def _started(self, value: object) -> Waiting:
        if self._waiting is None:
            if value is not None:
                raise TypeError("can't send non-None value to a just-started generator")
            self._step.iterate.credit = self._expected = self._window
            self._waiting = self._conversation.send(self._step)
        return self._waiting

    def _order(self, order: tasks_pb2.IterationOrder, items: int) -> None:
        self._expected += items
        self._conversation.order(tasks_pb2.ConverseStep(id=self._step.id, order=order))
