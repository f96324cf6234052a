"""The checkers agree: ruff, mypy and buf have nothing to say."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))  # those of the interpreter that runs the tests

CHECKS = {
    "ruff check": ["ruff", "check", "--quiet", "."],
    "ruff format": ["ruff", "format", "--check", "--quiet", "."],
    "mypy": ["mypy", "--strict", "--no-error-summary"],
    "buf lint": ["buf", "lint", "proto"],
    "buf format": ["buf", "format", "--diff", "--exit-code", "proto"],
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS.keys())
def test_the_checker_is_silent(root: Path, tmp_path: Path, command: list[str]) -> None:
    environment = {**os.environ, "NO_COLOR": "1", "BUF_CACHE_DIR": str(tmp_path)}

    done = subprocess.run(
        [SCRIPTS / command[0], *command[1:]], cwd=root, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
