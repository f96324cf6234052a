"""Values to a real MicroPython and back: the same value of the same type, or a Repr that says what it was."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from belayd.call import prepare
from belayd.iteration import Orders
from belayd.outcome import Outcome, Raised, Returned
from belayd.session import Session
from belayd.transport.process import open_simulated
from belayd.values import MAX_DEPTH, Repr

PATIENCE = 60.0
DEFINITIONS = """\
from collections import OrderedDict, deque, namedtuple
import array
def echo(value):
    return value
def pack(*values, **more):
    return values, more
def each(values):
    yield from values
class Five:
    def __repr__(self):
        return '5'
class Text(str): pass
class Number(int): pass
class Numbers(list): pass
class Pair(tuple): pass
class Table(dict): pass
class Loud(list):
    def __repr__(self):
        print('[4]', end='')
        return '[5]'
Point = namedtuple('Point', ['x', 'y'])
loop = []
loop.append(loop)
wide = {}
wide['again'] = [wide, wide]
def deep(levels, kind=list):
    value = 1
    for _ in range(levels):
        value = kind((value,))
    return value
"""

characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    "\x1e#=;VBI\0\x01\x03\x04\r\n'\"\\é🐍\x7f\x80"
)
text = st.text(characters, max_size=120)
data = st.binary(max_size=300)
integers = st.integers() | st.sampled_from(
    [sign * 2**bits + by for sign in (1, -1) for bits in (30, 31, 62, 63, 64, 500) for by in (-1, 0, 1)]
)
keys = st.recursive(
    st.none() | st.booleans() | integers | text | data,
    lambda inner: st.tuples() | st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
words = st.integers(-(2**62), 2**62)
ranges = st.builds(range, words, words, st.integers(1, 99) | st.integers(-99, -1))
# Those that MicroPython reads and prints to the last bit; beyond 15 digits it may miss by one.
floats = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e16, 5.0]) | st.builds(
    lambda mantissa, exponent: float(f"{mantissa}e{exponent}"),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(-20, 6),
)
values = st.recursive(
    keys | floats | data.map(bytearray) | ranges,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner, max_size=5)
        | st.sets(keys, max_size=5)
    ),
    max_leaves=20,
)


def canonical(value: object) -> str:
    """A text that is equal for equal values of equal types, nan and -0.0 told apart."""
    kind = type(value).__name__
    if isinstance(value, dict):
        pairs = sorted(f"{canonical(key)}:{canonical(item)}" for key, item in value.items())
        return f"{kind}<{','.join(pairs)}>"
    if isinstance(value, set | frozenset):
        return f"{kind}<{','.join(sorted(map(canonical, value)))}>"
    if isinstance(value, list | tuple):
        return f"{kind}<{','.join(map(canonical, value))}>"
    return f"{kind} {hex(value) if type(value) is int else repr(value)}"


class Board:
    """A session with a board that knows DEFINITIONS, for tests that are not asynchronous."""

    def __init__(self, runner: asyncio.Runner, session: Session) -> None:
        self.session = session
        self.printed = bytearray()
        self._runner = runner

    async def emit(self, data: bytes) -> None:
        self.printed += data

    def call(self, function: str, *arguments: object, **keywords: object) -> Outcome:
        call = prepare(function, arguments, keywords)
        return self._runner.run(self._within(self.session.call(call, self.emit)))

    def evaluate(self, expression: str) -> Outcome:
        return self._runner.run(self._within(self.session.evaluate(expression, self.emit)))

    def run(self, source: str) -> Outcome:
        """Run statements, which takes the board out of its loop."""
        return self._runner.run(self._within(self.session.run(source, self.emit)))

    def converse(self, arguments: Sequence[object]) -> list[Outcome]:
        """Echo each argument, all at once."""
        outcomes: dict[int, Outcome] = {}

        async def emit(number: int, data: bytes) -> None:
            self.printed += data

        async def settle(number: int, outcome: Outcome) -> None:
            assert number not in outcomes
            outcomes[number] = outcome

        calls = [prepare("echo", [argument], {}) for argument in arguments]
        self._runner.run(self._within(self.session.converse(calls, emit, settle)))
        return [outcomes[number] for number in range(len(calls))]

    def items(self, argument: object) -> list[object]:
        """Return what each(argument) yields."""
        found: list[object] = []
        orders = Orders(1000)

        async def item(value: object) -> None:
            found.append(value)

        call = prepare("each", [argument], {})
        ended = self._runner.run(self._within(self.session.iterate(call, orders, self.emit, item)))
        assert ended == Returned(None)
        return found

    async def _within(self, operation):  # type: ignore[no-untyped-def]
        async with asyncio.timeout(PATIENCE):
            return await operation


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with asyncio.Runner() as runner:
        folder: Path = tmp_path_factory.mktemp("boards") / "board"
        session = Session("board", runner.run(open_simulated(folder, heap_kib=4096)), letters)
        board = Board(runner, session)
        runner.run(session.start(board.emit))
        assert board.run(DEFINITIONS) == Returned(None)
        yield board
        runner.run(session.close())


def value_of(outcome: Outcome) -> object:
    assert isinstance(outcome, Returned), outcome
    return outcome.value


def nested(levels: int, wrap: Callable[[object], object]) -> object:
    value: object = -0.0
    for _ in range(levels):
        value = wrap(value)
    return value


thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(values)
@example([])
@example(((),))
@example([{}, set(), frozenset(), (), b"", "", bytearray()])
@example(nested(MAX_DEPTH, lambda inner: [inner]))
@example(nested(MAX_DEPTH, lambda inner: (inner,)))
@example(nested(MAX_DEPTH - 1, lambda inner: {"": inner}))
@example({b"\0" * 300: [b"\x03" * 400, bytearray(b"\x04>" * 200)]})
@example(10**5000)
def test_what_is_sent_comes_back_as_the_same_value_of_the_same_type(board: Board, value: object) -> None:
    assert canonical(value_of(board.call("echo", value))) == canonical(value)


@thorough
@given(st.lists(values, max_size=12))
def test_many_on_their_way_come_back_each_as_itself(board: Board, sent: list[object]) -> None:
    outcomes = board.converse(sent)
    assert [canonical(value_of(outcome)) for outcome in outcomes] == [*map(canonical, sent)]


@settings(thorough, max_examples=60)
@given(st.lists(values, max_size=8))
def test_a_generators_items_come_each_as_itself(board: Board, sent: list[object]) -> None:
    assert [*map(canonical, board.items(sent))] == [*map(canonical, sent)]


@settings(thorough, max_examples=60)
@given(values, values)
def test_keywords_and_several_arguments_stay_apart(board: Board, first: object, second: object) -> None:
    answer = value_of(board.call("pack", first, second, other=first))
    assert canonical(answer) == canonical(((first, second), {"other": first}))


@settings(thorough, max_examples=60)
@given(st.floats(allow_nan=False))
def test_any_float_comes_back_within_the_last_bits(board: Board, value: float) -> None:
    [came] = [value_of(board.call("echo", value))]
    assert isinstance(came, float)
    assert came == value or abs(came - value) <= 4 * math.ulp(value)


@pytest.mark.parametrize(
    ("expression", "type_name"),
    [
        ("'\\ud800'", "str"),
        ("['\\ud800']", "list"),
        ("{'\\ud800': [1, {2: 3}]}", "dict"),
        ("{('\\ud800', ':')}", "set"),
        ("('\\ud800',)", "tuple"),
        ("frozenset(['\\ud800'])", "frozenset"),
        ("10**20001", "int"),
        ("deep(31)", "list"),
        ("deep(50, tuple)", "tuple"),
        ("'\\ud800' * 30000", "str"),
    ],
)
def test_what_no_client_could_be_given_keeps_its_types_name(
    board: Board, expression: str, type_name: str
) -> None:
    value = value_of(board.evaluate(expression))
    assert isinstance(value, Repr)
    assert value.type_name == type_name


@pytest.mark.parametrize("expression", ["loop", "[1, loop]", "wide"])
def test_what_holds_itself_ends_as_an_exception(board: Board, expression: str) -> None:
    outcome = board.evaluate(expression)
    assert isinstance(outcome, Raised)
    assert outcome.exception.type_name in ("RuntimeError", "MemoryError")
    assert board.evaluate("6 * 7") == Returned(42)


def test_what_is_printed_while_a_value_is_shown_is_output(board: Board) -> None:
    board.printed.clear()
    assert board.evaluate("[Loud()]") == Returned(Repr("list", "[[5]]"))
    assert bytes(board.printed) == b"[4]"


def test_every_character_comes_back(board: Board) -> None:
    everything = "".join(chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000)
    everything += "\U0001f40d\U0010ffff"
    for start in range(0, len(everything), 5000):
        assert (
            value_of(board.call("echo", everything[start : start + 5000])) == everything[start : start + 5000]
        )


@pytest.mark.parametrize(
    ("expression", "type_name"),
    [
        ("Five()", "Five"),
        ("Text('text')", "Text"),
        ("Number(5)", "Number"),
        ("Numbers([1, 2])", "Numbers"),
        ("Pair((1, 2))", "Pair"),
        ("Table({1: 2})", "Table"),
        ("Point(1, 2)", "Point"),
        ("OrderedDict([(1, 2)])", "OrderedDict"),
        ("OrderedDict()", "OrderedDict"),
        ("array.array('i', [1, 2])", "array"),
        ("memoryview(b'abc' * 50)", "memoryview"),
        ("echo", "function"),
        ("print", "function"),
        ("[].append", "bound_method"),
        ("each([])", "generator"),
        ("(x for x in [])", "generator"),
        ("iter([])", "iterator"),
        ("{1: 2}.keys()", "dict_view"),
        ("Five", "type"),
        ("int", "type"),
        ("ValueError('5')", "ValueError"),
        ("array", "module"),
        ("...", "ellipsis"),
        ("NotImplemented", "NotImplementedType"),
        ("object()", "object"),
        ("slice(1)", "slice"),
        ("deque((), 3)", "deque"),
        ("map(int, [])", "map"),
    ],
)
@pytest.mark.parametrize(
    ("outer", "container"),
    [
        ("%s", ""),
        ("[%s]", "list"),
        ("(%s,)", "tuple"),
        ("{'a': %s}", "dict"),
        ("[{'a': [({1: [%s]},)]}]", "list"),
    ],
)
def test_what_has_no_type_here_arrives_as_its_text_and_never_as_something_else(
    board: Board, expression: str, type_name: str, outer: str, container: str
) -> None:
    outcome = board.evaluate(outer % expression)
    if isinstance(outcome, Raised):
        assert outcome.exception.type_name in ("NameError", "TypeError"), outcome  # not on this firmware
        return
    assert isinstance(outcome.value, Repr), outcome
    if container or type_name:
        assert outcome.value.type_name == (container or type_name)
