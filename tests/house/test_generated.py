"""What is generated is what its source says, byte for byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path("belayd/v1")


@pytest.fixture(scope="module")
def tools(root: Path) -> Path:
    """The scripts of the generator's own environment, set up if it is not there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", "--silent", ".venv-proto/.ready"], cwd=root, env=environment, check=True)
    return root / ".venv-proto" / "bin"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.timeout(600)
def test_regenerating_from_the_protos_changes_nothing(root: Path, tools: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    subprocess.run([tools / "python", root / "proto" / "generate.py", tmp_path], env=environment, check=True)

    committed, generated = contents(root / PACKAGE), contents(tmp_path / PACKAGE)
    assert sorted(committed) == sorted(generated)
    assert [name for name in generated if committed[name] != generated[name]] == []
