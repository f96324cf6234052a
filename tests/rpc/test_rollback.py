"""Rolling boards back, their deployments and their drift, as RPCs over a real board's files."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from belayd.v1 import deployments_pb2, deployments_pb2_grpc

BOARD = "boards/sim-1"
Tree = Mapping[str, bytes]
SUMMARY_TIMEOUT = 60


class Bench:
    """Deploys to the lab's board, whose files lie in a folder of the host."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self.stub = deployments_pb2_grpc.DeploymentServiceStub(lab.channel)
        self.snapshots = folder / "snapshots"
        self.root = folder / "boards" / "sim-1"

    async def put(self, *contents: bytes) -> None:
        async def requests() -> Any:
            blobs = [deployments_pb2.Blob(sha256=digest(data), size=len(data)) for data in contents]
            yield deployments_pb2.PutBlobsRequest(offer=deployments_pb2.BlobOffer(blobs=blobs))
            async with asyncio.timeout(30):
                wanted = await answered
            by_hash = {digest(data): data for data in contents}
            for sha in wanted:
                yield deployments_pb2.PutBlobsRequest(chunk=by_hash[sha])

        answered: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        async for answer in self.stub.PutBlobs(requests(), timeout=30):
            if answer.HasField("wanted"):
                answered.set_result(list(answer.wanted.sha256))

    async def deploy(self, tree: Tree, **how: Any) -> deployments_pb2.DeploymentSummary:
        if any(tree.values()):
            await self.put(*dict.fromkeys(tree.values()))
        files = [
            deployments_pb2.ManifestFile(path=path, sha256=digest(data), size=len(data))
            for path, data in tree.items()
        ]
        request = deployments_pb2.DeployRequest(board=BOARD, files=files, **how)
        return [step async for step in self.stub.Deploy(request, timeout=SUMMARY_TIMEOUT)][-1].summary

    async def roll_back(self, **how: Any) -> deployments_pb2.DeploymentSummary:
        return (await self.steps_of_rollback(**how))[-1].summary

    async def steps_of_rollback(self, **how: Any) -> list[deployments_pb2.RollBackResponse]:
        request = deployments_pb2.RollBackRequest(board=BOARD, **how)
        return [step async for step in self.stub.RollBack(request, timeout=SUMMARY_TIMEOUT)]

    async def list(self, **how: Any) -> deployments_pb2.ListDeploymentsResponse:
        request = deployments_pb2.ListDeploymentsRequest(board=BOARD, **how)
        found: deployments_pb2.ListDeploymentsResponse = await self.stub.ListDeployments(request, timeout=30)
        return found

    async def drift(self) -> deployments_pb2.GetDriftResponse:
        request = deployments_pb2.GetDriftRequest(board=BOARD)
        found: deployments_pb2.GetDriftResponse = await self.stub.GetDrift(request, timeout=SUMMARY_TIMEOUT)
        return found

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }

    def folders(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_dir()}

    def write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


@pytest.fixture
def bench(lab, tmp_path: Path) -> Bench:
    return Bench(lab, tmp_path)


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


OLD = {"main.py": b"print('old')\n", "lib/a.py": b"A = 1\n", "lib/same.py": b"S = 1\n"}
NEW = {"main.py": b"print('new')\n", "lib/b.py": b"B = 1\n", "lib/same.py": b"S = 1\n"}


async def test_what_was_deployed_is_rolled_back_and_forward_again(bench: Bench) -> None:
    await bench.deploy(OLD)
    summary = await bench.deploy(NEW, prune=True, prune_also=["lib"])
    assert bench.files() == NEW

    back = await bench.roll_back()
    at_first = bench.files()
    forward = await bench.roll_back()

    assert at_first == OLD
    assert bench.files() == NEW
    assert summary.deployment.startswith("deployments/")
    assert (back.files_written, back.files_deleted, back.rollback_refusal) == (2, 1, "")
    assert (forward.files_written, forward.files_deleted) == (2, 1)


async def test_a_rollback_is_in_place_if_that_is_asked_for_or_what_it_undoes_was(lab, bench: Bench) -> None:
    await bench.deploy(OLD)
    await bench.deploy(NEW)

    await bench.roll_back()
    await bench.roll_back(in_place=True)
    await bench.roll_back()

    found, _ = await lab.records.of_board("sim-1", 5)
    assert [record.in_place for record in found] == [True, True, False, False, False]


async def test_the_first_deployment_is_rolled_back_to_an_empty_board(bench: Bench) -> None:
    await bench.deploy({"app/deep/x.py": b"X\n", "main.py": b"M\n"}, destination="/code")

    await bench.roll_back()

    assert bench.files() == {}
    assert bench.folders() == set()


async def test_files_in_the_place_of_folders_and_the_reverse_come_back(bench: Bench) -> None:
    old = {"a/x.py": b"X\n", "a/y.py": b"Y\n", "b": b"a file\n"}
    await bench.deploy(old)
    await bench.deploy({"a": b"a file now\n", "b/z.py": b"Z\n"})
    assert bench.files() == {"a": b"a file now\n", "b/z.py": b"Z\n"}

    await bench.roll_back()

    assert bench.files() == old


async def test_an_empty_folder_that_was_pruned_comes_back(bench: Bench) -> None:
    (bench.root / "empty" / "inner").mkdir(parents=True)
    await bench.deploy({"main.py": b"M\n"}, prune=True)
    assert bench.folders() == set()

    await bench.roll_back()

    assert bench.folders() == {"empty", "empty/inner"}
    assert bench.files() == {}


async def test_a_file_written_by_hand_is_read_from_the_board_before_it_is_replaced(bench: Bench) -> None:
    by_hand = bytes(range(256)) * 40 + b"not deployed by anybody"
    bench.write("main.py", by_hand)
    bench.write("notes/empty.txt", b"")
    await bench.deploy({"main.py": b"M = 1\n"}, prune=True)
    assert bench.files() == {"main.py": b"M = 1\n"}

    await bench.roll_back()

    assert bench.files() == {"main.py": by_hand, "notes/empty.txt": b""}


async def test_what_was_changed_by_hand_since_is_kept_when_it_is_rolled_back(bench: Bench) -> None:
    await bench.deploy({"main.py": b"first\n"})
    await bench.deploy({"main.py": b"second\n"})
    bench.write("main.py", b"second, mended by hand\n")

    await bench.roll_back()
    rolled_back = bench.files()
    await bench.roll_back()

    assert rolled_back == {"main.py": b"first\n"}
    assert bench.files() == {"main.py": b"second, mended by hand\n"}


async def test_rolling_back_leaves_alone_what_the_deployment_did_not_touch(bench: Bench) -> None:
    bench.write("data.txt", b"of the board's own\n")
    await bench.deploy(OLD)
    await bench.deploy({**OLD, "main.py": b"print('new')\n"})
    bench.write("lib/same.py", b"edited since\n")
    bench.write("log.txt", b"written since\n")

    await bench.roll_back()

    assert bench.files() == {
        **OLD,
        "lib/same.py": b"edited since\n",
        "data.txt": b"of the board's own\n",
        "log.txt": b"written since\n",
    }


async def test_what_deployments_wrote_is_not_read_from_the_board_again(bench: Bench) -> None:
    large = bytes(range(256)) * 200
    await bench.deploy({"data.bin": large})

    summary = await bench.deploy({"data.bin": b"small now\n"})
    back = await bench.roll_back(dry_run=True)

    assert summary.wire_bytes < len(large)
    assert back.deployment == ""


async def test_a_named_deployment_is_rolled_back_with_those_after_it(bench: Bench) -> None:
    first = await bench.deploy({"main.py": b"1\n", "one.py": b"1\n"})
    second = await bench.deploy({"main.py": b"2\n", "two.py": b"2\n"})
    await bench.deploy({"main.py": b"3\n", "three.py": b"3\n"})
    await bench.deploy({"x.py": b"elsewhere\n"}, destination="/other")

    await bench.roll_back(deployment=second.deployment)
    before_the_second = bench.files()
    await bench.roll_back(deployment=first.deployment)

    assert before_the_second == {"main.py": b"1\n", "one.py": b"1\n", "other/x.py": b"elsewhere\n"}
    assert bench.files() == {"other/x.py": b"elsewhere\n"}


async def test_a_dry_run_tells_and_changes_nothing(bench: Bench) -> None:
    await bench.deploy(OLD)
    await bench.deploy(NEW, prune=True, prune_also=["lib"])

    steps = await bench.steps_of_rollback(dry_run=True)

    assert list(steps[0].plan.write) == ["/lib/a.py", "/main.py"]
    assert list(steps[0].plan.delete) == ["/lib/b.py"]
    assert steps[-1].summary.files_written == 0
    assert bench.files() == NEW
    assert len((await bench.list()).deployments) == 2


async def test_deployments_are_listed_the_latest_first(bench: Bench) -> None:
    first = await bench.deploy({"main.py": b"1\n"})
    await bench.deploy({"main.py": b"2\n"}, without_rollback=True)

    page = await bench.list(page_size=1)
    rest = await bench.list(page_token=page.next_page_token)
    latest, earlier = page.deployments[0], rest.deployments[0]

    assert (earlier.name, earlier.board, earlier.principal) == (first.deployment, BOARD, "local")
    assert (earlier.outcome, earlier.reversible) == (deployments_pb2.DEPLOYMENT_OUTCOME_DONE, True)
    assert (latest.reversible, latest.files_written, latest.payload_bytes) == (False, 1, 2)
    assert rest.next_page_token == ""


async def test_a_deployment_that_kept_nothing_says_so_and_is_refused(bench: Bench) -> None:
    await bench.deploy({"main.py": b"1\n"})

    summary = await bench.deploy({"main.py": b"2\n"}, without_rollback=True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.roll_back()

    assert summary.deployment == ""
    assert "nothing was kept" in summary.rollback_refusal
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "nothing was kept" in (caught.value.details() or "")
    assert bench.files() == {"main.py": b"2\n"}


async def test_there_is_nothing_to_roll_back_on_a_new_board(bench: Bench) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bench.roll_back()

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "nothing to roll back" in (caught.value.details() or "")


async def test_deploying_the_same_again_is_not_put_on_record(bench: Bench) -> None:
    await bench.deploy({"main.py": b"1\n"})
    await bench.deploy({"main.py": b"2\n"})
    again = await bench.deploy({"main.py": b"2\n"})

    await bench.roll_back()

    assert (again.deployment, again.rollback_refusal) == ("", "")
    assert bench.files() == {"main.py": b"1\n"}


async def test_drift_tells_what_was_changed_went_missing_and_came_along(bench: Bench) -> None:
    deployed = await bench.deploy({"main.py": b"M\n", "lib/a.py": b"A\n", "lib/b.py": b"B\n"})
    clean = await bench.drift()
    bench.write("main.py", b"X\n")
    bench.write("boot.py", b"left behind\n")
    bench.write("data/log.txt", b"L\n")
    (bench.root / "lib" / "b.py").unlink()

    drift = await bench.drift()

    assert (list(clean.changed), list(clean.missing), list(clean.extra)) == ([], [], [])
    assert drift.deployment.name == deployed.deployment
    assert list(drift.changed) == ["/main.py"]
    assert list(drift.missing) == ["/lib/b.py"]
    assert list(drift.extra) == ["/boot.py", "/data/log.txt"]


async def test_drift_below_a_folder_tells_of_what_starts_the_board_too(bench: Bench) -> None:
    await bench.deploy({"a.py": b"A\n"}, destination="/app")
    bench.write("boot.py", b"left behind\n")
    bench.write("other.txt", b"not asked for\n")

    drift = await bench.drift()

    assert list(drift.extra) == ["/boot.py"]
    assert (list(drift.changed), list(drift.missing)) == ([], [])


async def test_after_rolling_back_a_board_does_not_drift(bench: Bench) -> None:
    await bench.deploy(OLD)
    await bench.deploy({**OLD, "main.py": b"print('new')\n", "more.py": b"M\n"})
    await bench.roll_back()

    drift = await bench.drift()
    bench.write("lib/same.py", b"edited\n")
    drifted = await bench.drift()

    assert (list(drift.changed), list(drift.missing), list(drift.extra)) == ([], [], [])
    assert list(drifted.changed) == ["/lib/same.py"]


async def test_a_board_that_had_no_deployment_has_nothing_to_drift_from(bench: Bench) -> None:
    drift = await bench.drift()

    assert not drift.HasField("deployment")


async def test_snapshots_are_the_daemons_own_and_contents_are_in_no_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.write("secrets.py", b"PASSWORD = 'hunter2-swordfish'\n")
    await bench.deploy({"secrets.py": b"PASSWORD = None\n"})
    await bench.roll_back()

    kept = list(bench.snapshots.iterdir())

    assert stat.S_IMODE(bench.snapshots.stat().st_mode) == 0o700
    assert kept
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert any(b"hunter2" in path.read_bytes() for path in kept)
    assert "hunter2" not in caplog.text
