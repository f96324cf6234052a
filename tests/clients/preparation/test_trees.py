from __future__ import annotations

from pathlib import Path
from types import FunctionType

import pytest

from belayd.deployment import journal
from belayd_client import project
from belayd_client.board import Board, BoardFacts, BoardState
from belayd_client.errors import BoardUnavailable, PreparationFailed, Unsupported
from belayd_client.preparation.cache import Cache
from belayd_client.preparation.compiler import Kind
from belayd_client.preparation.guard import NAME
from belayd_client.preparation.trees import Recipe, kind_for, prepare
from belayd_client.project import Project

SIM = Kind("6.3", "x64")
PICO = Kind("6.1", "armv6m")


def write(root: Path, **files: str) -> Project:
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return project.read(root)


def contents(tree: Project) -> dict[str, bytes]:
    return {file.path: file.read() for file in tree.files}


def board(facts: BoardFacts | None) -> Board:
    return Board("b", BoardState.READY, "", 1, {}, "serial", "", facts, None, 0, 0, None)


def test_without_wishes_the_tree_is_the_project(tmp_path: Path, cache: Cache) -> None:
    files = write(tmp_path, main="x = 1  # kept\n", lib__a="y = 1\n")

    tree = prepare(files, [None], Recipe(), cache=cache)[None]

    assert tree.files == files.files
    assert tree.replaced == ()


def test_boards_that_take_other_mpy_files_get_other_trees(tmp_path: Path, cache: Cache) -> None:
    files = write(
        tmp_path,
        main="import a\n",
        boot="1\n",
        lib__a="import micropython\n@micropython.native\ndef f(): pass\n",
    )
    (tmp_path / "data.bin").write_bytes(b"\0\1")

    trees = prepare(project.read(tmp_path), [SIM, PICO, SIM], Recipe(mpy=True), cache=cache)

    assert set(trees) == {SIM, PICO}
    for tree in trees.values():
        assert [file.path for file in tree.files] == ["boot.py", "data.bin", "lib/a.mpy", "main.py"]
        assert tree.replaced == ("lib/a.py",)
    assert contents(trees[SIM])["lib/a.mpy"] != contents(trees[PICO])["lib/a.mpy"]
    assert contents(trees[SIM])["main.py"] == b"import a\n"
    assert files.files  # as it was


def test_with_both_wishes_what_stays_source_is_minified(tmp_path: Path, cache: Cache) -> None:
    files = write(tmp_path, main="import a  # source\n", a="x = 1  # compiled\n")

    tree = prepare(files, [SIM], Recipe(mpy=True, minify=True), cache=cache)[SIM]

    assert contents(tree)["main.py"] == b"import a\n"
    assert contents(tree)["a.mpy"][:2] == b"M\x06"


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(minify=True), Recipe(mpy=True)], ids=["plain", "minify", "mpy"]
)
@pytest.mark.parametrize("name", ["main", "lib__deep__a"])
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, cache: Cache, recipe: Recipe, name: str
) -> None:
    files = write(tmp_path, main="x = 1\n", b="y = 2\n")
    files = write(tmp_path, **{name: "x = 1\nif x:\n    y = = 2\n"})

    with pytest.raises(PreparationFailed, match=name.replace("__", "/") + r"\.py, line 3: "):
        prepare(files, [SIM if recipe.mpy else None], recipe, cache=cache)


def test_what_only_micropython_can_parse_passes(tmp_path: Path, cache: Cache) -> None:
    """mpy-cross has the last word on what this Python refuses."""
    (tmp_path / "a.py").write_bytes(b"x = 1  # caf\xe9\n")  # not UTF-8
    files = project.read(tmp_path)

    tree = prepare(files, [None], Recipe(minify=True), cache=cache)[None]

    assert contents(tree) == {"a.py": b"x = 1  # caf\xe9\n"}


def test_what_is_to_be_left_alone_is_not_even_read_as_python(tmp_path: Path, cache: Cache) -> None:
    files = write(tmp_path, templates__a="{{ name }} = = \n", b="x = 1  # gone\n")

    tree = prepare(files, [None], Recipe(minify=True, as_is=("templates/",)), cache=cache)[None]

    assert contents(tree) == {"templates/a.py": b"{{ name }} = = \n", "b.py": b"x = 1\n"}


def test_source_and_mpy_of_one_name_are_refused(tmp_path: Path, cache: Cache) -> None:
    write(tmp_path, a="x = 1\n")
    (tmp_path / "a.mpy").write_bytes(b"M\6\0\x1f")

    with pytest.raises(PreparationFailed, match=r"would both become a\.mpy"):
        prepare(project.read(tmp_path), [SIM], Recipe(mpy=True), cache=cache)


def test_a_second_preparation_takes_all_from_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache" / "belayd")
    files = write(tmp_path / "src", main="import a  # source\n", a="x = 1  # compiled\n")
    recipe = Recipe(minify=True)
    first = prepare(files, [None], recipe, cache=cache)
    times = {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*") if path.is_file()}

    second = prepare(files, [None], recipe, cache=cache)

    assert second == first
    assert {path: path.stat().st_mtime_ns for path in cache.folder.rglob("*") if path.is_file()} == times
    assert times


def test_the_guard_is_the_daemons_own_text(tmp_path: Path, cache: Cache) -> None:
    files = write(tmp_path, boot='"""Boots."""\n# first of all\nimport belayd_guard, machine\n')

    tree = prepare(files, [None], Recipe(boot_guard=True), cache=cache)[None]

    guard = contents(tree)[NAME].decode()
    ours: dict[str, object] = {}
    daemons: dict[str, object] = {}
    exec(guard.partition("try:\n _BJ(")[0], ours)
    exec(journal.guard().decode().partition("try:\n _BJ(")[0], daemons)
    assert code(ours["_BJ"]) == code(daemons["_BJ"])
    assert guard.endswith(
        journal.guard().decode()[-len("try:\n _BJ(None,2)\nexcept Exception:\n pass\ndel _BJ\n") :]
    )


def code(function: object) -> tuple[object, ...]:
    assert isinstance(function, FunctionType)
    return function.__code__.co_names, function.__code__.co_code


@pytest.mark.parametrize(
    "boot", [None, "import machine\n", "import machine\nimport belayd_guard\n", "1 = \n"]
)
def test_a_boot_file_that_does_not_begin_with_the_guard_is_refused(
    tmp_path: Path, cache: Cache, boot: str | None
) -> None:
    files = write(tmp_path, **({"main": "1\n"} if boot is None else {"boot": boot}))

    with pytest.raises(
        PreparationFailed, match=r"boot\.py must begin with: import belayd_guard|boot\.py, line 1"
    ):
        prepare(files, [None], Recipe(boot_guard=True), cache=cache)


def test_what_a_board_takes_is_known_or_refused() -> None:
    facts = BoardFacts("micropython", "1.29", "linux", "", "", 0, True, 2822)

    assert kind_for(board(facts)) == SIM
    with pytest.raises(BoardUnavailable, match="has not answered"):
        kind_for(board(None))
    with pytest.raises(Unsupported, match="circuitpython"):
        kind_for(board(BoardFacts("circuitpython", "9", "", "", "", 0, True, 2822)))
    with pytest.raises(Unsupported, match="not at all"):
        kind_for(board(BoardFacts("micropython", "1.9.2", "", "", "", 0, True, 0)))
    with pytest.raises(Unsupported, match=r"version 7\.0"):
        kind_for(board(BoardFacts("micropython", "2", "", "", "", 0, True, 7)))
