"""What is imported is what pyproject.toml asks for: the client little, the daemon a bit more."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

OURS = {"belayd", "belayd_client"}
# The simulated board's interpreter is optional; whoever uses it says so when it is missing.
OPTIONAL = {"micropython_unix"}
PINNED_BY_PYDANTIC = {"pydantic-core"}


def imported(folder: Path, skipped: Iterable[str] = ()) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        if set(path.relative_to(folder).parts) & set(skipped):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distributions(modules: Iterable[str]) -> set[str]:
    """Return the distributions that bring these modules, without the interpreter's own and ours."""
    outside = {module.split(".")[0] for module in modules} - sys.stdlib_module_names - OURS - OPTIONAL
    # google is shared by two distributions, both of which the plain install has
    return {canonical(name) for top in outside for name in packages_distributions().get(top, [top])}


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, set[str]]:
    table = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = {name: set(map(canonical, wanted)) for name, wanted in table["optional-dependencies"].items()}
    return {"": set(map(canonical, table["dependencies"])), **extras}


def test_a_plain_install_brings_what_the_client_imports(root: Path, project: dict[str, set[str]]) -> None:
    wanted = distributions(imported(root / "clients" / "python" / "belayd_client"))

    assert wanted - project[""] == set()


def test_the_daemon_extra_brings_what_the_daemon_imports(root: Path, project: dict[str, set[str]]) -> None:
    wanted = distributions(imported(root / "belayd", skipped={"onboard", "simulation", "demo_project"}))

    assert wanted - project[""] - project["daemon"] - PINNED_BY_PYDANTIC == set()


def test_the_wheel_holds_every_file_of_both_packages(root: Path, sources: list[Path], tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    subprocess.run(build, cwd=root, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    client = Path("clients/python")
    ours = [
        path for path in sources if path.parts[0] == "belayd" or path.is_relative_to(client / "belayd_client")
    ]
    assert held == {path.as_posix().removeprefix("clients/python/") for path in ours}
