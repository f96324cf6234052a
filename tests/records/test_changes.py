"""What follows from what deployments did: the way back, what became of one, and how a board drifted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.deployment.listing import BoardFile, Listing
from belayd.deployment.paths import folders_above
from belayd.deployment.plan import ManifestFile, Plan, plan
from belayd.records.changes import (
    Drift,
    changes_of,
    compare,
    judge,
    overlap,
    touched,
    tree_of,
    way_back,
)
from belayd.store import FOLDER, Change, DeploymentOutcome, Entry


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def entry(content: bytes) -> Entry:
    return Entry(sha(content), len(content))


def listing(
    files: Mapping[str, bytes], folders: tuple[str, ...] = (), leftovers: tuple[str, ...] = ()
) -> Listing:
    return Listing(
        exists=True,
        is_file=False,
        files={path: BoardFile(len(data), sha(data)[:16]) for path, data in files.items()},
        folders=frozenset(folders),
        leftovers=dict.fromkeys(leftovers, 1),
        unreadable_folders={},
        mounts=frozenset(),
        filesystems=("/",),
        usage=None,
    )


def manifest(files: Mapping[str, bytes]) -> list[ManifestFile]:
    return [ManifestFile(path, sha(data), len(data)) for path, data in files.items()]


def deployed(
    before: Mapping[str, bytes], after: Mapping[str, bytes], folders: tuple[str, ...] = ()
) -> list[Change]:
    found = listing(before, folders)
    wanted = manifest(after)
    return changes_of(plan(found, wanted, prune=True), found, wanted)


def begin(content: bytes) -> Entry:
    return Entry(sha(content)[:16], len(content))


def test_a_plans_changes_have_both_sides() -> None:
    found = listing(
        {"a/x": b"X", "gone": b"G", "same": b"S", "old": b"O"}, ("a", "empty"), (".belayd-0123456789ab",)
    )
    wanted = manifest({"a": b"file", "same": b"S", "old": b"new", "b/c": b"C"})

    changes = changes_of(plan(found, wanted, prune=True), found, wanted)

    assert changes == [
        Change("/a", FOLDER, entry(b"file")),
        Change("/a/x", begin(b"X"), None),
        Change("/b", None, FOLDER),
        Change("/b/c", None, entry(b"C")),
        Change("/empty", FOLDER, None),
        Change("/gone", begin(b"G"), None),
        Change("/old", begin(b"O"), entry(b"new")),
        Change("/same", entry(b"S"), entry(b"S")),
    ]
    assert [change.path for change in touched(changes)] == [
        "/a",
        "/a/x",
        "/b",
        "/b/c",
        "/empty",
        "/gone",
        "/old",
    ]
    assert sorted(tree_of(changes)) == ["/a", "/b/c", "/old", "/same"]


def test_what_the_board_could_not_hash_is_unknown() -> None:
    found = listing({})
    found = Listing(
        **{name: getattr(found, name) for name in found.__slots__}
        | {"files": {"f": BoardFile(9, None), "g": BoardFile(0, None, 5)}}
    )

    changes = changes_of(plan(found, [], prune=True), found, [])

    assert changes == [Change("/f", Entry(b"?", 9), None), Change("/g", Entry(b"?", 0), None)]


def test_the_way_back_is_to_what_was_before_the_first_of_them() -> None:
    first = [Change("/main.py", entry(b"1"), entry(b"2")), Change("/a", None, entry(b"A"))]
    second = [Change("/main.py", entry(b"2"), entry(b"3")), Change("/old", entry(b"O"), None)]

    way = way_back("/", [second, first])

    assert way.contents == {"main.py": entry(b"1"), "old": entry(b"O")}
    assert way.only == {"a"}
    assert way.manifest == [ManifestFile("main.py", sha(b"1"), 1), ManifestFile("old", sha(b"O"), 1)]


def test_the_way_back_takes_away_the_destination_that_a_deployment_made() -> None:
    changes = [Change("/sd/x", None, FOLDER), Change("/sd/x/app", None, FOLDER)]
    changes.append(Change("/sd/x/app/a.py", None, entry(b"A")))

    way = way_back("/sd/x/app", [changes])

    assert way.destination == "/sd"
    assert way.only == {"x", "x/app", "x/app/a.py"}


def test_the_way_back_makes_folders_again() -> None:
    way = way_back("/app", [[Change("/app/lib", FOLDER, None), Change("/app/lib/a", entry(b"A"), None)]])

    assert (way.destination, way.folders, way.only) == ("/app", ("lib",), frozenset())
    assert way.contents == {"lib/a": entry(b"A")}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/a/b", "/a/b", True),
        ("/a", "/a/b/c", True),
        ("/a/b/c", "/a", True),
        ("/a/b", "/a/c", False),
        ("/ab", "/a", False),
    ],
)
def test_deployments_overlap_where_a_path_is_or_lies_below_the_others(
    one: str, other: str, expected: bool
) -> None:
    changes = [[Change(path, None, entry(b"A"))] for path in (one, other)]

    assert overlap(*changes) is expected


OLD = {"main.py": b"old", "lib/a": b"A", "same": b"S"}
NEW = {"main.py": b"new", "lib/b": b"B", "same": b"S"}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (OLD, DeploymentOutcome.UNDONE),
        (NEW, DeploymentOutcome.DONE),
        ({**OLD, "own.log": b"written since"}, DeploymentOutcome.UNDONE),
        ({**NEW, "same": b"edited since"}, DeploymentOutcome.DONE),
        ({**OLD, "main.py": b"new"}, DeploymentOutcome.MIXED),
        ({**NEW, "main.py": b"NEW"}, DeploymentOutcome.MIXED),
        ({}, DeploymentOutcome.MIXED),
    ],
    ids=["old", "new", "old and more", "new and edited", "some", "something else", "nothing"],
)
def test_what_a_board_has_tells_whether_it_was_carried_out(
    now: Mapping[str, bytes], expected: DeploymentOutcome
) -> None:
    changes = deployed(OLD, NEW, ("lib",))

    assert judge(changes, listing(now, ("lib",)), "/") is expected


def test_a_folder_that_could_not_be_deleted_counts_for_nothing() -> None:
    changes = [Change("/lib", FOLDER, None), Change("/lib/a", entry(b"A"), None)]

    assert judge(changes, listing({"lib/own": b"O"}, ("lib",)), "/") is DeploymentOutcome.DONE


def test_drift_is_what_was_changed_went_missing_and_came_along() -> None:
    tree = {"/app/a": entry(b"A"), "/app/b": entry(b"B"), "/app/c": entry(b"C"), "/app/d": entry(b"D")}
    found = listing({"a": b"A", "b": b"other", "d": b"d", "e/f": b"F"}, ("c", "e"))

    drift = compare(tree, found, "/app")

    assert drift == Drift(changed=("/app/b", "/app/d"), missing=("/app/c",), extra=("/app/e/f",))


def test_a_file_that_cannot_be_read_any_more_has_changed() -> None:
    found = listing({"a": b"A"})
    found = Listing(
        **{name: getattr(found, name) for name in found.__slots__}
        | {"files": {"a": BoardFile(1, None, errno=5)}}
    )

    assert compare({"/a": entry(b"A")}, found, "/").changed == ("/a",)


PARTS = st.sampled_from(["a", "b", "lib", "boot.py", "main.py"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
CONTENTS = st.sampled_from([b"", b"one", b"two", b"three"])


def without_clashes(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Drop what lies below another file."""
    return {path: data for path, data in files.items() if not set(folders_above(path)) & files.keys()}


TREES = st.dictionaries(PATHS, CONTENTS, max_size=6).map(without_clashes)


class Board:
    """Files and folders, changed strictly as a plan says."""

    def __init__(self, files: Mapping[str, bytes], folders: Iterable[str]) -> None:
        self.files = dict(files)
        self.folders = {*folders, *(folder for path in files for folder in folders_above(path))}
        self.folders |= {above for folder in self.folders for above in folders_above(folder)}

    def listing(self) -> Listing:
        return listing(self.files, tuple(self.folders))

    def carry_out(self, wanted: Plan, contents: Mapping[bytes, bytes]) -> None:
        for deletion in wanted.clear:
            self._delete(deletion.path[1:], deletion.folder)
        for folder in wanted.make_folders:
            assert folder[1:] not in self.folders
            assert folder[1:] not in self.files
            self.folders.add(folder[1:])
        for write in wanted.write:
            assert set(folders_above(write.path[1:])) <= self.folders
            self.files[write.path[1:]] = contents[write.sha256]
        for deletion in wanted.prune:
            self._delete(deletion.path[1:], deletion.folder)

    def _delete(self, path: str, folder: bool) -> None:
        if folder:
            assert not any(each.startswith(f"{path}/") for each in (*self.files, *self.folders))
            self.folders.remove(path)
        else:
            del self.files[path]


@given(TREES, st.sets(PATHS, max_size=2), TREES, TREES, st.booleans())
def test_the_way_back_restores_every_file_and_folder(
    before: dict[str, bytes],
    folders: set[str],
    first: dict[str, bytes],
    second: dict[str, bytes],
    prune: bool,
) -> None:
    empty = {path for path in folders if not {path, *folders_above(path)} & before.keys()}
    board = Board(before, empty)
    was = (dict(board.files), set(board.folders))
    contents = {sha(data): data for tree in (before, first, second) for data in tree.values()}
    whole = {digest[:16]: digest for digest in contents}
    deployments = []
    for tree in (first, second):
        found, wanted = board.listing(), manifest(tree)
        steps = plan(found, wanted, prune=prune, prune_also=("boot.py", "lib"))
        changes = changes_of(steps, found, wanted)
        board.carry_out(steps, contents)
        deployments.insert(0, [replace(each, before=known(each.before, whole)) for each in changes])

    way = way_back("/", deployments)
    board.carry_out(
        plan(board.listing(), way.manifest, only=way.only, folders=way.folders),
        contents,
    )

    assert (board.files, board.folders) == was


def known(before: Entry | None, whole: Mapping[bytes, bytes]) -> Entry | None:
    return before and replace(before, digest=whole.get(before.digest[:16], before.digest))
