"""Conversations with real boards: a MicroPython unix port, and micro:bit firmware in QEMU."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from belayd.call import prepare
from belayd.errors import BoardUnresponsive, OutOfMemory, TransportLost
from belayd.iteration import Orders
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial
from belayd.values import Repr

PATIENCE = 30.0


class Conversation:
    """A started session and what its board printed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.printed = bytearray()

    async def emit(self, data: bytes) -> None:
        self.printed += data

    async def run(self, source: str) -> Outcome:
        return await self._within(self.session.run(source, self.emit))

    async def evaluate(self, expression: str) -> Outcome:
        return await self._within(self.session.evaluate(expression, self.emit))

    async def call(self, function: str, *arguments: object, **keywords: object) -> Outcome:
        return await self._within(self.session.call(prepare(function, arguments, keywords), self.emit))

    async def run_for(self, seconds: float, source: str) -> None:
        """Run what does not end, cut it off, and bring the board back by the ladder."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.session.run(source, self.emit)
        assert not self.session.proven

    async def _within(self, operation: Awaitable[Outcome]) -> Outcome:
        async with asyncio.timeout(PATIENCE):
            return await operation


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


@pytest.fixture
async def unix(tmp_path: Path) -> AsyncIterator[Conversation]:
    session = Session("unix", await open_simulated(tmp_path / "unix"), letters)
    conversation = Conversation(session)
    await session.start(conversation.emit)
    conversation.printed.clear()
    yield conversation
    await session.close()


@pytest.fixture
async def microbit(microbit_port: Path) -> AsyncIterator[Conversation]:
    session = Session("microbit", await open_serial(str(microbit_port)), letters)
    conversation = Conversation(session)
    await session.start(conversation.emit)
    conversation.printed.clear()
    yield conversation
    await session.close()


@pytest.fixture(params=["unix", "microbit"])
def board(request: pytest.FixtureRequest) -> Conversation:
    conversation = request.getfixturevalue(request.param)
    assert isinstance(conversation, Conversation)
    return conversation


VALUES = [
    ("1+2", 3),
    ("'hello'", "hello"),
    ("b'\\x00\\x03\\x04\\xff'", b"\x00\x03\x04\xff"),
    ("None", None),
    ("1 == 1", True),
    ("-2.5", -2.5),
    ("2**70", 2**70),
    ("[1, (2,), {'a': [None, b'x']}]", [1, (2,), {"a": [None, b"x"]}]),
    ("{1, 2} - {2}", {1}),
    ("'\\x04\\x04>'", "\x04\x04>"),
    ("'>>> '", ">>> "),
    ("  1 # a comment", 1),
]


@pytest.mark.parametrize(("expression", "value"), VALUES, ids=[expression for expression, _ in VALUES])
async def test_a_value_arrives_as_itself(board: Conversation, expression: str, value: object) -> None:
    outcome = await board.evaluate(expression)
    assert outcome == Returned(value)
    assert isinstance(outcome, Returned)
    assert type(outcome.value) is type(value)


async def test_what_prints_itself_as_a_number_does_not_become_one(board: Conversation) -> None:
    await board.run("class Five:\n def __repr__(self):\n  return '5'\n")
    plain = await board.evaluate("Five()")
    nested = await board.evaluate("[1, [Five()]]")
    assert plain == Returned(Repr("Five", "5"))
    assert nested == Returned(Repr("list", "[1, [5]]"))


async def test_output_is_kept_apart_from_the_value(board: Conversation) -> None:
    assert await board.evaluate("print('x', end='') or 42") == Returned(42)
    assert bytes(board.printed) == b"x"


@pytest.mark.parametrize(
    "printed",
    ["\x04", "\x04\x04>", "\x04Traceback (most recent call last):\r\n\x04>", "OK", ">", "\x1e", "raw REPL"],
    ids=repr,
)
async def test_nothing_printed_can_end_the_output(board: Conversation, printed: str) -> None:
    assert await board.run(f"print({printed!r}, end='')\nprint('after')") == Returned(None)
    # Ports cook line ends, each in its own way.
    assert board.printed.replace(b"\r", b"") == printed.replace("\r", "").encode() + b"after\n"
    assert await board.evaluate("6 * 7") == Returned(42)


async def test_a_program_that_prints_a_prompt_and_pauses_is_not_taken_for_ended(board: Conversation) -> None:
    pause = "t=sum(range(2000))\n" * 1
    source = f"print('\\x04\\x04>', end='')\nfor i in range(300):\n {pause}\nprint('after')"
    assert await board.run(source) == Returned(None)
    assert board.printed.startswith(b"\x04\x04>")
    assert board.printed.strip().endswith(b"after")
    assert await board.evaluate("6 * 7") == Returned(42)


async def test_an_exception_is_a_result_with_the_boards_traceback(board: Conversation) -> None:
    outcome = await board.run("def f():\n raise ValueError('a: b\\x04>')\n\nf()")
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "ValueError"
    assert outcome.exception.message == "a: b\x04>"
    lines = outcome.exception.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert '  File "<string>", line 2, in f' in lines
    assert "_B" not in outcome.exception.traceback


@pytest.mark.parametrize("source", ["x =", "def f(:", "'unclosed", "print(1))"])
async def test_a_syntax_error_is_a_result(board: Conversation, source: str) -> None:
    outcome = await board.run(source)
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "SyntaxError"
    assert await board.evaluate("1") == Returned(1)


async def test_a_function_is_called_with_its_arguments(board: Conversation) -> None:
    await board.run("def join(a, b, sep='-'):\n return a + sep + b\n")
    assert await board.call("join", "a", "b") == Returned("a-b")
    assert await board.call("join", "a", "b", sep="+") == Returned("a+b")
    missing = await board.call("nothing")
    assert isinstance(missing, Raised)
    assert missing.exception.type_name == "NameError"


async def test_names_stay_from_one_run_to_the_next(board: Conversation) -> None:
    await board.run("n = 20")
    await board.run("n += 1")
    assert await board.evaluate("n * 2") == Returned(42)


async def test_text_beyond_ascii_passes(unix: Conversation) -> None:
    assert await unix.run("s = 'grüße 🐍'\nprint(s)") == Returned(None)
    assert bytes(unix.printed) == "grüße 🐍\n".encode()
    assert await unix.evaluate("s") == Returned("grüße 🐍")


async def test_an_endless_loop_is_interrupted_and_the_board_serves_the_next(board: Conversation) -> None:
    await board.run("n = 1")
    await board.run_for(0.3, "while True: pass")
    await board.session.recovery(board.emit)[0].action()
    assert await board.evaluate("n + 1") == Returned(2)


async def test_a_loop_that_prints_without_end_is_interrupted(board: Conversation) -> None:
    await board.run_for(0.3, "while True: print('again and again')")
    await board.session.recovery(board.emit)[0].action()
    assert await board.evaluate("1 + 1") == Returned(2)


async def test_a_program_that_swallows_every_interrupt_fails_each_gentle_step(unix: Conversation) -> None:
    await unix.run_for(0.3, "while 1:\n try:\n  while 1: pass\n except BaseException: pass")
    for step in unix.session.recovery(unix.emit)[:2]:
        with pytest.raises(BoardUnresponsive):
            await step.action()
    assert not unix.session.proven


async def test_a_soft_reset_forgets_names_and_serves_on(board: Conversation) -> None:
    await board.run("n = 1")
    await board.session.soft_reset(board.emit)
    assert isinstance(await board.evaluate("n"), Raised)
    assert await board.evaluate("1 + 1") == Returned(2)
    assert board.session.restarts == 1


async def test_sys_exit_ends_the_run_and_restarts_the_interpreter(unix: Conversation) -> None:
    await unix.run("n = 1")
    assert await unix.run("print('out')\nimport sys\nsys.exit()") == Returned(None)
    assert unix.printed.startswith(b"out\n")
    assert unix.session.restarts == 1
    assert isinstance(await unix.evaluate("n"), Raised)


async def test_sys_exit_with_a_code_is_an_exception(board: Conversation) -> None:
    outcome = await board.run("import sys\nsys.exit(3)")
    assert isinstance(outcome, Raised)
    assert (outcome.exception.type_name, outcome.exception.message) == ("SystemExit", "3")
    assert await board.evaluate("1") == Returned(1)


async def test_a_reset_of_the_chip_on_its_own_uart_is_noticed(microbit: Conversation) -> None:
    with pytest.raises(TransportLost, match="restarted"):
        await microbit.run("import microbit\nmicrobit.reset()")
    assert await microbit.evaluate("1 + 1") == Returned(2)


async def test_a_reset_of_the_chip_over_usb_loses_the_link(unix: Conversation) -> None:
    with pytest.raises(TransportLost, match="went away"):
        await unix.run("import machine\nmachine.reset()")
    assert not unix.session.proven


async def test_a_hard_reset_comes_back_where_the_port_stays(microbit: Conversation) -> None:
    await microbit.run("n = 1")
    await microbit.session.hard_reset(microbit.emit)
    assert isinstance(await microbit.evaluate("n"), Raised)


async def test_a_deleted_runner_is_put_back_and_nothing_runs_twice(board: Conversation) -> None:
    await board.run("n = 0")
    await board.run("del _B")
    await board.run("n += 1")
    assert await board.evaluate("n") == Returned(1)


async def test_a_megabyte_of_output_arrives_whole(unix: Conversation) -> None:
    assert await unix.run("for i in range(1000):\n print('x' * 999)") == Returned(None)
    assert bytes(unix.printed) == (b"x" * 999 + b"\n") * 1000


async def test_a_long_source_goes_by_raw_paste(unix: Conversation) -> None:
    lines = [f"v{number} = {number}" for number in range(3000)]
    assert await unix.run("\n".join(lines)) == Returned(None)
    assert await unix.evaluate("v2999") == Returned(2999)


async def test_a_source_too_large_for_a_small_board_is_refused_before_it_is_sent(
    microbit: Conversation,
) -> None:
    before = microbit.session.traffic.sent_bytes
    with pytest.raises(OutOfMemory, match="smaller parts"):
        await microbit.run("x = 1\n" * 600)
    assert microbit.session.traffic.sent_bytes == before
    assert await microbit.evaluate("1") == Returned(1)


async def test_memory_that_runs_out_is_a_result(board: Conversation) -> None:
    outcome = await board.run("x = bytearray(100000000)")
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "MemoryError"
    assert await board.evaluate("1") == Returned(1)


async def test_a_thousand_calls_do_not_use_up_a_boards_memory(microbit: Conversation) -> None:
    free = "__import__('gc').collect() or __import__('gc').mem_free()"
    await microbit.run("def add(a, b): return a + b")
    before = await microbit.evaluate(free)
    for number in range(1000):
        assert await microbit.call("add", number, 1) == Returned(number + 1)
    after = await microbit.evaluate(free)
    assert isinstance(before, Returned)
    assert isinstance(after, Returned)
    assert isinstance(before.value, int)
    assert isinstance(after.value, int)
    assert before.value - after.value < 128


async def test_a_call_is_one_round_trip(unix: Conversation) -> None:
    await unix.run("def add(a, b): return a + b")
    sent = unix.session.traffic.sent_bytes
    assert await unix.call("add", 1, 2) == Returned(3)
    # _B('\x1exxxxx',lambda:add(1,2),2)\x04, in one write
    assert unix.session.traffic.sent_bytes - sent <= 40


async def test_boards_say_what_they_are(unix: Conversation, microbit: Conversation) -> None:
    assert unix.session.facts.implementation == "micropython"
    assert unix.session.facts.raw_paste
    assert "hashlib" in unix.session.facts.modules
    assert microbit.session.facts.version == "1.9.2"
    assert microbit.session.facts.platform == "microbit"
    assert not microbit.session.facts.raw_paste
    assert "hashlib" not in microbit.session.facts.modules


async def test_a_board_that_boots_with_an_endless_main_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    folder.mkdir()
    (folder / "main.py").write_text("import time\nwhile True:\n print('tick')\n time.sleep_ms(5)\n")
    session = Session("busy", await open_simulated(folder), letters)
    conversation = Conversation(session)
    await session.start(conversation.emit)
    assert await conversation.evaluate("1 + 1") == Returned(2)
    await session.close()


async def test_a_board_killed_in_a_run_is_lost_and_says_so(tmp_path: Path, unix: Conversation) -> None:
    run = asyncio.create_task(unix.run("import os\nos.system('kill -9 $PPID')\nwhile 1: pass"))
    with pytest.raises(TransportLost, match="start over"):
        await run


async def batch(board: Conversation, *expressions: str) -> list[Outcome]:
    outcomes: list[Outcome] = []

    async def emit(number: int, data: bytes) -> None:
        board.printed += data

    async def settle(number: int, outcome: Outcome) -> None:
        outcomes.append(outcome)

    async with asyncio.timeout(PATIENCE):
        await board.session.converse(expressions, emit, settle)
    return outcomes


async def test_an_exit_with_calls_behind_it_is_a_restart_that_is_noticed(unix: Conversation) -> None:
    outcomes = await batch(unix, "1", "__import__('sys').exit()", "2", "3")
    assert outcomes == [Returned(1), Returned(None)]
    assert unix.session.proven
    assert unix.session.restarts == 1


@pytest.mark.parametrize("base", ["Exception", "KeyboardInterrupt"])
async def test_an_exception_that_is_called_as_an_interrupt_is_told_from_one(
    unix: Conversation, base: str
) -> None:
    await unix.run(f"class KeyboardInterrupt({base}): pass\ndef stop(): raise KeyboardInterrupt('so')")
    [outcome, *_] = await batch(unix, "stop()", "1")
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "KeyboardInterrupt"
    assert await unix.evaluate("6 * 7") == Returned(42)


async def test_a_subclass_of_an_interrupt_ends_the_calls_behind_it(unix: Conversation) -> None:
    await unix.run("class Stop(KeyboardInterrupt): pass\ndef stop(): raise Stop('so')")
    [outcome] = await batch(unix, "stop()", "1", "2")
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name == "Stop"
    assert await unix.evaluate("6 * 7") == Returned(42)


async def test_a_deleted_loop_is_put_back_for_an_iteration(unix: Conversation) -> None:
    items: list[object] = []

    async def take(item: object) -> None:
        items.append(item)

    await unix.run("del _L\nprint = 5")
    orders = Orders(10)
    outcome = await unix.session.iterate(prepare("range", [3], {}), orders, unix.emit, take)
    assert (outcome, items) == (Returned(None), [0, 1, 2])


async def test_a_deleted_runner_is_put_back_where_print_is_not_print(unix: Conversation) -> None:
    await unix.run("n = 1\nprint = 5\ndel _B, _L")
    assert await unix.evaluate("n") == Returned(1)
    await unix.run("n += 1")
    assert await unix.evaluate("n") == Returned(2)
    assert unix.session.restarts == 0


CHATTERER = """
import _thread, time, sys
def chatter(w=sys.stdout.write, z=time.sleep_ms):
    for _ in range(5000):
        w('~')
        z(1)
_thread.start_new_thread(chatter, ())
"""


async def test_a_thread_that_prints_all_the_while_breaks_nothing(unix: Conversation) -> None:
    await unix.run(CHATTERER)
    for number in range(20):
        long = "\n".join(f"v{line} = {line}" for line in range(100))
        assert await unix.run(f"{long}\nn = {number}\nprint = 5\ndel _L") == Returned(None)
        assert await unix.evaluate("n") == Returned(number)
    await unix.run_for(0.2, "while True: pass")
    await unix.session.recovery(unix.emit)[0].action()
    assert await unix.evaluate("n") == Returned(19)


@pytest.mark.parametrize("left", ["print = hasattr = 5", CHATTERER], ids=["names", "a thread"])
async def test_a_board_left_in_disorder_is_taken_over(simulated_pty: Callable[..., Any], left: str) -> None:
    board = simulated_pty("board")
    for _ in range(2):
        session = Session("board", await open_serial(str(board.path)), letters)
        conversation = Conversation(session)
        await session.start(conversation.emit)
        assert await conversation.evaluate("6 * 7") == Returned(42)
        await conversation.run(left)
        await session.close()
