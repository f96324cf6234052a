"""Which paths may be deployed, and which names are belayd's."""

from __future__ import annotations

import pytest

from belayd.deployment.paths import (
    check_destination,
    check_path,
    check_paths,
    is_spared,
    is_temporary,
    temporary_beside,
)
from belayd.errors import RequestInvalid

REFUSED = {
    "empty": "",
    "absolute": "/main.py",
    "an empty part": "lib//a.py",
    "a folder": "lib/",
    "up": "../boot.py",
    "up inside": "lib/../../boot.py",
    "here": "./main.py",
    "up on FAT": "lib\\..\\..\\boot.py",
    "NUL": "a\0b.py",
    "too long": "lib/" + "x" * 256,
    "too long in UTF-8": "\u00e9" * 128,
    "not Unicode": "\udc80.py",
    "belayd's own": "lib/.belayd-0123456789ab",
}
ACCEPTED = {
    "plain": "main.py",
    "folders": "lib/a/b.py",
    "quotes": 'it\'s "so".py',
    "spaces": " a b .py",
    "dots": "...",
    "hidden": ".config",
    "backslash": "a\\b",
    "beyond ASCII": "gr\u00fc\u00dfe/\u65e5\u672c.txt",
    "a line end": "a\nb",
    "longest": "x" * 255,
    "200 deep": "d/" * 200 + "a.py",
}


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED.keys())
def test_a_path_that_leads_elsewhere_or_nowhere_is_refused_by_name(path: str) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        check_path(path)

    assert refusal.value.fields["path"] == path


@pytest.mark.parametrize("path", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_any_other_name_is_accepted(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("paths", "named"),
    [(["a.py", "a.py"], "a.py"), (["lib", "lib/a.py"], "lib/a.py"), (["x/y/z", "x"], "x/y/z")],
    ids=["twice", "file and folder", "file and folder far above"],
)
def test_paths_that_exclude_each_other_are_refused(paths: list[str], named: str) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        check_paths(paths)

    assert refusal.value.fields["path"] == named


@pytest.mark.parametrize(
    ("given", "meant"), [("", "/"), ("/", "/"), ("/app", "/app"), ("/app/lib/", "/app/lib"), ("//", "/")]
)
def test_a_destination_has_one_spelling(given: str, meant: str) -> None:
    assert check_destination(given) == meant


@pytest.mark.parametrize("given", ["app", "/app//lib", "/../etc", "/a/./b", "/a\0"])
def test_a_destination_that_is_no_absolute_folder_is_refused(given: str) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        check_destination(given)

    assert refusal.value.fields["field"] == "destination"


def test_a_temporary_name_is_beside_its_file_and_known_again() -> None:
    one, other = temporary_beside("/lib/a.py"), temporary_beside("/lib/b.py")

    assert one.startswith("/lib/") and one != other
    assert is_temporary(one.removeprefix("/lib/")) and not is_temporary("a.py")


@pytest.mark.parametrize(
    ("path", "also", "spared"),
    [
        ("/boot.py", (), True),
        ("/BOOT.PY", (), True),
        ("/flash/boot.py", (), True),
        ("/lib", (), True),
        ("/lib/a/b.py", (), True),
        ("/webrepl_cfg.py", (), True),
        ("/lib/a/b.py", ("lib",), False),
        ("/boot.py", ("lib",), True),
        ("/app/boot.py", (), False),
        ("/library/a.py", (), False),
        ("/main.py", (), False),
    ],
)
def test_what_a_board_starts_with_is_spared_at_its_root(
    path: str, also: tuple[str, ...], spared: bool
) -> None:
    assert is_spared(path, frozenset(also)) is spared
