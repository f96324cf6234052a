from __future__ import annotations

import signal
import threading
from pathlib import Path

import grpc
import pytest

from belayd.v1 import boards_pb2, tasks_pb2
from belayd_client import project
from belayd_client.board import BoardState
from belayd_client.client import Client
from belayd_client.errors import (
    BoardException,
    BoardLeased,
    ConnectionFailed,
    ConnectionLost,
    NotFound,
    PreparationFailed,
    RequestInvalid,
    RunCancelled,
    RunTimeout,
)


@pytest.fixture
def client(lab):
    with Client(lab.address, holder="ann@desk") as client:
        yield client


def test_boards_of_all_pages_come_in_order(lab, client: Client) -> None:
    lab.page_size = 2

    assert [board.name for board in client.boards()] == ["esp-1", "pico-1", "pico-2"]


def test_a_selector_narrows_the_boards(client: Client) -> None:
    boards = client.boards("chip=rp2")

    assert [board.name for board in boards] == ["pico-1", "pico-2"]
    assert boards[0].state is BoardState.READY
    assert boards[0].labels == {"chip": "rp2"}
    assert boards[0].facts is None
    assert boards[0].lease is None


def test_a_state_of_a_newer_daemon_is_unknown(lab, client: Client) -> None:
    lab.changes.put(boards_pb2.WatchBoardsResponse(boards=[boards_pb2.Board(name="boards/x", state=99)]))
    changes = client.watch_boards()

    next(changes)

    assert next(changes).boards[0].state is BoardState.UNKNOWN
    changes.close()


def test_an_unknown_board_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="no board pico-9"):
        client.board("pico-9")


def test_watching_tells_all_boards_then_changes(lab, client: Client) -> None:
    changes = client.watch_boards("chip=rp2")

    first = next(changes)
    lab.changes.put(boards_pb2.WatchBoardsResponse(removed=["boards/pico-2"]))
    second = next(changes)
    changes.close()

    assert [board.name for board in first.boards] == ["pico-1", "pico-2"]
    assert (second.boards, second.removed) == ((), ("pico-2",))


def test_the_daemon_tells_of_itself(client: Client) -> None:
    assert client.daemon().boards == 3


def test_a_run_prints_and_returns_nothing(client: Client) -> None:
    printed: list[bytes] = []

    client.run("pico-1", "x = 1\nprint('é', end='')", output=printed.append)

    assert b"".join(printed) == "é".encode()


def test_an_expression_gives_its_typed_value(client: Client) -> None:
    client.run("pico-1", "x = {'a': (1, 2.5, None, b'\\x00')}")

    assert client.evaluate("pico-1", "x") == {"a": (1, 2.5, None, b"\x00")}


def test_a_call_takes_arguments_and_keywords_of_any_name(client: Client) -> None:
    client.run("pico-1", "def f(*a, **k):\n    print('in f')\n    return a, k\n")
    printed: list[bytes] = []

    assert client.call("pico-1", "f", 1, "x", y=[2], output=printed.append) == ((1, "x"), {"y": [2]})
    assert client.call_with("pico-1", "f", (), {"timeout": 1, "board": 2}) == ((), {"timeout": 1, "board": 2})
    assert printed == [b"in f\n"]


def test_an_argument_without_a_typed_form_is_refused_before_it_is_sent(lab, client: Client) -> None:
    before = len(lab.requests)

    with pytest.raises(TypeError, match="argument 2"):
        client.call("pico-1", "f", 1, object())

    assert len(lab.requests) == before


@pytest.mark.parametrize("way", ["run", "evaluate", "call"])
def test_what_the_code_raises_arrives_with_the_boards_traceback(client: Client, way: str) -> None:
    client.run("pico-1", "def f(x):\n    raise ValueError(x)\n")
    ways = {
        "run": lambda: client.run("pico-1", "f('no')"),
        "evaluate": lambda: client.evaluate("pico-1", "f('no')"),
        "call": lambda: client.call("pico-1", "f", "no"),
    }

    with pytest.raises(BoardException) as caught:
        ways[way]()

    assert (caught.value.type_name, caught.value.message) == ("ValueError", "no")
    assert caught.value.traceback.startswith("Traceback (most recent call last):")
    assert str(caught.value).endswith("ValueError: no")


def test_a_stream_that_ends_without_a_result_is_a_lost_connection(lab, client: Client) -> None:
    lab.run = lambda request, context: iter([tasks_pb2.RunTaskResponse(output=b"half")])

    with pytest.raises(ConnectionLost, match="effects unknown"):
        client.run("pico-1", "x")


def test_a_daemon_that_dies_during_a_run_is_a_lost_connection(lab, client: Client) -> None:
    def run(request, context):
        yield tasks_pb2.RunTaskResponse(output=b"half")
        lab.ended.wait(30)

    lab.run = run
    stopper = threading.Thread(target=lab.stop)

    with pytest.raises((ConnectionLost, RunCancelled)):
        client.run("pico-1", "x", output=lambda data: stopper.start())
    stopper.join(30)


def test_leaving_a_run_early_cancels_it(lab, client: Client) -> None:
    def run(request, context):
        while context.is_active():
            yield tasks_pb2.RunTaskResponse(output=b"on and on\n")

    lab.run = run

    def leave(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run("pico-1", "x", output=leave)

    assert lab.ended.wait(30)


def test_closing_the_client_cancels_what_runs_in_another_thread(lab) -> None:
    begun = threading.Event()

    def run(request, context):
        begun.set()
        lab.ended.wait(30)
        yield tasks_pb2.RunTaskResponse()

    lab.run = run
    client, failures = Client(lab.address), []

    def work() -> None:
        try:
            client.run("pico-1", "x")
        except RunCancelled as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)

    client.close()
    thread.join(30)

    assert len(failures) == 1
    assert lab.ended.wait(30)


def test_the_timeout_travels_in_the_request_and_the_daemon_answers_it(lab, client: Client) -> None:
    lab.failures["RunTask"] = (grpc.StatusCode.DEADLINE_EXCEEDED, "RUN_TIMEOUT", "took longer than 1.5 s", {})

    with pytest.raises(RunTimeout, match="took longer"):
        client.run("pico-1", "x", timeout=1.5)

    assert lab.requests[-1].timeout.ToMilliseconds() == 1500


def test_the_place_in_the_queue_is_told(lab, client: Client) -> None:
    lab.run = lambda request, context: iter(
        [
            tasks_pb2.RunTaskResponse(queued=tasks_pb2.TaskQueued(jobs_before=3)),
            tasks_pb2.RunTaskResponse(result=tasks_pb2.TaskResult(value={"none": {}})),
        ]
    )
    places: list[int] = []

    client.run("pico-1", "x", on_queued=places.append)

    assert places == [3]


def test_somebody_elses_lease_refuses_work(client: Client) -> None:
    lease = client.acquire("pico-1")

    with pytest.raises(BoardLeased) as caught:
        client.run("pico-1", "x = 1")

    assert caught.value.holder == "ann@desk"
    client.run("pico-1", "x = 1", lease=lease)
    client.run("pico-1", "x = 1", lease=lease.token)


def test_acquiring_takes_a_name_or_a_selector(client: Client) -> None:
    with pytest.raises(RequestInvalid):
        client.acquire()
    with pytest.raises(RequestInvalid):
        client.acquire("pico-1", selector="chip=rp2")


def test_a_selector_acquires_the_next_free_board(client: Client) -> None:
    boards = {client.acquire(selector="chip=rp2").board for _ in range(2)}

    assert boards == {"pico-1", "pico-2"}


def test_waiting_for_a_lease_tells_the_place_and_gets_it(client: Client) -> None:
    first, places = client.acquire("pico-1"), []

    def give_back(position: int) -> None:
        places.append(position)
        first.release()

    second = client.acquire("pico-1", wait=30, on_queued=give_back)

    assert places == [1]
    assert [record.name for record in client.leases()] == [second.name]


def test_a_lease_without_waiting_is_refused_at_once(client: Client) -> None:
    client.acquire("pico-1")

    with pytest.raises(BoardLeased):
        client.acquire("pico-1", wait=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    (root / "lib").mkdir(parents=True)
    (root / "main.py").write_text("print(1)\n")
    (root / "lib" / "big.bin").write_bytes(bytes(range(256)) * 1024)
    (root / "empty").touch()
    (root / "copy.py").write_text("print(1)\n")
    return root


def test_a_folder_is_deployed_and_what_is_equal_is_not_sent_again(lab, client: Client, folder: Path) -> None:
    steps = []

    first = client.deploy("pico-1", folder, progress=steps.append)
    again = client.deploy("pico-1", folder)

    assert lab.files["pico-1"] == {
        "/copy.py": b"print(1)\n",
        "/empty": b"",
        "/lib/big.bin": bytes(range(256)) * 1024,
        "/main.py": b"print(1)\n",
    }
    assert (first.files_written, first.files_same) == (4, 0)
    assert steps[-1].written_bytes == steps[-1].total_bytes == first.payload_bytes == 256 * 1024 + 18
    assert (again.files_written, again.files_same) == (0, 4)
    assert client.upload(project.read(folder)) == 0


def test_a_dry_run_plans_and_uploads_nothing(lab, client: Client, folder: Path) -> None:
    lab.files["pico-1"] = {"/app/old.py": b"", "/app/main.py": b"print(1)\n"}

    summary = client.deploy("pico-1", folder, dst="/app", prune=True, dry_run=True)

    assert summary.plan.delete == ("/app/old.py",)
    assert summary.plan.same == ("/app/main.py",)
    assert "/app/lib/big.bin" in summary.plan.write
    assert lab.blobs == {}


def test_a_file_that_changes_while_it_is_sent_stops_the_deployment(lab, client: Client, folder: Path) -> None:
    files = project.read(folder)
    (folder / "main.py").write_text("print(2)\n")

    with pytest.raises(PreparationFailed, match=r"main\.py changed"):
        client.upload(files)


def test_a_daemon_that_is_gone_fails_an_upload(unused_address: str, folder: Path) -> None:
    with Client(unused_address) as client, pytest.raises(ConnectionFailed):
        client.deploy("pico-1", folder)


def test_a_reset_gives_the_board_back(client: Client) -> None:
    client.run("pico-1", "x = 1")

    board = client.reset("pico-1")

    assert board.state is BoardState.READY
    with pytest.raises(BoardException):
        client.evaluate("pico-1", "x")


def test_ctrl_c_cancels_a_run_while_the_program_lives_on(lab, client: Client) -> None:
    reading = threading.Event()

    def run(request, context):
        yield tasks_pb2.RunTaskResponse(output=b"begun")
        reading.wait(60)
        signal.raise_signal(signal.SIGINT)  # Delivered to the main thread, which waits for the next message.
        lab.ended.wait(60)

    lab.run = run

    with pytest.raises(KeyboardInterrupt):
        client.run("pico-1", "x", output=lambda data: reading.set())

    assert lab.ended.wait(30)
    lab.run = None
    assert client.evaluate("pico-1", "6 * 7") == 42


def test_ctrl_c_cancels_a_call_while_the_program_lives_on(lab, client: Client) -> None:
    def call(request, context):
        lab.ended.clear()
        signal.raise_signal(signal.SIGINT)
        lab.ended.wait(60)

    lab.call = call

    with pytest.raises(KeyboardInterrupt):
        client.call("pico-1", "f")

    assert lab.ended.wait(30)
    assert client.evaluate("pico-1", "6 * 7") == 42


def test_a_lease_is_kept_and_released_though_its_client_was_closed(lab) -> None:
    with Client(lab.address) as client:
        lease = client.acquire("pico-1", ttl=0.3).keep()

    assert lab.renewed.acquire(timeout=30)
    lease.release()
    assert lab.held == {}


def test_a_closed_client_makes_no_more_calls(lab) -> None:
    client = Client(lab.address)
    client.close()

    with pytest.raises(ValueError, match="closed"):
        client.boards()
