from __future__ import annotations

import os
from pathlib import Path

import pytest

from belayd.inventory import InventoryError, load, read_text, replace_text
from belayd.inventory.source import MAX_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text("version: 1\n")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InventoryError) as caught:
        load(path)
    return str(caught.value).removeprefix(f"{path}:")


def test_a_file_of_one_s_own_is_read(path: Path) -> None:
    assert read_text(path) == "version: 1\n"


def test_a_byte_order_mark_and_windows_line_ends_are_fine(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\nboards:\r\n  a: {simulated: {}}\r\n")

    assert list(load(path).boards) == ["a"]


def test_a_file_that_everybody_may_write_is_refused(path: Path) -> None:
    path.chmod(0o646)

    assert refusal(path) == f"1: can be written by everybody on this host; run: chmod o-w {path}"


def test_a_file_in_a_folder_that_everybody_may_write_is_refused(path: Path) -> None:
    path.parent.chmod(0o777)

    assert refusal(path).startswith(f"1: its folder {path.parent.resolve()} can be written by everybody")


def test_a_sticky_folder_is_fine(path: Path) -> None:
    path.parent.chmod(0o1777)

    assert load(path).boards == {}


def test_a_link_is_judged_by_what_it_leads_to(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    path.chmod(0o666)

    assert refusal(link).startswith("1: can be written by everybody")


def test_bytes_that_are_not_utf_8_are_told_with_their_line(path: Path) -> None:
    path.write_bytes(b"version: 1\n# K\xfcche\n")

    assert refusal(path) == "2: is not UTF-8; save the file as UTF-8"


def test_a_file_beyond_the_limit_is_refused(path: Path) -> None:
    path.write_bytes(b"version: 1\n" + b"#" * MAX_BYTES)

    assert refusal(path) == "1: is larger than 4 MiB; an inventory is small; is it one?"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "1: cannot be read: is a folder"


def test_a_pipe_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert refusal(tmp_path / "pipe") == "1: cannot be read: is not a regular file"


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no" / "lab.yaml") == "1: cannot be read: No such file or directory"


def test_replacing_keeps_the_mode_and_leaves_nothing_beside(path: Path) -> None:
    path.chmod(0o640)

    replace_text(path, "version: 1\nboards: {}\n")

    assert path.read_text() == "version: 1\nboards: {}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["lab.yaml"]


def test_replacing_writes_through_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(path)

    replace_text(link, "new")

    assert link.is_symlink()
    assert path.read_text() == "new"


def test_a_new_file_can_be_read_by_all_and_written_by_its_owner(tmp_path: Path) -> None:
    replace_text(tmp_path / "new.yaml", "version: 1\n")

    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o644


def test_text_that_cannot_be_written_leaves_the_old_file(path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "\ud800")

    assert path.read_text() == "version: 1\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["lab.yaml"]
