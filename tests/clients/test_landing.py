"""Files from boards land below one folder, whatever a board calls them and whatever stands there."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from belayd_client.errors import RequestInvalid
from belayd_client.landing import Landing, parts_below, pour

NAMES = ['it\'s "so".py', " a b ", "grüße 日本 \U0001f600", "back\\slash", "%s{}#", "\t\x01\x04\n", "..."]


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    with Landing(tmp_path / "here") as landing:
        yield landing


@pytest.mark.parametrize(
    ("top", "path"),
    [
        ("/", "etc/passwd"),
        ("/", "//etc/passwd"),
        ("/", "/../boot.py"),
        ("/", "/a/../../b"),
        ("/", "/a/./b"),
        ("/", "/a//b"),
        ("/", "/a\0b"),
        ("/", "/"),
        ("/data", "/date/a"),
        ("/data", "/database"),
        ("/data", "/data/../a"),
        ("/data", "/data"),
    ],
)
def test_a_path_that_leads_outside_is_refused(top: str, path: str) -> None:
    with pytest.raises(RequestInvalid, match="outside"):
        parts_below(top, path)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_lands(landing: Landing, tmp_path: Path, name: str) -> None:
    parts = parts_below("/data", f"/data/{name}/{name}")

    size = landing.write(parts, [b"1", b"", b"2"])

    assert size == 2
    assert (tmp_path / "here" / name / name).read_bytes() == b"12"
    assert [path.name for path in (tmp_path / "here" / name).iterdir()] == [name]


def test_two_hundred_folders_deep_is_no_matter(landing: Landing, tmp_path: Path) -> None:
    landing.write(("d",) * 200 + ("a",), [b"1"])

    assert (tmp_path / "here" / "/".join(["d"] * 200) / "a").read_bytes() == b"1"


@pytest.mark.parametrize("parts", [("..", "a"), ("a", ".."), ("a/b",), ("",), ("/etc", "a"), ("a\0",)])
def test_names_are_looked_at_here_too(landing: Landing, tmp_path: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(RequestInvalid):
        landing.write(parts, [b"1"])
    with pytest.raises(RequestInvalid):
        landing.make_folder(parts)

    assert list((tmp_path / "here").rglob("*")) == []


@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_a_link_on_the_way_is_not_followed(landing: Landing, tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "here" / "link").symlink_to(tmp_path / target)

    for parts in (("link", "a"), ("link",)):
        with pytest.raises(RequestInvalid, match="is a link"):
            landing.write(parts, [b"1"])
    with pytest.raises(RequestInvalid, match="is a link"):
        landing.make_folder(("link", "inner"))

    assert list((tmp_path / "folder").iterdir()) == []
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert not (tmp_path / "nothing").exists()


def test_a_file_and_a_folder_do_not_give_way_to_each_other(landing: Landing, tmp_path: Path) -> None:
    landing.write(("folder", "a"), [b"1"])
    landing.write(("file",), [b"1"])

    with pytest.raises(RequestInvalid, match="remove it first"):
        landing.write(("folder",), [b"2"])
    with pytest.raises(RequestInvalid, match="remove it first"):
        landing.write(("file", "a"), [b"2"])

    assert (tmp_path / "here" / "file").read_bytes() == b"1"


def test_what_breaks_off_leaves_what_was_there(landing: Landing, tmp_path: Path) -> None:
    landing.write(("a",), [b"old"])

    def breaking() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landing.write(("a",), breaking())

    assert (tmp_path / "here" / "a").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a"]


@pytest.mark.parametrize("size", [200, 20_000], ids=["smaller than a buffer", "larger"])
def test_a_disk_that_is_full_leaves_what_was_there(landing: Landing, tmp_path: Path, size: int) -> None:
    landing.write(("a",), [b"old"])

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(RequestInvalid, match="cannot write"):
            landing.write(("a",), [b"1" * size])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (tmp_path / "here" / "a").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["a"]


def test_what_takes_bytes_and_is_no_file_gets_them_all_or_says_so(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        pour(pipe, [b"1" * 1000, b"", b"2"])
        assert os.read(reader, 2000) == b"1" * 1000 + b"2"
    finally:
        os.close(reader)
    with pytest.raises(RequestInvalid, match="No space left"):
        pour(Path("/dev/full"), [b"1"])


def test_the_callers_own_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with Landing(tmp_path / "link") as landing:
        landing.write(("a",), [b"1"])

    assert (tmp_path / "real" / "a").read_bytes() == b"1"
