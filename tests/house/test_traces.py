"""Nothing in the tree says where it was made: no machine's paths, no registry's address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOCKS = ["requirements/daemon.txt", "requirements/test.txt", "proto/requirements.txt"]
PINNED = re.compile(r"[a-z0-9._-]+==\S+( ; [^\\]+)? \\")  # name==version ; marker, then its hashes
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")

# Written so that this file names none itself.
HOSTS = re.compile(r"\b(pypi|pythonhosted|npmjs|yarnpkg|golang)\.(org|com)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.~}\]-])/(work|tmp|root|home/\w+)/")
# what a Linux service is told about the machine it will run on, and this list itself
SPARED = {"tests/house/test_traces.py"}
TEXT = {".md", ".proto", ".py", ".pyi", ".toml", ".yaml", ".yml", ".sh", ".rules", ".service", ".json", ".ts"}
TEXT |= {".txt", ".in", ".mpy", ".js", ""}


@pytest.fixture(scope="module")
def texts(root: Path, sources: list[Path]) -> dict[str, str]:
    chosen = [path for path in sources if path.suffix in TEXT and path.as_posix() not in SPARED]
    return {path.as_posix(): (root / path).read_text(errors="replace") for path in chosen}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_versions_and_hashes_only(root: Path, name: str) -> None:
    comment, *lines = (root / name).read_text().splitlines()

    assert comment == "# Made by `make lock`; pip checks every hash."
    assert [line for line in lines if not PINNED.fullmatch(line) and not HASH.fullmatch(line)] == []


def test_no_file_names_a_package_registry(texts: dict[str, str]) -> None:
    found = {name: [match[0] for match in HOSTS.finditer(text)] for name, text in texts.items()}

    assert {name: hosts for name, hosts in found.items() if hosts} == {}


def test_no_file_holds_a_path_of_the_machine_it_was_made_on(texts: dict[str, str]) -> None:
    found = {name: [match[0] for match in MACHINE_PATHS.finditer(text)] for name, text in texts.items()}

    assert {name: paths for name, paths in found.items() if paths} == {}


@pytest.mark.parametrize("path", ["'/tmp/a'", "file:///root/x", "=/home/ada/board"])
def test_a_path_of_a_machine_is_noticed(path: str) -> None:
    assert MACHINE_PATHS.search(path)


@pytest.mark.parametrize("path", ["rooms/work/", "~/home/", "{root}/tmp/", "/homework/", "frame/root/"])
def test_a_path_of_the_project_is_not(path: str) -> None:
    assert not MACHINE_PATHS.search(path)
