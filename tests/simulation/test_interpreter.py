from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from belayd.simulation.interpreter import InterpreterMissing, find_interpreter


def version_of(command: tuple[str, ...]) -> str:
    code = "import sys; print(sys.implementation[0])"
    return subprocess.run([*command, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_packaged_interpreter_is_found_and_started_without_its_launcher(micropython_binary: str) -> None:
    found = find_interpreter(None)

    assert version_of(found.command) == "micropython\n"
    assert found.command[0] != micropython_binary


def test_a_configured_interpreter_is_taken_as_it_is(micropython_binary: str) -> None:
    assert find_interpreter(micropython_binary).command == (micropython_binary,)


@pytest.mark.parametrize("program", ["/bin/cat", "/bin/true", sys.executable], ids=["cat", "true", "CPython"])
def test_a_program_without_a_raw_repl_is_refused(program: str) -> None:
    with pytest.raises(InterpreterMissing, match="offers no raw REPL"):
        find_interpreter(program)


def test_a_program_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterpreterMissing, match="is not a program that can be run"):
        find_interpreter(str(tmp_path / "micropython"))


def test_a_host_without_any_interpreter_is_told_in_one_line_what_to_install() -> None:
    code = (
        "from belayd.simulation.interpreter import *\n"
        "try: find_interpreter(None)\n"
        "except InterpreterMissing as error: print(error)"
    )
    # No site packages, so no PyPI package; what is on PATH is no MicroPython.
    root = str(Path(__file__).resolve().parents[2])
    bare = {"PATH": "/nonexistent", "PYTHONPATH": root}
    python = str(Path(sys.executable).resolve())

    said = subprocess.run(
        [python, "-S", "-c", code], env=bare, capture_output=True, text=True, check=True
    ).stdout

    assert said.count("\n") == 1
    assert "pip install 'belayd[sim]'" in said


def test_the_program_says_so_and_ends_with_2_when_it_cannot_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "belayd.simulation", tmp_path, "--pty", "--micropython", "/bin/cat"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "offers no raw REPL" in done.stderr
