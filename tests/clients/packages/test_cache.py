from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.cache import Cache


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "a" / "b")

    path = cache.keep(b"content")

    assert cache.find(sha256(b"content")) == path
    assert path.read_bytes() == b"content"
    assert cache.find(sha256(b"other")) is None
    assert [found for found in (tmp_path / "a").rglob("*") if found.is_file()] == [path]


def test_a_damaged_content_is_not_believed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.keep(b"content")
    path.write_bytes(b"c0ntent")

    assert cache.find(sha256(b"content")) is None
    assert not path.exists()


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=20)
    contents = [b"1" * 10, b"2" * 10, b"3" * 10, b"4" * 10]
    for age, content in enumerate(contents):
        os.utime(cache.keep(content), (1000 + age, 1000 + age))
    cache.find(sha256(contents[1]))

    cache.trim({sha256(contents[0])})

    assert [cache.find(sha256(content)) is not None for content in contents] == [True, True, False, False]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PreparationFailed, match="cannot keep packages in"):
        Cache(tmp_path / "file").keep(b"content")


def test_the_users_own_is_below_their_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert Cache.of_user().folder == tmp_path / "belayd" / "packages"
