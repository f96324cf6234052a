"""What the daemon's own planner makes of the options that delete what hides a compiled file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from belayd.deployment.listing import BoardFile, Listing, Usage
from belayd.deployment.paths import folders_above, join
from belayd.deployment.plan import ManifestFile, Plan, plan
from belayd_client.deployment import DeploymentOptions
from belayd_client.preparation.replacing import replacing
from belayd_client.project import Project, made

BOARD = (
    "boot.py",
    "main.py",
    "foo.py",
    "foo.pyx",
    "notfoo.py",
    "data/log.txt",
    "data/foo.py",
    "empty/x",
    "lib/bar.py",
    "lib/baz.py",
    "lib/deep/bar.py",
)


def planned(options: DeploymentOptions, *compiled: str, board: tuple[str, ...] = BOARD) -> Plan:
    files = tuple(made(f"{path}.mpy", b"M", Path(path)) for path in compiled)
    project = Project(Path(), files, tuple(f"{path}.py" for path in compiled))
    options = replacing(options, [project])
    listing = Listing(
        exists=True,
        is_file=False,
        files={path: BoardFile(1, sha256(b"x").digest()[:16]) for path in board},
        folders=frozenset({"none", *(folder for path in board for folder in folders_above(path))}),
        leftovers={},
        unreadable_folders={},
        mounts=frozenset(),
        filesystems=("/",),
        usage=Usage(4096, 1 << 20, 1 << 20, 255),
    )
    return plan(
        listing,
        [ManifestFile(file.path, file.sha256, file.size) for file in project.files],
        destination=options.dst,
        prune=options.prune,
        keep=options.keep,
        prune_also=options.prune_also,
    )


def test_only_the_source_that_hides_a_new_file_is_deleted() -> None:
    assert planned(DeploymentOptions(), "foo").delete == ("/foo.py",)
    assert planned(DeploymentOptions(), "lib/bar", "foo").delete == ("/lib/bar.py", "/foo.py")
    assert planned(DeploymentOptions(), "other").delete == ()


@pytest.mark.parametrize("dst", ["/lib", "/LIB/deep", "/flash/lib", "/app"])
def test_it_is_deleted_wherever_the_tree_goes(dst: str) -> None:
    done = planned(DeploymentOptions(dst=dst), "foo", "sub/bar", board=("foo.py", "sub/bar.py", "rest.py"))

    assert done.delete == (join(dst, "sub/bar.py"), join(dst, "foo.py"))


def test_prune_still_spares_the_rest_of_lib() -> None:
    done = planned(DeploymentOptions(prune=True), "lib/bar", "foo")

    assert "/lib/bar.py" in done.delete
    assert {"/lib/baz.py", "/lib/deep/bar.py", "/boot.py"} <= set(done.keep)
    assert {"/foo.py", "/main.py", "/data/log.txt", "/none"} <= set(done.delete)


def test_prune_of_a_tree_in_lib_still_spares_the_rest_of_it() -> None:
    done = planned(DeploymentOptions(dst="/lib", prune=True), "foo", board=("foo.py", "baz.py", "a/b.py"))

    assert done.delete == ("/lib/foo.py",)


def test_prune_that_may_touch_lib_is_left_as_it_is() -> None:
    options = DeploymentOptions(prune=True, prune_also=("lib",), keep=("data/",))

    assert replacing(options, [Project(Path(), (), ("lib/bar.py",))]) is options


def test_what_the_caller_keeps_stays() -> None:
    assert planned(DeploymentOptions(keep=("foo.py",)), "foo", "lib/bar").delete == ("/lib/bar.py",)
    kept = planned(DeploymentOptions(keep=("data/", "!data/log.txt")), "foo")
    assert kept.delete == ("/foo.py",)


@pytest.mark.parametrize("name", ["a b", "[x]", "wh?t", "st*r", "!not", "#hash", " edge", "back\\slash"])
def test_odd_names_are_no_patterns(name: str) -> None:
    board = (f"{name}.py", "a.py", "x.py", "what.py", "stir.py", "not.py", "hash.py")

    assert planned(DeploymentOptions(), name, board=board).delete == (f"/{name}.py",)


def test_nothing_compiled_changes_nothing() -> None:
    options = DeploymentOptions(keep=("data/",))

    assert replacing(options, [Project(Path(), ())]) is options
