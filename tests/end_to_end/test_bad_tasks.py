"""Tasks that misbehave: each has its clear outcome, and its board serves the next, right, as all others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest

from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import BoardException, RunTimeout, TransportLost

MIB = 1024 * 1024
LINES = 44_000
REBOOT = "\r\nMPY: soft reboot\r\nraw REPL; CTRL-B to exit\r\n>"
FLOOD = "while True: print('flood ' * 100)\n"


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture(autouse=True)
def everybody_else(lab, bystander):
    """On the same board and on another, somebody gets right answers all the while."""
    other = bystander(lab.connect(), ("sim-1", "sim-2"))
    yield
    other.leave()
    assert lab.client.call("sim-1", "len", [1, 2, 3], timeout=30) == 3


@pytest.mark.parametrize(
    ("source", "type_name", "message", "line"),
    [
        ("x ==", "SyntaxError", "invalid syntax", "line 1"),
        ("def f():\nreturn 1\n", "SyntaxError", "invalid syntax", "line 2"),
        ("\x00", "SyntaxError", "invalid syntax", "line 1"),
        ("x = 'é\ud7ff", "SyntaxError", "invalid syntax", "line 1"),
        ("def f(n):\n    return 1 // n\nf(0)\n", "ZeroDivisionError", "divide by zero", "line 2, in f"),
        ("raise ValueError('a\\nb')", "ValueError", "a\nb", "line 1"),
        ("raise Exception('e\\x04>x')", "Exception", "e\x04>x", "line 1"),
        ("def f(): f()\nf()", "RuntimeError", "maximum recursion depth exceeded", "in f"),
        ("x = bytearray(10_000_000)", "MemoryError", "memory allocation failed", "line 1"),
        ("import no_such_module", "ImportError", "no module named", "line 1"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "", "line 1"),
        ("import sys\nsys.exit(3)", "SystemExit", "3", "SystemExit"),
        ("raise SystemExit('enough')", "SystemExit", "enough", "SystemExit"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_code_raises_is_its_result(lab, source: str, type_name: str, message: str, line: str) -> None:
    printed: list[bytes] = []

    with pytest.raises(BoardException) as caught:
        lab.client.run("sim-1", source, timeout=30, output=printed.append)

    assert caught.value.type_name == type_name
    assert message in caught.value.message
    assert line in caught.value.traceback
    assert "_B" not in caught.value.traceback
    assert printed == []


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("print('no end', end='')", b"no end"),
        ("", b""),
        ("# nothing\n\n", b""),
        ("print('a\\x04b')", b"a\x04b\n"),
        ("print('\\x04\\x04>')", b"\x04\x04>\n"),
        ("print('OK\\x04\\x04>', end='')", b"OK\x04\x04>"),
        (f"print({REBOOT!r}, end='')", REBOOT.encode()),
        (
            f"print({REBOOT!r}, end='')\nimport time\ntime.sleep(0.4)\nprint('!', end='')",
            REBOOT.encode() + b"!",
        ),
        ("print('\\x1e' * 100, end='')", b"\x1e" * 100),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", bytes(range(256))),
        ("print('é…😀', end='')", "é…😀".encode()),
        ("import sys; sys.exit()", b""),
        ("print('bye', end='')\nimport sys\nsys.exit(0)", b"bye"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_code_prints_arrives_as_it_is(lab, source: str, printed: bytes) -> None:
    output: list[bytes] = []

    lab.client.run("sim-1", source, timeout=30, output=output.append)

    assert b"".join(output) == printed


def test_a_megabyte_of_output_arrives_whole_and_in_order(lab) -> None:
    output: list[bytes] = []

    lab.client.run(
        "sim-1",
        f"for n in range({LINES}): print('{{:08d}} and some words'.format(n))",
        timeout=60,
        output=output.append,
    )

    whole = b"".join(output)
    assert len(whole) > MIB
    assert whole == b"".join(b"%08d and some words\n" % n for n in range(LINES))


def test_a_call_keeps_the_first_of_what_it_prints_and_counts_the_rest(lab) -> None:
    lab.client.run("sim-1", "def talk(n):\n    print('x' * n, end='')\n    return n\n")
    request = tasks_pb2.CallTaskRequest(board="boards/sim-1", function="talk")
    request.arguments.add().int = 100_000

    answer = tasks_pb2_grpc.TaskServiceStub(lab.channel()).CallTask(request, timeout=30)

    assert answer.result.value.int == 100_000
    assert answer.output == b"x" * 65_536
    assert answer.output_dropped_bytes == 100_000 - 65_536


def test_source_that_the_board_cannot_hold_is_its_memory_error(lab) -> None:
    source = "x = 1\n" * (MIB // 6)

    with pytest.raises(BoardException) as caught:
        lab.client.run("sim-1", source, timeout=60)

    assert caught.value.type_name == "MemoryError"


def test_a_value_that_is_too_large_to_show_at_once_arrives_whole(lab) -> None:
    value = lab.client.evaluate("sim-1", "[n * 'ab' for n in range(300)]", timeout=30)

    assert value == [n * "ab" for n in range(300)]


def test_a_task_that_resets_the_chip_is_lost_and_the_board_is_not(lab) -> None:
    with pytest.raises(TransportLost) as caught:
        lab.client.run("sim-1", "import machine; machine.reset()", timeout=30)

    assert "start over" in caught.value.message


@pytest.mark.parametrize(
    "code",
    ["import sys; sys.exit()", "import machine; machine.soft_reset()", "import sys; sys.exit(3)"],
    ids=["exit", "soft reset", "exit with a code"],
)
def test_a_task_that_restarts_the_interpreter_leaves_it_without_names(lab, code: str) -> None:
    lab.client.run("sim-1", "before = 1")

    with suppress(BoardException):
        lab.client.run("sim-1", code, timeout=30)

    with pytest.raises(BoardException, match="before"):
        lab.client.evaluate("sim-1", "before", timeout=30)


def test_a_task_cannot_break_what_belayd_keeps_on_the_board(lab) -> None:
    for damage in ("del _B", "_B = 1", "def _B(*arguments): return 2", "_L = None", "def _L(t): return 2"):
        lab.client.run("sim-1", damage, timeout=30)

        assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42, damage
        assert lab.client.call("sim-1", "len", "four", timeout=30) == 4, damage


def test_a_loop_that_prints_ends_at_its_timeout(lab) -> None:
    received = 0

    def count(data: bytes) -> None:
        nonlocal received
        received += len(data)

    with pytest.raises(RunTimeout):
        lab.client.run("sim-1", FLOOD, timeout=0.5, output=count)

    assert received > 0


def test_a_client_that_does_not_read_stops_the_flood_and_not_the_daemon(
    lab, until: Callable[..., None]
) -> None:
    def received() -> float:
        return lab.metric("belayd_transport_bytes_total", board="sim-1", direction="received")

    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source=FLOOD)
    before = lab.rss()

    stream = tasks_pb2_grpc.TaskServiceStub(lab.channel()).RunTask(request)
    next(stream)
    seen = [-1.0, 0.0, 0.0, 0.0]
    until(lambda: seen.append(received()) or len(set(seen[-4:])) == 1, "the flood stands still")
    grown = lab.rss() - before
    stream.cancel()

    assert grown < 32 * MIB
    assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42


def test_many_clients_that_leave_a_flood_leave_nothing_behind(lab) -> None:
    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source=FLOOD)
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    before = lab.rss()

    for _ in range(20):
        stream = stub.RunTask(request)
        while next(stream).WhichOneof("step") != "output":
            pass
        stream.cancel()
        with pytest.raises(grpc.RpcError):
            list(stream)

    assert lab.client.evaluate("sim-1", "6 * 7", timeout=30) == 42
    assert lab.rss() - before < 32 * MIB
