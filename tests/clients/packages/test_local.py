"""Packages of this machine: modules, folders, and a package.json with what lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.cache import Cache
from belayd_client.packages.download import Limits


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def describe(folder: Path, **keys: Any) -> None:
    write(folder, {"package.json": json.dumps(keys)})


def test_a_module_is_a_package(here: Path, install, contents) -> None:
    write(here, {"a.py": "a"})

    assert contents(install("./a.py", folder=here)) == {"a.py": b"a"}
    assert contents(install("a.py", folder=here)) == {"a.py": b"a"}
    assert contents(install(str(here / "a.py"))) == {"a.py": b"a"}


def test_a_python_package_is_a_folder_of_its_name(here: Path, install, contents) -> None:
    write(here, {"bme/__init__.py": "", "bme/sub/x.py": "x", "bme/__pycache__/x.pyc": "left behind"})

    assert contents(install("./bme", folder=here)) == {"bme/__init__.py": b"", "bme/sub/x.py": b"x"}
    assert contents(install(".", folder=here / "bme")) == {"bme/__init__.py": b"", "bme/sub/x.py": b"x"}


def test_any_other_folder_is_what_is_in_it(here: Path, install, contents) -> None:
    write(here, {"drivers/a.py": "a", "drivers/b/__init__.py": "b"})

    assert contents(install("./drivers", folder=here)) == {"a.py": b"a", "b/__init__.py": b"b"}


@pytest.mark.parametrize("name", [".", "./package.json", "package.json"])
def test_a_package_json_describes_what_lies_beside_it(web, here: Path, install, contents, name: str) -> None:
    web.publish("b", {"b.py": b"b"})
    web.contents["/raw/org/repo/HEAD/c.py"] = b"c"
    describe(
        here,
        urls=[["p/a.py", "src/a.py"], ["c.py", "github:org/repo/c.py"]],
        deps=[["b", "latest"]],
    )
    write(here, {"src/a.py": "a", "not/named.py": ""})

    assert contents(install(name, folder=here)) == {"p/a.py": b"a", "c.py": b"c", "b.py": b"b"}


@pytest.mark.parametrize("source", ["../secret.py", "sub/../../secret.py", "out/secret.py", "..\\secret.py"])
def test_nothing_outside_its_folder_is_taken(here: Path, install, source: str) -> None:
    write(here.parent, {"secret.py": "secret"})
    (here / "sub").mkdir()
    (here / "out").symlink_to(here.parent)
    describe(here, urls=[["a.py", source]])

    with pytest.raises(PreparationFailed, match=r"package\.json names"):
        install(".", folder=here)


def test_nothing_absolute_is_taken(here: Path, install) -> None:
    write(here, {"a.py": ""})
    describe(here, urls=[["a.py", str(here / "a.py")]])

    with pytest.raises(PreparationFailed, match="which is not in its folder"):
        install(".", folder=here)


def test_what_is_not_there_is_said(here: Path, install) -> None:
    describe(here, urls=[["a.py", "a.py"]])

    with pytest.raises(PreparationFailed, match=r"names 'a\.py', which is no file"):
        install(".", folder=here)
    with pytest.raises(PreparationFailed, match="there is no package at"):
        install("./absent", folder=here)


def test_what_is_no_package_is_said(here: Path, install) -> None:
    write(here, {"read.me": "", "empty/.gitignore": ""})

    with pytest.raises(PreparationFailed, match="is no package"):
        install("./read.me", folder=here)
    with pytest.raises(PreparationFailed, match="has no files to install"):
        install("./empty", folder=here)


def test_files_of_this_machine_have_limits_too(here: Path, install) -> None:
    write(here, {"a.py": "x" * 100})

    with pytest.raises(PreparationFailed, match="larger than 99 bytes"):
        install("./a.py", folder=here, limits=Limits(file_bytes=99))


def test_only_what_comes_from_elsewhere_is_locked(web, here: Path, install, contents, tmp_path: Path) -> None:
    web.publish("b", {"b.py": b"b"})
    web.contents["/c.py"] = b"c"
    describe(here, urls=[["a.py", "a.py"], ["c.py", f"{web.url}/c.py"]], deps=[["b", "latest"]])
    write(here, {"a.py": "a"})
    lock = install("./package.json", folder=here).lock
    write(here, {"a.py": "changed"})
    web.asked.clear()

    again = install("./package.json", folder=here, lock=lock)

    assert contents(again) == {"a.py": b"changed", "b.py": b"b", "c.py": b"c"}
    assert (again.lock, web.asked) == (lock, [])
    web.contents["/c.py"] = b"changed"
    with pytest.raises(PreparationFailed, match="has changed since it was locked"):
        install("./package.json", folder=here, lock=lock, cache=Cache(tmp_path / "another"))
