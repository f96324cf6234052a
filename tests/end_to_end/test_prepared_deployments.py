"""Projects that are checked, minified and compiled here, on boards that run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from belayd_client import BoardException, Client, PreparationFailed

PROGRAM = '''"""A module."""
# PEERS: 1, braces, leading strings and their like

import sys


def braces(x):
    """Doc."""
    return f"{{ {x} }}"  # {{ }}


def strings():
    "one"
    return ["'hello'", """two
    # no comment
""", f\'\'\'{1}
  # none
\'\'\', "it's"]


class Counter:
    """Counts.

    From one.
    """

    def __init__(self):
        self.count = 1  # from one

    def generate(self):
        # a comment
        while self.count < 3:
            yield self.count, [
                # in brackets
                self.count,
                   2,
            ]
            self.count += \\
                1

    def fail(self):
        """Raise."""
        # line 42
        raise ValueError("here")


RESULT = [braces(1), strings(), list(Counter().generate())]
'''


@pytest.fixture(scope="module")
def lab(shared_daemon, sim):
    return shared_daemon({"sim-1": sim, "sim-2": sim})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _own_cache(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)


@pytest.fixture
def client(lab) -> Client:
    found: Client = lab.client
    for board in ("sim-1", "sim-2"):
        found.reset(board)
    return found


def imported(client: Client, board: str, module: str, value: str, path: str) -> object:
    """Return a value of a module that the board imports anew from a folder."""
    client.run(board, f"import sys\nsys.modules.pop({module!r}, None)\nsys.path.insert(0, {path!r})")
    try:
        return client.evaluate(board, f"__import__({module!r}).{value}")
    finally:
        client.run(board, "sys.path.pop(0)")


def files(client: Client, board: str, folder: str) -> set[str]:
    found = client.evaluate(board, f"__import__('os').listdir({folder!r})")
    assert isinstance(found, list)
    return set(found)


def write(folder: Path, **sources: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return folder


def test_a_compiled_tree_imports(client: Client, tmp_path: Path) -> None:
    folder = write(tmp_path / "src", program=PROGRAM, main="import program\n")

    client.deploy("sim-1", folder, dst="/mpy", mpy=True)

    assert files(client, "sim-1", "/mpy") == {"main.py", "program.mpy"}
    assert imported(client, "sim-1", "program", "RESULT[2]", "/mpy") == [(1, [1, 2]), (2, [2, 2])]
    assert imported(client, "sim-1", "program", "__file__", "/mpy") == "/mpy/program.mpy"


def test_native_code_is_compiled_for_the_board(client: Client, tmp_path: Path) -> None:
    native = (
        "import micropython\n@micropython.native\ndef f(x):\n    return x * 2\n"
        "@micropython.viper\ndef g(x: int) -> int:\n    return x + 1\n"
    )
    folder = write(tmp_path / "src", fast=native)

    client.deploy("sim-1", folder, dst="/native", mpy=True)

    assert imported(client, "sim-1", "fast", "f(21) + __import__('fast').g(0)", "/native") == 43


def test_a_traceback_of_a_compiled_file_has_its_line(client: Client, tmp_path: Path) -> None:
    folder = write(tmp_path / "src", program=PROGRAM)
    client.deploy("sim-1", folder, dst="/lines", mpy=True)

    with pytest.raises(BoardException) as caught:
        imported(client, "sim-1", "program", "Counter().fail()", "/lines")

    line = PROGRAM[: PROGRAM.index("raise ValueError")].count("\n") + 1
    assert f'File "program.py", line {line}, in fail' in caught.value.traceback


def test_a_minified_tree_behaves_as_it_did(client: Client, tmp_path: Path) -> None:
    folder = write(tmp_path / "src", program=PROGRAM)
    full = client.deploy("sim-1", folder, dst="/full")
    short = client.deploy("sim-1", folder, dst="/short", minify=True)

    assert short.payload_bytes < 0.8 * full.payload_bytes
    assert imported(client, "sim-1", "program", "RESULT", "/short") == imported(
        client, "sim-1", "program", "RESULT", "/full"
    )
    tracebacks = []
    for place in ("/full", "/short"):
        with pytest.raises(BoardException) as caught:
            imported(client, "sim-1", "program", "Counter().fail()", place)
        tracebacks.append(caught.value.traceback.replace(place, ""))
    assert tracebacks[0] == tracebacks[1]
    assert "here" in tracebacks[0]


def test_source_from_before_does_not_hide_what_was_compiled(client: Client, tmp_path: Path) -> None:
    client.deploy("sim-1", write(tmp_path / "old", a="VALUE = 'old'\n", b="VALUE = 'b'\n"), dst="/hidden")

    done = client.deploy("sim-1", write(tmp_path / "new", a="VALUE = 'new'\n"), dst="/hidden", mpy=True)

    assert files(client, "sim-1", "/hidden") == {"a.mpy", "b.py"}
    assert imported(client, "sim-1", "a", "VALUE", "/hidden") == "new"
    assert (done.files_written, done.files_deleted) == (1, 1)


@pytest.mark.parametrize("options", [[], ["--minify"], ["--mpy"]], ids=["plain", "minify", "mpy"])
def test_one_broken_file_changes_nothing_on_any_board(
    lab, client: Client, tmp_path: Path, cache: str, options: list[str]
) -> None:
    """PEERS, fault 3: there the board was wiped, and then the file refused."""
    good = write(tmp_path / "good", a="VALUE = 1\n")
    for board in ("sim-1", "sim-2"):
        client.deploy(board, good, dst="/whole", prune=True)
    write(tmp_path / "good", a="VALUE = 2\n", new="x = 1\n", zz="def f(:\n    pass\n")

    done = lab.belayctl(
        "deploy", "-l", "chip=sim", good, "--dst", "/whole", "--prune", *options, XDG_CACHE_HOME=cache
    )

    assert done.returncode == 3
    assert "zz.py, line 1" in done.stderr
    assert done.stdout == ""
    for board in ("sim-1", "sim-2"):
        assert files(client, board, "/whole") == {"a.py"}
        assert imported(client, board, "a", "VALUE", "/whole") == 1


def test_a_broken_file_that_is_to_be_left_alone_is_sent(client: Client, tmp_path: Path) -> None:
    folder = write(tmp_path / "src", template="{{ broken }} = = \n", a="x = 1\n")

    with pytest.raises(PreparationFailed, match=r"template\.py, line 1"):
        client.deploy("sim-1", folder, dst="/alone", mpy=True)
    client.deploy("sim-1", folder, dst="/alone", mpy=True, as_is=["template.py"])

    assert files(client, "sim-1", "/alone") == {"template.py", "a.mpy"}


def test_odd_names_and_ignored_folders_above_do_no_harm(client: Client, tmp_path: Path) -> None:
    """PEERS, fault 9: there a quote in a name failed, and ignore matched folders above the one given."""
    odd = {"it's", 'say "hi"', "a b", "caf\u00e9", "$HOME", "per%cent", "{x}"}
    folder = tmp_path / "build" / "src"
    folder.mkdir(parents=True)
    write(folder, **{name: f"NAME = {name!r}\n" for name in odd})

    client.deploy("sim-1", folder, dst="/odd", mpy=True, ignore=["build/", "src/", "tmp*/"])

    assert files(client, "sim-1", "/odd") == {f"{name}.mpy" for name in odd}
    for name in odd:
        assert imported(client, "sim-1", name, "NAME", "/odd") == name


def test_a_project_says_what_becomes_of_it(lab, client: Client, tmp_path: Path, cache: str) -> None:
    (tmp_path / "src").mkdir()
    write(tmp_path / "src", a="VALUE = 3  # compiled\n", boot="# boots\nimport belayd_guard\n")
    (tmp_path / "src" / "notes.md").touch()
    (tmp_path / "belayd.toml").write_text(
        'sources = ["src"]\ndestination = "/project"\nignore = ["*.md"]\nmpy = true\nminify = true\n'
        "boot_guard = true\n"
    )

    dry = lab.belayctl("deploy", "sim-1", tmp_path, "--dry-run", XDG_CACHE_HOME=cache)
    done = lab.belayctl("deploy", "-l", "chip=sim", tmp_path, "--json", XDG_CACHE_HOME=cache)
    again = lab.belayctl("deploy", "sim-1", tmp_path, "--no-mpy", "--dry-run", XDG_CACHE_HOME=cache)

    assert done.returncode == 0, done.stderr
    assert "sim-1: write  /project/a.mpy" in dry.stdout.splitlines()
    assert "would write 3 files" in dry.stdout
    assert "on the wire" in dry.stdout
    for summary in json.loads(done.stdout):
        assert summary["files_written"] == 3
        assert summary["wire_bytes"] > 0
    assert files(client, "sim-2", "/project") == {"a.mpy", "boot.py", "belayd_guard.py"}
    assert imported(client, "sim-2", "a", "VALUE", "/project") == 3
    assert "sim-1: write  /project/a.py" in again.stdout.splitlines()


def test_a_board_with_the_guard_starts(client: Client, tmp_path: Path) -> None:
    folder = write(tmp_path / "src", boot="import belayd_guard\nBOOTED = 'with the guard'\n")

    client.deploy("sim-2", folder, boot_guard=True)
    client.reset("sim-2")

    assert client.evaluate("sim-2", "BOOTED") == "with the guard"
    assert client.evaluate("sim-2", "'_BJ' in globals()") is False
