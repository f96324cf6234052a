"""The raw REPL core, fed with what real boards said: whole, in halves and byte by byte."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belayd.protocol.events import Ended, Entered, Event, Framed, Output, PasteRefused
from belayd.protocol.rawrepl import ProtocolError, RawRepl

OBSERVED = Path(__file__).parent / "transcripts" / "observed.txt"
TOKEN = b"\x1eT0k"


def whole(data: bytes) -> list[bytes]:
    return [data]


def halves(data: bytes) -> list[bytes]:
    middle = len(data) // 2
    return [part for part in (data[:middle], data[middle:]) if part]


def single_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


CUTS = [whole, halves, single_bytes]
every_cut = pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
Cut = Callable[[bytes], list[bytes]]


def merged(events: list[Event]) -> list[Event]:
    """Join neighbouring outputs: where output is cut says nothing."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, Output) and result and isinstance(result[-1], Output):
            result[-1] = Output(result[-1].data + event.data)
        else:
            result.append(event)
    return result


def feed(repl: RawRepl, data: bytes, cut: Cut) -> list[Event]:
    return merged([event for part in cut(data) for event in repl.receive(part)])


def ended(error: bytes = b"", *, framed: bool = False, restarted: bool = False) -> Ended:
    return Ended(framed=framed, error=error, restarted=restarted)


def transcripts() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield (label, sent, answered) of each exchange that was recorded whole."""
    board = label = ""
    for line in OBSERVED.read_text("ascii").splitlines():
        if line.startswith("=="):
            board = line.strip("= ")
            continue
        parted = re.fullmatch(r"  (.{34}) (b(['\"]).*\3) -> (b(['\"]).*\5)", line)
        if parted:
            label = parted[1].strip() or label
            yield f"{board}: {label}", ast.literal_eval(parted[2]), ast.literal_eval(parted[4])


EXECUTIONS = [
    pytest.param(sent, answered, id=label)
    for label, sent, answered in transcripts()
    if sent.endswith(b"\x04") and answered.startswith(b"OK") and answered.endswith(b"\x04>")
    # What prints the framing's own bytes cannot be read without a token: tests of their own.
    if b"\\x04" not in sent
]


@every_cut
@pytest.mark.parametrize(("sent", "answered"), EXECUTIONS)
def test_an_observed_execution_is_read_to_its_prompt(cut: Cut, sent: bytes, answered: bytes) -> None:
    repl = RawRepl()
    repl.execute(sent[:-1])
    assert repl.bytes_to_send() == sent
    events = feed(repl, answered, cut)
    output, _, rest = answered[2:].partition(b"\x04")
    error = rest.removesuffix(b"\x04>")
    assert events == [*([Output(output)] if output else []), ended(error)]
    assert not repl.open


def test_enough_executions_were_observed_to_mean_something() -> None:
    assert len(EXECUTIONS) > 25


@every_cut
@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        pytest.param(
            b"OK" + TOKEN + b"V3" + TOKEN + b"\x04\x04>",
            [Framed(b"V", b"3"), ended(framed=True)],
            id="a value",
        ),
        pytest.param(
            b"OKa\x04b\x04\x04>\r\n" + TOKEN + b"N" + TOKEN + b"\x04\x04>",
            [Output(b"a\x04b\x04\x04>\r\n"), Framed(b"N", b""), ended(framed=True)],
            id="prints what ends an execution",
        ),
        pytest.param(
            b"OK\x04Traceback\x04>no\r\n" + TOKEN + b"N" + TOKEN + b"\x04\x04>",
            [Output(b"\x04Traceback\x04>no\r\n"), Framed(b"N", b""), ended(framed=True)],
            id="prints what a command that never started answers",
        ),
        pytest.param(
            b"OK" + TOKEN[:3] + b"x" + TOKEN + b"N" + TOKEN + b"\x04\x04>",
            [Output(TOKEN[:3] + b"x"), Framed(b"N", b""), ended(framed=True)],
            id="prints the beginning of the token",
        ),
        pytest.param(
            b"OK" + TOKEN + b"ETraceback\x04>\r\n" + TOKEN + b"bg\r\n\x04\x04>",
            [Framed(b"E", b"Traceback\x04>\r\n"), Output(b"bg\r\n"), ended(framed=True)],
            id="raises with a prompt in its text while a thread prints",
        ),
        pytest.param(
            b"OK" + TOKEN + b"X()" + TOKEN + b"\x04\x04MPY: soft reboot\r\nbooted\r\n"
            b"raw REPL; CTRL-B to exit\r\n>",
            [Framed(b"X", b"()"), Output(b"booted\r\n"), ended(framed=True, restarted=True)],
            id="exits and boots",
        ),
        pytest.param(
            b"OK" + TOKEN + b"X()" + TOKEN + b"\x04\x04raw REPL; CTRL-B to exit\r\n>",
            [Framed(b"X", b"()"), ended(framed=True, restarted=True)],
            id="exits without a word",
        ),
        pytest.param(
            b"OK" + TOKEN + b"N" + TOKEN + b"\x04\x04bg 1\r\n>",
            [Framed(b"N", b""), Output(b"bg 1\r\n"), ended(framed=True)],
            id="a thread prints before the prompt",
        ),
        pytest.param(
            b"OK" + TOKEN + b"N" + TOKEN + b"\x04bg 1\r\n\x04>",
            [Framed(b"N", b""), Output(b"bg 1\r\n"), ended(framed=True)],
            id="a thread prints where errors stand",
        ),
        pytest.param(
            b"bg 5\r\nOKhi" + TOKEN + b"N" + TOKEN + b"\x04\x04>",
            [Output(b"bg 5\r\nhi"), Framed(b"N", b""), ended(framed=True)],
            id="a thread prints before the answer",
        ),
    ],
)
def test_nothing_but_the_token_ends_output(cut: Cut, answered: bytes, expected: list[Event]) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    repl.bytes_to_send()
    assert feed(repl, answered, cut) == expected
    assert not repl.open


@every_cut
def test_a_command_that_never_started_is_suspect_and_concedes_its_traceback(cut: Cut) -> None:
    traceback = (
        b'Traceback (most recent call last):\r\n  File "<stdin>", line 1\r\nSyntaxError: invalid syntax\r\n'
    )
    repl = RawRepl()
    repl.execute(b"x x", TOKEN)
    assert feed(repl, b"OK\x04" + traceback + b"\x04>", cut) == []
    assert repl.suspect
    assert not repl.suspect_friendly
    assert repl.concede() == ended(traceback)
    assert not repl.open


@every_cut
def test_a_board_that_starts_anew_is_suspect(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    boot = b'OK\x00MicroPython v1.9.2 on 2017-09-01\r\nType "help()" for more information.\r\n>>> '
    assert feed(repl, boot, cut) == [Output(boot[2:])]
    assert repl.suspect_friendly
    assert repl.concede() == ended(restarted=True)


@every_cut
def test_a_thread_that_prints_afterwards_does_not_hide_a_command_that_never_started(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"x x", TOKEN)
    assert feed(repl, b"OK\x04SyntaxError\r\n\x04>tick\r\ntick\r\n", cut) == []
    assert repl.unstarted
    assert repl.concede() == ended(b"SyntaxError\r\n")


@every_cut
def test_a_thread_that_prints_all_the_time_does_not_hide_a_command_that_never_started(cut: Cut) -> None:
    repl = RawRepl()
    repl.execute(b"x x", TOKEN)
    assert feed(repl, b"~OK~\x04Syntax~Error\r\n\x04~>~~", cut) == [Output(b"~~")]
    assert repl.suspect
    assert repl.concede() == ended(b"Syntax~Error\r\n")


def test_a_value_without_end_is_an_error_before_it_fills_the_memory() -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    repl.receive(b"OK" + TOKEN + b"V")
    with pytest.raises(ProtocolError, match="8 MiB"):
        for _ in range(100):
            repl.receive(b"x" * (1 << 20))


@every_cut
def test_after_an_interrupt_nothing_of_a_paste_is_sent(cut: Cut) -> None:
    repl = RawRepl()
    repl.paste(b"#" * 1000)
    repl.bytes_to_send()
    feed(repl, b"R\x01\x80\x00\x01", cut)
    repl.bytes_to_send()
    repl.stop_sending()
    assert feed(repl, b"\x01\x01\x01", cut) == []
    assert repl.bytes_to_send() == b""


def test_output_that_goes_on_is_not_suspect() -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    repl.receive(b"OKdone\x04\x04>")
    assert repl.suspect
    repl.receive(b" and on")
    assert not repl.suspect


@every_cut
def test_the_banner_is_found_behind_what_the_board_prints(cut: Cut) -> None:
    repl = RawRepl()
    repl.enter()
    assert repl.bytes_to_send() == b"\x01"
    before = b"Traceback (most recent call last):\r\nKeyboardInterrupt: \r\n\r\nMicroPython v1.29\r\n>>> \r\n"
    events = feed(repl, before + b"raw REPL; CTRL-B to exit\r\n>", cut)
    assert events == [Output(before), Entered()]


@every_cut
def test_raw_paste_sends_no_more_than_the_board_has_room_for(cut: Cut) -> None:
    repl = RawRepl()
    source = b"#" * 300 + b"\n"
    repl.paste(source, TOKEN)
    assert repl.bytes_to_send() == b"\x05A\x01"
    sent = []
    for answer in (b"R\x01\x80\x00\x01", b"\x01", b"\x01\x01"):
        assert feed(repl, answer, cut) == []
        sent.append(repl.bytes_to_send())
    assert [len(part) for part in sent] == [250, 52, 0]
    assert b"".join(sent) == source + b"\x04"
    events = feed(repl, b"\x04" + TOKEN + b"N" + TOKEN + b"\x04\x04>", cut)
    assert events == [Framed(b"N", b""), ended(framed=True)]


@every_cut
def test_raw_paste_answers_a_board_that_stops_reading_early(cut: Cut) -> None:
    repl = RawRepl()
    repl.paste(b"x x x\n" + b"#" * 500)
    repl.bytes_to_send()
    assert feed(repl, b"R\x01\x80\x00\x01", cut) == []
    assert len(repl.bytes_to_send()) == 250
    assert feed(repl, b"\x01\x04", cut) == []
    assert repl.bytes_to_send().endswith(b"\x04")
    assert feed(repl, b"\x04SyntaxError\r\n\x04>", cut) == [ended(b"SyntaxError\r\n")]


@every_cut
@pytest.mark.parametrize(
    "answer", [b"R\x00>", b"raw REPL; CTRL-B to exit\r\n>"], ids=["other form", "old firmware"]
)
def test_a_board_without_raw_paste_is_back_at_its_prompt(cut: Cut, answer: bytes) -> None:
    repl = RawRepl()
    repl.paste(b"print(1)")
    repl.bytes_to_send()
    assert feed(repl, answer, cut) == [PasteRefused()]
    assert repl.bytes_to_send() == b""
    assert not repl.open


@every_cut
@pytest.mark.parametrize(
    "answer",
    [b"?" * 600, b"ets Jul 29 2019\r\nMicroPython v1.29\r\n>>> ", b"raw REPL; CTRL-B to exit\r\n>"],
    ids=["nonsense", "a board that started anew", "a raw prompt"],
)
def test_a_board_that_does_not_acknowledge_a_paste_is_an_error(cut: Cut, answer: bytes) -> None:
    repl = RawRepl()
    repl.paste(b"print(1)")
    with pytest.raises(ProtocolError, match="acknowledgement"):
        feed(repl, b"R\x01\x80\x00" + answer, cut)


@every_cut
def test_what_a_thread_prints_while_a_paste_is_read_is_output(cut: Cut) -> None:
    repl = RawRepl()
    repl.paste(b"#" * 300, TOKEN)
    repl.bytes_to_send()
    events = feed(repl, b"R\x01\x80\x00\x01bg 1\r\n\x01\x01bg 2\r\n", cut)
    assert events == [Output(b"bg 1\r\nbg 2\r\n")]
    assert len(repl.bytes_to_send()) == 301
    assert feed(repl, b"\x04" + TOKEN + b"N" + TOKEN + b"\x04\x04>", cut)[-1] == ended(framed=True)


@every_cut
def test_what_comes_outside_an_exchange_is_output(cut: Cut) -> None:
    assert feed(RawRepl(), b"timer 1\r\n", cut) == [Output(b"timer 1\r\n")]


@every_cut
def test_a_restart_ends_at_the_next_raw_prompt(cut: Cut) -> None:
    repl = RawRepl()
    repl.restart()
    assert repl.bytes_to_send() == b"\x04"
    events = feed(repl, b"OK\r\nMPY: soft reboot\r\nboot\r\nraw REPL; CTRL-B to exit\r\n>", cut)
    assert events == [Output(b"OK\r\nMPY: soft reboot\r\nboot\r\n"), ended(restarted=True)]


def test_an_abandoned_exchange_leaves_nothing_behind() -> None:
    repl = RawRepl()
    repl.execute(b"while 1:pass", TOKEN)
    repl.receive(b"OK" + TOKEN[:2])
    repl.abandon()
    assert not repl.open
    assert repl.bytes_to_send() == b""
    assert repl.receive(b"x") == [Output(b"x")]


@every_cut
def test_an_empty_paste_is_ended_at_once(cut: Cut) -> None:
    repl = RawRepl()
    repl.paste(b"")
    repl.bytes_to_send()
    assert feed(repl, b"R\x01\x80\x00\x01", cut) == []
    assert repl.bytes_to_send() == b"\x04"
    assert feed(repl, b"\x04\x04\x04>", cut) == [ended()]


COUNTED = [
    pytest.param(b"#6;Bab" + TOKEN[:3], Framed(b"B", b"ab" + TOKEN[:3]), id="bytes"),
    pytest.param(b"#a;B" + 2 * TOKEN + b";", Framed(b"B", 2 * TOKEN + b";"), id="bytes that hold the token"),
    pytest.param(b"#7;IA\x04\x04>\x04>", Framed(b"I", b"A\x04\x04>\x04>"), id="bytes like prompts"),
    pytest.param(b"#2;B#", Framed(b"B", b"#"), id="one byte"),
    pytest.param(b"=6;V'abc'", Framed(b"V", b"'abc'"), id="characters"),
    pytest.param("=4;V'é'".encode(), Framed(b"V", "'é'".encode()), id="characters beyond ASCII"),
    pytest.param("=5;V'é'".encode(), Framed(b"V", "'é'".encode()), id="bytes, where text is no Unicode"),
]


@every_cut
@pytest.mark.parametrize(("framed", "value"), COUNTED)
def test_a_frame_that_says_its_length_is_read_by_it(cut: Cut, framed: bytes, value: Framed) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    events = feed(repl, b"OKout" + TOKEN + framed + TOKEN + b"\x04\x04>", cut)
    assert events == [Output(b"out"), value, ended(framed=True)]
    assert not repl.counting


@every_cut
@pytest.mark.parametrize(
    "framed",
    [b"#6;Bab?cde", b"#6;Bbg\r\nabcde", b"#6;Babcdbg\r\ne", b"=6;V'ab?c'", b"=6;V'ab'", b"=6;V'abc'bg"],
    ids=repr,
)
def test_a_frame_of_another_length_is_an_error_and_no_value(cut: Cut, framed: bytes) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    with pytest.raises(ProtocolError, match="came with"):
        feed(repl, b"OK" + TOKEN + framed + TOKEN + b"\x04\x04>", cut)


@every_cut
@pytest.mark.parametrize("framed", [b"#;B", b"#x;B", b"#-1;B", b"#fffffff;B", b"#bg\r\n6;B", b"=100000000;V"])
def test_a_length_that_is_none_is_an_error(cut: Cut, framed: bytes) -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    with pytest.raises(ProtocolError, match="length"):
        feed(repl, b"OK" + TOKEN + framed + 20 * b"x", cut)


def test_a_board_that_sends_too_few_bytes_is_waited_for_and_not_suspected() -> None:
    repl = RawRepl()
    repl.execute(b"_B()", TOKEN)
    repl.receive(b"OK" + TOKEN + b"#9;Bab\x04>")
    assert repl.counting
    assert not repl.suspect
    repl.abandon()
    assert not repl.counting
