"""CircuitPython's words, fed whole, in halves and byte by byte.

Read in CircuitPython's documents and source, [R]: no board with it was at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from belayd.protocol.events import Ended, Entered, Event, Framed, Output
from belayd.protocol.rawrepl import RawRepl

TOKEN = b"\x1eT0kT0kT0k"
TITLE = b"\x1b]0;\xf0\x9f\x90\x8dWi-Fi: 10.0.0.7 | Done | 9.2.1\x1b\\"
BANNER = b"\r\nAdafruit CircuitPython 9.2.1 on 2024-11-20; Raspberry Pi Pico W with rp2040\r\n>>> "
RAW = b"raw REPL; CTRL-B to exit\r\n>"
AUTORELOAD = b"Auto-reload is on. Simply save files over USB to run them or enter REPL to disable.\r\n"
CODE = b"code.py output:\r\nhello\r\n"
INTERRUPTED = (
    b'Traceback (most recent call last):\r\n  File "code.py", line 3, in <module>\r\nKeyboardInterrupt: \r\n'
)
DONE = b"\r\nCode done running.\r\n"
STOPPED = b"\r\nCode stopped by auto-reload. Reloading soon.\r\n"
ANY_KEY = b"\r\nPress any key to enter the REPL. Use CTRL-D to reload.\r\n"
REBOOT = b"soft reboot\r\n"


def whole(data: bytes) -> list[bytes]:
    return [data]


def halves(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


every_cut = pytest.mark.parametrize("cut", [whole, halves, single_bytes], ids=lambda cut: cut.__name__)
Cut = Callable[[bytes], list[bytes]]


def feed(repl: RawRepl, data: bytes, cut: Cut) -> list[Event]:
    """Return what it means, neighbouring outputs joined."""
    events: list[Event] = []
    for part in cut(data):
        for event in repl.receive(part):
            if isinstance(event, Output) and events and isinstance(events[-1], Output):
                events[-1] = Output(events[-1].data + event.data)
            else:
                events.append(event)
    return events


@every_cut
@pytest.mark.parametrize(
    "before",
    [BANNER, TITLE + BANNER + TITLE, INTERRUPTED + DONE + ANY_KEY + BANNER, STOPPED + REBOOT + AUTORELOAD],
    ids=["after the key", "with titles", "code.py interrupted", "stopped by a reload"],
)
def test_the_raw_prompt_is_found_behind_all_that_comes_before_it(cut: Cut, before: bytes) -> None:
    repl = RawRepl()
    repl.enter()

    events = feed(repl, before + b"\r\n" + RAW, cut)

    assert events == [Output(before + b"\r\n"), Entered()]


@every_cut
def test_a_soft_reset_in_raw_mode_ends_at_the_raw_prompt(cut: Cut) -> None:
    repl = RawRepl()
    repl.restart()

    events = feed(repl, b"OK\r\n" + REBOOT + RAW, cut)

    assert events == [
        Output(b"OK\r\n" + REBOOT),
        Ended(framed=False, error=b"", restarted=True),
    ]


@every_cut
def test_exiting_the_interpreter_restarts_it(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)

    events = feed(repl, b"OK" + TOKEN + b"X()" + TOKEN + b"\x04\x04" + REBOOT + RAW, cut)

    assert events == [Framed(b"X", b"()"), Ended(framed=True, error=b"", restarted=True)]


@every_cut
@pytest.mark.parametrize("window", [32, 128, 256])
def test_raw_paste_keeps_to_the_window_that_the_board_tells(cut: Cut, window: int) -> None:
    repl = RawRepl()
    source = b"#" * (4 * window)
    repl.paste(source, TOKEN)
    assert repl.bytes_to_send() == b"\x05A\x01"

    sent = []
    for answer in (b"R\x01" + window.to_bytes(2, "little") + b"\x01", b"\x01", b"\x01\x01"):
        assert feed(repl, answer, cut) == []
        sent.append(repl.bytes_to_send())

    assert [len(part) for part in sent] == [2 * window - 6, window, window + 7]
    assert b"".join(sent) == source + b"\x04"
    assert repl.window_bytes == window


@every_cut
@pytest.mark.parametrize("title", [b"", TITLE], ids=["plain", "with a title behind it"])
def test_a_board_that_ran_code_py_again_is_suspect_and_wants_a_key_first(cut: Cut, title: bytes) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)

    said = b"OK" + REBOOT + AUTORELOAD + TITLE + CODE + DONE + ANY_KEY + title
    events = feed(repl, said, cut)

    assert events == [Output(said[2:])]
    assert repl.suspect
    assert repl.suspect_friendly
    assert repl.key == b"\r"


@every_cut
def test_a_friendly_prompt_needs_no_key(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)

    feed(repl, b"OK" + REBOOT + BANNER + TITLE, cut)

    assert repl.suspect_friendly
    assert repl.key == b""


@every_cut
def test_words_about_a_key_that_go_on_are_output(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)

    feed(repl, b"OK" + ANY_KEY + b"as they say", cut)

    assert not repl.suspect
    assert repl.key == b""


@every_cut
def test_code_that_a_reload_stopped_is_not_at_a_prompt_yet(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)

    feed(repl, b"OK" + CODE + STOPPED, cut)

    assert not repl.suspect
