"""Rollouts as RPCs, where the store fails or holds what this belayd cannot read."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from belayd.v1 import deployments_pb2, deployments_pb2_grpc

CONTENT = b"version = 2\n"
FILE = deployments_pb2.ManifestFile(path="app.py", sha256=hashlib.sha256(CONTENT).digest(), size=len(CONTENT))
REQUEST = deployments_pb2.CreateRolloutRequest(
    trees=[deployments_pb2.RolloutTree(files=[FILE])], boards=["boards/sim-1"]
)
STATES = deployments_pb2.RolloutState


@pytest.fixture
def stub(lab) -> Any:
    return deployments_pb2_grpc.DeploymentServiceStub(lab.channel)


async def put(stub: Any) -> None:
    async def requests() -> AsyncIterator[deployments_pb2.PutBlobsRequest]:
        blob = deployments_pb2.Blob(sha256=FILE.sha256, size=FILE.size)
        yield deployments_pb2.PutBlobsRequest(offer=deployments_pb2.BlobOffer(blobs=[blob]))
        yield deployments_pb2.PutBlobsRequest(chunk=CONTENT)

    assert [answer async for answer in stub.PutBlobs(requests(), timeout=30)][-1].stored.count == 1


async def ended(stub: Any, name: str) -> deployments_pb2.Rollout:
    steps = [
        response.rollout
        async for response in stub.WatchRollout(deployments_pb2.WatchRolloutRequest(name=name), timeout=60)
    ]
    return steps[-1]


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


@contextlib.contextmanager
def unwritable(file: Path) -> Iterator[None]:
    """Keep the store from writing, as another program on its file would."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_what_cannot_be_put_on_record_touches_no_board_and_leaves_no_contents(
    lab, stub: Any, tmp_path: Path
) -> None:
    await put(stub)

    with unwritable(tmp_path / "belayd.sqlite"):
        code, _ = await refusal(stub.CreateRollout(REQUEST, timeout=60))
    found = (await stub.ListRollouts(deployments_pb2.ListRolloutsRequest(), timeout=30)).rollouts
    [last] = [await ended(stub, rollout.name) for rollout in found]

    assert code is grpc.StatusCode.INTERNAL
    assert last.state == STATES.ROLLOUT_STATE_ABORTED
    assert last.boards[0].step == deployments_pb2.ROLLOUT_STEP_PENDING
    assert not (tmp_path / "boards" / "sim-1" / "app.py").exists()


async def test_contents_that_were_never_sent_are_refused(lab, stub: Any) -> None:
    code, why = await refusal(stub.CreateRollout(REQUEST, timeout=60))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "'app.py'" in why
    assert "send it again" in why


async def test_which_boards_are_meant_must_be_said(lab, stub: Any) -> None:
    request = deployments_pb2.CreateRolloutRequest(trees=REQUEST.trees)

    code, why = await refusal(stub.CreateRollout(request, timeout=60))

    assert (code, "boards or selector" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_an_unfinished_one_of_another_version_is_aborted_and_says_why(lab, stub: Any) -> None:
    await put(stub)
    created = (await stub.CreateRollout(REQUEST, timeout=60)).rollout
    done = await ended(stub, created.name)
    record = await lab.conductor.get(done.name.removeprefix("rollouts/"))
    strange = replace(record, name="3f9a", state="running", ended=None, intent=b"of tomorrow")
    lab.store.rollouts.create(strange)

    await lab.conductor.open()

    found = await lab.conductor.get("3f9a")
    assert done.state == STATES.ROLLOUT_STATE_DONE
    assert (found.state, found.ended is None) == ("aborted", False)
    assert "cannot read it" in found.state_reason


async def test_once_the_daemon_stops_nothing_begins_and_watchers_are_told(lab, stub: Any) -> None:
    await put(stub)
    await lab.occupy()
    created = (await stub.CreateRollout(REQUEST, timeout=60)).rollout
    watch = stub.WatchRollout(deployments_pb2.WatchRolloutRequest(name=created.name), timeout=60)
    await watch.read()

    await lab.conductor.close()
    code, _ = await refusal(stub.CreateRollout(REQUEST, timeout=60))
    with pytest.raises(grpc.aio.AioRpcError) as told:
        while await watch.read() is not grpc.aio.EOF:
            pass

    assert code is told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert lab.leasing.list() == []
