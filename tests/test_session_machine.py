"""A session in any order of work and faults: every answer right or a typed error, and the board comes back.

A real MicroPython on a link that is cut, goes mute or deaf, stalls and tears. The
model knows which names the board has and which calls ran: each once, none that was
not sent, none after its caller was told that it never will.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from belayd.call import Call, prepare
from belayd.errors import BelaydError, BoardUnresponsive, TransportLost
from belayd.events import Events
from belayd.iteration import Orders
from belayd.outcome import BoardRaised, Outcome, Raised, Returned, raised_from
from belayd.recovery import recover
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated
from belayd.values import Repr, render

PATIENCE = 60.0
CUT_OFF = 0.15  # seconds that what never ends is given
CHATTER = b"~"  # what the thread prints, in single bytes that stand in nobody else's text

PRELUDE = """\
ran = []
def echo(tag, value):
    ran.append(tag)
    return value
def say(tag, *texts):
    ran.append(tag)
    for text in texts:
        __import__('builtins').print(text, end='')
    return len(texts)
def fail(tag, text):
    ran.append(tag)
    raise ValueError(text)
def leave(tag, code):
    ran.append(tag)
    __import__('sys').exit(code)
def interrupted(tag):
    ran.append(tag)
    raise KeyboardInterrupt
def count(tag, number):
    ran.append(tag)
    try:
        for item in range(number):
            yield item
    finally:
        ran.append(-tag)
def mirror(tag):
    ran.append(tag)
    got = None
    while True:
        got = yield got
"""
ENDLESS = {
    "spins": "while True: pass",
    "prints": "while True: print('again and again')",
    "sleeps": "import time\nwhile True: time.sleep(1)",
    "reads": "import sys\nwhile True: sys.stdin.read(1)",
    "reads bytes": "import sys\nwhile True: sys.stdin.buffer.read(7)",
    "poses as a prompt": "import time\nwhile True:\n print('\\x04\\x04>', end='')\n time.sleep(.3)",
    "poses as a banner": "print('raw REPL; CTRL-B to exit\\r\\n>', end='')\nwhile True: pass",
    "resists a little": "n = 2\nwhile n:\n try:\n  while True: pass\n except KeyboardInterrupt: n -= 1\n",
    "resists a while": "import time\nt = time.ticks_ms()\nwhile time.ticks_diff(time.ticks_ms(), t) < 1500:\n"
    " try:\n  while time.ticks_diff(time.ticks_ms(), t) < 1500: pass\n except BaseException: pass\n",
}
THEIRS = [
    "del _B",
    "del _L",
    "del _B, _L",
    "_B = _L = 3",
    "_B = lambda *a: None",
    "_L = lambda *a: None",
    "print = repr = type = 5",
    "import builtins\nbuiltins.repr = lambda x: '1'\ndel builtins.repr",
]
TEXTS = [
    *("\x04", "\x04\x04>", ">", "OK", "OK\x04\x04>", "\r\n>>> ", "raw REPL; CTRL-B to exit\r\n>"),
    *("MPY: soft reboot\r\n", "\x04Traceback (most recent call last):\r\n\x04>", "\x1e", "R\x01", "Q", ""),
    *("\x1eV1\x1e", "text\n", "grüße 🐍", "x" * 5000, "KeyboardInterrupt", "\x01\x02\x03\x05", "\r\n"),
]

CHATTERER = """\
import _thread, time, sys
def chatter(w=sys.stdout.write, z=time.sleep_ms):
    for _ in range(3000):
        w('~')
        z(2)
_thread.start_new_thread(chatter, ())
"""

SUSPENDED = Returned("suspended")

Work = Callable[[], Awaitable[Any]]
Fate = Literal["kept", "forgotten", "either"]
Kind = Literal["cut", "unplug", "mute", "deaf", "stall", "crumbs"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a link once so many more bytes went through it."""

    kind: Kind
    after: int
    seconds: float


class FaultyLink:
    """A transport that is one to a board until its fault strikes; ends without it."""

    def __init__(self, inner: Transport) -> None:
        self.address = inner.address
        self.traffic = Traffic()
        self.on_pending: Callable[[], None] | None = None
        self.fault: Fault | None = None
        self.struck = False
        self.on_silence: Callable[[], None] | None = None
        self.board_gone = False
        self._inner = inner
        self._left = 0
        self._held: deque[bytes] = deque()
        self._gone = False
        self._arrived = asyncio.Event()
        self._pump = asyncio.create_task(self._carry())

    def arm(self, fault: Fault | None) -> None:
        self.fault, self.struck = fault, False
        self._left = fault.after if fault else 0

    async def receive(self) -> bytes:
        while (data := self.receive_pending()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return data

    def receive_pending(self) -> bytes | None:
        if self._held:
            return self._held.popleft()
        return b"" if self._gone else None

    async def send(self, data: bytes) -> None:
        if self.fault is not None and self.fault.kind == "deaf":
            data, lost = data[: self._left], data[self._left :]
            self._left -= len(data)
            if lost:
                self._strike()
        if data and not self._gone:
            self.traffic.sent_bytes += len(data)
            await self._inner.send(data)

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.wait([self._pump])
        self._end()

    async def _carry(self) -> None:
        while True:
            data = await self._inner.receive()
            if not data:
                self.board_gone = True
                break
            fault = self.fault
            if fault is None or fault.kind == "deaf":
                self._deliver(data)
                continue
            passed, rest = data[: self._left], data[self._left :]
            self._left -= len(passed)
            if passed:
                self._deliver(passed)
            if self._left:
                continue
            match fault.kind:
                case "mute":
                    self._strike()
                case "stall":
                    self.arm(None)
                    await asyncio.sleep(fault.seconds)
                    if rest:
                        self._deliver(rest)
                case "crumbs":
                    for at in range(len(rest)):
                        self._deliver(rest[at : at + 1])
                        if not at % 100:
                            await asyncio.sleep(0)
                case _:
                    self.struck = True
                    break
        self._end()

    def _strike(self) -> None:
        self.struck = True
        if self.on_silence is not None:
            self.on_silence()

    def _deliver(self, data: bytes) -> None:
        self.traffic.received_bytes += len(data)
        self._held.append(data)
        self._tell()

    def _end(self) -> None:
        self._gone = True
        self._tell()

    def _tell(self) -> None:
        self._arrived.set()
        if self.on_pending is not None:
            self.on_pending()


NUMBERS = st.integers(-1000, 1000)
LETTERS = st.characters(blacklist_categories=["Cs"], blacklist_characters="~")
ATOMS = st.none() | st.booleans() | st.integers() | st.text(LETTERS, max_size=20)
ATOMS |= st.binary(max_size=20).filter(lambda data: CHATTER not in data)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(NUMBERS, inner, max_size=3)
    ),
    max_leaves=8,
)
FAULTS = st.builds(
    Fault,
    st.sampled_from(["cut", "unplug", "mute", "deaf", "stall", "crumbs"]),
    st.integers(0, 40) | st.integers(0, 3000),
    st.floats(0.05, 1.5),
)
STEPS = st.lists(
    st.tuples(st.just("echo"), VALUES)
    | st.tuples(st.just("say"), st.sampled_from(TEXTS))
    | st.tuples(st.just("fail"), st.sampled_from(TEXTS))
    | st.tuples(st.just("leave"), st.integers(0, 3))
    | st.tuples(st.just("interrupted")),
    min_size=1,
    max_size=12,
)


class SessionMachine(RuleBasedStateMachine):
    """One board; when its link or its session is lost, the next one follows."""

    link: FaultyLink
    session: Session

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.inner: Transport | None = None
        self.chance = random.Random(7)
        self.near: Fault | None = None
        self.fate: Fate = "forgotten"
        self.chatters = False
        self.taken = False
        self.printed = bytearray()
        self.tags = 0
        self.ran: list[int] = []
        self.maybe: set[int] = set()
        self.offsets: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        with self.runner:
            self.runner.run(self._close())
        self.folder.cleanup()

    # What goes wrong

    @rule(fault=FAULTS)
    def a_fault_is_near(self, fault: Fault) -> None:
        self.near = fault

    @rule(fresh=st.booleans())
    def the_link_is_lost(self, fresh: bool) -> None:
        self.runner.run(self._reopen(fresh))

    @rule(how=st.sampled_from(list(ENDLESS)), by_run=st.booleans())
    def what_never_ends_is_cancelled(self, how: str, by_run: bool) -> None:
        call = prepare("exec", [ENDLESS[how], {}], {})
        work = self._run(call.expression) if by_run else self._call(call)
        assert self._do(work, limit=CUT_OFF) is None

    @rule(value=VALUES, limit=st.floats(0, 0.01))
    def a_call_is_cancelled_at_any_moment(self, value: object, limit: float) -> None:
        self._ask("echo", value, right=Returned(value), limit=limit)

    @rule(lines=st.integers(1, 300), limit=st.floats(0, 0.02))
    def a_long_source_is_cancelled_at_any_moment(self, lines: int, limit: float) -> None:
        self._ask_run("\n".join(f"v{number} = {number} * 2" for number in range(lines)), limit=limit)

    @rule(source=st.sampled_from(THEIRS))
    def belayds_names_are_taken(self, source: str) -> None:
        self.taken = True
        self._ask_run(source)

    @rule(code=st.integers(0, 3), way=st.sampled_from(["run", "call", "evaluate"]))
    def code_exits(self, code: int, way: str) -> None:
        call, restarts = prepare("leave", [self._tag(), code], {}), self.session.restarts
        source = call.expression
        ways = {"run": self._run(source), "evaluate": self._evaluate(source), "call": self._call(call)}
        outcome = self._do(ways[way], resets=True)
        if outcome is not None:
            judge("leave", [code], outcome, b"")
            assert self.session.restarts > restarts

    @rule(limit=st.none() | st.none() | st.floats(0, 0.05))
    def it_is_reset(self, limit: float | None) -> None:
        session, restarts = self.session, self.session.restarts
        if self._do(lambda: session.soft_reset(self._emit), limit=limit, resets=True) is not None:
            assert session.restarts > restarts

    @rule(by_code=st.booleans())
    def the_chip_is_reset(self, by_code: bool) -> None:
        session = self.session
        ways = {
            True: self._run("import machine\nmachine.reset()"),
            False: lambda: session.hard_reset(self._emit),
        }
        assert self._do(ways[by_code], may=TransportLost, resets=True) is None

    @rule()
    def a_thread_prints_on(self) -> None:
        if not self.chatters:
            self.chatters = True
            self._ask_run(CHATTERER)

    # What goes right

    @rule(value=VALUES)
    def a_value_comes_back(self, value: object) -> None:
        self._ask("echo", value, right=Returned(value))

    @rule(name=st.sampled_from("fgh"), offset=NUMBERS)
    def a_function_is_defined(self, name: str, offset: int) -> None:
        outcome = self._do(self._run(f"def {name}(number):\n return number + {offset}"))
        self.offsets.pop(name, None)
        if outcome is not None:
            assert outcome == Returned(None)
            self.offsets[name] = offset

    @rule(name=st.sampled_from("fgh"), number=NUMBERS)
    def a_defined_function_is_called(self, name: str, number: int) -> None:
        if name in self.offsets:
            outcome = self._do(self._call(prepare(name, [number], {})))
            assert outcome in (None, Returned(number + self.offsets[name]))

    @rule(left=NUMBERS, right=NUMBERS)
    def an_expression_is_evaluated(self, left: int, right: int) -> None:
        assert self._do(self._evaluate(f" {left} * {right} # so")) in (None, Returned(left * right))

    @rule(texts=st.lists(st.sampled_from(TEXTS), max_size=4), by_run=st.booleans())
    def what_is_printed_is_kept_apart(self, texts: list[str], by_run: bool) -> None:
        self.printed.clear()
        if by_run:
            done = self._ask_run(f"__import__('builtins').print({''.join(texts)!r}, end='')")
        else:
            done = self._ask("say", *texts, right=Returned(len(texts)))
        if done:
            assert bytes(self.printed).replace(CHATTER, b"") == "".join(texts).encode()

    @rule(text=st.sampled_from(TEXTS), by_run=st.booleans())
    def code_raises(self, text: str, by_run: bool) -> None:
        tag = self._tag()
        call = prepare("fail", [tag, text], {})
        outcome = self._do(self._run(call.expression) if by_run else self._call(call), tag)
        if outcome is not None:
            judge("fail", [text], outcome, b"")

    @rule(size=st.integers(0, 60_000), kind=st.sampled_from(["bytes", "list", "object"]))
    def a_result_is_big(self, size: int, kind: str) -> None:
        source, right = {
            "bytes": (f"b'ab\x04' * {size}", b"ab\x04" * size),
            "list": (f"[7] * {size // 8}", [7] * (size // 8)),
            "object": ("object", Repr("type", "<class 'object'>")),
        }[kind]
        outcome = self._do(self._evaluate(source))
        assert outcome in (None, Returned(right)) or judged(outcome) == "MemoryError"

    @rule(lines=st.integers(1, 600))
    def a_long_source_is_run(self, lines: int) -> None:
        self._ask_run("\n".join(f"v{number} = {number} * 2" for number in range(lines)))

    @rule(steps=STEPS, limit=st.none() | st.none() | st.floats(0, 0.02))
    def a_batch_is_done_in_its_order(self, steps: list[tuple[Any, ...]], limit: float | None) -> None:
        tags = [self._tag() for _ in steps]
        calls = [prepare(step[0], [tag, *step[1:]], {}) for tag, step in zip(tags, steps, strict=True)]
        printed = [bytearray() for _ in steps]
        outcomes: list[Outcome] = []
        session = self.session

        async def emit(number: int, data: bytes) -> None:
            assert number in (len(outcomes), len(steps) - 1)
            printed[number] += data

        async def settle(number: int, outcome: Outcome) -> None:
            assert number == len(outcomes)
            outcomes.append(outcome)

        ends = [at for at, (name, *_) in enumerate(steps, 1) if name in ("leave", "interrupted")]
        sent = min([*ends, len(steps)])
        leaves = any(name == "leave" for name, *_ in steps)
        done = self._do(lambda: session.converse(calls, emit, settle), limit=limit, resets=leaves)
        self.ran += tags[: len(outcomes)]
        if done is None:
            self.maybe.update(tags[len(outcomes) : sent])
        else:
            assert len(outcomes) == sent
        for (name, *arguments), outcome, output in zip(steps, outcomes, printed, strict=False):
            judge(name, arguments, outcome, bytes(output))

    @rule(number=st.integers(0, 200), credit=st.integers(1, 90), taken=st.integers(1, 200))
    def items_come_until_it_is_closed(self, number: int, credit: int, taken: int) -> None:
        tag, orders, items = self._tag(), Orders(credit), list[object]()

        async def take(item: object) -> None:
            items.append(item)
            if len(items) == taken:
                orders.close()
            elif len(items) < taken and not len(items) % credit:
                orders.grant(credit)

        outcome = self._do(self._iterate(prepare("count", [tag, number], {}), orders, take), tag)
        assert items == list(range(len(items)))
        if outcome is None:
            self.maybe.add(-tag)
        else:
            self.ran.append(-tag)
            assert outcome == Returned(None)
            assert min(number, taken) <= len(items) <= number

    @rule(values=st.lists(VALUES, max_size=5), end=st.sampled_from(["close", "leave", "fail"]))
    def values_are_sent_into_a_generator(self, values: list[object], end: str) -> None:
        tag, orders, items = self._tag(), Orders(1), list[object]()

        async def take(item: object) -> None:
            items.append(item)
            if len(items) <= len(values):
                orders.send(render(values[len(items) - 1]))
            elif end == "close":
                orders.close()
            elif end == "fail":
                orders.send("nothing_of_this_name")

        outcome = self._do(self._iterate(prepare("mirror", [tag], {}), orders, take), tag)
        assert items == [None, *values][: len(items)]
        if outcome is not None:
            assert len(items) == len(values) + 1
            ends = {"close": Returned(None), "leave": SUSPENDED}
            assert judged(outcome) == "NameError" if end == "fail" else outcome == ends[end]

    @rule()
    def belayd_asks_something_itself(self) -> None:
        session = self.session

        async def ask() -> None:
            told = await session.command("import sys\nsys.stdout.write('%d' % (6 * 7))")
            assert told.replace(CHATTER, b"") == b"42"
            with pytest.raises(BoardRaised):
                await session.command("raise ValueError")

        self._do(ask)

    @invariant()
    def the_board_is_there_and_remembers(self) -> None:
        self.runner.run(self._check())

    # What the rules share

    def _tag(self) -> int:
        self.tags += 1
        return self.tags

    def _run(self, source: str) -> Work:
        session = self.session
        return lambda: session.run(source, self._emit)

    def _evaluate(self, expression: str) -> Work:
        session = self.session
        return lambda: session.evaluate(expression, self._emit)

    def _call(self, call: Call) -> Work:
        session = self.session
        return lambda: session.call(call, self._emit)

    def _iterate(self, call: Call, orders: Orders, take: Callable[[object], Awaitable[None]]) -> Work:
        session = self.session

        async def go_on() -> Outcome:
            begun: Call | None = call
            while (outcome := await session.iterate(begun, orders, self._emit, take)) is None:
                begun = None
                if not orders:
                    return SUSPENDED  # the board serves others, and its generator waits
            return outcome

        return go_on

    def _ask(self, function: str, *arguments: object, right: Outcome, limit: float | None = None) -> bool:
        tag = self._tag()
        outcome = self._do(self._call(prepare(function, [tag, *arguments], {})), tag, limit=limit)
        assert outcome in (None, right)
        return outcome is not None

    def _ask_run(self, source: str, limit: float | None = None) -> bool:
        tag = self._tag()
        outcome = self._do(self._run(f"ran.append({tag})\n{source}"), tag, limit=limit)
        assert outcome in (None, Returned(None))
        return outcome is not None

    def _do(self, work: Work, *tags: int, **how: Any) -> Any:
        """Do it and bring the board back; return its outcome, or None if it ended in an error that it may."""
        outcome = self.runner.run(self._attempt(work, **how))
        if outcome is None:
            self.maybe.update(tags)
        else:
            self.ran.extend(tags)
        return outcome

    async def _attempt(
        self,
        work: Work,
        *,
        limit: float | None = None,
        may: type[Exception] | tuple[()] = (),
        resets: bool = False,
    ) -> Any:
        session, link, restarts = self.session, self.link, self.session.restarts
        link.arm(self.near)
        self.near = None
        outcome, failure = None, None
        try:
            outcome = await self._within(work(), limit) or Returned(None)
        except (BelaydError, TimeoutError) as error:
            failure = error
        if failure is not None:
            note(f"{type(failure).__name__} {failure}, struck: {link.struck and link.fault}")
            expected = isinstance(failure, TransportLost | BoardUnresponsive | TimeoutError) and link.struck
            # A thread may print into a long value, which then has another length than it says.
            expected |= isinstance(failure, BoardUnresponsive) and self.chatters
            cancelled = limit is not None and isinstance(failure, TimeoutError)
            assert expected or cancelled or isinstance(failure, may), repr(failure)
            if resets:
                self.fate = "either"
        if isinstance(failure, TransportLost):
            await self._reopen(fresh=link.struck and link.fault is not None and link.fault.kind == "unplug")
        else:
            link.arm(None)
            await self._restore()
        if session.restarts > restarts:
            self.fate = "forgotten"
        return outcome

    async def _within(self, work: Awaitable[Any], limit: float | None = None) -> Any:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE if limit is None else limit) as scope:
            # Nothing tells that a link is mute: the caller loses patience.
            self.link.on_silence = lambda: scope.reschedule(loop.time() + CUT_OFF)
            try:
                return await work
            finally:
                self.link.on_silence = None

    async def _restore(self) -> None:
        if self.session.proven:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await recover("sim", self.session, Events(), self._emit)
        except TransportLost as error:
            note(f"not recovered: {error}")
            self.fate = "either"
            await self._reopen(fresh=False)
        assert self.session.proven

    async def _check(self) -> None:
        assert self.session.proven
        told = await self._value("'ran' in globals() and ran")
        assert isinstance(
            told, list if self.fate == "kept" else bool if self.fate == "forgotten" else list | bool
        ), told
        self.fate = "kept"
        if told is False:
            assert await self._within(self.session.run(PRELUDE, self._emit)) == Returned(None)
            self.ran, self.maybe, self.offsets, self.chatters, self.taken = [], set(), {}, False, False
        else:
            assert len(set(told)) == len(told), f"ran twice: {told}"
            assert [tag for tag in told if tag not in self.maybe] == self.ran
        assert await self._value("1 + 1") == 2

    async def _value(self, expression: str) -> Any:
        outcome = await self._within(self.session.evaluate(expression, self._emit))
        assert isinstance(outcome, Returned), outcome
        return outcome.value

    async def _open(self) -> None:
        if self.inner is None:
            self.inner = await open_simulated(Path(self.folder.name) / "sim")
            self.fate = "forgotten"
        self.link = FaultyLink(self.inner)
        self.session = Session("sim", self.link, self._letters)
        async with asyncio.timeout(PATIENCE):
            await self.session.start(self._emit)

    async def _reopen(self, fresh: bool) -> None:
        """Open the link anew, to the same board unless it is gone, or to a fresh one."""
        gone = fresh or self.link.board_gone
        self.link.arm(Fault("cut", 0, 0.0))
        await self.session.close()
        if gone:
            assert self.inner is not None
            await self.inner.close()
            self.inner = None
        elif self.fate == "kept" and (self.chatters or self.taken):
            self.fate = "either"  # a board that makes no sense is restarted
        await self._open()

    async def _close(self) -> None:
        if self.inner is not None:
            await self.session.close()
            await self.inner.close()

    async def _emit(self, data: bytes) -> None:
        self.printed += data

    def _letters(self, length: int) -> str:
        return "".join(self.chance.choices("0123456789abcdef", k=length))


def judge(name: str, arguments: list[object], outcome: Outcome, printed: bytes) -> None:
    """Hold the outcome of one of the prelude's functions to what it must be."""
    [argument] = arguments or [None]
    right: object = argument
    match name:
        case "echo":
            assert outcome == Returned(argument)
        case "say":
            assert outcome == Returned(1)
            assert printed.replace(CHATTER, b"") == str(argument).encode()
        case "leave":
            right = Returned(None) if not argument else "SystemExit"
            assert (judged(outcome) if argument else outcome) == right
        case "fail":
            assert judged(outcome) == "ValueError"
        case _:
            assert judged(outcome) == "KeyboardInterrupt"


def judged(outcome: Outcome) -> str:
    assert isinstance(outcome, Raised), outcome
    # A traceback is text, and the thread may have printed into it.
    return raised_from(outcome.exception.traceback.encode().replace(CHATTER, b"")).type_name


def test_every_answer_is_right_or_an_error_and_the_board_always_comes_back() -> None:
    run_state_machine_as_test(
        SessionMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
