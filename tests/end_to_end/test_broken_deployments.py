"""Deployments that break off at any moment leave the old tree or the new one, and the next contact says which.

The trees take turns, so that each deployment writes, deletes, and makes files of folders and folders of
files. What became of it is told twice, by the board's files and by the daemon's list of deployments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from belayd_client import BelaydError

EACH = 16
"""Interruptions of each kind; those of full disks make it more than 50."""
RELAY = """
import os, select, socket, sys, tty
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); tty.setraw(fd)
door = socket.create_server(("127.0.0.1", int(sys.argv[2])))
print(door.getsockname()[1], flush=True)
while True:
    peer, _ = door.accept()
    while True:
        if fd in select.select([fd, peer], [], [])[0]: peer.sendall(os.read(fd, 65536))
        if peer in select.select([peer], [], [], 0)[0]:
            data = peer.recv(65536)
            if not data: break
            os.write(fd, data)
"""
Tree = dict[str, bytes]


def trees() -> tuple[Tree, Tree]:
    """Return two trees that have little in common."""
    chance = random.Random(11)
    first: Tree = {
        "main.py": b"tree = 1\n",
        "flip": b"a file",
        "flop/a/b.py": b"b = 1\n",
        "same.py": b"same\n",
    }
    second: Tree = {
        "main.py": b"tree = 2\n",
        "flip/a.py": b"a = 2\n",
        "flop": b"a file",
        "same.py": b"same\n",
    }
    for number in range(8):
        first[f"app/{number}.py"] = b"# one\n" * chance.randrange(10, 2000)
        second[f"app/{number}.py"] = b"# two\n" * chance.randrange(10, 2000)
        first[f"one/{number}.bin"] = chance.randbytes(chance.randrange(4000))
        second[f"two/{number}.bin"] = chance.randbytes(chance.randrange(4000))
    return first, second


TREES = trees()
BOARD = "victim"
PATIENCE = 60.0
LEVELS = 12
STEP = 4  # blocks of 4 kB; a tree takes some 40
# The listing is told of room that is not there; whoever asks after it hears the truth.
FILL = """
import os, sys
os = getattr(os, 'true', os)
class Lying: pass
lying = Lying()
for name in dir(os):
 setattr(lying, name, getattr(os, name))
lying.true = os
lying.lies = 1
def statvfs(path):
 told = lying.true.statvfs(path)
 if lying.lies:
  lying.lies -= 1
  return told[:3] + (told[2], told[2]) + told[5:]
 return told
lying.statvfs = statvfs
f = open('/ballast', 'wb')
while os.statvfs('/')[4] > {free}:
 f.write(bytes(2048))
 f.flush()
f.close()
sys.modules['os'] = lying
"""
READ = """
import os
def walk(folder):
 for name in os.listdir(folder or '/'):
  path = folder + '/' + name
  if os.stat(path)[0] & 0x4000:
   walk(path)
  elif name != 'ballast':
   print(path[1:], end=' ')
   with open(path, 'rb') as f:
    while True:
     piece = f.read(1024)
     if not piece: break
     print(piece.hex(), end='')
   print()
walk('')
"""


class Story:
    """One board that trees are deployed to in turn, and what became of each deployment.

    Attributes:
        has: Which of the trees it has.
        seconds: How long a deployment takes that nobody breaks off, from its plan to its end.
    """

    def __init__(self, lab: Any, folder: Path, read: Callable[[Any], Tree]) -> None:
        self.lab = lab
        self.outcomes: Counter[str] = Counter()
        self._read = read
        self._folders = (folder / "tree-0", folder / "tree-1")
        for tree, place in zip(TREES, self._folders, strict=True):
            for path, data in tree.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(data)
        self.has = 1
        self._begun = threading.Event()
        times = [self._time() for _ in range(5)]
        self.seconds = min(times[1:])

    def deploy(self) -> None:
        """Deploy the tree that the board has not, to the end unless something breaks it off."""
        self.lab.client.deploy(
            BOARD,
            self._folders[1 - self.has],
            prune=True,
            keep=["ballast"],
            timeout=PATIENCE,
            on_plan=lambda plan: self._begun.set(),
        )

    def break_off(self, breaking: Callable[[], None], after: float) -> None:
        """Begin to deploy the tree that the board has not, and break that off so many seconds after its plan."""
        self._begun.clear()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.deploy)
            assert self._begun.wait(PATIENCE)
            time.sleep(after)  # it may break at any moment
            breaking()
            with contextlib.suppress(BelaydError):
                running.result(PATIENCE)

    def look(self, before: str, until: Callable[..., None]) -> None:
        """See which tree the board has when it is back, and that belayd says the same."""
        until(self.reached, "the board is back")
        tree = self._read(self.lab)
        assert tree in TREES, f"a mixed tree: {sorted(tree)}"
        renewed = tree == TREES[1 - self.has]
        until(lambda: self.outcome(before) != "open", "belayd knows what became of it")
        outcome = self.outcome(before)
        assert outcome in (("done",) if renewed else ("undone", "none")), outcome
        self.has = 1 - self.has if renewed else self.has
        self.outcomes[outcome] += 1

    def reached(self) -> bool:
        """Tell whether the board does what it is asked."""
        try:
            return self.lab.client.evaluate(BOARD, "6 * 7") == 42
        except BelaydError:
            return False

    def latest(self) -> str:
        """Return the name of the latest deployment."""
        return next(iter(self.lab.client.deployments(BOARD))).name

    def outcome(self, before: str) -> str:
        """Return what became of the latest deployment, "none" if nothing came after `before`."""
        latest = next(iter(self.lab.client.deployments(BOARD)))
        return "none" if latest.name == before else latest.outcome.value

    def _time(self) -> float:
        self._begun.clear()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.deploy)
            assert self._begun.wait(PATIENCE)
            began = time.monotonic()
            running.result(PATIENCE)
        self.has = 1 - self.has
        return time.monotonic() - began


def tree_in(folder: Path) -> Tree:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def relay(simulated_pty, tmp_path: Path) -> Iterator[Relay]:
    """A board that goes on whatever becomes of its link."""
    board = simulated_pty(BOARD)
    made = Relay(board.path, board.folder)
    yield made
    made.cut()


class Relay:
    """A link to a board on a pty, over TCP, that can be cut and made again."""

    def __init__(self, pty: Path, folder: Path) -> None:
        self.folder = folder
        self._pty = pty
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.make()

    @property
    def spec(self) -> dict[str, Any]:
        """The board as the inventory has it."""
        return {"tcp": {"url": f"socket://127.0.0.1:{self._port}"}}

    def make(self) -> None:
        """Have a link."""
        words = [sys.executable, "-c", RELAY, str(self._pty), self._port]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = self._process.stdout.readline().strip()

    def cut(self) -> None:
        """Have none."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.mark.timeout(300)
def test_a_board_that_dies_has_the_old_tree_or_the_new_one(daemon, sim, tmp_path: Path, until) -> None:
    lab = daemon({BOARD: sim})
    story = Story(lab, tmp_path, lambda lab: tree_in(lab.folder / "state" / "boards" / BOARD))
    chance = random.Random(1)

    for _ in range(EACH):
        before = story.latest()
        story.break_off(
            lambda: os.kill(lab.interpreter(BOARD), signal.SIGKILL), chance.random() * story.seconds
        )
        story.look(before, until)

    assert sum(story.outcomes.values()) == EACH
    print(story.outcomes)


@pytest.mark.timeout(300)
def test_a_board_whose_link_is_cut_has_the_old_tree_or_the_new_one(
    daemon, relay, tmp_path: Path, until
) -> None:
    story = Story(daemon({BOARD: relay.spec}), tmp_path, lambda lab: tree_in(relay.folder))
    chance = random.Random(2)

    for _ in range(EACH):
        before = story.latest()
        story.break_off(relay.cut, chance.random() * story.seconds)
        relay.make()
        story.look(before, until)

    told = [
        event.fields["outcome"]
        for event in story.lab.client.events(BOARD, recent=1000, follow=False)
        if event.kind == "deployment_settled"
    ]
    assert sum(story.outcomes.values()) == EACH
    assert told
    assert set(told) <= {"completed", "undone"}
    assert told.count("undone") <= story.outcomes["undone"]
    assert told.count("completed") <= story.outcomes["done"]
    print(story.outcomes, Counter(told))


@pytest.mark.timeout(300)
def test_a_board_whose_daemon_is_killed_has_the_old_tree_or_the_new_one(
    daemon, simulated_pty, tmp_path: Path, until
) -> None:
    board = simulated_pty(BOARD)
    lab = daemon({BOARD: {"serial": {"port": str(board.path)}}})
    story = Story(lab, tmp_path, lambda lab: tree_in(board.folder))
    chance = random.Random(3)

    for _ in range(EACH):
        before = story.latest()
        # Longer, since a daemon that was killed must read again what is there.
        story.break_off(story.lab.kill, chance.uniform(0, 1.6) * story.seconds)
        story.lab = story.lab.again()
        story.look(before, until)

    assert sum(story.outcomes.values()) == EACH
    print(story.outcomes)


@pytest.mark.timeout(300)
def test_a_board_whose_disk_is_full_has_the_old_tree_or_the_new_one(daemon, tmp_path: Path, until) -> None:
    lab = daemon({BOARD: {"simulated": {"flash": 512}}})
    story = Story(lab, tmp_path, tree_on_flash)
    failures: list[BelaydError] = []

    for free in range(STEP, STEP * (LEVELS + 1), STEP):
        before = story.latest()
        lab.client.run(BOARD, FILL.format(free=free))
        try:
            story.deploy()
        except BelaydError as error:
            failures.append(error)
        story.look(before, until)
        lab.client.run(BOARD, "import os\nos.remove('/ballast')")

    assert sum(story.outcomes.values()) == LEVELS
    assert {error.reason for error in failures} == {"BOARD_FULL"}
    assert 0 < story.outcomes["done"] < LEVELS
    print(story.outcomes)


def tree_on_flash(lab: Any) -> Tree:
    told: list[bytes] = []
    lab.client.run(BOARD, READ, output=told.append)
    tree = {}
    for line in b"".join(told).decode().splitlines():
        path, data = line.split(" ")
        tree[path] = bytes.fromhex(data)
    return tree
