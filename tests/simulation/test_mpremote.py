"""The official tool, unchanged, takes a simulated board for a board."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., str]


@pytest.fixture
def mpremote(simulated_pty: Callable[..., Any], tmp_path: Path) -> Run:
    board = simulated_pty("board", files={"boot.py": "booted = True\n"})

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "mpremote", "connect", str(board.path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_it_runs_code(mpremote: Run, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("for i in range(3): print(i, booted)\n")

    assert mpremote("exec", "x = 3; print('hi', x)") == "hi 3\n"
    assert mpremote("eval", "2 ** 70") == "1180591620717411303424\n"
    assert mpremote("run", "script.py") == "0 True\n1 True\n2 True\n"


def test_it_copies_files_both_ways(mpremote: Run, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20
    (tmp_path / "there.bin").write_bytes(content)

    mpremote("fs", "cp", "there.bin", ":with space.bin")
    mpremote("fs", "cp", ":with space.bin", "back.bin")

    assert (tmp_path / "back.bin").read_bytes() == content
    assert (tmp_path / "board" / "with space.bin").read_bytes() == content
    assert "with space.bin" in mpremote("fs", "ls")


def test_it_soft_resets(mpremote: Run) -> None:
    shown = mpremote(
        "exec", "x = 1", "+", "resume", "eval", "x", "+", "soft-reset", "+", "exec", "print('x' in dir())"
    )

    assert shown.splitlines()[0] == "1"
    assert shown.splitlines()[-1] == "False"


def test_it_mounts_a_folder_of_the_host(mpremote: Run, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "mine.py").write_text("answer = 42\n")

    assert mpremote("mount", "host", "+", "exec", "import mine; print(mine.answer)").splitlines()[-1] == "42"


def test_code_that_raises_is_reported(mpremote: Run) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError: divide by zero"):
        mpremote("exec", "1/0")
