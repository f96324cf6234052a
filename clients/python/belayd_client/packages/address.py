"""Where a file lies on the web: a URL, or a path in a repository that a host serves.

Text in, text out. An address never rises above its root (the host, or the
repository), carries no credentials, and is http, https or a host of HOSTS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from urllib.parse import quote, unquote, urlsplit

from belayd_client.errors import PreparationFailed

# How each host serves one file; HEAD is the default branch on all of them.
HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "github:": "https://raw.githubusercontent.com/{org}/{repo}/{ref}/{path}",
        "gitlab:": "https://gitlab.com/{org}/{repo}/-/raw/{ref}/{path}",
        "codeberg:": "https://codeberg.org/api/v1/repos/{org}/{repo}/raw/{path}?ref={ref}",
    }
)
WEB = ("http://", "https://")

_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# A package.json may have paths percent-encoded already; what is in none is encoded.
_KEPT = "/%:@+,;=~!$&'()*"


@dataclass(frozen=True, slots=True)
class Address:
    """One file: its root ("https://host", "github:org/repo"), its path there, and a branch, tag or commit."""

    root: str
    path: str
    ref: str = ""
    query: str = ""

    @property
    def name(self) -> str:
        """The last part of the path, as a file would be called."""
        return unquote(self.path.rpartition("/")[2])

    @property
    def secure(self) -> bool:
        """Whether it cannot be changed on its way."""
        return not self.root.startswith("http://")

    def beside(self, text: str) -> Address:
        """Return what a file here means by `text`: an address of its own, or a path relative to this one.

        Raises:
            PreparationFailed: It is no address, rises above the root, or is plain
                http while this one is not.
        """
        if not is_address(text):
            _check_text(text)
            folder = self.path.rpartition("/")[0]
            return replace(self, path=_normal(f"{folder}/{text}", text), query="")
        # As MicroPython's own mip: the version of a package is that of its files wherever they are named.
        found = parse(text, self.ref)
        if self.secure and not found.secure:
            raise PreparationFailed(
                f"{self} names {text}, which anybody on the way could change; https is needed there too"
            )
        return found

    def in_folder(self, name: str) -> Address:
        """Return a file of the folder that this is."""
        return replace(self, path=f"{self.path}/{name}".lstrip("/"), query="")

    def url(self, hosts: Mapping[str, str] = HOSTS) -> str:
        """Return what to ask the web for."""
        path = quote(self.path, safe=_KEPT)
        if self.root.startswith(WEB):
            query = f"?{quote(self.query, safe=_KEPT + '?')}" if self.query else ""
            return f"{self.root}/{path}{query}"
        host, _, owner = self.root.partition(":")
        org, _, repo = owner.partition("/")
        ref = quote(self.ref or "HEAD", safe="/")
        return hosts[f"{host}:"].format(org=org, repo=repo, ref=ref, path=path)

    def __str__(self) -> str:
        ref = f"@{self.ref}" if self.ref else ""
        query = f"?{self.query}" if self.query else ""
        return f"{self.root}/{self.path}{query}{ref}"


def is_address(text: str) -> bool:
    """Tell whether a text begins as an address does."""
    return text.startswith((*WEB, *HOSTS))


def parse(text: str, ref: str = "") -> Address:
    """Return the address that a text is; a URL only hands `ref` on to what it names on hosts of HOSTS.

    Raises:
        PreparationFailed: It is none.
    """
    _check_text(text)
    _check_ref(ref, text)
    if text.startswith(WEB):
        return _parse_url(text, ref)
    host, _, rest = text.partition(":")
    org, _, rest = rest.partition("/")
    repo, _, path = rest.partition("/")
    if not is_address(text) or not _OWNER.fullmatch(org) or not _OWNER.fullmatch(repo):
        raise PreparationFailed(f"{text!a} is no package: write {host}:ORG/REPO, with a path if need be")
    return Address(f"{host}:{org}/{repo}", _normal(path, text), ref)


def parse_index(text: str) -> str:
    """Return an index's URL without the "/" at its end.

    Raises:
        PreparationFailed: It is not http or https, or has more than a host and a path.
    """
    if not text.startswith(WEB):
        raise PreparationFailed(f"{text!a} is no index; give its URL, such as https://host/pi/v2")
    address = parse(text)
    if address.query:
        raise PreparationFailed(f"{text!a}: an index's URL has nothing after a '?'")
    return address.url().rstrip("/")


def _parse_url(text: str, ref: str) -> Address:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise PreparationFailed(f"{text!a} is no URL: {error}") from None
    if not parts.hostname:
        raise PreparationFailed(f"{text!a} is no URL: it names no host")
    if parts.username is not None or parts.password is not None:
        # Without repeating them.
        raise PreparationFailed(f"the URL at {parts.hostname} holds a user name or a password; remove it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    root = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
    return Address(root, _normal(parts.path, text), ref, parts.query)


def _normal(path: str, text: str) -> str:
    """Return a path without ".", ".." and empty parts."""
    kept: list[str] = []
    for part in path.split("/"):
        # Percent-encoded dots are dots to a server.
        plain = unquote(part)
        if plain == "..":
            if not kept:
                raise PreparationFailed(f"{text!a} leads out of where it is; remove the '..'")
            kept.pop()
        elif plain not in ("", "."):
            kept.append(part)
    return "/".join(kept)


def _check_text(text: str) -> None:
    if (
        not text
        or "\\" in text
        or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text)
    ):
        raise PreparationFailed(
            f"{text!a} is no address: it is empty, or has a backslash or control character"
        )


def _check_ref(ref: str, text: str) -> None:
    bad = any(ord(c) <= 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 or c in "\\?*[:^~" for c in ref)
    if bad or ".." in ref or ref.startswith(("/", "-")):
        raise PreparationFailed(f"{text!a}: {ref!a} can be no branch, tag or commit")
