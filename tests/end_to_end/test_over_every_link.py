"""The same questions over every link in every weather: right answers, and the board is there for the next.

Each board is a real MicroPython: behind a pty, behind its WebREPL, behind a server of
a serial port, raw and RFC 2217; and each of these behind a link with weather, whose
seeds are fixed (`weather.py`).
"""

from __future__ import annotations

import itertools
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from belayd import wire
from belayd.v1 import tasks_pb2, tasks_pb2_grpc
from belayd_client import Client
from belayd_client.board import BoardState
from belayd_client.errors import BoardException, BoardUnavailable, NotFound, RunTimeout, TransportLost
from belayd_client.lease import Lease

PATIENCE = 60.0
PASSWORD = "roof-4711"
SERVER = Path(__file__).parents[1] / "transport" / "bridge.py"
WEATHER = Path(__file__).with_name("weather.py")
SEEDS = {"serial": 1, "webrepl": 2, "socket": 3, "rfc2217": 4}
LINKS = list(SEEDS)
SOURCE = """\
def add(a, b):
    return a + b
def echo(value):
    return value
def fail(text):
    raise ValueError(text)
def shout(count):
    for number in range(count):
        print('line', number)
    return count
def stuck():
    while True:
        pass
closed = []
def count(n):
    try:
        for item in range(n):
            yield item
    finally:
        closed.append(n)
def mirror():
    got = None
    while True:
        got = yield got
"""
VALUES = [
    *(None, True, -7, 2**70, 0.5, "grüße 🐍\x04\x04>", bytes(range(256)), [1, (2,), {"a": [None, b"x"]}]),
    *({"k": (1,)}, {1, 2}, "x" * 3000, [list(range(200))]),
]


class Part:
    """A process that says on a line where it is to be found."""

    def __init__(self, stack: ExitStack, *words: str | Path) -> None:
        self._process = stack.enter_context(
            subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, bufsize=0)
        )
        stack.callback(self._process.kill)

    def where(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else b""
        assert line, f"{self._process.args} did not start"
        return line.decode().strip()


def served(stack: ExitStack, folder: Path, weather: str) -> dict[str, Any]:
    """Start a board behind each kind of link; return them as the inventory has them."""
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    simulation = ("-m", "belayd.simulation")
    ptys = {
        link: Part(stack, *simulation, folder / link, "--pty", "--link", folder / f"{link}.board")
        for link in LINKS
        if link != "webrepl"
    }
    door = Part(stack, *simulation, folder / "webrepl", "--webrepl=0", f"--password-file={secret}")
    for part in ptys.values():
        part.where()
    server = Part(stack, SERVER, folder / "rfc2217.board", "rfc2217")
    ends = {
        "serial": str(folder / "serial.board"),
        "socket": str(folder / "socket.board"),
        "webrepl": f"127.0.0.1:{door.where().rpartition(':')[2]}",
        "rfc2217": f"127.0.0.1:{server.where()}",
    }
    between = {
        link: Part(
            stack,
            WEATHER,
            end,
            folder / "serial.near" if link == "serial" else "tcp",
            weather,
            str(SEEDS[link]),
        )
        for link, end in ends.items()
    }
    found = {link: part.where() for link, part in between.items()}
    webrepl = {"url": f"ws://127.0.0.1:{found['webrepl']}", "password_file": str(secret)}
    return {
        "serial": {"serial": {"port": found["serial"]}},
        "webrepl": {"webrepl": webrepl},
        "socket": {"tcp": {"url": f"socket://127.0.0.1:{found['socket']}"}},
        "rfc2217": {"tcp": {"url": f"rfc2217://127.0.0.1:{found['rfc2217']}"}},
    }


@dataclass(frozen=True, slots=True)
class Far:
    """One board of a daemon, whose functions are defined."""

    client: Client
    name: str

    def run(self, source: str, **how: Any) -> None:
        self.client.run(self.name, source, timeout=PATIENCE, **how)

    def evaluate(self, expression: str, **how: Any) -> object:
        return self.client.evaluate(self.name, expression, timeout=PATIENCE, **how)

    def call(self, function: str, *arguments: object, **how: Any) -> object:
        return self.client.call(self.name, function, *arguments, timeout=PATIENCE, **how)

    def lease(self) -> Lease:
        return self.client.acquire(self.name, wait=PATIENCE)


@pytest.fixture(scope="module", params=["fair", "bytewise", "late", "stalling"])
def lab(
    request: pytest.FixtureRequest,
    shared_daemon: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    with ExitStack() as stack:
        lab = shared_daemon(served(stack, tmp_path_factory.mktemp("far"), request.param))
        yield lab
        lab.stop()  # before its boards, whose ptys would be others' soon


@pytest.fixture(params=LINKS)
def far(request: pytest.FixtureRequest, lab: Any) -> Far:
    board = Far(lab.client, request.param)
    board.run(SOURCE)
    return board


def test_values_arrive_as_they_are(far: Far) -> None:
    for value in VALUES:
        arrived = far.call("echo", value)
        assert arrived == value
        assert type(arrived) is type(value)
    assert far.evaluate("[add(n, n) for n in range(5)]") == [0, 2, 4, 6, 8]


def test_what_raises_raises_here_and_the_next_is_right(far: Far) -> None:
    with pytest.raises(BoardException, match="ValueError: as asked\x04>"):
        far.call("fail", "as asked\x04>")
    with pytest.raises(BoardException, match="SyntaxError"):
        far.run("x =")
    with pytest.raises(BoardException, match="NameError"):
        far.evaluate("no_such_name")
    assert far.call("add", 20, 22) == 42


def test_a_long_source_arrives_whole(far: Far) -> None:
    far.run("\n".join(f"v{number} = {number} * 2" for number in range(500)))
    assert far.evaluate("sum([globals()['v%d' % number] for number in range(500)])") == 500 * 499


def test_files_go_there_and_come_back_whole(far: Far) -> None:
    content = bytes(range(256)) * 80
    how = {"timeout": PATIENCE}

    changed = [far.client.write_file(far.name, "/it's a.bin", content, **how).changed for _ in range(2)]
    [listed] = far.client.list_files(far.name, "/it's a.bin", sha256=True, **how)

    assert changed == [True, False]
    assert far.client.read_file(far.name, "/it's a.bin", **how) == content
    assert (listed.size, listed.sha256) == (len(content), sha256(content).hexdigest())
    assert far.client.delete_file(far.name, "/it's a.bin", **how) == 1
    with pytest.raises(NotFound):
        far.client.read_file(far.name, "/it's a.bin", **how)
    assert far.call("add", 20, 22) == 42


def test_output_comes_as_it_is_printed_and_whole(far: Far) -> None:
    printed: list[bytes] = []
    far.run("for number in range(4000):\n print('%049d' % number)", output=printed.append)
    assert b"".join(printed).replace(b"\r", b"") == b"".join(b"%049d\n" % number for number in range(4000))
    assert len(printed) > 1


def test_items_are_pushed_closed_and_sent_into(far: Far) -> None:
    with far.lease() as lease:
        far.run(SOURCE, lease=lease)
        assert list(far.client.iterate(far.name, "count", [300], lease=lease)) == list(range(300))
        some = far.client.iterate(far.name, "count", [5000], lease=lease)
        assert [next(some) for _ in range(10)] == list(range(10))
        some.close()
        assert far.evaluate("closed", lease=lease) == [300, 5000]
        mirror = far.client.iterate(far.name, "mirror", window=1, lease=lease)
        assert next(mirror) is None
        assert [mirror.send(value) for value in ("a", 2, [b"\x04"])] == ["a", 2, [b"\x04"]]
        mirror.close()


def step(number: int, function: str, *arguments: object) -> tasks_pb2.ConverseStep:
    made = tasks_pb2.ConverseStep(id=number)
    made.call.function = function
    made.call.arguments.extend(map(wire.to_value, arguments))
    return made


def test_a_message_of_many_calls_is_answered_in_order(far: Far, lab: Any) -> None:
    with far.lease() as lease:
        far.run(SOURCE, lease=lease)
        request = tasks_pb2.ConverseRequest(board=f"boards/{far.name}", lease_token=lease.token)
        request.steps.extend(step(number, "add", number, 1) for number in range(1, 150))
        request.steps.append(step(150, "fail", "the last"))
        stream = tasks_pb2_grpc.TaskServiceStub(lab.channel()).Converse(iter([request]), timeout=PATIENCE)
        ended = [event for response in stream for event in response.events]
    assert [event.id for event in ended] == list(range(1, 151))
    assert [wire.from_value(event.result.value) for event in ended[:-1]] == list(range(2, 151))
    assert ended[-1].result.exception.message == "the last"


# A stalling link may hold so much of the loud one's output that only a soft reset brings the board back.
@pytest.mark.parametrize(
    ("source", "following"),
    [("while True: pass", "add(20, 22)"), ("while True: print('again and again')", "20 + 22")],
    ids=["mute", "loud"],
)
def test_what_overruns_is_interrupted_and_the_next_is_right(far: Far, source: str, following: str) -> None:
    with pytest.raises(RunTimeout):
        far.client.run(far.name, source, timeout=0.25)
    assert far.evaluate(following) == 42


def test_a_call_whose_caller_leaves_is_interrupted(far: Far, lab: Any, until: Callable[..., None]) -> None:
    first = tasks_pb2.ConverseRequest(board=f"boards/{far.name}", steps=[step(1, "stuck")])
    talking = threading.Event()
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel())
    stream = stub.Converse((request for request in [first] if not talking.wait(0)), timeout=PATIENCE)
    until(lambda: far.client.board(far.name).state is BoardState.BUSY)
    stream.cancel()
    assert far.call("add", 20, 22) == 42


def test_a_program_that_exits_is_a_result_and_forgets_its_names(far: Far) -> None:
    # A restart closes a WebREPL's connection, and what the exit told may be lost with it.
    told = TransportLost if far.name == "webrepl" else BoardException
    with pytest.raises(told, match=r"SystemExit: 3|went away"):
        far.run("import sys\nsys.exit(3)")
    assert far.evaluate("'add' in globals()") is False


def test_a_reset_forgets_names_and_serves_on(far: Far) -> None:
    far.client.reset(far.name, timeout=PATIENCE)
    assert far.evaluate("'add' in globals()") is False


def test_a_tree_is_deployed_and_read_back(far: Far, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "gauge.py").write_text("def read():\n    return 41\n" + "# " * 2000)
    (tmp_path / "blob.bin").write_bytes(bytes(range(256)) * 20)
    assert far.client.deploy(far.name, tmp_path, dst="/tree", timeout=PATIENCE).files_written == 2
    assert far.evaluate("open('/tree/blob.bin', 'rb').read()") == bytes(range(256)) * 20
    assert far.evaluate("len(open('/tree/lib/gauge.py').read())") == 4026
    again = far.client.deploy(far.name, tmp_path, dst="/tree", timeout=PATIENCE)
    assert (again.files_written, again.files_same) == (0, 2)


def test_the_next_holder_finds_a_clean_board(far: Far) -> None:
    with far.lease() as lease:
        far.run("mine = 1", lease=lease)
    with far.lease() as lease:
        assert far.evaluate("'mine' in globals()", lease=lease) is False


@pytest.fixture(scope="module")
def flighty(shared_daemon: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as stack:
        lab = shared_daemon(served(stack, tmp_path_factory.mktemp("far"), "vanishing"), ready=False)
        yield lab
        lab.stop()


def right_or_lost(board: Far, number: int) -> bool:
    """Ask things that have one right answer each; return whether all of them came."""
    printed: list[bytes] = []
    try:
        assert board.evaluate(f"[{number}] * 500") == [number] * 500
        board.run(f"def triple(x):\n return 3 * x\nn = {number}", output=printed.append)
        assert board.call("triple", number) == 3 * number
        board.run("for line in range(300):\n print(line)", output=printed.append)
        assert b"".join(printed).split() == [b"%d" % line for line in range(300)]
    except (TransportLost, BoardUnavailable):
        return False
    except BoardException as error:
        assert "NameError" in str(error)  # of triple, which a board that came back may not have
        return False
    return True


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_vanishes_tells_no_lie_and_its_board_comes_back(
    flighty: Any, link: str, until: Callable[..., None]
) -> None:
    board, numbers = Far(flighty.client, link), itertools.count()

    def back_twice_and_right() -> bool:
        right = right_or_lost(board, next(numbers))
        return right and bool(flighty.metric("belayd_reconnects_total", board=link) >= 2)

    until(back_twice_and_right, f"{link} is back twice, with seed {SEEDS[link]}")
    assert board.evaluate("6 * 7") == 42
    assert flighty.client.board(link).state is BoardState.READY
