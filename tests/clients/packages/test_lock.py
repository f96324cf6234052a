from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.lock import Key, Lock, LockedFile, LockedPackage
from belayd_client.packages.requirement import Requirement

FILE = LockedFile("a/ä.py", bytes(range(32)), 12, "https://host/a.py")
PACKAGE = LockedPackage(
    Key("a", "1.0", "6", "https://host/pi"),
    "1.0",
    (FILE,),
    (Requirement("b"), Requirement("github:o/r", "v1")),
)
BARE = LockedPackage(Key("github:o/r", "v1"), "", (), ())
ENTRY: dict[str, Any] = {
    "package": "a",
    "files": [{"path": "a.py", "sha256": "00" * 32, "size": 1, "url": "https://host/a.py"}],
}


def test_a_lock_is_read_as_it_was_written(tmp_path: Path) -> None:
    lock = Lock().with_packages([PACKAGE, BARE])

    lock.write(tmp_path / "belayd.lock")

    assert Lock.read(tmp_path / "belayd.lock") == lock
    assert [path.name for path in tmp_path.iterdir()] == ["belayd.lock"]


def test_the_order_is_always_the_same(tmp_path: Path) -> None:
    Lock().with_packages([PACKAGE, BARE]).write(tmp_path / "one")
    Lock().with_packages([BARE, PACKAGE]).write(tmp_path / "two")

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_absent_file_locks_nothing(tmp_path: Path) -> None:
    assert Lock.read(tmp_path / "belayd.lock") == Lock()


def test_a_package_replaces_what_was_asked_for_in_the_same_way() -> None:
    newer = LockedPackage(PACKAGE.key, "1.1", (), ())

    lock = Lock().with_packages([PACKAGE, BARE]).with_packages([newer])

    assert lock.packages == {PACKAGE.key: newer, BARE.key: BARE}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../boot.py"},
        {"path": "/boot.py"},
        {"sha256": "00" * 31},
        {"sha256": "zz" * 32},
        {"size": -1},
        {"size": "1"},
        {"size": True},
        {"url": "file:///etc/passwd"},
        {"url": None},
    ],
    ids=str,
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    entry = {**ENTRY, "files": [{**ENTRY["files"][0], **change}]}
    (tmp_path / "belayd.lock").write_text(json.dumps({"lock": 1, "packages": [entry]}))

    with pytest.raises(PreparationFailed, match=r"belayd\.lock"):
        Lock.read(tmp_path / "belayd.lock")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"lock": 2, "packages": []}',
        '{"lock": 1, "packages": {"a": 1}}',
        '{"lock": 1, "packages": [{}]}',
        '{"lock": 1, "packages": [{"package": "a", "files": [], "dependencies": [["a"]]}]}',
        '{"lock": 1, "packages": [{"package": "a", "files": [], "dependencies": [["./a", ""]]}]}',
        "<<<<<<< HEAD",
    ],
)
def test_what_is_no_lock_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "belayd.lock").write_text(text)

    with pytest.raises(PreparationFailed, match=r"belayd\.lock"):
        Lock.read(tmp_path / "belayd.lock")


def test_a_file_that_would_not_change_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "belayd.lock"
    Lock().with_packages([PACKAGE]).write(path)
    before = path.stat().st_ino

    Lock.read(path).write(path)

    assert path.stat().st_ino == before


def test_a_lock_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(PreparationFailed, match="cannot write"):
        Lock().write(tmp_path / "absent" / "belayd.lock")
