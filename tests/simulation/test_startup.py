from __future__ import annotations

import pytest

from belayd.simulation.mode import ReplMode
from belayd.simulation.startup import Stage, Startup

TOKEN = b"\x1e0123\x1e"
BANNER = b"MicroPython v1\r\n>>> "
RAW = b"raw REPL; CTRL-B to exit\r\n>"


def feed(startup: Startup, data: bytes, size: int) -> bytes:
    return b"".join(startup.receive(data[at : at + size]) for at in range(0, len(data), size))


sizes = pytest.mark.parametrize("size", [1, 3, 1000], ids=["byte by byte", "in threes", "whole"])


@sizes
def test_a_friendly_start_shows_scripts_and_banner_only(size: int) -> None:
    startup = Startup(ReplMode.FRIENDLY, TOKEN)

    shown = feed(startup, b"noise" + TOKEN + b"boot\x1e\x1e01\n" + TOKEN + BANNER, size)

    assert shown == b"boot\x1e\x1e01\n" + BANNER
    assert startup.stage is Stage.RUNNING


@sizes
def test_a_raw_start_hides_the_friendly_banner(size: int) -> None:
    startup = Startup(ReplMode.RAW, TOKEN)

    shown = feed(startup, TOKEN + b"boot\n" + TOKEN + BANNER, size)
    entering = startup.stage
    shown += feed(startup, b"\r\n" + RAW, size)

    assert shown == b"boot\n" + RAW
    assert entering is Stage.ENTERING_RAW
    assert startup.stage is Stage.RUNNING


@sizes
def test_what_a_failing_interpreter_says_is_kept(size: int) -> None:
    startup = Startup(ReplMode.FRIENDLY, TOKEN)

    assert feed(startup, b"no such file", size) == b""
    assert startup.noise == b"no such file"
    assert startup.stage is Stage.LOADING


def test_output_of_a_running_board_is_not_touched() -> None:
    startup = Startup(ReplMode.FRIENDLY, TOKEN)
    startup.receive(TOKEN + TOKEN)

    assert startup.receive(TOKEN + RAW) == TOKEN + RAW
