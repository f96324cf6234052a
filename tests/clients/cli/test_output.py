from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest

from belayd_client.board import Board, BoardState
from belayd_client.cli.output import (
    LONGEST_LINE,
    PipeSink,
    PrefixedSink,
    RawSink,
    TerminalSink,
    neutral,
    one_line,
    print_json,
    print_table,
    spell_duration,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\r\n", "plain\ttext\r\n"),
        ("é 漢 😀", "é 漢 😀"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x08b\x7f\x00", "a\\x08b\\x7f\\x00"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
    ],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert neutral(text) == shown


def test_a_cell_is_one_line() -> None:
    assert one_line("a\nb\r\x1b[2Jc") == "a\\nb\\r\\x1b[2Jc"


def feed(sink, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        sink.write(data[start : start + size])
    sink.close()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_terminal_is_shown_text_whose_characters_were_split(size: int, capsys) -> None:
    feed(TerminalSink(), "21 °C\x1b[2J\n漢".encode() + b"\xff\xe6", size)

    assert capsys.readouterr().out == "21 °C\\x1b[2J\n漢\\xff\\xe6"


@pytest.mark.parametrize("size", [1, 7])
def test_a_pipe_is_given_every_byte_but_the_repls_line_ends(size: int, capfdbinary) -> None:
    feed(PipeSink(), bytes(range(256)) + b"\r\n\n\r\r\n50%\r", size)

    assert capfdbinary.readouterr().out == bytes(range(256)) + b"\n\n\r\n50%\r"


def test_raw_is_every_byte(capfdbinary) -> None:
    feed(RawSink(), b"a\r\n\x1b", 1)

    assert capfdbinary.readouterr().out == b"a\r\n\x1b"


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_lines_of_several_boards_bear_their_names(size: int, capfdbinary) -> None:
    feed(PrefixedSink("b | ", threading.Lock(), raw=False), b"one\r\n\ntwo\x1b[2J", size)

    assert capfdbinary.readouterr().out == b"b | one\nb | \nb | two\\x1b[2J\n"


def test_a_line_without_an_end_is_written_in_parts(capfdbinary) -> None:
    sink = PrefixedSink("b | ", threading.Lock(), raw=True)

    sink.write(b"x" * (LONGEST_LINE * 2 + 5))
    before = capfdbinary.readouterr().out
    sink.close()

    assert before == (b"b | " + b"x" * LONGEST_LINE + b"\n") * 2
    assert capfdbinary.readouterr().out == b"b | xxxxx\n"


def test_a_table_is_aligned_and_neutral(capsys) -> None:
    print_table(("A", "LONGER"), [("x\x1b[2J", "1"), ("yy", "2")], empty="none")

    assert capsys.readouterr().out == "A         LONGER\nx\\x1b[2J  1\nyy        2\n"


def test_an_empty_table_says_so_on_stderr(capsys) -> None:
    print_table(("A",), [], empty="nothing here")

    assert capsys.readouterr() == ("", "belayctl: nothing here\n")


def test_json_carries_dataclasses_times_and_enums(capsys) -> None:
    board = Board(
        name="b",
        state=BoardState.READY,
        state_reason="",
        version=1,
        labels={"chip": "rp2"},
        transport="usb",
        address="",
        facts=None,
        lease=None,
        queue_length=0,
        lease_queue_length=0,
        last_seen=datetime(2026, 11, 22, 10, tzinfo=UTC),
    )

    print_json([board])

    (read,) = json.loads(capsys.readouterr().out)
    assert (read["state"], read["labels"]) == ("ready", {"chip": "rp2"})
    assert read["last_seen"] == "2026-11-22T10:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0304, "30ms"),
        (5, "5s"),
        (5.25, "5.2s"),
        (60, "1m"),
        (600, "10m"),
        (5400, "1h30m"),
        (3661, "1h1m1s"),
    ],
)
def test_a_duration_is_spelled(seconds: float, text: str) -> None:
    assert spell_duration(seconds) == text
