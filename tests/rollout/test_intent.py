"""What a rollout is for: kept as it was said, and only trees that fit its boards."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.deployment.plan import ManifestFile
from belayd.errors import RequestInvalid
from belayd.rollout.intent import Check, Intent, Tree, Unreadable

texts = st.text(st.characters(codec="utf-8"), max_size=20)
files = st.builds(ManifestFile, texts, st.binary(min_size=32, max_size=32), st.integers(0, 1 << 40))
trees = st.builds(Tree, st.lists(texts, max_size=3).map(tuple), st.lists(files, max_size=3).map(tuple))
intents = st.builds(
    Intent,
    trees=st.lists(trees, max_size=3).map(tuple),
    destination=texts,
    prune=st.booleans(),
    keep=st.lists(texts, max_size=3).map(tuple),
    prune_also=st.lists(texts, max_size=3).map(tuple),
    in_place=st.booleans(),
    check=st.none() | st.builds(Check, texts, st.booleans(), st.floats(0.1, 100)),
    keep_failed=st.booleans(),
    timeout=st.floats(1, 1e6),
)
FILE = ManifestFile("app.py", bytes(32), 5)
OTHER = ManifestFile("app.py", bytes([1] * 32), 6)


@given(intents)
def test_it_is_read_as_it_was_kept(intent: Intent) -> None:
    assert Intent.from_bytes(intent.to_bytes()) == intent


@pytest.mark.parametrize(
    "data",
    [b"", b"never", zlib.compress(b"[]"), zlib.compress(b"{}"), zlib.compress(b'{"form": 2}')],
    ids=["nothing", "not compressed", "no table", "an empty table", "of a later version"],
)
def test_what_another_version_kept_is_told_apart(data: bytes) -> None:
    with pytest.raises(Unreadable):
        Intent.from_bytes(data)


def test_each_board_has_the_tree_that_names_it_or_the_one_that_names_none() -> None:
    intent = Intent((Tree((), (FILE,)), Tree(("b",), (OTHER,))))

    assert (intent.files("a"), intent.files("b")) == ((FILE,), (OTHER,))
    assert list(intent.contents()) == [FILE, OTHER]
    intent.refuse_unfit(["a", "b"])


@pytest.mark.parametrize(
    ("boards", "complaint"),
    [
        ([("a",), ("a",)], "'a' is named twice"),
        ([("a", "a")], "'a' is named twice"),
        ([(), ()], "only one may name no boards"),
        ([("a",), ("c",)], "'c' is none of the rollout's boards"),
        ([("a",)], "there is none for 'b'"),
    ],
)
def test_trees_that_do_not_fit_the_boards_are_refused(boards: list[tuple[str, ...]], complaint: str) -> None:
    intent = Intent(tuple(Tree(names, (FILE,)) for names in boards))

    with pytest.raises(RequestInvalid, match=complaint):
        intent.refuse_unfit(["a", "b"])
