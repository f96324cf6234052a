from __future__ import annotations

import json
from typing import Any

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.manifest import Hashed, Named, check_path, read
from belayd_client.packages.requirement import Requirement

OUTSIDE = {
    "absolute": "/boot.py",
    "parent": "../boot.py",
    "inner parent": "a/../../boot.py",
    "itself": "./boot.py",
    "a part that is empty": "a//b.py",
    "no file": "a/",
    "nothing": "",
    "backslash": "..\\boot.py",
    "drive letter": "C:boot.py",
    "drive": "c:/boot.py",
    "NUL": "a\0.py",
    "escape": "a\x1b[2J.py",
    "newline": "a\n.py",
    "half a character": "a\ud800.py",
    "too long": "a" * 256,
    "belayd's": "x/.belayd/journal",
    "belayd's temporary": ".belayd-0123456789ab",
}


def manifest(**keys: Any) -> bytes:
    return json.dumps(keys).encode()


def test_a_manifest_is_read() -> None:
    text = manifest(
        v=1,
        version="0.2",
        hashes=[["a/__init__.mpy", "0123abcd"]],
        urls=[["a/b.py", "github:org/repo/b.py"], ["ä.py", "sub/ä.py"]],
        deps=[["collections-defaultdict", "latest"], ["github:org/more", "main"]],
        license="MIT",
    )

    read_ = read(text, "here")

    assert read_.release == "0.2"
    assert read_.files == (
        Hashed("a/__init__.mpy", "0123abcd"),
        Named("a/b.py", "github:org/repo/b.py"),
        Named("ä.py", "sub/ä.py"),
    )
    assert read_.dependencies == (
        Requirement("collections-defaultdict"),
        Requirement("github:org/more", "main"),
    )


def test_what_a_manifest_leaves_out_is_empty() -> None:
    assert read(b"{}", "here") == read(manifest(hashes=None, urls=[], version=3), "here")


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE.keys())
@pytest.mark.parametrize("key", ["hashes", "urls"])
def test_a_path_that_could_lead_elsewhere_is_refused(key: str, path: str) -> None:
    with pytest.raises(PreparationFailed, match="here wants to write"):
        read(manifest(**{key: [["fine.py", "0123abcd"], [path, "0123abcd"]]}), "here")


@pytest.mark.parametrize(
    "path", ["a.py", "a/b/c.mpy", 'it\'s ä "file".txt', "a" * 255, "..a/b..", "C", "ab:c"]
)
def test_any_other_path_is_fine(path: str) -> None:
    check_path(path, "here")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        manifest(v=2),
        manifest(hashes={"a.py": "0123abcd"}),
        manifest(hashes=["a.py"]),
        manifest(hashes=[["a.py"]]),
        manifest(hashes=[["a.py", 12345678]]),
        manifest(hashes=[["a.py", "0123abc"]]),
        manifest(hashes=[["a.py", "0123ABCD"]]),
        manifest(hashes=[["a.py", "../../../x"]]),
        manifest(hashes=[["a.py", "0" * 65]]),
        manifest(urls=[["a.py", "x" * 2_001]]),
        manifest(deps=["a"]),
        manifest(deps=[["a b", "1"]]),
        manifest(deps=[["a", "../x"]]),
        manifest(deps=[["/etc/secrets/package.json", ""]]),
        manifest(deps=[["./beside", ""]]),
        manifest(deps=[["secrets.json", ""]]),
        manifest(deps=[["file:///etc/passwd", ""]]),
    ],
    ids=lambda text: text[:48].decode(errors="replace"),
)
def test_what_no_package_may_say_is_refused(text: bytes) -> None:
    with pytest.raises(PreparationFailed, match="here"):
        read(text, "here")
