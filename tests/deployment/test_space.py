"""How much room a plan needs, against what a real LittleFS then uses is in test_transfer."""

from __future__ import annotations

import pytest

from belayd.deployment.plan import Deletion, Plan, Write
from belayd.deployment.space import SPARE_BLOCKS, bytes_needed, bytes_staged

BLOCK = 4096


def plan_of(
    *writes: Write,
    folders: tuple[str, ...] = (),
    clear: tuple[Deletion, ...] = (),
    prune: tuple[Deletion, ...] = (),
) -> Plan:
    return Plan("/", clear, folders, writes, prune, (), 0, (), ())


def replacing(size: int, old: int) -> Write:
    return Write("/a.py", b"", size, old)


@pytest.mark.parametrize(
    ("wanted", "blocks"),
    [
        (plan_of(replacing(0, 0)), 0),
        (plan_of(replacing(1, 0)), 1),
        (plan_of(replacing(BLOCK - 8, 0)), 1),
        (plan_of(replacing(BLOCK, 0)), 2),
        (plan_of(replacing(40_000, 40_000)), 10),
        (plan_of(replacing(40_000, 40_000), replacing(40_000, 40_000)), 11),
        (plan_of(replacing(40_000, 0), replacing(40_000, 0)), 20),
        (plan_of(replacing(1, 0), folders=("/x", "/x/y")), 5),
        (plan_of(replacing(40_000, 0), clear=(Deletion("/old", False, 20_480),)), 5),
        (plan_of(replacing(40_000, 0), prune=(Deletion("/old", False, 20_480),)), 10),
        (plan_of(Write("/new.py", b"", 1, None)), 2),
    ],
    ids=[
        "an empty file",
        "one byte",
        "one block with its pointer",
        "a whole block",
        "beside the old one",
        "the old one's room comes back, rounded down",
        "two new ones",
        "two folders",
        "what goes before counts",
        "what goes after does not",
        "a new name",
    ],
)
def test_the_fullest_moment_counts(wanted: Plan, blocks: int) -> None:
    assert bytes_needed(wanted, BLOCK) == (blocks + SPARE_BLOCKS) * BLOCK


@pytest.mark.parametrize(
    "wanted", [plan_of(), plan_of(prune=(Deletion("/old", False, 10),))], ids=["nothing", "deleting"]
)
def test_a_full_board_takes_a_plan_that_writes_nothing(wanted: Plan) -> None:
    assert bytes_needed(wanted, BLOCK) == 0


@pytest.mark.parametrize(
    ("wanted", "blocks"),
    [
        (plan_of(replacing(1, 0)), 5),
        (plan_of(replacing(40_000, 40_000), replacing(40_000, 40_000)), 24),
        (plan_of(replacing(1, 0), folders=("/x", "/x/y")), 9),
        (plan_of(replacing(40_000, 0), clear=(Deletion("/old", False, 20_480),)), 14),
    ],
    ids=[
        "one file, a journal and its folder",
        "nothing old makes room",
        "two folders",
        "nor does what goes before",
    ],
)
def test_staged_all_that_is_new_counts_beside_all_that_is_old(wanted: Plan, blocks: int) -> None:
    assert bytes_staged(wanted, BLOCK, 100) == (blocks + SPARE_BLOCKS) * BLOCK
