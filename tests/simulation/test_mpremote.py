"""The official tool, unchanged, takes a simulated board for a board."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pexpect
import pytest

Run = Callable[..., str]
PATIENCE = 30.0  # seconds
PROMPT = ">>> "
CTRL_C, CTRL_D, CTRL_RIGHT_BRACKET = "\x03", "\x04", "\x1d"


def command(path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mpremote", "connect", str(path), *arguments]


@pytest.fixture
def mpremote_on(tmp_path: Path) -> Callable[[Path], Run]:
    """What runs mpremote on the board at a path, in tmp_path."""

    def bind(path: Path) -> Run:
        def run(*arguments: str) -> str:
            # Unbuffered, since it prints its own lines as text and the board's as bytes.
            done = subprocess.run(
                command(path, *arguments),
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        return run

    return bind


@pytest.fixture
def mpremote(simulated_pty: Callable[..., Any], mpremote_on: Callable[[Path], Run]) -> Run:
    return mpremote_on(simulated_pty("board", files={"boot.py": "booted = True\n"}).path)


@pytest.fixture
def terminal(simulated_pty: Callable[..., Any]) -> Iterator[Callable[..., pexpect.spawn[str]]]:
    """A factory of `mpremote repl` on a new board with these files, at a terminal of its own."""
    with ExitStack() as stack:

        def start(files: dict[str, str] | None = None) -> pexpect.spawn[str]:
            program, *words = command(simulated_pty("board", files=files).path, "repl")
            child = pexpect.spawn(program, words, timeout=PATIENCE, encoding="utf-8")
            stack.callback(child.close, force=True)
            child.expect("Use Ctrl-] or Ctrl-x to exit this shell")
            return child

        yield start


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub" / "deep").mkdir(parents=True)
    (tree / "a.py").write_text("x = 1\n")
    (tree / "sub" / "it's é.txt").write_text("quoted")
    (tree / "sub" / "deep" / "c.bin").write_bytes(bytes(range(256)) * 12)
    return tree


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_it_runs_code_by_a_ptys_own_name_too(
    simulated_pty: Callable[..., Any], mpremote_on: Callable[[Path], Run]
) -> None:
    # Under /dev/pts it reads in another way than at any other path.
    path = simulated_pty("board").path.readlink()
    assert path.is_relative_to("/dev/pts")

    assert mpremote_on(path)("exec", "for i in range(300): print(i)") == "".join(f"{i}\n" for i in range(300))


def test_it_copies_folders_there_and_back_and_sends_nothing_twice(
    mpremote: Run, tree: Path, tmp_path: Path
) -> None:
    mpremote("cp", "-r", "tree", ":")
    again = mpremote("cp", "-r", "tree", ":")
    mpremote("cp", "-r", ":tree", "back")

    assert files_in(tmp_path / "board" / "tree") == files_in(tree)
    assert files_in(tmp_path / "back") == files_in(tree)
    assert again.count("Up to date") == 3


@pytest.mark.parametrize("options", [(), ("--flash", "512")], ids=["folder", "littlefs"])
def test_it_looks_after_files(
    simulated_pty: Callable[..., Any],
    mpremote_on: Callable[[Path], Run],
    tree: Path,
    options: tuple[str, ...],
) -> None:
    mpremote = mpremote_on(simulated_pty("board", *options).path)
    digest = hashlib.sha256((tree / "sub" / "deep" / "c.bin").read_bytes()).hexdigest()
    mpremote("cp", "-r", "tree", ":")

    assert mpremote("cat", ":tree/a.py") == "x = 1\n"
    assert mpremote("sha256sum", ":tree/sub/deep/c.bin").splitlines()[-1] == digest
    assert "it's é.txt" in mpremote("ls", ":tree/sub")
    assert "c.bin" in mpremote("tree", ":")
    assert "more" in mpremote("mkdir", ":more", "+", "touch", ":more/empty", "+", "ls")
    assert "empty" in mpremote("ls", ":more")
    assert (
        mpremote("rm", ":more/empty", "+", "rmdir", ":more", "+", "ls").splitlines()[-1].split()[1] == "tree/"
    )
    assert mpremote("rm", "-r", ":tree", "+", "ls").splitlines()[-1] == "ls :"


def test_a_littlefs_has_sizes_and_an_end(
    simulated_pty: Callable[..., Any], mpremote_on: Callable[[Path], Run], tmp_path: Path
) -> None:
    mpremote = mpremote_on(simulated_pty("board", "--flash", "64").path)
    (tmp_path / "some.bin").write_bytes(bytes(5000))
    (tmp_path / "large.bin").write_bytes(bytes(70_000))

    assert mpremote("cp", "some.bin", ":", "+", "ls").splitlines()[-1].split() == ["5000", "some.bin"]
    _, size, used, free, *_ = mpremote("df").splitlines()[-1].split()
    assert (int(size), int(used) + int(free)) == (65536, 65536)
    assert int(used) >= 5000
    with pytest.raises(AssertionError, match=r"No space left|ENOSPC|Errno 28"):
        mpremote("cp", "large.bin", ":")


def test_a_file_that_is_not_there_is_reported(mpremote: Run) -> None:
    with pytest.raises(AssertionError, match="rm: nothere: No such file or directory"):
        mpremote("rm", ":nothere")


def test_names_stay_from_one_call_to_the_next_only_with_resume(mpremote: Run) -> None:
    mpremote("exec", "kept = 42")

    assert mpremote("resume", "eval", "kept") == "42\n"
    assert mpremote("exec", "print('kept' in dir())") == "False\n"


def test_a_program_that_it_does_not_follow_runs_on(mpremote: Run, tmp_path: Path) -> None:
    mpremote(
        "exec", "--no-follow", "import time\nwhile 'go' not in __import__('os').listdir(): time.sleep(0.01)"
    )
    (tmp_path / "board" / "go").touch()

    assert mpremote("resume", "eval", "'time' in dir()") == "True\n"


def test_it_resets_the_chip_and_finds_the_board_again(
    simulated_pty: Callable[..., Any], mpremote_on: Callable[[Path], Run]
) -> None:
    board = simulated_pty("board")
    mpremote = mpremote_on(board.path)

    mpremote("exec", "open('kept', 'w').close()", "+", "resume", "reset")
    # It has not waited for what it asked for; the board tells when it has its pty again.
    assert select.select([board.process.stdout], [], [], PATIENCE)[0]
    assert board.process.stdout.readline().startswith(b"/dev/")

    assert mpremote("eval", "__import__('os').listdir('/')") == "['kept']\n"


def test_a_mounted_folder_is_read_written_and_gone_after_a_soft_reset(mpremote: Run, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "blob").write_bytes(bytes(range(256)) * 30)
    code = "import os; d = open('blob', 'rb').read(); open('copy', 'wb').write(d); print(os.getcwd(), len(d))"

    shown = mpremote("mount", "host", "+", "exec", code)
    listed = mpremote("exec", "import os; print(os.listdir('/'))")

    assert shown.splitlines()[-1] == "/remote 7680"
    assert (tmp_path / "host" / "copy").read_bytes() == bytes(range(256)) * 30
    assert listed == "['boot.py']\n"


def test_its_terminal_speaks_with_the_prompt(terminal: Callable[..., pexpect.spawn[str]]) -> None:
    child = terminal()
    child.send("\r")
    child.expect_exact(PROMPT)
    child.send("6 * 7\r")
    child.expect_exact("42")
    child.expect_exact(PROMPT)
    child.send(CTRL_RIGHT_BRACKET)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_at_its_terminal_ends_a_program_and_nothing_else(
    terminal: Callable[..., pexpect.spawn[str]],
) -> None:
    child = terminal()
    child.send("\r")
    child.expect_exact(PROMPT)
    child.send("kept = 40\r")
    child.expect_exact(PROMPT)
    for _ in range(3):
        child.send("while True: print('go', end='!')\r\r")
        child.expect_exact("go!go!")
        child.send(CTRL_C)
        child.expect_exact("KeyboardInterrupt")
        child.expect_exact(PROMPT)
    child.send("kept + 2\r")
    child.expect_exact("42")


def test_ctrl_c_and_ctrl_d_at_its_terminal_end_and_restart_a_boards_own_program(
    terminal: Callable[..., pexpect.spawn[str]],
) -> None:
    child = terminal({"main.py": "import time\nprint('main begins')\nwhile True: time.sleep(1)\n"})
    child.send(CTRL_C)
    child.expect_exact("KeyboardInterrupt")
    child.expect_exact(PROMPT)
    child.send(CTRL_D)
    child.expect_exact("soft reboot")
    child.expect_exact("main begins")
    child.send(CTRL_C)
    child.expect_exact(PROMPT)


def test_it_interrupts_a_boards_own_program_to_run_code(
    simulated_pty: Callable[..., Any], mpremote_on: Callable[[Path], Run]
) -> None:
    board = simulated_pty("board", files={"main.py": "while True: pass\n"})

    assert mpremote_on(board.path)("eval", "6 * 7") == "42\n"
