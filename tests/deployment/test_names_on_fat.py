"""Names that FAT cannot have, or takes for others: refused before anything of the tree is touched."""

from __future__ import annotations

import pytest

from belayd.deployment.transfer import Options
from belayd.errors import RequestInvalid

NAMES = ["a\\b", "t/a\\b\\c", "a:b", "q?x", "a|b"]


@pytest.mark.parametrize("name", NAMES)
async def test_what_fat_cannot_name_is_refused_and_nothing_is_touched(bench, name: str) -> None:
    await bench.mount_disk("VfsFat", blocks=512, size=512)
    await bench.deploy({"main.py": b"old"})

    with pytest.raises(RequestInvalid, match="refuses the name"):
        await bench.deploy({"a.py": b"1", "main.py": b"new", name: b"2"})

    assert await bench.tree() == {"/main.py": b"old"}


@pytest.mark.parametrize("name", NAMES)
async def test_in_place_the_name_is_refused_too(bench, name: str) -> None:
    await bench.mount_disk("VfsFat", blocks=512, size=512)

    with pytest.raises(RequestInvalid, match="refuses the name"):
        await bench.deploy({name: b"2"}, Options(in_place=True))


async def test_on_littlefs_they_are_names_like_others(bench) -> None:
    await bench.mount_disk()

    await bench.deploy({"a\\b": b"1", "t/a\\b\\c": b"2", "a:b": b"3"})

    assert await bench.tree() == {"/a\\b": b"1", "/t": None, "/t/a\\b\\c": b"2", "/a:b": b"3"}
