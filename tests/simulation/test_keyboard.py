from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Simulated = Callable[..., Any]

INTERRUPTED = b"KeyboardInterrupt: \n"


@pytest.mark.parametrize(
    "code",
    [
        b"while True: pass",
        b"while True: x = [i for i in range(50)]",
        b"while True: x = {str(i): i for i in range(50)}",
        b"while True: eval('1 + 2')",
        b"import gc\nwhile True: gc.collect()",
        b"while True: print('x' * 100)",
        b"import time\nwhile True: time.sleep(10)",
        b"import sys; sys.stdin.read(5)",
        b"sum(range(10 ** 12))",
    ],
    ids=[
        "spinning",
        "allocating",
        "interning",
        "compiling",
        "collecting",
        "printing",
        "sleeping",
        "reading",
        "in one long call",
    ],
)
def test_ctrl_c_stops_code_again_and_again_and_the_next_code_runs(simulated: Simulated, code: bytes) -> None:
    board = simulated()
    board.wire.enter_raw()

    for number in range(200):
        board.wire.send(b"print('o' + 'n')\n" + code + b"\x04")
        board.wire.until(b"on\n")
        board.wire.send(b"\x03")
        assert board.wire.until(b"\x04>").endswith(INTERRUPTED + b"\x04>"), number
        assert board.wire.run(b"print([%d] * 2)" % number) == b"[%d, %d]\n" % (number, number)


def test_a_burst_of_ctrl_c_stops_code_and_harms_nothing(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    for _ in range(50):
        board.wire.send(b"print('o' + 'n')\nwhile True: pass\x04")
        board.wire.until(b"on\n")
        board.wire.send(b"\x03\x03\x03")
        assert board.wire.until(b"\x04>").endswith(INTERRUPTED + b"\x04>")
        assert board.wire.run(b"print(1)") == b"1\n"


def test_code_that_catches_ctrl_c_goes_on(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(
        b"try:\n print('o' + 'n')\n while True: pass\nexcept KeyboardInterrupt: print('caught')\x04"
    )
    board.wire.until(b"on\n")

    board.wire.send(b"\x03")

    assert board.wire.until(b"\x04>") == b"caught\n\x04\x04>"


def test_ctrl_c_at_the_very_end_of_code_never_ends_the_board(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    for _ in range(300):
        board.wire.send(b"for i in range(300): pass\x04")
        board.wire.send(b"\x03")
        board.wire.until(b"\x04>")
        board.wire.send(b"\x03")
        assert board.wire.run(b"print(1)") == b"1\n"


def test_ctrl_c_at_the_friendly_prompt_clears_the_line(simulated: Simulated) -> None:
    board = simulated()
    board.wire.until(b">>> ")

    board.wire.send(b"abc\x03")

    assert board.wire.until(b">>> ") == b"abc\r\n>>> "
    board.wire.send(b"1+1\r")
    assert board.wire.until(b">>> ") == b"1+1\r\n2\n>>> "


def test_ctrl_c_at_the_raw_prompt_clears_the_line_silently(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    board.wire.send(b"nonsense\x03")

    assert board.wire.run(b"print(1)") == b"1\n"


def test_ctrl_c_aborts_a_raw_paste(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"\x05A\x01")
    board.wire.until(b"R\x01\x80\x00\x01")

    board.wire.send(b"print(1)\x03")

    assert board.wire.until(b"\x04>") == b"\x04\x04KeyboardInterrupt: \n\x04>"


def test_ctrl_c_is_data_where_the_code_wants_it_to_be(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(
        b"import micropython, sys\nmicropython.kbd_intr(-1)\nprint('o' + 'n')\nprint(sys.stdin.buffer.read(3))\x04"
    )
    board.wire.until(b"on\n")

    board.wire.send(b"a\x03b")

    assert board.wire.until(b"\x04>") == b"b'a\\x03b'\n\x04\x04>"


def test_ctrl_c_that_code_left_unread_clears_the_next_line(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(
        b"import micropython, time\nmicropython.kbd_intr(-1)\nprint('o' + 'n')\ntime.sleep(0.2)\x04"
    )
    board.wire.until(b"on\n")

    board.wire.send(b"abc\x03print(5)\x04")

    assert board.wire.until(b"\x04>") == b"\x04\x04>"
    assert board.wire.until(b"\x04>") == b"OK5\n\x04\x04>"


def test_ctrl_c_overtakes_input_that_the_code_does_not_read(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"print('o' + 'n')\nwhile True: pass\x04")
    board.wire.until(b"on\n")

    board.wire.send(b"print(6)\x04\x03")

    assert board.wire.until(b"\x04>").endswith(INTERRUPTED + b"\x04>")
    assert board.wire.until(b"\x04>") == b"OK6\n\x04\x04>"


def test_ctrl_c_overtakes_more_input_than_the_board_can_hold(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(b"print('o' + 'n')\nwhile True: pass\x04")
    board.wire.until(b"on\n")

    board.wire.send(b"#" * 80000 + b"\x03")

    assert board.wire.until(b"\x04>").endswith(INTERRUPTED + b"\x04>")
    board.wire.send(b"\x03")
    assert board.wire.run(b"print(1)") == b"1\n"


def test_ctrl_c_waits_for_the_code_that_was_sent_before_it(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()

    board.wire.send(b"a = 1\x04" * 100 + b"import sys\nsys.stdin.buffer.read(1)\nwhile True: pass\x04!\x03")

    for _ in range(100):
        assert board.wire.until(b"\x04>") == b"OK\x04\x04>"
    assert board.wire.until(b"\x04>").endswith(INTERRUPTED + b"\x04>")


@pytest.mark.parametrize("script", ["boot.py", "main.py"])
def test_ctrl_c_stops_a_script_and_brings_the_prompt(simulated: Simulated, script: str) -> None:
    board = simulated(files={script: "print('on')\nwhile True: pass\n"})
    board.wire.until(b"on\n")

    board.wire.send(b"\x03")

    shown = board.wire.until(b">>> ")
    assert shown.startswith(b'Traceback (most recent call last):\n  File "%s", line ' % script.encode())
    assert INTERRUPTED in shown


def test_ctrl_c_stops_a_boot_that_a_soft_reset_at_the_raw_prompt_started(simulated: Simulated) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.run(b"f = open('boot.py', 'w'); f.write('print(\"on\")\\nwhile True: pass\\n'); f.close()")
    board.wire.send(b"\x04")
    board.wire.until(b"on\n")

    board.wire.send(b"\x03")

    assert INTERRUPTED in board.wire.until(board.wire.raw_prompt)
    assert board.wire.run(b"print(1)") == b"1\n"


@pytest.mark.parametrize("unread", [1, 60000], ids=["one byte", "a full board"])
def test_interrupts_stop_no_bytes_on_their_way(simulated: Simulated, unread: int) -> None:
    board = simulated()
    board.wire.enter_raw()
    board.wire.send(
        b"import sys, time\nprint('o' + 'n')\ntry:\n time.sleep(60)\nexcept KeyboardInterrupt:\n pass\n"
        b"n = 0\nwhile n < %d: n += len(sys.stdin.buffer.read(1))\nprint(n)\x04" % unread
    )
    board.wire.until(b"on\n")

    board.wire.send(b"z" * unread)
    board.wire.send(b"\x03")

    assert board.wire.until(b"\x04>") == b"%d\n\x04\x04>" % unread
