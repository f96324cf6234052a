"""The folders that boards get between holders, read with the inventory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from belayd.inventory import DeployTree, InventoryError, load
from belayd.inventory.trees import MOST_FILES, Trees, TreeUnusable

LAB = """\
version: 1
defaults:
  between: {deploy: clean}
boards:
  a: {simulated: {}}
  b: {simulated: {}, between: {deploy: ./clean}}
  c: {simulated: {}, between: wipe}
adopt:
  - {usb: {vid: 2e8a}, name: "pico-{serial_number}"}
"""


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    (tmp_path / "clean" / "lib").mkdir(parents=True)
    (tmp_path / "clean" / "main.py").write_text("x = 1\n")
    (tmp_path / "clean" / "lib" / "a.py").write_text("")
    (tmp_path / "lab.yaml").write_text(LAB)
    (tmp_path / "lab.yaml").chmod(0o600)
    return tmp_path / "clean"


def test_boards_and_rules_share_the_contents_of_a_folder(clean: Path) -> None:
    inventory = load(clean.parent / "lab.yaml")

    owners = [inventory.boards["a"], inventory.boards["b"], *inventory.adopt]
    trees = [owner.between for owner in owners]
    assert all(isinstance(tree, DeployTree) for tree in trees)
    files = [tree.files for tree in trees if isinstance(tree, DeployTree)]
    assert [(file.path, file.content) for file in files[0]] == [("lib/a.py", b""), ("main.py", b"x = 1\n")]
    assert files[0] is files[1] is files[2]


def test_what_editors_and_version_control_leave_is_left_out(clean: Path) -> None:
    for name in (".git/config", "__pycache__/a.pyc", "lib/a.pyc", "main.py~", ".gitignore"):
        (clean / name).parent.mkdir(exist_ok=True)
        (clean / name).write_text("x")

    assert [file.path for file in Trees().read(clean)] == ["lib/a.py", "main.py"]


def test_a_link_that_stays_inside_is_followed(clean: Path) -> None:
    (clean / "again.py").symlink_to("main.py")

    assert [file.path for file in Trees().read(clean)] == ["again.py", "lib/a.py", "main.py"]


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda clean: clean.rename(clean.with_name("gone")), "is not a folder"),
        (lambda clean: (clean / "out").symlink_to("/etc"), "is a link out of the folder"),
        (lambda clean: (clean / "lib" / "up").symlink_to(".."), "is a link to a folder that it is in"),
        (lambda clean: (clean / "x").symlink_to("x"), "cannot be read"),
        (lambda clean: os.mkfifo(clean / "pipe"), "is neither a file nor a folder"),
        (lambda clean: (clean / "a\\b").touch(), "cannot be on a board"),
        (lambda clean: (clean / "a\nb").touch(), "cannot be on a board"),
        (lambda clean: Path(os.fsdecode(os.fsencode(clean) + b"/\xff")).touch(), "is not UTF-8"),
        (lambda clean: (clean / ".belayd-0123456789ab").touch(), "belayd's own"),
        (
            lambda clean: [(clean / f"f{number}").touch() for number in range(MOST_FILES)],
            f"more than {MOST_FILES} files",
        ),
    ],
    ids=["none", "link-out", "circle", "loop", "fifo", "backslash", "newline", "bytes", "ours", "many"],
)
def test_what_cannot_go_on_a_board_is_a_mistake(clean: Path, break_it: object, why: str) -> None:
    assert callable(break_it)
    break_it(clean)

    with pytest.raises(TreeUnusable, match=why):
        Trees().read(clean)


def test_a_mistake_is_told_once_where_each_folder_is_named(clean: Path) -> None:
    text = LAB.replace("between: wipe", "between: {deploy: elsewhere}")
    (clean.parent / "lab.yaml").write_text(text)
    clean.rename(clean.with_name("gone"))

    with pytest.raises(InventoryError) as told:
        load(clean.parent / "lab.yaml")

    assert [(problem.line, problem.key) for problem in told.value.problems] == [
        (3, "defaults.between"),
        (6, "boards.b.between"),
        (7, "boards.c.between"),
    ]
