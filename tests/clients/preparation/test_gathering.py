from __future__ import annotations

from pathlib import Path

import pytest

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.gathering import gather, overridden, settings_for


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def test_a_plain_folder_is_deployed_as_it_is(tmp_path: Path) -> None:
    tree(tmp_path, "main.py", "pyproject.toml")
    (tmp_path / "pyproject.toml").write_text("[project]\n")

    gathered = gather(settings_for(tmp_path))

    assert [file.path for file in gathered.project.files] == ["main.py", "pyproject.toml"]
    assert gathered.settings.destination == "/"
    assert gathered.packages is None


def test_sources_become_one_tree_without_the_projects_own_files(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "src/main.py",
        "src/lib/a.py",
        "src/notes.md",
        "vendor/lib/b.py",
        "README.txt",
        "belayd.lock",
    )
    (tmp_path / "belayd.toml").write_text('sources = ["src", "vendor"]\nignore = ["*.md"]\n')

    gathered = gather(settings_for(tmp_path), ignore=["b.py"])

    assert [file.path for file in gathered.project.files] == ["lib/a.py", "main.py"]


def test_a_project_that_is_its_own_source_keeps_its_settings_to_itself(tmp_path: Path) -> None:
    tree(tmp_path, "main.py", "belayd.lock", "sub/belayd.toml")
    (tmp_path / "belayd.toml").write_text("minify = true\n")

    gathered = gather(settings_for(tmp_path))

    assert [file.path for file in gathered.project.files] == ["main.py", "sub/belayd.toml"]
    assert gathered.recipe.minify


@pytest.mark.parametrize(("one", "other"), [("a/x.py", "b/x.py"), ("a/x", "b/x/y.py")])
def test_sources_that_clash_are_refused(tmp_path: Path, one: str, other: str) -> None:
    tree(tmp_path, one, other)
    (tmp_path / "belayd.toml").write_text('sources = ["a", "b"]\n')

    with pytest.raises(PreparationFailed, match=r"would both become x\.py|is a file where"):
        gather(settings_for(tmp_path))


def test_patterns_mean_the_folder_given_and_nothing_above_it(tmp_path: Path) -> None:
    """PEERS, fault 9: a folder above the one given must not be matched by ignore."""
    root = tree(tmp_path / "ignored" / "build" / "src", "main.py", "build/x.py", 'it\'s "quoted" $HOME.py')

    gathered = gather(settings_for(root), ignore=["ignored/", "build/", "src"])

    assert [file.path for file in gathered.project.files] == ['it\'s "quoted" $HOME.py', "main.py"]


def test_what_a_caller_says_wins_and_patterns_come_beside(tmp_path: Path) -> None:
    (tmp_path / "belayd.toml").write_text('mpy = true\nprune = true\nkeep = ["a"]\ndestination = "/x"\n')

    settings = overridden(settings_for(tmp_path), mpy=False, keep=["b"], destination="/y", minify=True)

    assert (settings.mpy, settings.prune, settings.minify) == (False, True, True)
    assert (settings.keep, settings.destination) == (("a", "b"), "/y")


def test_dependencies_are_resolved_below_their_folder_and_locked_when_they_come_from_elsewhere(
    tmp_path: Path,
) -> None:
    tree(tmp_path, "src/main.py", "drivers/sensor.py")
    (tmp_path / "belayd.toml").write_text('sources = ["src"]\ndependencies = ["./drivers/sensor.py"]\n')

    gathered = gather(settings_for(tmp_path))

    assert gathered.packages is not None
    assert [file.path for file in gathered.packages(None).files] == ["lib/sensor.py"]
    assert not (tmp_path / "belayd.lock").exists() or "sensor" not in (tmp_path / "belayd.lock").read_text()


def test_no_folder_and_no_project_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(PreparationFailed, match="name the folder"):
        settings_for(None)
