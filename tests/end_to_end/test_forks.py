"""A program that forks while it has a board: the board stays the first process's, and the second is told so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PATIENCE = 30.0
PROGRAM = """\
import os, sys
from belayd_client import Device

with Device(f"{sys.argv[1]}/sim-1") as device:

    @device.task
    def add(a, b):
        return a + b

    for n in range(4):  # by a stream from the third on
        add(n, 1)
    child = os.fork()
    if child == 0:
        try:
            add(1, 2)
        except RuntimeError as error:
            print(error, flush=True)
        sys.exit(7)  # through the with block and what is to be done at exit
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    print(add(1, 2))
"""


@pytest.fixture(scope="module")
def lab(shared_daemon: Callable, sim: dict):
    return shared_daemon({"sim-1": sim})


def test_a_fork_leaves_the_board_to_its_holder_and_hangs_nowhere(lab, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)  # a file, since tasks are found by their source
    program = subprocess.run(
        [sys.executable, tmp_path / "program.py", lab.address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert program.returncode == 0, program.stderr
    told, result = program.stdout.splitlines()
    assert "forked" in told
    assert "make another here" in told
    assert result == "3"
