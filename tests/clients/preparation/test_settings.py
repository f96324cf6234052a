from __future__ import annotations

from pathlib import Path

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.preparation import settings


def test_a_folder_without_a_file_has_no_settings(tmp_path: Path) -> None:
    assert settings.read(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert settings.read(tmp_path) is None


@pytest.mark.parametrize(
    ("file", "heading"), [("belayd.toml", ""), ("pyproject.toml", "[project]\nname = 'x'\n[tool.belayd]\n")]
)
def test_every_key_is_read_from_either_file(tmp_path: Path, file: str, heading: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "vendor").mkdir()
    (tmp_path / file).write_text(
        heading + 'sources = ["src", "vendor"]\ndestination = "/app"\nignore = ["*.md"]\nprune = true\n'
        'keep = ["data/"]\nprune_also = ["lib"]\nmpy = true\nminify = true\nas_is = ["t/"]\n'
        'boot_guard = true\ndependencies = ["aioble@0.5"]\nindex = "http://[::1]/"\npackages = "x/lib"\n'
    )

    assert settings.read(tmp_path) == settings.Settings(
        folder=tmp_path,
        file=tmp_path / file,
        sources=("src", "vendor"),
        destination="/app",
        ignore=("*.md",),
        prune=True,
        keep=("data/",),
        prune_also=("lib",),
        mpy=True,
        minify=True,
        as_is=("t/",),
        boot_guard=True,
        dependencies=("aioble@0.5",),
        index="http://[::1]/",
        packages="x/lib",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("destinatoin = '/'", r"belayd\.toml: destinatoin: there is no such key; did you mean destination\?"),
        ("xyzzy = 1", r"belayd\.toml: xyzzy: there is no such key; there are as_is, "),
        ("mpy = 1", r"belayd\.toml: mpy: write true or false, not 1"),
        ("mpy = 'yes'", r"belayd\.toml: mpy: write true or false, not 'yes'"),
        ("ignore = '*.md'", r"belayd\.toml: ignore: write a list such as .*, not '\*\.md'"),
        ("ignore = ['a', 1]", r"belayd\.toml: ignore\[1\]: write a text in quotes, not 1"),
        ("ignore = ['!']", r"belayd\.toml: ignore: .*gitignore"),
        ("destination = 'app'", r"belayd\.toml: destination: write an absolute folder .* '/app'"),
        ("destination = ''", r"belayd\.toml: destination: write a text"),
        ("sources = []", r"belayd\.toml: sources: name at least one"),
        ("sources = ['none']", r"belayd\.toml: sources\[0\]: there is no folder"),
        ("sources = ['.', '..']", r"belayd\.toml: sources\[1\]: '\.\.' is not in the project"),
        ("sources = ['/etc']", r"belayd\.toml: sources\[0\]: '/etc' is not in the project"),
        ("sources = ['out']", r"belayd\.toml: sources\[0\]: 'out' is a link out of"),
        ("packages = '../lib'", r"belayd\.toml: packages: write a folder below"),
        ("a = = 1", r"belayd\.toml: not TOML: .*line 1"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "out").symlink_to("/")
    (tmp_path / "belayd.toml").write_text(text)

    with pytest.raises(PreparationFailed, match=message):
        settings.read(tmp_path)


def test_the_section_of_a_shared_file_is_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.belayd]\nmpi = true\n")

    with pytest.raises(PreparationFailed, match=r"pyproject\.toml: tool\.belayd\.mpi: .* did you mean mpy"):
        settings.read(tmp_path)


def test_settings_in_both_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "belayd.toml").write_text("mpy = true\n")
    (tmp_path / "pyproject.toml").write_text("[tool.belayd]\nmpy = false\n")

    with pytest.raises(PreparationFailed, match="keep one of them"):
        settings.read(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"x = '" + b"a" * 1024 * 1024 + b"'"], ids=["binary", "huge"]
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "belayd.toml").write_bytes(content)

    with pytest.raises(PreparationFailed, match=r"belayd\.toml"):
        settings.read(tmp_path)
