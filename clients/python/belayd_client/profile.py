"""Profiles: a daemon's address and the caller's credentials for it, kept by `belayctl login`.

One JSON file each, 0600, in ~/.config/belayd (or XDG_CONFIG_HOME). What a profile
holds goes to its own address and to no other: naming another address leaves the
profile aside.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from belayd_client.errors import RequestInvalid

DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATHS = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class Profile:
    """One daemon; `token` is empty and the paths are None where there is none."""

    name: str
    address: str
    token: str = ""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


def chosen(name: str | None) -> Profile | None:
    """Return the profile called `name`; None takes BELAYD_PROFILE, else "default" if there is one.

    An empty name is no profile.

    Raises:
        RequestInvalid: It was named and is not there, or cannot be used.
    """
    wanted = name if name is not None else os.environ.get("BELAYD_PROFILE")
    if wanted == "":
        return None
    path = _path(wanted or DEFAULT)
    if wanted is None and (path is None or not path.exists()):
        return None
    if path is None or not path.exists():
        raise RequestInvalid(
            f"there is no profile {wanted!r}; make it: belayctl login ADDRESS --name {wanted}"
        )
    return _read(wanted or DEFAULT, path)


def write(profile: Profile) -> Path:
    """Keep a profile, in place of one of its name; return its file.

    Raises:
        RequestInvalid: It cannot be written.
    """
    path = _path(profile.name)
    if path is None:
        raise RequestInvalid("there is no home folder to keep a profile in; set XDG_CONFIG_HOME")
    record: dict[str, str] = {"address": profile.address}
    if profile.token:
        record["token"] = profile.token
    for key in _PATHS:
        value: Path | None = getattr(profile, key)
        if value is not None:
            record[key] = str(value.resolve())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent)  # 0600 from its first moment
        with os.fdopen(descriptor, "w") as file:
            json.dump(record, file, indent=2)
        Path(fresh).replace(path)
    except OSError as error:
        raise RequestInvalid(f"cannot write {path}: {error.strerror}") from None
    return path


def _read(name: str, path: Path) -> Profile:
    from belayd_client.channel import read_secret

    again = f"remove it, or run belayctl login again with --name {name}"
    try:
        record = json.loads(read_secret(path))
    except ValueError:
        raise RequestInvalid(f"{path} is no profile; {again}") from None
    known = {"address", "token", *_PATHS}
    if (
        not isinstance(record, dict)
        or "address" not in record
        or not record.keys() <= known
        or not all(isinstance(value, str) for value in record.values())
    ):
        raise RequestInvalid(f"{path} is no profile of this belayctl; {again}")
    paths = {key: Path(record[key]) for key in _PATHS if key in record}
    return Profile(name, record["address"], record.get("token", ""), **paths)


def _path(name: str) -> Path | None:
    if not _NAME.fullmatch(name):
        raise RequestInvalid(f"{name!r} cannot name a profile: letters, digits and . _ -")
    try:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        return None
    return home / "belayd" / f"{name}.json"
