from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.cache import Cache
from belayd_client.packages.download import Limits
from belayd_client.packages.lock import Lock

MODULE = b"M\x06\x00\x1f" + b"rest"  # the beginning of an .mpy file of version 6
BOARD = 6 | 1 << 8 | 10 << 10  # sys.implementation._mpy of one that takes version 6


def test_a_package_of_the_index_is_found_with_what_it_needs(web, install, contents) -> None:
    web.publish("a", {"a/__init__.py": b"A = 1\n"}, deps=[["b", "latest"], ["c", "1.0"]])
    web.publish("b", {"b.py": b"B = 1\n"}, deps=[["a", "latest"], ["c", "1.0"]])
    web.publish("c", {"c.py": b""})

    found = install("a")

    assert contents(found) == {"a/__init__.py": b"A = 1\n", "b.py": b"B = 1\n", "c.py": b""}
    assert [package.shown for package in found.packages] == ["a 1.0", "b 1.0", "c@1.0"]
    assert web.asked.count("/pi/v2/package/py/a/latest.json") == 1


def test_a_board_gets_modules_of_its_own_version(web, install, contents) -> None:
    web.publish("a", {"a.mpy": MODULE}, variant="6")
    web.publish("a", {"a.py": b"source"})

    assert contents(install("a", mpy=BOARD)) == {"a.mpy": MODULE}
    assert contents(install("a")) == {"a.py": b"source"}


def test_a_version_is_taken(web, install, contents) -> None:
    web.publish("a", {"a.py": b"old"}, release="0.1")
    web.publish("a", {"a.py": b"new"}, release="0.2")

    assert contents(install("a@0.1")) == {"a.py": b"old"}
    assert contents(install("a")) == {"a.py": b"new"}


def test_a_version_that_was_asked_for_holds_for_what_needs_any(web, install, contents) -> None:
    web.publish("a", {"a.py": b"old"}, release="0.1")
    web.publish("a", {"a.py": b"new"}, release="0.2")
    web.publish("b", {"b.py": b""}, deps=[["a", "latest"]])

    assert contents(install("b", "a@0.1")) == {"a.py": b"old", "b.py": b""}


def test_versions_that_do_not_go_together_are_refused(web, install) -> None:
    web.publish("a", {"a.py": b"old"}, release="0.1")
    web.publish("a", {"a.py": b"new"}, release="0.2")
    web.publish("b", {"b.py": b""}, deps=[["a", "0.1"]])

    with pytest.raises(PreparationFailed, match=r"a\.py comes from a@0\.2 and from a@0\.1"):
        install("a@0.2", "b")


def test_two_packages_may_bring_the_same_file(web, install, contents) -> None:
    web.publish("a", {"a.py": b"", "shared.py": b"same"})
    web.publish("b", {"b.py": b"", "shared.py": b"same"})

    assert contents(install("a", "b")) == {"a.py": b"", "b.py": b"", "shared.py": b"same"}


def test_a_file_where_another_package_has_a_folder_is_refused_before_any_is_fetched(web, install) -> None:
    web.publish("a", {"x": b"file"})
    web.publish("b", {"x/y.py": b"module"})

    with pytest.raises(PreparationFailed, match=r"x is a file of a 1\.0 and yet a folder of b 1\.0"):
        install("a", "b")
    assert not [path for path in web.asked if "/file/" in path]


@pytest.mark.parametrize("host", ["github", "gitlab", "codeberg"])
def test_a_repository_is_a_package(web, install, contents, host: str) -> None:
    served = {
        "github": "/raw/org/repo/v1/{}",
        "gitlab": "/lab/org/repo/-/raw/v1/{}",
        "codeberg": "/berg/org/repo/raw/{}?ref=v1",
    }[host]
    urls = [["p/a.py", f"{host}:org/repo/src/a.py"], ["p/b.py", "src/b c.py"]]
    web.put_json(served.format("package.json"), {"urls": urls, "version": "1"})
    web.contents[served.format("src/a.py")] = b"a"
    web.contents[served.format("src/b%20c.py")] = b"b"

    assert contents(install(f"{host}:org/repo@v1")) == {"p/a.py": b"a", "p/b.py": b"b"}


def test_a_folder_of_a_repository_and_its_default_branch(web, install, contents) -> None:
    web.put_json("/raw/org/repo/HEAD/sub/package.json", {"urls": [["a.py", "../lib/a.py"]]})
    web.contents["/raw/org/repo/HEAD/lib/a.py"] = b"a"

    assert contents(install("github:org/repo/sub")) == {"a.py": b"a"}


def test_a_package_that_needs_others_from_elsewhere(web, install, contents) -> None:
    deps = [["b", "latest"], ["github:org/more", "main"]]
    web.put_json("/x/package.json", {"urls": [["a.py", "a.py"]], "deps": deps})
    web.contents["/x/a.py"] = b"a"
    web.publish("b", {"b.py": b"b"})
    web.put_json("/raw/org/more/main/package.json", {"urls": [["c.py", "c.py"]]})
    web.contents["/raw/org/more/main/c.py"] = b"c"

    expected = {"a.py": b"a", "b.py": b"b", "c.py": b"c"}
    assert contents(install(f"{web.url}/x/package.json")) == expected
    assert contents(install(f"{web.url}/x/")) == expected


@pytest.mark.parametrize(
    ("path", "name"), [("/x/a.py", "a.py"), ("/x/a.py?raw=1", "a.py"), ("/x/a%20b.mpy", "a b.mpy")]
)
def test_a_single_file_is_a_package(web, install, contents, path: str, name: str) -> None:
    web.contents[path] = MODULE

    assert contents(install(web.url + path)) == {name: MODULE}


@pytest.mark.parametrize("name", ["%2e%2e%2fboot.py", "a%5cboot.py", "a%00.py", "%ff.py%0a.py"])
def test_a_single_file_with_a_name_that_leads_elsewhere_is_refused(web, install, name: str) -> None:
    with pytest.raises(PreparationFailed):
        install(f"{web.url}/{name}")
    assert web.asked == []


@pytest.mark.parametrize("path", ["/boot.py", "../boot.py", "..\\boot.py", "C:/boot.py", "a\0.py"])
def test_a_hostile_package_is_refused_before_any_file_is_fetched(web, install, cache, path: str) -> None:
    web.publish("good", {"good.py": b""}, deps=[["bad", "latest"]])
    web.publish("bad", {"fine.py": b"", path: b"import os"})

    with pytest.raises(PreparationFailed, match="wants to write"):
        install("good")
    assert not [asked for asked in web.asked if "/file/" in asked]
    assert not cache.folder.exists()


def test_a_stranger_cannot_have_files_of_this_machine(web, install, tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")
    web.publish("bad", {}, deps=[[str(tmp_path / "secrets.json"), ""]])

    with pytest.raises(PreparationFailed, match="which a package may not ask for"):
        install("bad")


def test_a_content_that_is_not_what_the_index_says_is_refused(web, install, cache) -> None:
    web.publish("a", {"a.py": b"good"})
    [path] = [path for path in web.contents if "/file/" in path]
    web.contents[path] = b"bad"

    with pytest.raises(PreparationFailed, match=r"a\.py of a 1\.0 is damaged"):
        install("a")
    assert not cache.folder.exists()


def test_what_is_not_in_the_index_is_said_with_what_would_help(web, install) -> None:
    web.publish("a", {"a.py": b""})

    with pytest.raises(PreparationFailed, match=r"has no package a as \.mpy version 6.*--no-mpy"):
        install("a", mpy=BOARD)
    with pytest.raises(PreparationFailed, match=r"has no package a@9 as source"):
        install("a@9")
    with pytest.raises(PreparationFailed, match=r"there is no package github:org/repo: nothing is at http"):
        install("github:org/repo")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"M\x05\x02\x1f", "version 5"), (b"C\x06\x00\x1f", r"no \.mpy file"), (b"", r"no \.mpy file")],
    ids=["older", "CircuitPython's", "empty"],
)
def test_a_module_that_the_board_cannot_import_is_refused(web, install, content: bytes, problem: str) -> None:
    web.contents["/a.mpy"] = content

    with pytest.raises(PreparationFailed, match=problem):
        install(f"{web.url}/a.mpy", mpy=BOARD)


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(packages=2), "more than 2 packages are needed"),
        (Limits(files=2), "more than 2 files"),
        (Limits(file_bytes=99), "larger than 99 bytes"),
        (Limits(total_bytes=250), "more than 250 bytes"),
        (Limits(manifest_bytes=50), "larger than 50 bytes"),
    ],
    ids=["packages", "files", "file", "all", "package.json"],
)
def test_more_than_a_board_could_hold_is_refused(web, install, limits: Limits, problem: str) -> None:
    for name, needed in (("a", "b"), ("b", "c"), ("c", "a")):
        web.publish(name, {f"{name}.py": name.encode() * 100}, deps=[[needed, "latest"]])

    with pytest.raises(PreparationFailed, match=problem):
        install("a", limits=limits)


def test_an_endless_chain_of_packages_ends(web, install) -> None:
    for number in range(210):
        web.publish(f"p{number}", {}, deps=[[f"p{number + 1}", "latest"]])

    with pytest.raises(PreparationFailed, match="more than 200 packages are needed; p200 would be one more"):
        install("p0")


def test_what_is_locked_and_at_hand_is_not_asked_for(web, install, contents) -> None:
    web.publish("a", {"a.py": b"a"}, deps=[["b", "latest"]])
    web.publish("b", {"b.py": b"b"})
    first = install("a")
    web.publish("a", {"a.py": b"newer"}, release="2.0")
    web.asked.clear()

    again = install("a", lock=first.lock)

    assert contents(again) == {"a.py": b"a", "b.py": b"b"}
    assert again.lock == first.lock
    assert web.asked == []
    assert contents(install("a")) == {"a.py": b"newer"}


def test_what_is_locked_and_not_at_hand_is_fetched_from_where_it_came(
    web, install, contents, tmp_path: Path
) -> None:
    web.put_json("/raw/org/repo/HEAD/package.json", {"urls": [["a.py", "a.py"]]})
    web.contents["/raw/org/repo/HEAD/a.py"] = b"a"
    lock = install("github:org/repo").lock
    web.asked.clear()

    again = install("github:org/repo", lock=lock, cache=Cache(tmp_path / "another"))

    assert contents(again) == {"a.py": b"a"}
    assert web.asked == ["/raw/org/repo/HEAD/a.py"]


def test_what_has_changed_since_it_was_locked_is_refused(web, install, contents, tmp_path: Path) -> None:
    web.put_json("/raw/org/repo/HEAD/package.json", {"urls": [["a.py", "a.py"]]})
    web.contents["/raw/org/repo/HEAD/a.py"] = b"a"
    lock = install("github:org/repo").lock
    web.contents["/raw/org/repo/HEAD/a.py"] = b"something else"
    elsewhere = Cache(tmp_path / "another")

    with pytest.raises(PreparationFailed, match=r"a\.py of github:org/repo has changed since it was locked"):
        install("github:org/repo", lock=lock, cache=elsewhere)

    assert not elsewhere.folder.exists()
    assert contents(install("github:org/repo", lock=lock)) == {"a.py": b"a"}


def test_a_content_that_was_damaged_here_is_fetched_again(web, install, contents) -> None:
    web.publish("a", {"a.py": b"good"})
    first = install("a")
    first.files[0].source.write_bytes(b"b@d")

    assert contents(install("a", lock=first.lock)) == {"a.py": b"good"}


def test_each_kind_of_board_is_locked_by_itself(web, install, contents) -> None:
    web.publish("a", {"a.mpy": MODULE}, variant="6")
    web.publish("a", {"a.py": b"source"})

    lock = install("a", lock=install("a", mpy=BOARD).lock).lock

    assert [(key.name, key.variant, key.index) for key in sorted(lock.packages)] == [
        ("a", "6", web.index),
        ("a", "py", web.index),
    ]


def test_the_lock_tells_where_each_file_came_from(web, install, tmp_path: Path) -> None:
    web.publish("a", {"a.py": b"a"}, deps=[["b", "1.0"]])
    web.publish("b", {})

    install("a").lock.write(tmp_path / "belayd.lock")

    sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    shared = {"release": "1.0", "variant": "py", "index": web.index}
    file = {"path": "a.py", "sha256": sha256, "size": 1, "url": f"{web.index}/file/ca/ca978112"}
    assert json.loads((tmp_path / "belayd.lock").read_text()) == {
        "lock": 1,
        "packages": [
            {"package": "a", **shared, "dependencies": [["b", "1.0"]], "files": [file]},
            {"package": "b", "version": "1.0", **shared, "files": []},
        ],
    }


def test_a_lock_cannot_lead_elsewhere_either(web, install) -> None:
    web.publish("a", {"a.py": b"a"})
    lock = install("a").lock
    [locked] = lock.packages.values()
    other = Lock().with_packages([replace(locked, files=(replace(locked.files[0], sha256=bytes(32)),))])

    with pytest.raises(PreparationFailed, match="has changed since it was locked"):
        install("a", lock=other)


def test_what_came_safely_needs_nothing_that_anybody_on_the_way_could_change(web, install) -> None:
    deps = [[f"{web.url}/b.py", ""]]
    web.contents["/b.py"] = b"b"
    web.put_json("/raw/org/repo/HEAD/package.json", {"deps": deps})
    web.put_json("/plain/package.json", {"deps": deps})

    with pytest.raises(PreparationFailed, match="https is needed there too"):
        install("github:org/repo")
    assert "/b.py" not in web.asked
    assert [file.path for file in install(f"{web.url}/plain").files] == ["b.py"]


def test_nothing_asked_for_is_nothing(install) -> None:
    found = install()

    assert (found.packages, found.files, found.lock) == ((), (), Lock())
