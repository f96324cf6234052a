"""Many calls of one client on their way at once: order, each one's own end, and few messages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import pytest

from belayd_client import Device
from belayd_client.board import BoardState
from belayd_client.conversation import MOST_OUTPUT_BYTES
from belayd_client.errors import (
    BelaydError,
    BoardException,
    ConnectionLost,
    LeaseLost,
    RunCancelled,
    RunTimeout,
)

PATIENCE = 30.0
SOURCE = """
ran = []
def add(a, b=0):
    return a + b
def note(n):
    ran.append(n)
    return n
def say(n):
    print('said', n)
    return n
def halve(n):
    return 100 // n
def stuck():
    while True: pass
def nap(seconds):
    import time
    time.sleep(seconds)
def loud(size):
    for n in range(size // 1000): print('x' * 999)
"""


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable, sim: dict):
    return shared_daemon({"sim-1": sim})


class Bench:
    """A board of one's own, with functions."""

    def __init__(self, lab: Any, lease: Any, client: Any) -> None:
        self.lab, self.lease, self.client = lab, lease, client
        client.run("sim-1", SOURCE, lease=lease)

    def function(self, name: str, **options: Any) -> Any:
        return self.client.function("sim-1", name, lease=self.lease, **options)

    def ran(self) -> object:
        return self.client.evaluate("sim-1", "ran", lease=self.lease, timeout=PATIENCE)

    def begin(self, name: str, *arguments: object) -> Future[object]:
        """Submit a call and wait until the board is busy with it."""
        future: Future[object] = self.function(name).submit(*arguments)
        deadline = threading.Event()
        while self.client.board("sim-1").state is not BoardState.BUSY:
            deadline.wait(0.02)
        return future


@pytest.fixture
def bench(lab) -> Iterator[Bench]:
    client = lab.connect()
    lease = client.acquire("sim-1", wait=PATIENCE)
    yield Bench(lab, lease, client)
    client.close()
    with contextlib.suppress(LeaseLost):
        lab.client.release(lease.token)


def test_results_of_a_map_come_in_order(bench: Bench) -> None:
    add = bench.function("add")
    assert list(add.map(range(2000), itertools.repeat(3))) == list(range(3, 2003))
    assert list(add.starmap((n, n) for n in range(10))) == list(range(0, 20, 2))


def test_a_map_shares_messages(bench: Bench) -> None:
    def received() -> float:
        return bench.lab.metric("grpc_server_msg_received_total", grpc_method="Converse")

    before = received()
    assert list(bench.function("add").map(range(2000))) == list(range(2000))
    assert received() - before < 200


def test_threads_that_call_share_messages(bench: Bench) -> None:
    add = bench.function("add")
    before = bench.lab.metric("grpc_server_msg_received_total", grpc_method="Converse")
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(add, range(1600))) == list(range(1600))
    assert bench.lab.metric("grpc_server_msg_received_total", grpc_method="Converse") - before < 800


def test_a_map_without_a_lease_works_too(lab) -> None:
    lab.client.run("sim-1", SOURCE)
    assert list(lab.client.function("sim-1", "add").map(range(100))) == list(range(100))


def test_futures_without_a_lease_never_overfill_the_boards_queue(lab) -> None:
    lab.client.run("sim-1", SOURCE)
    add = lab.client.function("sim-1", "add")
    assert [future.result(PATIENCE) for future in [add.submit(n) for n in range(1500)]] == list(range(1500))


def test_exceptions_come_at_their_place_and_the_map_goes_on(bench: Bench) -> None:
    results = bench.function("halve").map([5, 0, 20])
    assert next(results) == 20
    with pytest.raises(BoardException, match="ZeroDivisionError"):
        next(results)
    assert list(results) == [5]


def test_what_cannot_be_sent_fails_at_its_place(bench: Bench) -> None:
    results = bench.function("add").map([1, object(), 3])
    assert next(results) == 1
    with pytest.raises(TypeError, match="argument 1"):
        next(results)
    assert list(results) == [3]


def test_what_the_iterable_raises_comes_after_the_results_before_it(bench: Bench) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no third")

    results = bench.function("add").map(numbers())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(LookupError, match="no third"):
        next(results)
    assert list(results) == []


def test_no_more_than_the_window_is_asked_for_in_advance(bench: Bench) -> None:
    asked = itertools.count()
    results = bench.function("add").map(asked, window=10)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert next(asked) <= 3 + 10


def test_a_map_that_is_left_cancels_the_rest_and_the_board_serves_on(bench: Bench) -> None:
    for result in bench.function("note").map(itertools.count()):
        if result == 5:
            break
    del result
    ran = bench.ran()
    assert isinstance(ran, list)
    assert ran == list(range(len(ran)))
    assert len(ran) >= 6
    assert bench.ran() == ran


def test_calls_of_a_map_have_their_time_limit_each(bench: Bench) -> None:
    bench.client.run("sim-1", "from time import sleep", lease=bench.lease)
    sleep = bench.function("sleep", timeout=5.0)
    assert list(sleep.map([0.1] * 3)) == [None] * 3
    with pytest.raises(RunTimeout):
        list(bench.function("sleep", timeout=0.3).map([0.01, 5]))


def test_futures_end_by_themselves(bench: Bench) -> None:
    add = bench.function("add")
    futures = [add.submit(n, b=1) for n in range(100)]
    assert {future.result(PATIENCE) for future in as_completed(futures, PATIENCE)} == set(range(1, 101))
    with pytest.raises(BoardException, match="TypeError"):
        add.submit().result(PATIENCE)


def test_futures_run_in_the_order_of_their_submission(bench: Bench) -> None:
    note = bench.function("note")
    futures = [note.submit(n) for n in range(300)]
    assert [future.result(PATIENCE) for future in futures] == list(range(300))
    assert bench.ran() == list(range(300))


def test_a_future_can_be_awaited(bench: Bench) -> None:
    add = bench.function("add")

    async def work() -> list[object]:
        return await asyncio.gather(*(asyncio.wrap_future(add.submit(n)) for n in range(50)))

    assert asyncio.run(work()) == list(range(50))


def test_threads_and_futures_share_a_stream(bench: Bench) -> None:
    add = bench.function("add")

    def work(thread: int) -> list[object]:
        futures = [add.submit(thread * 1000, n) for n in range(50)]
        called = [add(thread * 1000, n) for n in range(50)]
        return [called, [future.result(PATIENCE) for future in futures]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [[[thread * 1000 + n for n in range(50)]] * 2 for thread in range(8)]


def test_a_callback_may_call_and_submit_again(bench: Bench) -> None:
    add = bench.function("add")
    second: Future[object] = Future()

    def go_on(first: Future[object]) -> None:
        add.submit(add(first.result(), 10), 100).add_done_callback(lambda f: second.set_result(f.result()))

    add.submit(1, 1).add_done_callback(go_on)
    assert second.result(PATIENCE) == 112


def test_a_callback_may_wait_for_another_future(bench: Bench) -> None:
    add = bench.function("add")
    ended: Future[object] = Future()

    def go_on(first: Future[Any]) -> None:
        # The one of these may have come in the same message as what called this, or will come later.
        ended.set_result((behind.result(), add.submit(first.result(), 10).result()))

    started = bench.begin("nap", 0.5)
    first, behind = add.submit(1, 1), add.submit(2, 2)
    first.add_done_callback(go_on)
    assert ended.result(PATIENCE) == (4, 12)
    assert started.exception(PATIENCE) is None


def test_a_future_that_was_cancelled_says_so_again(bench: Bench) -> None:
    stuck = bench.begin("stuck")
    waiting = bench.function("add").submit(1)
    assert waiting.cancel()
    assert waiting.cancel()
    stuck.cancel()


def test_of_a_call_that_prints_without_end_a_fixed_amount_is_kept(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    printed: list[bytes] = []
    loud = bench.function("loud", output=printed.append)
    assert loud.submit(MOST_OUTPUT_BYTES + 1000).result(PATIENCE) is None
    assert [len(data) for data in printed] == [MOST_OUTPUT_BYTES]
    assert "use run for long output" in caplog.text
    assert bench.function("say", output=printed.append).submit(3).result(PATIENCE) == 3
    assert printed[-1].strip() == b"said 3"


def test_what_calls_print_is_given_once_a_call(bench: Bench) -> None:
    printed: list[bytes] = []
    say = bench.function("say", output=printed.append)
    assert list(say.map(range(3))) == [0, 1, 2]
    assert say.submit(3).result(PATIENCE) == 3
    assert [data.strip() for data in printed] == [b"said %d" % n for n in range(4)]


def test_a_call_that_has_not_left_is_cancelled_at_once(bench: Bench) -> None:
    running = bench.begin("stuck")
    waiting = [bench.function("note").submit(n) for n in range(3)]
    assert waiting[1].cancel()
    assert waiting[1].cancelled()
    assert not running.cancel()
    with pytest.raises(RunCancelled):
        running.result(PATIENCE)
    assert [waiting[n].result(PATIENCE) for n in (0, 2)] == [0, 2]
    assert bench.ran() == [0, 2]
    assert not waiting[0].cancel()


def test_a_lost_lease_ends_each_future(bench: Bench) -> None:
    futures = [bench.begin("stuck"), *(bench.function("note").submit(n) for n in range(3))]
    bench.lab.client.release(bench.lease.token)
    for future in futures:
        with pytest.raises(LeaseLost):
            future.result(PATIENCE)
    with pytest.raises(LeaseLost):
        bench.function("note").submit(1).result(PATIENCE)


def test_a_client_that_is_closed_ends_each_future(bench: Bench) -> None:
    futures = [bench.begin("stuck"), *(bench.function("note").submit(n) for n in range(3))]
    bench.client.close()
    for future in futures:
        with pytest.raises(RunCancelled):
            future.result(PATIENCE)


def test_a_daemon_that_dies_ends_each_future_and_each_call(daemon: Callable, sim: dict) -> None:
    lab = daemon({"sim-1": sim})
    bench = Bench(lab, lab.client.acquire("sim-1"), lab.client)
    futures = [bench.begin("stuck"), *(bench.function("note").submit(n) for n in range(3))]
    with ThreadPoolExecutor(2) as pool:
        called = [pool.submit(bench.function("add"), 1, 2) for _ in range(2)]
        lab.process.kill()
        for future in (*futures, *called):
            with pytest.raises(BelaydError) as ended:
                future.result(PATIENCE)
            assert isinstance(ended.value, ConnectionLost)


def test_a_board_that_goes_ends_each_future(daemon: Callable, sim: dict) -> None:
    lab = daemon({"sim-1": sim})
    bench = Bench(lab, lab.client.acquire("sim-1"), lab.client)
    futures = [bench.begin("stuck"), *(bench.function("note").submit(n) for n in range(3))]
    os.kill(lab.wrapper("sim-1"), signal.SIGKILL)
    outcomes = [type(future.exception(PATIENCE)).__name__ for future in futures]
    assert outcomes[0] == "TransportLost"
    # Those behind it wait for the board, which has forgotten the function when it is back.
    assert set(outcomes) <= {"TransportLost", "BoardUnavailable", "BoardException"}


def test_a_device_s_tasks_are_submitted_and_mapped(lab, capsys: pytest.CaptureFixture[str]) -> None:
    with Device(f"{lab.address}/sim-1", wait=PATIENCE) as device:

        @device.task
        def double(n: int) -> int:
            """Return twice a number."""
            print("doubling", n)
            return 2 * n

        assert double(1) == 2
        assert double.submit(2).result(PATIENCE) == 4
        assert list(double.map([3, 4])) == [6, 8]
        assert double.__name__ == "double"
    assert capsys.readouterr().out.split("\n") == [*(f"doubling {n}" for n in (1, 2, 3, 4)), ""]
