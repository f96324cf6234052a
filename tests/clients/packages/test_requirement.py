from __future__ import annotations

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.requirement import Kind, Requirement, make, read


@pytest.mark.parametrize(
    ("text", "name", "version", "kind"),
    [
        ("aioble", "aioble", "", Kind.INDEX),
        ("aioble@0.5", "aioble", "0.5", Kind.INDEX),
        ("aioble@latest", "aioble", "", Kind.INDEX),
        ("umqtt.simple", "umqtt.simple", "", Kind.INDEX),
        ("hmac@3.4.2-3", "hmac", "3.4.2-3", Kind.INDEX),
        ("github:org/repo", "github:org/repo", "", Kind.WEB),
        ("github:org/repo/a/b.py@feature/x", "github:org/repo/a/b.py", "feature/x", Kind.WEB),
        ("gitlab:org/repo@v1", "gitlab:org/repo", "v1", Kind.WEB),
        ("https://host/a@b/x.py", "https://host/a@b/x.py", "", Kind.WEB),
        ("./driver", "./driver", "", Kind.LOCAL),
        ("..", "..", "", Kind.LOCAL),
        ("drivers/x@2", "drivers/x@2", "", Kind.LOCAL),
        ("driver.py", "driver.py", "", Kind.LOCAL),
        ("package.json", "package.json", "", Kind.LOCAL),
        ("C:\\drivers\\x.py", "C:\\drivers\\x.py", "", Kind.LOCAL),
    ],
)
def test_a_requirement_is_read(text: str, name: str, version: str, kind: Kind) -> None:
    requirement = read(text)

    assert requirement == Requirement(name, version)
    assert requirement.kind is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@1",
        "aioble@",
        "aioble@1 2",
        "-aioble",
        "aio ble",
        "ftp://host/x.py",
        "file:///etc/passwd",
        "file:x",
        "github:org",
        "github:../repo",
        "github:org/..",
        "github:org/repo@a..b",
        "github:org/repo@-x",
        "github:org/repo@a b",
        "http://",
        "https://user:secret@host/x.py",
        "http://host:port/x.py",
        "http://[::1/x.py",
        "./x\0.py",
    ],
)
def test_what_can_be_no_package_is_refused(text: str) -> None:
    with pytest.raises(PreparationFailed):
        read(text)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(PreparationFailed) as refused:
        read("https://user:secret@host/x.py")

    assert "secret" not in str(refused.value)


def test_latest_is_the_version_of_a_dependency_without_one() -> None:
    assert make("aioble", "latest") == make("aioble")


def test_a_version_is_no_path() -> None:
    with pytest.raises(PreparationFailed, match="can be no version"):
        make("aioble", "../../x")
