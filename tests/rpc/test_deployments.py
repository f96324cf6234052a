"""Deployments as RPCs: what is refused before it is queued, and what stays while one waits."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from belayd.errors import RunCancelled
from belayd.events import DeploymentEnded
from belayd.v1 import deployments_pb2, deployments_pb2_grpc

HOUR = 3600.0
BOARD = "boards/sim-1"


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def file(path: str, content: bytes) -> deployments_pb2.ManifestFile:
    return deployments_pb2.ManifestFile(path=path, sha256=sha(content), size=len(content))


@pytest.fixture
def stub(lab) -> Any:
    return deployments_pb2_grpc.DeploymentServiceStub(lab.channel)


async def put(stub: Any, content: bytes) -> None:
    async def requests() -> AsyncIterator[deployments_pb2.PutBlobsRequest]:
        blob = deployments_pb2.Blob(sha256=sha(content), size=len(content))
        yield deployments_pb2.PutBlobsRequest(offer=deployments_pb2.BlobOffer(blobs=[blob]))
        yield deployments_pb2.PutBlobsRequest(chunk=content)

    assert [answer async for answer in stub.PutBlobs(requests(), timeout=30)][-1].stored.count == 1


async def deploy(stub: Any, **request: Any) -> list[deployments_pb2.DeployResponse]:
    message = deployments_pb2.DeployRequest(board=BOARD, **request)
    return [step async for step in stub.Deploy(message, timeout=60)]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (file("lib/wrong.py", b"never sent"), "send it again"),
        (deployments_pb2.ManifestFile(path="lib/wrong.py", sha256=sha(b"good"), size=3), "4 bytes, not 3"),
        (deployments_pb2.ManifestFile(path="lib/wrong.py", sha256=b"short", size=4), "32 bytes"),
    ],
    ids=["never sent", "another size", "no hash"],
)
async def test_a_manifest_whose_contents_are_not_there_is_refused_before_it_is_queued(
    lab, stub: Any, wrong: deployments_pb2.ManifestFile, complaint: str
) -> None:
    await put(stub, b"good")
    busy = await lab.occupy()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await deploy(stub, files=[file("good.py", b"good"), wrong])

    assert not busy.outcome.done()
    assert lab.board.snapshot().queue_length == 0
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "'lib/wrong.py'" in caught.value.details()
    assert complaint in caught.value.details()


async def test_a_dry_run_needs_no_contents(lab, stub: Any) -> None:
    steps = await deploy(stub, files=[file("never.py", b"never sent")], dry_run=True)

    assert list(steps[0].plan.write) == ["/never.py"]
    assert steps[-1].summary.files_written == 0


async def test_contents_stay_while_their_deployment_waits_and_an_hour_after(lab, stub: Any) -> None:
    await put(stub, b"kept")
    busy = await lab.occupy()
    call = stub.Deploy(deployments_pb2.DeployRequest(board=BOARD, files=[file("a.py", b"kept")]), timeout=60)
    await lab.queued(lambda length: length == 1)

    lab.now = 3 * HOUR
    dropped_while_it_waited = await lab.blobs.expire()
    busy.stop(RunCancelled("enough"))
    steps = [step async for step in call]
    lab.now = 4 * HOUR - 1
    dropped_within_the_hour = await lab.blobs.expire()
    lab.now = 4 * HOUR
    dropped_after_it = await lab.blobs.expire()

    assert steps[-1].summary.files_written == 1
    assert (dropped_while_it_waited, dropped_within_the_hour, dropped_after_it) == (0, 0, 1)


async def test_manifests_that_wait_are_bounded_in_bytes(lab, stub: Any) -> None:
    await lab.occupy()
    files = [file(f"folder/{number:05}.py", b"x") for number in range(10_000)]
    request = deployments_pb2.DeployRequest(board=BOARD, files=files, dry_run=True)

    calls = [stub.Deploy(request, timeout=60) for _ in range(8)]
    await lab.queued(lambda length: length == len(calls) - sum(call.done() for call in calls))
    refused = [call for call in calls if call.done()]

    assert 2 <= len(refused) <= 5
    assert {await call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for call in calls:
        call.cancel()


async def test_a_deployment_whose_caller_leaves_is_told_of_and_a_dry_run_is_not(lab, stub: Any) -> None:
    told: list[DeploymentEnded] = []
    lab.events.listen(lambda event: told.append(event) if isinstance(event, DeploymentEnded) else None)
    await put(stub, b"kept")
    busy = await lab.occupy()
    call = stub.Deploy(deployments_pb2.DeployRequest(board=BOARD, files=[file("a.py", b"kept")]), timeout=60)
    await lab.queued(lambda length: length == 1)

    call.cancel()
    await lab.until(lambda: bool(told))
    busy.stop(RunCancelled("enough"))
    with pytest.raises(grpc.aio.AioRpcError):
        await deploy(stub, dry_run=True, destination="/a.py/../b")
    await deploy(stub, dry_run=True)
    await deploy(stub, files=[file("a.py", b"kept")])
    await deploy(stub, dry_run=True)

    assert [(event.outcome, event.payload_bytes) for event in told] == [("run_cancelled", 0), ("ok", 4)]
