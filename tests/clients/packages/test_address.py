from __future__ import annotations

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.packages.address import parse, parse_index


@pytest.mark.parametrize(
    ("text", "ref", "url"),
    [
        ("github:org/repo/a.py", "", "https://raw.githubusercontent.com/org/repo/HEAD/a.py"),
        ("github:org/repo/a/b c.py", "v1/x", "https://raw.githubusercontent.com/org/repo/v1/x/a/b%20c.py"),
        ("github:org/repo/a#b?.py", "v#1", "https://raw.githubusercontent.com/org/repo/v%231/a%23b%3F.py"),
        ("gitlab:org/repo/a.py", "", "https://gitlab.com/org/repo/-/raw/HEAD/a.py"),
        ("codeberg:o/r/a.py", "v1", "https://codeberg.org/api/v1/repos/o/r/raw/a.py?ref=v1"),
        ("https://host/a/./b//c.py", "", "https://host/a/b/c.py"),
        ("http://host:8080/ä.py?raw=1", "", "http://host:8080/%C3%A4.py?raw=1"),
        ("http://[::1]:80/a%20b.py", "", "http://[::1]:80/a%20b.py"),
    ],
)
def test_an_address_has_a_url(text: str, ref: str, url: str) -> None:
    assert parse(text, ref).url() == url


@pytest.mark.parametrize(
    ("package", "source", "url"),
    [
        ("github:o/r/x/package.json", "a.py", "https://raw.githubusercontent.com/o/r/v1/x/a.py"),
        ("github:o/r/x/package.json", "../a.py", "https://raw.githubusercontent.com/o/r/v1/a.py"),
        ("github:o/r/package.json", "/a.py", "https://raw.githubusercontent.com/o/r/v1/a.py"),
        ("github:o/r/package.json", "github:p/q/a.py", "https://raw.githubusercontent.com/p/q/v1/a.py"),
        ("github:o/r/package.json", "https://host/a.py", "https://host/a.py"),
        ("https://host/x/package.json?q", "a/b.py", "https://host/x/a/b.py"),
        ("https://host/x/package.json", "github:o/r/a.py", "https://raw.githubusercontent.com/o/r/v1/a.py"),
        ("http://host/x/package.json", "http://other/a.py", "http://other/a.py"),
    ],
)
def test_a_package_names_its_files_relative_to_itself(package: str, source: str, url: str) -> None:
    assert parse(package, "v1").beside(source).url() == url


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("github:o/r/package.json", "../other/a.py"),
        ("github:o/r/x/package.json", "../../a.py"),
        ("github:o/r/x/package.json", "%2e%2e/%2E./a.py"),
        ("https://host/package.json", "../a.py"),
        ("https://host/package.json", "http://host/a.py"),
        ("github:o/r/package.json", "http://host/a.py"),
        ("https://host/package.json", "a\\b.py"),
        ("https://host/package.json", "a\r\nHost: b.py"),
        ("https://host/package.json", ""),
    ],
    ids=[
        "repository",
        "deeper",
        "encoded",
        "host",
        "downgrade",
        "hosted downgrade",
        "backslash",
        "crlf",
        "none",
    ],
)
def test_a_package_cannot_name_what_lies_elsewhere_or_in_the_open(package: str, source: str) -> None:
    with pytest.raises(PreparationFailed):
        parse(package).beside(source)


def test_an_index_is_a_url_without_its_last_slash() -> None:
    assert parse_index("https://host/pi/v2/") == "https://host/pi/v2"
    assert parse_index("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "text", ["", "host/pi", "github:o/r", "file:///x", "https://host/?a=b", "https://u@host"]
)
def test_what_can_be_no_index_is_refused(text: str) -> None:
    with pytest.raises(PreparationFailed):
        parse_index(text)
