from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Simulated = Callable[..., Any]

PATIENCE = 30.0
BOOT = "print('boot ran')\nx = 1\n"
MAIN = "print('main ran')\n"
WRITE = {"1", "64"}  # the system call on x86-64, on 64-bit ARM
REBOOT = b"MPY: soft reboot\r\n"


def ends(pid: int) -> bool:
    """Wait for a process of others to end."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], PATIENCE)[0])
    finally:
        os.close(watched)


def test_a_board_starts_with_boot_main_and_the_friendly_prompt_and_nothing_else(simulated: Simulated) -> None:
    board = simulated(files={"boot.py": BOOT, "main.py": MAIN})

    shown = board.wire.until(b">>> ")

    assert re.fullmatch(
        rb'boot ran\nmain ran\nMicroPython \S+ on \S+; .+\r\nType "help\(\)" for more information\.\r\n>>> ',
        shown,
    )


def test_the_namespace_is_empty_but_for_what_the_scripts_left(simulated: Simulated) -> None:
    board = simulated(files={"boot.py": BOOT})
    board.wire.enter_raw()

    assert board.wire.run(b"print(sorted(n for n in dir() if not n.startswith('__')))") == b"['x']\n"
    assert board.wire.run(b"import sys; print(sys.argv, sys.path)") == b"[] ['', '.frozen', '/lib']\n"


@pytest.mark.parametrize(
    ("code", "before"),
    [
        (b"", b"OK\r\n"),
        (b"import sys; sys.exit()", b"OK\x04\x04"),
        (b"raise SystemExit", b"OK\x04\x04"),
        (b"import machine; machine.soft_reset()", b"OK\x04\x04"),
    ],
    ids=["end of text", "sys.exit", "SystemExit", "machine.soft_reset"],
)
def test_a_soft_reset_at_the_raw_prompt_runs_boot_only_and_returns_to_it(
    simulated: Simulated, code: bytes, before: bytes
) -> None:
    board = simulated(files={"boot.py": BOOT, "main.py": MAIN})
    board.wire.enter_raw()
    board.wire.run(b"y = 2")

    board.wire.send(code + b"\x04")
    shown = board.wire.until(board.wire.raw_prompt)

    assert shown == before + REBOOT + b"boot ran\n" + board.wire.raw_prompt
    assert board.wire.run(b"print(x); print(y)").startswith(b"1\nTraceback")
    assert board.wire.run(b"import machine; print(machine.reset_cause() == machine.SOFT_RESET)") == b"True\n"


def test_a_soft_reset_at_the_friendly_prompt_runs_both_scripts(simulated: Simulated) -> None:
    board = simulated(files={"boot.py": BOOT, "main.py": MAIN})
    board.wire.until(b">>> ")

    board.wire.send(b"\x04")
    shown = board.wire.until(b">>> ")

    assert shown.startswith(b"\r\n" + REBOOT + b"boot ran\nmain ran\nMicroPython ")


def test_the_prompt_after_many_soft_resets_is_the_one_before_each(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    for _ in range(5):
        board.wire.send(b"\x04")
        board.wire.until(REBOOT + board.wire.raw_prompt)
        board.wire.send(b"\x02")
        board.wire.until(b">>> ")
        board.wire.send(b"\x04")
        board.wire.until(REBOOT)
        board.wire.until(b">>> ")
        board.wire.send(b"\x01")
        board.wire.until(board.wire.raw_prompt)

    assert board.wire.run(b"print(1)") == b"1\n"


def test_input_sent_with_the_soft_reset_is_read_after_it(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    board.wire.send(b"\x04print(7)\x04")

    board.wire.until(board.wire.raw_prompt)
    assert board.wire.until(b"\x04>") == b"OK7\n\x04\x04>"


def test_a_failing_boot_shows_its_own_traceback_only_and_keeps_main_from_running(
    simulated: Simulated,
) -> None:
    board = simulated(files={"boot.py": "def f():\n    1/0\nf()\n", "main.py": MAIN})

    shown = board.wire.until(b"MicroPython")

    assert shown == (
        b"Traceback (most recent call last):\n"
        b'  File "boot.py", line 3, in <module>\n'
        b'  File "boot.py", line 2, in f\n'
        b"ZeroDivisionError: divide by zero\n"
        b"MicroPython"
    )


def test_a_main_that_exits_reboots_the_board(simulated: Simulated) -> None:
    board = simulated(
        files={"main.py": "import os, sys\nos.stat('once')\nos.remove('once')\nsys.exit()\n", "once": ""}
    )

    shown = board.wire.until(REBOOT)
    again = board.wire.until(b">>> ")

    assert shown == REBOOT
    assert b"OSError" in again  # main.py ran a second time


def test_main_reads_what_is_typed(simulated: Simulated) -> None:
    board = simulated(files={"main.py": "import sys\nprint('ready')\nprint(sys.stdin.buffer.read(3))\n"})
    board.wire.until(b"ready\n")

    board.wire.send(b"a\x01b")

    board.wire.until(b"b'a\\x01b'\n")


def test_a_hard_reset_takes_the_link_away_and_ends_the_program(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    board.wire.send(b"try:\n import machine; machine.reset()\nfinally:\n print('no')\x04")

    assert b"no" not in board.wire.until_gone()
    assert board.process.wait(PATIENCE) == 0


def test_a_killed_interpreter_is_a_crash_and_looks_like_unplugging(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"print('on')\nwhile True: pass\x04")
    board.wire.until(b"on\n")

    os.kill(board.interpreter, signal.SIGKILL)

    board.wire.until_gone()
    _, complaint = board.process.communicate(timeout=PATIENCE)
    assert complaint == b"the interpreter crashed or was killed (signal 9)\n"
    assert board.process.returncode == 1


def test_a_crash_shows_although_nobody_reads_the_output(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"while True: print('x' * 100)\x04")
    doing = Path(f"/proc/{board.interpreter}/syscall")
    looks = 0
    while looks < 5000:  # until it has waited for room for long
        looks = looks + 1 if doing.read_text().split()[0] in WRITE else 0

    os.kill(board.interpreter, signal.SIGKILL)

    assert board.process.wait(PATIENCE) == 1


@pytest.mark.parametrize("code", [b"", b"while True: pass\x04"], ids=["idle", "spinning"])
def test_no_interpreter_outlives_its_program(simulated: Simulated, code: bytes) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(code)
    interpreter = board.interpreter

    board.process.kill()

    assert ends(interpreter)


@pytest.mark.parametrize(
    "flood",
    [b"", b"#" * 5000, b"#" * 1_000_000],
    ids=["nothing unread", "some unread", "more unread than fits"],
)
def test_the_program_ends_when_the_far_end_of_its_link_is_closed(simulated: Simulated, flood: bytes) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"print('on')\nwhile True: pass\x04")
    board.wire.until(b"on\n")
    interpreter = board.interpreter
    while flood:
        try:
            flood = flood[os.write(board.wire.fd, flood) :]
        except BlockingIOError:
            break

    board.unplug()

    assert board.process.wait(PATIENCE) == 0
    assert ends(interpreter)


def test_the_interpreter_sees_nothing_of_the_environment(simulated: Simulated) -> None:
    board = simulated(environment={"BELAYD_TEST_SECRET": "seen"})
    board.wire.enter_raw()

    shown = board.wire.run(
        b"import os; print([os.getenv(n) for n in ('BELAYD_TEST_SECRET', 'PATH', 'HOME')])"
    )

    assert shown == b"[None, None, '/nonexistent']\n"


def test_a_megabyte_goes_out_and_comes_in_whole(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    board.wire.send(b"import sys\nfor i in range(1024): sys.stdout.buffer.write(bytes([i & 255]) * 1024)\x04")
    shown = board.wire.until(bytes([255]) * 1024 + b"\x04\x04>")

    assert shown == b"OK" + b"".join(bytes([i & 255]) * 1024 for i in range(1024)) + b"\x04\x04>"


def test_boards_have_their_own_identity(simulated: Simulated) -> None:
    code = b"import machine; print(machine.unique_id())"
    shown = []
    for options in ({"name": "one"}, {"name": "two"}):
        board = simulated(**options)
        board.wire.enter_raw()
        shown.append(board.wire.run(code))
    given = simulated("--unique-id", "0102ff", name="three")
    given.wire.enter_raw()

    assert shown[0] != shown[1]
    assert given.wire.run(code) == b"b'\\x01\\x02\\xff'\n"


def test_the_folder_is_the_boards_root_and_holds_only_its_files(simulated: Simulated) -> None:
    board = simulated(files={"boot.py": BOOT})
    board.wire.enter_raw()

    assert board.wire.run(
        b"import os; open('/a b.txt', 'w').write('hi'); print(os.getcwd(), os.listdir())"
    ) in (
        b"/ ['boot.py', 'a b.txt']\n",
        b"/ ['a b.txt', 'boot.py']\n",
    )
    assert (board.folder / "a b.txt").read_text() == "hi"


def test_a_board_without_memory_says_so_and_goes_on(simulated: Simulated) -> None:
    board = simulated("--heap", "64")
    board.wire.enter_raw()

    assert b"MemoryError" in board.wire.run(b"x = bytearray(100000)")
    assert board.wire.run(b"print(1)") == b"1\n"
