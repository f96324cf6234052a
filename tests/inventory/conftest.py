from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd.inventory import Inventory, InventoryError, parse

Read = Callable[[str], Inventory]
Mistakes = Callable[[str], list[str]]


@pytest.fixture
def read() -> Read:
    """Read an inventory's text as if it stood in /lab."""
    return lambda text: parse(textwrap.dedent(text), Path("/lab/lab.yaml"))


@pytest.fixture
def mistakes(read: Read) -> Mistakes:
    """Return each mistake of a text as "LINE: key: what is wrong; suggestion"."""

    def find(text: str) -> list[str]:
        with pytest.raises(InventoryError) as caught:
            read(text)
        assert [problem.file for problem in caught.value.problems] == ["/lab/lab.yaml"] * len(
            caught.value.problems
        )
        return [str(problem).removeprefix("/lab/lab.yaml:") for problem in caught.value.problems]

    return find
