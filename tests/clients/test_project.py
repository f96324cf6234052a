from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from belayd_client import project
from belayd_client.errors import PreparationFailed


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def paths(root: Path, *ignore: str) -> list[str]:
    return [file.path for file in project.read(root, ignore).files]


def test_files_come_sorted_with_hash_and_size(tmp_path: Path) -> None:
    tree(tmp_path, "main.py", "lib/z.py", "lib/a.py", "ärger mit 'quotes\".txt")

    files = project.read(tmp_path).files

    assert [file.path for file in files] == ["lib/a.py", "lib/z.py", "main.py", "ärger mit 'quotes\".txt"]
    assert files[2].sha256 == hashlib.sha256(b"main.py").digest()
    assert files[2].size == 7
    assert b"".join(files[2].chunks()) == b"main.py"


def test_equal_contents_are_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")

    read = project.read(tmp_path)

    assert len(read.contents()) == 1
    assert read.size == 8


def test_what_tools_leave_behind_is_not_deployed(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "main.py",
        ".git/config",
        "lib/__pycache__/x.pyc",
        "old.pyc",
        ".DS_Store",
        "main.py~",
        ".main.py.swp",
        "#main.py#",
        ".vscode/settings.json",
        ".gitignore",
    )

    assert paths(tmp_path) == ["main.py"]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (["*.md"], ["data/a.txt", "data/keep.txt", "docs/a.txt", "main.py", "x/data/a.txt"]),
        (["data/"], ["a.md", "docs/a.txt", "docs/b.md", "main.py"]),
        (["/data"], ["a.md", "docs/a.txt", "docs/b.md", "main.py", "x/data/a.txt"]),
        (
            ["data/*", "!data/keep.txt"],
            ["a.md", "data/keep.txt", "docs/a.txt", "docs/b.md", "main.py", "x/data/a.txt"],
        ),
        (["**/a.txt"], ["a.md", "data/keep.txt", "docs/b.md", "main.py"]),
        (["docs/*.md"], ["a.md", "data/a.txt", "data/keep.txt", "docs/a.txt", "main.py", "x/data/a.txt"]),
    ],
)
def test_patterns_are_gitignores_and_relative_to_the_folder(
    tmp_path: Path, ignore: list[str], left: list[str]
) -> None:
    root = tree(
        tmp_path / "data",
        "main.py",
        "a.md",
        "data/a.txt",
        "data/keep.txt",
        "docs/a.txt",
        "docs/b.md",
        "x/data/a.txt",
    )

    assert paths(root, *ignore) == left


def test_a_default_can_be_taken_back(tmp_path: Path) -> None:
    tree(tmp_path, "a.pyc", "b.pyc")

    assert paths(tmp_path, "!a.pyc") == ["a.pyc"]


def test_a_folder_above_that_matches_a_pattern_ignores_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path / "build" / "src", "main.py")

    assert paths(root, "build", "src") == ["main.py"]


@pytest.mark.parametrize("name", ["new\nline", "del\x7f"])
def test_a_name_that_cannot_go_on_a_board_is_refused(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "main.py", name)

    with pytest.raises(PreparationFailed, match="cannot be in a name"):
        project.read(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")

    with pytest.raises(PreparationFailed, match="not UTF-8"):
        project.read(tmp_path)


def test_an_ignored_name_may_be_anything(tmp_path: Path) -> None:
    tree(tmp_path, "main.py", "odd\\name.tmp")
    os.mkfifo(tmp_path / "pipe.tmp")
    (tmp_path / "out.tmp").symlink_to("/")

    assert paths(tmp_path, "*.tmp") == ["main.py"]


def test_a_link_inside_is_followed(tmp_path: Path) -> None:
    tree(tmp_path, "lib/a.py")
    (tmp_path / "b.py").symlink_to("lib/a.py")
    (tmp_path / "lib2").symlink_to("lib")

    assert paths(tmp_path) == ["b.py", "lib/a.py", "lib2/a.py"]


@pytest.mark.parametrize("aim", ["../outside.py", "../outside", "missing.py", ".", "loop"])
def test_a_link_that_leads_out_or_nowhere_is_refused(tmp_path: Path, aim: str) -> None:
    tree(tmp_path, "outside.py", "outside/x.py", "src/main.py")
    (tmp_path / "src" / "loop").symlink_to(aim)

    with pytest.raises(PreparationFailed, match="loop"):
        project.read(tmp_path / "src")


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    tree(tmp_path, "src/main.py")
    (tmp_path / "link").symlink_to("src")

    assert paths(tmp_path / "link") == ["main.py"]


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(PreparationFailed, match="neither a file nor a folder"):
        project.read(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "file")

    with pytest.raises(PreparationFailed, match="is not a folder"):
        project.read(tmp_path / name)


def test_a_file_that_was_cut_since_it_was_read_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "main.py")
    (file,) = project.read(tmp_path).files
    (tmp_path / "main.py").write_text("m")

    with pytest.raises(PreparationFailed, match="changed"):
        list(file.chunks())


def test_a_file_that_grew_is_sent_as_it_was_read(tmp_path: Path) -> None:
    tree(tmp_path, "main.py")
    (file,) = project.read(tmp_path).files
    (tmp_path / "main.py").write_text("main.py and more")

    assert b"".join(file.chunks()) == b"main.py"
