"""A project's settings: belayd.toml, or [tool.belayd] in pyproject.toml.

    sources = ["src", "vendor"]        # folders whose files the board shall have; default: the project's own
    destination = "/"                  # where on the board
    ignore = ["*.md"]                  # gitignore patterns not to deploy, relative to each source
    prune = true                       # delete what the board has and the project has not
    keep = ["data/"]                   # gitignore patterns that prune leaves alone
    prune_also = ["lib"]               # let prune delete boot.py, webrepl_cfg.py or lib/ too
    mpy = true                         # compile by mpy-cross for each board's own version
    minify = true                      # leave out comments, docstrings and indentation
    as_is = ["templates/"]             # gitignore patterns of what is neither checked nor changed
    boot_guard = true                  # let boot.py complete a deployment that broke off
    dependencies = ["aioble@0.5"]      # packages, as `belayctl mip install` takes them
    index = "http://..."               # where packages without an address come from
    packages = "lib"                   # the folder of packages below the destination

What a command line says wins; its patterns come beside these. An error names the
file and the key, and a misspelt key is one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from belayd_client.errors import PreparationFailed

FILE = "belayd.toml"
SHARED_FILE = "pyproject.toml"
OWN_FILES = (f"/{FILE}", f"/{SHARED_FILE}", "/belayd.lock")
"""Patterns of what belongs to a project and on no board."""

_LONGEST_BYTES = 1024 * 1024
_TEXTS = ("destination", "index", "packages")
_FLAGS = ("prune", "mpy", "minify", "boot_guard")
_LISTS = ("sources", "ignore", "keep", "prune_also", "as_is", "dependencies")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project's file says; paths in `sources` are as written, relative to `folder`."""

    folder: Path
    file: Path
    sources: tuple[str, ...] = (".",)
    destination: str = "/"
    ignore: tuple[str, ...] = ()
    prune: bool = False
    keep: tuple[str, ...] = ()
    prune_also: tuple[str, ...] = ()
    mpy: bool = False
    minify: bool = False
    as_is: tuple[str, ...] = ()
    boot_guard: bool = False
    dependencies: tuple[str, ...] = ()
    index: str = ""
    packages: str = "lib"

    def source_folders(self) -> list[Path]:
        """Return the folders whose files the board shall have."""
        return [self.folder / source for source in self.sources]


def read(folder: str | os.PathLike[str]) -> Settings | None:
    """Return the settings of the project in a folder; None if it has no file of them.

    Raises:
        PreparationFailed: The file cannot be read or understood, or both files have settings.
    """
    root = Path(folder)
    own, shared = root / FILE, root / SHARED_FILE
    table = _load(own) if own.is_file() else None
    tool = _load(shared).get("tool", {}) if shared.is_file() else {}
    section = tool.get("belayd") if isinstance(tool, dict) else None
    if table is not None and section is not None:
        raise PreparationFailed(f"{own}: {SHARED_FILE} has [tool.belayd] too; keep one of them")
    if table is not None:
        return _settings(root, own, table, "")
    if section is None:
        return None
    if not isinstance(section, dict):
        raise PreparationFailed(f"{shared}: tool.belayd: write a table, [tool.belayd]")
    return _settings(root, shared, section, "tool.belayd.")


def _load(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_BYTES + 1)
        if len(content) > _LONGEST_BYTES:
            raise PreparationFailed(f"{file} has more than {_LONGEST_BYTES} bytes; that is no settings file")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise PreparationFailed(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PreparationFailed(f"{file} is not UTF-8, as TOML is") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PreparationFailed(f"{file}: not TOML: {error}") from None


def _settings(folder: Path, file: Path, table: dict[str, object], prefix: str) -> Settings:
    values: dict[str, object] = {}
    for key, value in table.items():
        where = f"{file}: {prefix}{key}"
        if key in _TEXTS:
            values[key] = _text(where, value)
        elif key in _FLAGS:
            if not isinstance(value, bool):
                raise PreparationFailed(f"{where}: write true or false, not {_shown(value)}")
            values[key] = value
        elif key in _LISTS:
            if not isinstance(value, list):
                raise PreparationFailed(f'{where}: write a list such as ["a", "b"], not {_shown(value)}')
            values[key] = tuple(_text(f"{where}[{at}]", item) for at, item in enumerate(value))
        else:
            raise PreparationFailed(f"{where}: there is no such key{_suggestion(key)}")
    settings = Settings(folder, file, **values)  # type: ignore[arg-type]  # each was looked at above
    _check(settings, f"{file}: {prefix}")
    return settings


def _check(settings: Settings, where: str) -> None:
    if not settings.sources:
        raise PreparationFailed(f"{where}sources: name at least one folder")
    for at, source in enumerate(settings.sources):
        parts = PurePosixPath(source)
        # A project may come from a stranger: it must not send what else is on this machine.
        if parts.is_absolute() or ".." in parts.parts or Path(source).is_absolute():
            raise PreparationFailed(f"{where}sources[{at}]: {source!r} is not in the project's folder")
        if not (settings.folder / source).is_dir():
            raise PreparationFailed(f"{where}sources[{at}]: there is no folder {settings.folder / source}")
        if not (settings.folder / source).resolve().is_relative_to(settings.folder.resolve()):
            raise PreparationFailed(f"{where}sources[{at}]: {source!r} is a link out of the project's folder")
    if not settings.destination.startswith("/"):
        raise PreparationFailed(
            f"{where}destination: write an absolute folder on the board, such as '/{settings.destination}'"
        )
    inner = PurePosixPath(settings.packages)
    if inner.is_absolute() or ".." in inner.parts:
        raise PreparationFailed(
            f"{where}packages: write a folder below the destination, not {settings.packages!r}"
        )
    from belayd_client.project import patterns

    for key in ("ignore", "keep", "as_is"):
        try:
            patterns(getattr(settings, key))
        except PreparationFailed as error:
            raise PreparationFailed(f"{where}{key}: {error}") from None


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise PreparationFailed(f"{where}: write a text in quotes, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"


def _suggestion(key: str) -> str:
    names = sorted((*_TEXTS, *_FLAGS, *_LISTS))
    close = difflib.get_close_matches(key, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
