"""The plan against a model of a board's tree, and the refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from belayd.deployment.listing import BoardFile, Listing, Usage
from belayd.deployment.paths import folders_above, temporary_beside
from belayd.deployment.plan import ManifestFile, Plan, plan
from belayd.errors import RequestInvalid

ROOM = Usage(4096, 1 << 20, 1 << 20, 255)
PARTS = ["a", "b", "lib", "boot.py", "main.py", "data"]


def listing_of(tree: Mapping[str, bytes], folders: Iterable[str] = (), **others: object) -> Listing:
    leftovers = {path: len(data) for path, data in tree.items() if ".belayd-" in path}
    fields: dict[str, object] = {
        "exists": True,
        "is_file": False,
        "files": {
            path: BoardFile(len(data), sha256(data).digest()[:16])
            for path, data in tree.items()
            if path not in leftovers
        },
        "folders": frozenset({*folders, *(folder for path in tree for folder in folders_above(path))}),
        "leftovers": leftovers,
        "unreadable_folders": {},
        "mounts": frozenset(),
        "filesystems": ("/",),
        "usage": ROOM,
    }
    return Listing(**{**fields, **others})  # type: ignore[arg-type]


def manifest_of(files: Mapping[str, bytes]) -> list[ManifestFile]:
    return [ManifestFile(path, sha256(data).digest(), len(data)) for path, data in files.items()]


class Model:
    """A strict filesystem below one folder: every wrong step fails."""

    def __init__(self, files: Mapping[str, bytes], listing: Listing) -> None:
        self.files = dict(files)
        self.folders = set(listing.folders)

    def carry_out(self, steps: Plan, contents: Mapping[bytes, bytes]) -> None:
        for deletion in steps.clear:
            self._delete(deletion.path[1:], deletion.folder)
        for path in steps.make_folders:
            self._check_parent(path[1:])
            assert path[1:] not in self.files
            self.folders.add(path[1:])
        for write in steps.write:
            self._check_parent(write.path[1:])
            assert write.path[1:] not in self.folders
            self.files[write.path[1:]] = contents[write.sha256]
        for deletion in steps.prune:
            self._delete(deletion.path[1:], deletion.folder)

    def _check_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        assert not parent or parent in self.folders

    def _delete(self, path: str, folder: bool) -> None:
        if folder:
            assert not [other for other in (*self.files, *self.folders) if other.startswith(f"{path}/")]
            self.folders.remove(path)
        else:
            del self.files[path]


paths = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("/".join)
contents = st.sampled_from([b"", b"one", b"two"])


def without_clashes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if not files.keys() & set(folders_above(path))}


trees = st.dictionaries(paths, contents, max_size=6).map(without_clashes)


@st.composite
def boards(draw: st.DrawFn) -> tuple[dict[str, bytes], Listing]:
    files = draw(trees)
    empty = [
        folder
        for folder in draw(st.lists(paths, max_size=3))
        if not files.keys() & {folder, *folders_above(folder)}
    ]
    folders = {above for folder in empty for above in (*folders_above(folder), folder)}
    leftover = draw(st.booleans())
    if leftover:
        files = {**files, temporary_beside("main.py"): b"half"}
    return files, listing_of(files, folders)


def contents_by_hash(files: Mapping[str, bytes]) -> dict[bytes, bytes]:
    return {sha256(data).digest(): data for data in files.values()}


@given(boards(), trees)
def test_without_prune_the_tree_has_the_manifest_and_all_it_had_besides(
    board: tuple[dict[str, bytes], Listing], wanted: dict[str, bytes]
) -> None:
    files, listing = board
    model = Model(files, listing)

    steps = plan(listing, manifest_of(wanted), prune_also=["boot.py", "lib", "webrepl_cfg.py"])
    model.carry_out(steps, contents_by_hash(wanted))

    needed = {folder for path in wanted for folder in folders_above(path)}
    in_the_way = {path for path in files if path in needed or wanted.keys() & set(folders_above(path))} | set(
        listing.leftovers
    )
    others = {path: data for path, data in files.items() if path not in in_the_way}
    assert model.files == {**others, **wanted}
    assert {path.removeprefix("/") for path in steps.keep} == others.keys() - wanted.keys()
    assert not steps.prune


@given(boards(), trees)
def test_with_prune_the_tree_equals_the_manifest_and_what_is_kept(
    board: tuple[dict[str, bytes], Listing], wanted: dict[str, bytes]
) -> None:
    files, listing = board
    model = Model(files, listing)

    steps = plan_unless_refused(listing, wanted, keep=["data/"])
    model.carry_out(steps, contents_by_hash(wanted))

    kept = {path: files[path] for path in files if "data" in path.split("/")[:-1]}
    assert model.files == {**kept, **wanted}
    assert {path.removeprefix("/") for path in steps.keep} == kept.keys() - wanted.keys()


def plan_unless_refused(listing: Listing, wanted: Mapping[str, bytes], keep: list[str]) -> Plan:
    """Plan with prune; what stands in the way of a kept file is not this test's matter."""
    try:
        return plan(listing, manifest_of(wanted), prune=True, keep=keep, prune_also=["boot.py", "lib"])
    except RequestInvalid:
        reject()


@given(boards(), trees, st.booleans())
def test_files_that_are_equal_are_never_written(
    board: tuple[dict[str, bytes], Listing], wanted: dict[str, bytes], prune: bool
) -> None:
    files, listing = board

    steps = plan(listing, manifest_of(wanted), prune=prune, prune_also=["boot.py", "lib"])

    differing = {f"/{path}" for path, data in wanted.items() if files.get(path) != data}
    assert {write.path for write in steps.write} == differing
    assert {*steps.same} == {f"/{path}" for path in wanted} - differing
    assert steps.payload_bytes == sum(len(wanted[path[1:]]) for path in differing)


@given(boards(), trees, st.sampled_from(["/app", "/a/b"]))
def test_nothing_outside_the_destination_is_named(
    board: tuple[dict[str, bytes], Listing], wanted: dict[str, bytes], destination: str
) -> None:
    steps = plan(board[1], manifest_of(wanted), destination=destination, prune=True)

    named = [
        *steps.delete,
        *steps.make_folders,
        *steps.same,
        *steps.keep,
        *(w.path for w in steps.write),
    ]
    assert [path for path in named if not path.startswith(f"{destination}/")] == []


@given(boards(), trees)
def test_prune_spares_what_the_board_starts_with(
    board: tuple[dict[str, bytes], Listing], wanted: dict[str, bytes]
) -> None:
    files, listing = board
    wanted = {path: data for path, data in wanted.items() if path.split("/")[0] not in ("lib", "boot.py")}
    model = Model(files, listing)

    model.carry_out(plan(listing, manifest_of(wanted), prune=True), contents_by_hash(wanted))

    spared = {path: data for path, data in files.items() if path.split("/")[0] in ("lib", "boot.py")}
    assert model.files == {**spared, **wanted}


def test_the_boards_start_is_written_last() -> None:
    files = {"boot.py": b"b", "main.py": b"m", "zoo.py": b"z", "app/a.py": b"a"}

    steps = plan(listing_of({}), manifest_of(files))

    assert [write.path for write in steps.write] == ["/app/a.py", "/zoo.py", "/boot.py", "/main.py"]


def test_a_missing_destination_is_made_from_the_outside() -> None:
    nothing = listing_of({}, exists=False)

    steps = plan(nothing, manifest_of({"lib/a.py": b""}), destination="/x/y")

    assert steps.make_folders == ("/x", "/x/y", "/x/y/lib")


def test_a_name_that_differs_in_case_only_goes_before_the_new_one_comes() -> None:
    steps = plan(listing_of({"MAIN.PY": b"old"}), manifest_of({"main.py": b"new"}), prune=True)

    assert [deletion.path for deletion in steps.clear] == ["/MAIN.PY"]
    assert steps.prune == ()


def test_an_unreadable_file_is_told_and_written_anew() -> None:
    broken = listing_of({}, files={"a.py": BoardFile(0, None, 5), "log": BoardFile(0, None, 5)})

    steps = plan(broken, manifest_of({"a.py": b""}))

    assert steps.unreadable == ("/a.py", "/log")
    assert [write.path for write in steps.write] == ["/a.py"]
    assert steps.keep == ("/log",)


def test_an_unreadable_folder_and_those_above_it_are_never_pruned() -> None:
    broken = listing_of({}, folders=["x", "x/y"], unreadable_folders={"x/y": 5})

    assert plan(broken, [], prune=True).prune == ()


def test_an_empty_folder_that_a_pattern_keeps_stays() -> None:
    steps = plan(listing_of({}, folders=["logs", "old"]), [], prune=True, keep=["logs/"])

    assert steps.delete == ("/old",)


def test_patterns_are_those_of_gitignore() -> None:
    files = {"a.log": b"", "keep.log": b"", "sub/b.log": b"", "only/x": b"", "sub/only/x": b"", "c.txt": b""}

    steps = plan(listing_of(files), [], prune=True, keep=["*.log", "!keep.log", "/only/"])

    assert steps.keep == ("/a.log", "/only/x", "/sub/b.log")


REFUSALS: dict[str, tuple[Listing, dict[str, bytes], dict[str, object], str]] = {
    "a path that leads out": (listing_of({}), {"../x": b""}, {}, "files"),
    "a relative destination": (listing_of({}), {}, {"destination": "app"}, "destination"),
    "a file as destination": (listing_of({}, is_file=True, exists=False), {}, {}, "destination"),
    "no filesystem": (listing_of({}, usage=None, filesystems=()), {"a": b""}, {}, "destination"),
    "an empty filesystem": (
        listing_of({}, usage=Usage(0, 0, 0, None), filesystems=()),
        {"a": b""},
        {},
        "destination",
    ),
    "a filesystem elsewhere": (listing_of({}, filesystems=("/flash",)), {"a": b""}, {}, "destination"),
    "another filesystem below": (listing_of({}, mounts=frozenset({"sd"})), {"sd/a": b""}, {}, "files"),
    "another filesystem there": (listing_of({}, mounts=frozenset({"sd"})), {"sd": b""}, {}, "files"),
    "a filesystem with short names": (
        listing_of({}, usage=Usage(1, 1, 1, 5)),
        {"lib/longer": b""},
        {},
        "files",
    ),
    "a spared folder in the way": (listing_of({"lib/a": b""}), {"lib": b""}, {}, "files"),
    "a kept file in the way": (listing_of({"x/a": b""}), {"x": b""}, {"keep": ["a"]}, "files"),
    "a mount in the way": (listing_of({"x/a": b""}, mounts=frozenset({"x/m"})), {"x": b""}, {}, "files"),
    "a pattern that makes no sense": (listing_of({}), {}, {"keep": ["!"]}, "keep"),
    "an unknown name to give up": (listing_of({}), {}, {"prune_also": ["main.py"]}, "prune_also"),
}


@pytest.mark.parametrize(("listing", "files", "options", "field"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_be_planned_is_refused(
    listing: Listing, files: dict[str, bytes], options: dict[str, object], field: str
) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        plan(listing, manifest_of(files), **options)  # type: ignore[arg-type]

    assert refusal.value.fields["field"] == field


def test_no_filesystem_at_the_root_names_those_that_are() -> None:
    virtual = listing_of({}, usage=Usage(0, 0, 0, None), filesystems=("/flash", "/sd"))

    with pytest.raises(RequestInvalid, match="/flash, /sd"):
        plan(virtual, manifest_of({"main.py": b""}))


def test_a_hash_of_another_length_is_refused() -> None:
    with pytest.raises(RequestInvalid) as refusal:
        plan(listing_of({}), [ManifestFile("a.py", b"short", 0)])

    assert refusal.value.fields["path"] == "a.py"
