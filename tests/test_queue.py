"""A board's queue: its order, its bounds, and deadlines of what waits in it."""

from __future__ import annotations

import asyncio

import pytest

from belayd.errors import BelaydError, QueueFull, RunCancelled, RunTimeout
from belayd.queue import HELD_BYTES, LENGTH, Queue
from belayd.run import Order, Run, RunState
from belayd.session import Emit, Session

MIB = 1 << 20


class Bench:
    """A queue, and what left it without having run."""

    def __init__(self) -> None:
        self.withdrawn: list[tuple[Run[object], BelaydError]] = []
        self.queue = Queue("pico-1", lambda run, cause: self.withdrawn.append((run, cause)))

    def put(self, held_bytes: int = 0, timeout: float | None = None) -> Run[None]:
        return self.queue.put(Order("run", None, timeout, discard, held_bytes), nothing)

    def fill(self) -> list[Run[None]]:
        """Queue as many bytes as there may be, a MiB each."""
        return [self.put(MIB) for _ in range(HELD_BYTES // MIB)]


async def discard(data: bytes) -> None:
    pass


async def nothing(session: Session, emit: Emit) -> None:
    pass


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_runs_are_taken_in_their_order(bench: Bench) -> None:
    runs = [bench.put() for _ in range(3)]

    assert [bench.queue.before(run) for run in runs] == [0, 1, 2]
    assert [bench.queue.take() for _ in runs] == runs
    assert not bench.queue


async def test_a_full_queue_refuses_one_more_and_takes_it_when_there_is_room(bench: Bench) -> None:
    for _ in range(LENGTH):
        bench.put()

    with pytest.raises(QueueFull) as caught:
        bench.put()
    bench.queue.take()
    bench.put()

    assert caught.value.fields == {"board": "pico-1", "queue_length": "1000"}
    assert len(bench.queue) == LENGTH


async def test_bytes_are_bounded_and_the_refusal_names_the_bound(bench: Bench) -> None:
    bench.fill()

    with pytest.raises(QueueFull, match=f"the {16 * MIB} there may be") as caught:
        bench.put(1)
    bench.put(0)

    assert caught.value.fields == {
        "board": "pico-1",
        "queue_length": "16",
        "held_bytes": str(16 * MIB),
        "limit_bytes": str(16 * MIB),
    }
    assert len(bench.queue) == 17


async def test_one_job_that_holds_more_than_all_may_is_refused(bench: Bench) -> None:
    with pytest.raises(QueueFull):
        bench.put(HELD_BYTES + 1)

    bench.put(HELD_BYTES)


async def test_what_is_taken_holds_nothing_here_any_more(bench: Bench) -> None:
    bench.fill()

    bench.queue.take()
    bench.put(MIB)

    with pytest.raises(QueueFull):
        bench.put(1)


async def test_what_is_stopped_while_it_waits_makes_room_and_is_told(bench: Bench) -> None:
    runs = bench.fill()
    cause = RunCancelled("the caller left")

    runs[7].stop(cause)
    runs[7].stop(cause)
    bench.put(MIB)

    assert bench.withdrawn == [(runs[7], cause)]
    assert runs[7].state is RunState.ENDED
    with pytest.raises(QueueFull):
        bench.put(1)


async def test_a_deadline_ends_what_waits_and_makes_room(bench: Bench) -> None:
    run = bench.put(HELD_BYTES, timeout=0.01)

    with pytest.raises(RunTimeout, match="still queued"):
        async with asyncio.timeout(30):
            await run.outcome

    assert not bench.queue
    bench.put(HELD_BYTES)
