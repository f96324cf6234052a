"""Belay 0.30, unchanged, takes a simulated board for a board.

Where Belay fails for a reason of its own, the test's name or a comment says which.
Always with `startup=""`: its default startup imports machine.Pin, which a board
without pins does not have.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import belay
import pytest

Connect = Callable[..., belay.Device]


@pytest.fixture
def board(simulated_pty: Callable[..., Any]) -> Any:
    return simulated_pty("board", files={"boot.py": "booted = True\n"})


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A factory of Belay's devices, closed with the test."""
    with ExitStack() as stack:

        def open_device(board: Any, kind: type[belay.Device] = belay.Device) -> belay.Device:
            device = kind(str(board.path), startup="")
            stack.callback(device.close)
            return device

        yield open_device


@pytest.fixture
def device(board: Any, connect: Connect) -> belay.Device:
    return connect(board)


def test_it_connects_and_knows_what_the_board_is(device: belay.Device) -> None:
    assert device.implementation.name == "micropython"
    assert device.implementation.version[0] == 1
    assert device("booted") is True


@pytest.mark.parametrize(
    "value",
    [3, -(2**70), 1.5, True, None, b"\x00\xff\x04", [1, [2]], (1,), {"a": {1: b"x"}}, {1, 2}, "it's \x04 \\"],
    ids=repr,
)
def test_expressions_have_their_values(device: belay.Device, value: object) -> None:
    # In brackets: alone at the start, it takes a string for a docstring and removes it.
    assert device(f"({value!r})") == value


def test_statements_have_none_and_their_names_stay(device: belay.Device) -> None:
    assert device("x = [3]") is None
    assert device("x.append(4)\nx.append(5)") is None
    assert device("x") == [3, 4, 5]


def test_lines_that_code_prints_go_to_the_stream_as_they_come(device: belay.Device) -> None:
    shown = io.StringIO()

    assert device("[print('line', n) for n in range(200)] and 7", stream_out=shown) == 7

    assert shown.getvalue() == "".join(f"line {n}\n" for n in range(200))


def test_tasks_are_called_with_arguments_and_keywords(device: belay.Device) -> None:
    @device.task
    def scale(values: list[int], by: int = 2, **more: str) -> tuple[list[int], dict[str, str]]:
        return [value * by for value in values], more

    assert scale([1, 2]) == ([2, 4], {})
    assert device.task.scale([1], by=10**20, unit="é") == ([10**20], {"unit": "é"})
    assert [scale([n])[0][0] for n in range(100)] == list(range(0, 200, 2))


def test_a_generator_task_yields_and_takes_values(device: belay.Device) -> None:
    @device.task
    def echo(count: int) -> Any:
        got = "first"
        for _ in range(count):
            got = yield got

    items = echo(3)

    assert [next(items), items.send("b"), items.send({"c": 1})] == ["first", "b", {"c": 1}]
    assert list(items) == []
    assert list(echo(50)) == ["first", *[None] * 49]


def test_setup_and_teardown_run_in_the_boards_globals(board: Any, connect: Connect) -> None:
    device = connect(board)

    @device.setup
    def prepare(start: int) -> None:
        state = {"n": start}  # noqa: F841

    @device.teardown
    def tidy() -> None:
        print(state["n"], file=open("bye.txt", "w"))  # type: ignore[name-defined]  # noqa: F821, PTH123, SIM115

    prepare(4)
    assert device("(start, state)") == (4, {"n": 4})
    device("state['n'] += 1")
    device.close()

    assert (board.folder / "bye.txt").read_text() == "5\n"


def test_a_subclass_is_set_up_by_itself(board: Any, connect: Connect) -> None:
    class Counter(belay.Device):
        @belay.Device.setup(autoinit=True)
        def begin() -> None:
            count = 10  # noqa: F841

        @belay.Device.task
        def up(by: int) -> int:
            global count
            count += by  # type: ignore[name-defined]
            return count  # type: ignore[name-defined]

    assert connect(board, Counter).up(5) == 15


def test_a_proxy_stands_for_an_object_on_the_board(device: belay.Device) -> None:
    device("class Lamp:\n def __init__(self): self.levels = [1, 2, 3]\n def dim(self, by): return by - 1\n")

    lamp = device.proxy("Lamp()")
    lamp.level = 7

    assert (lamp.level, lamp.dim(5), lamp.levels[1], len(lamp.levels)) == (7, 4, 2, 3)


def test_an_exception_on_the_board_is_told_at_the_hosts_line(device: belay.Device) -> None:
    @device.task
    def divide(a: int, b: int) -> int:
        return a // b

    with pytest.raises(belay.PyboardException) as caught:
        divide(1, 0)

    assert "ZeroDivisionError: divide by zero" in str(caught.value)
    assert Path(__file__).name in str(caught.value)
    assert "return a // b" in str(caught.value)
    assert divide(6, 2) == 3


@pytest.mark.parametrize("code", ["x ==", "1/0", "raise ValueError('e')", "missing", "import no_such_module"])
def test_code_that_fails_leaves_the_board_in_order(device: belay.Device, code: str) -> None:
    with pytest.raises(belay.PyboardException, match="Error"):
        device(code)

    assert device("1 + 2") == 3


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_sync_makes_the_boards_files_those_of_a_folder(
    board: Any, device: belay.Device, tmp_path: Path
) -> None:
    # What a second sync sends is not asked: Belay's viper hash is wrong on 64 bit, and it sends all again.
    tree = tmp_path / "tree"
    (tree / "package").mkdir(parents=True)
    (tree / "package" / "__init__.py").write_text("answer = 42\n")
    (tree / "blob.bin").write_bytes(bytes(range(256)) * 20)
    (board.folder / "old.txt").write_text("goes")

    for _ in range(2):
        device.sync(tree, minify=False)
        left = {str(p.relative_to(board.folder)) for p in board.folder.rglob("*") if p.is_file()}
        assert left == {"boot.py", "blob.bin", "package/__init__.py"}
        assert (board.folder / "blob.bin").read_bytes() == (tree / "blob.bin").read_bytes()

    device("import package")
    assert device("package.answer") == 42


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_sync_works_on_a_littlefs(
    simulated_pty: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    device = connect(simulated_pty("small", "--flash", "256"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "main.py").write_text("def main():\n    return 'ran'\n")

    device.sync(tmp_path / "tree")
    device("import main")

    assert device("main.main()") == "ran"
    assert device("os.listdir('/')") == ["main.py"]


def test_a_closed_device_leaves_the_board_to_the_next_without_its_names(board: Any, connect: Connect) -> None:
    first = connect(board)
    first("mine = 1")
    first.close()
    first.close()

    second = connect(board)

    assert second("'mine' in globals()") is False
    assert second("booted") is True


def test_its_soft_reset_runs_the_boards_own_program(
    simulated_pty: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    main = "print('main runs')\nimport time\nwhile True: time.sleep(1)\n"
    board = simulated_pty("own", files={"main.py": main})
    device = connect(board)

    device.soft_reset()

    # It leaves the board there, for whoever has the port.
    device._board.read_until(b"main runs")
    device.close()
    assert connect(board)("1 + 2") == 3


def test_it_interrupts_a_boards_own_program_to_connect(
    simulated_pty: Callable[..., Any], connect: Connect
) -> None:
    board = simulated_pty("busy", files={"main.py": "while True: print('main')\n"})

    assert connect(board)("6 * 7") == 42


class CtrlC(io.StringIO):
    """A user who presses Ctrl-C at the first line that is shown."""

    def write(self, text: str) -> int:
        raise KeyboardInterrupt


def test_after_ctrl_c_a_close_ends_the_program_and_the_next_device_finds_a_prompt(
    board: Any, connect: Connect
) -> None:
    # Ctrl-C ends Belay's call on the host only; its close is what interrupts the board.
    device = connect(board)
    with pytest.raises(KeyboardInterrupt):
        device("print('begun')\nwhile True: pass", stream_out=CtrlC())

    device.close()

    assert connect(board)("6 * 7") == 42


def test_a_program_that_is_interrupted_runs_its_finally(board: Any, connect: Connect) -> None:
    device = connect(board)
    code = "print('begun')\ntry:\n while True: pass\nfinally: open('ended', 'w').close()\n"
    with pytest.raises(KeyboardInterrupt):
        device(code, stream_out=CtrlC())

    device.close()
    connect(board)

    assert (board.folder / "ended").exists()
