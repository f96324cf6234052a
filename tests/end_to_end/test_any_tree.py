"""Whatever a tree holds goes onto a board with LittleFS as it is, through the daemon, and nothing else does."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from belayd_client import Exhausted, RequestInvalid

BOARDS = {"flash-1": {"simulated": {"flash": 16_384}}, "small-1": {"simulated": {"flash": 96}}}
NAMES = [
    "it's",
    'say "hi"',
    "two  spaces ",
    " ",
    "back\\slash",
    "C:\\boot.py",
    "naïve … 😀.py",
    "日本語",
    "{0}%s",
    "-rf",
    "$HOME;`id`",
    "a.belayd",
]
LARGE = random.Random(1).randbytes(2 << 20)
EVERY_BYTE = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def lab(shared_daemon):
    return shared_daemon(BOARDS)


def tree(lab, board: str, top: str = "/") -> dict[str, str | None]:
    """Return what lies below `top`: SHA-256 by path, None for folders."""
    files = lab.client.list_files(board, top, recursive=True, sha256=True)
    return {file.path: None if file.folder else file.sha256 for file in files}


def local(folder: Path, top: str) -> dict[str, str | None]:
    """Return the same of a folder here, as it would lie below `top`."""
    return {
        f"{top}/{path.relative_to(folder)}": None
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


def test_any_name_any_depth_and_any_size_goes_as_it_is(lab, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(EVERY_BYTE + name.encode())
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(LARGE)
    deep = tmp_path.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"1")

    first = lab.client.deploy("flash-1", tmp_path, dst="/any", as_is=["*"])
    again = lab.client.deploy("flash-1", tmp_path, dst="/any", as_is=["*"])

    assert tree(lab, "flash-1", "/any") == local(tmp_path, "/any")
    assert (first.files_written, again.files_written, again.files_same) == (len(NAMES) + 3, 0, len(NAMES) + 3)


def test_files_become_folders_and_folders_files(lab, tmp_path: Path) -> None:
    (tmp_path / "1" / "b").mkdir(parents=True)
    (tmp_path / "1" / "a").write_text("file")
    (tmp_path / "1" / "b" / "c").write_text("in a folder")
    (tmp_path / "2" / "a" / "deeper").mkdir(parents=True)
    (tmp_path / "2" / "a" / "deeper" / "x").write_text("in folders")
    (tmp_path / "2" / "b").write_text("file")

    lab.client.deploy("flash-1", tmp_path / "1", dst="/swap")
    lab.client.deploy("flash-1", tmp_path / "2", dst="/swap")
    swapped = tree(lab, "flash-1", "/swap")
    lab.client.deploy("flash-1", tmp_path / "1", dst="/swap")

    assert swapped == local(tmp_path / "2", "/swap")
    assert tree(lab, "flash-1", "/swap") == local(tmp_path / "1", "/swap")


def test_what_does_not_fit_is_refused_before_anything_is_touched(lab, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "main.py").write_text("print('old')")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "main.py").write_text("print('new')")
    (tmp_path / "new" / "large").write_bytes(LARGE[:200_000])
    lab.client.deploy("small-1", tmp_path / "old")

    with pytest.raises(Exhausted, match="bytes free"):
        lab.client.deploy("small-1", tmp_path / "new")

    assert tree(lab, "small-1") == local(tmp_path / "old", "")


@pytest.mark.parametrize("name", [".belayd", ".BELAYD", ".belayd/0", ".belayd/journal"])
def test_belayds_own_names_are_refused(lab, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")

    with pytest.raises(RequestInvalid, match="belayd's own"):
        lab.client.deploy("flash-1", tmp_path)


def test_mpremote_finds_the_same_hashes(lab, simulated_pty, daemon, tmp_path: Path) -> None:
    port = simulated_pty("board", "--flash", "1024")
    (tmp_path / "src").mkdir()
    contents = {"a.py": b"x = 1\n", "it's.bin": EVERY_BYTE, "empty": b"", "large.bin": LARGE[:100_000]}
    for name, content in contents.items():
        (tmp_path / "src" / name).write_bytes(content)
    other = daemon({"tty-1": {"serial": {"port": str(port.path)}}})
    other.client.deploy("tty-1", tmp_path / "src", dst="/app", as_is=["*"])
    other.stop()

    for name, content in contents.items():
        command = [
            sys.executable,
            "-m",
            "mpremote",
            "connect",
            str(port.path),
            "fs",
            "sha256sum",
            f":/app/{name}",
        ]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert told.split()[-1] == hashlib.sha256(content).hexdigest()
