"""What the border does for callers with tokens: their boards, their streams, and their end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from belayd import tokens
from belayd.access import Role
from belayd.inventory import BoardSpec, SimulatedLink
from belayd.rpc import auth, border
from belayd.selector import Selector
from belayd.snapshot import BoardState
from belayd.tokens import Tokens, Wanted
from belayd.v1 import (
    boards_pb2,
    boards_pb2_grpc,
    daemon_pb2,
    daemon_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

OTHER = "sim-2"
FOREVER = "print('begun')\nwhile True: pass\n"
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
def file(tmp_path) -> Tokens:
    return Tokens(tmp_path / tokens.FILE)


@pytest.fixture
def make(file: Tokens):
    """A factory of tokens, as metadata."""

    def create(name: str, role: Role = Role.USER, selector: str = "") -> Metadata:
        [text] = file.create([Wanted(name, role, Selector.parse(selector))], datetime.now(UTC))
        return (("authorization", f"Bearer {text}"),)

    return create


@pytest.fixture
async def other(lab) -> str:
    """A second board, beside sim-1, that only `chip=other` selects."""
    lab.fleet.add([BoardSpec(OTHER, SimulatedLink(), labels={"chip": "other"})])
    return OTHER


@pytest.fixture
async def watching(lab):
    """The server looks after those inside, as the daemon has it do."""
    task = asyncio.create_task(lab.server.watch())
    yield
    task.cancel()


def reason(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, dict(info.metadata)


async def refused(call) -> tuple[str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(30):
            await call
    return reason(caught.value)


async def read_all(stream) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_a_daemon_says_who_the_token_is(lab, make) -> None:
    stub = daemon_pb2_grpc.DaemonServiceStub(lab.channel)

    told = await stub.GetDaemon(daemon_pb2.GetDaemonRequest(), metadata=make("ann", Role.OPERATOR))

    assert (told.principal, told.role) == ("ann", "operator")


async def test_a_viewer_may_not_run_and_is_told_what_to_do(lab, make) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source="1")

    told, fields = await refused(read_all(stub.RunTask(request, metadata=make("eye", Role.VIEWER))))

    assert (told, fields) == ("PERMISSION_DENIED", {"role": "viewer", "needed": "user"})


async def test_boards_outside_a_tokens_selector_are_not_listed(lab, make, other: str) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(lab.channel)
    metadata = make("ann", selector="chip=other")

    listed = await stub.ListBoards(boards_pb2.ListBoardsRequest(), metadata=metadata)
    watched = await stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=metadata).read()
    everything = await stub.ListBoards(boards_pb2.ListBoardsRequest())

    assert [board.name for board in listed.boards] == ["boards/sim-2"]
    assert [board.name for board in watched.boards] == ["boards/sim-2"]
    assert len(everything.boards) == 2


async def test_a_board_outside_a_tokens_selector_is_denied_by_every_rpc_that_names_one(
    lab, make, other: str
) -> None:
    metadata = make("ann", selector="chip=other")
    boards = boards_pb2_grpc.BoardServiceStub(lab.channel)
    tasks = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    leases = leases_pb2_grpc.LeaseServiceStub(lab.channel)
    named = "boards/sim-1"
    calls = [
        boards.GetBoard(boards_pb2.GetBoardRequest(name=named), metadata=metadata),
        boards.ResetBoard(boards_pb2.ResetBoardRequest(name=named), metadata=metadata),
        read_all(tasks.RunTask(tasks_pb2.RunTaskRequest(board=named, source="1"), metadata=metadata)),
        tasks.CallTask(tasks_pb2.CallTaskRequest(board=named, function="f"), metadata=metadata),
        read_all(leases.AcquireLease(leases_pb2.AcquireLeaseRequest(board=named), metadata=metadata)),
    ]

    for call in calls:
        told, fields = await refused(call)
        assert (told, fields["board"], fields["selector"]) == ("PERMISSION_DENIED", "sim-1", "chip=other")


async def test_a_step_on_a_board_outside_a_tokens_selector_never_runs(lab, make, other: str) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    step = tasks_pb2.ConverseStep(id=1, expression="open('mark', 'w')")

    stream = stub.Converse(
        iter([tasks_pb2.ConverseRequest(board="boards/sim-1", steps=[step])]),
        metadata=make("ann", selector="chip=other"),
    )
    events = [event async for message in stream for event in message.events]

    assert [event.error.reason for event in events if event.HasField("error")] == ["PERMISSION_DENIED"]


async def test_a_selector_chooses_among_a_tokens_own_boards_only(lab, make, other: str) -> None:
    stub = leases_pb2_grpc.LeaseServiceStub(lab.channel)
    request = leases_pb2.AcquireLeaseRequest(selector="name=sim-1", wait=Duration(seconds=0))

    told, _ = await refused(read_all(stub.AcquireLease(request, metadata=make("ann", selector="chip=other"))))

    assert told == "BOARD_NOT_FOUND"


async def test_leases_of_boards_outside_a_tokens_selector_are_not_told_of(lab, make, other: str) -> None:
    stub = leases_pb2_grpc.LeaseServiceStub(lab.channel)
    granted = await lab.within(
        stub.AcquireLease(leases_pb2.AcquireLeaseRequest(board="boards/sim-1"), metadata=make("bob")).read()
    )
    metadata = make("ann", selector="chip=other")

    listed = await stub.ListLeases(leases_pb2.ListLeasesRequest(), metadata=metadata)
    told, _ = await refused(
        stub.GetLease(leases_pb2.GetLeaseRequest(name=granted.granted.lease.name), metadata=metadata)
    )

    assert (list(listed.leases), told) == ([], "PERMISSION_DENIED")


async def test_a_stolen_lease_token_is_worth_nothing_to_another_principal(lab, make) -> None:
    stub = leases_pb2_grpc.LeaseServiceStub(lab.channel)
    ann, eve = make("ann"), make("eve", Role.ADMIN)
    stream = stub.AcquireLease(leases_pb2.AcquireLeaseRequest(board="boards/sim-1"), metadata=ann)
    token = (await lab.within(stream.read())).granted.token
    run = tasks_pb2.RunTaskRequest(board="boards/sim-1", source="print(1)", lease_token=token)
    tasks = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    thefts = [
        read_all(tasks.RunTask(run, metadata=eve)),
        read_all(tasks.RunTask(run)),  # and without credentials
        stub.RenewLease(leases_pb2.RenewLeaseRequest(lease_token=token), metadata=eve),
        stub.ReleaseLease(leases_pb2.ReleaseLeaseRequest(lease_token=token), metadata=eve),
    ]

    for theft in thefts:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lab.within(theft)
        assert token not in str(caught.value)

    renewed = await stub.RenewLease(leases_pb2.RenewLeaseRequest(lease_token=token), metadata=ann)
    assert renewed.lease.board == "boards/sim-1"


async def test_a_revoked_token_ends_the_run_that_goes_on_and_frees_the_board(
    lab, make, file: Tokens, watching
) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source=FOREVER)
    stream = stub.RunTask(request, metadata=make("ann"))
    while not (await lab.within(stream.read())).output:
        pass

    file.revoke("ann", datetime.now(UTC))

    told, fields = await refused(read_all(stream))
    assert (told, fields) == ("UNAUTHENTICATED", {"problem": "revoked"})
    await lab.until(lambda: lab.board.state is BoardState.READY)


async def test_a_revoked_token_ends_a_watch_and_leaves_those_of_others(
    lab, make, file: Tokens, watching
) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(lab.channel)
    streams = [
        stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=metadata)
        for metadata in (make("ann"), make("bob"), ())
    ]
    for stream in streams:
        await lab.within(stream.read())

    file.revoke("ann", datetime.now(UTC))

    assert (await refused(read_all(streams[0])))[0] == "UNAUTHENTICATED"
    lab.fleet.add([BoardSpec("sim-3", SimulatedLink())])
    for stream in streams[1:]:
        assert [board.name for board in (await lab.within(stream.read())).boards] == ["boards/sim-3"]


async def test_a_revoked_token_ends_a_run_whose_output_nobody_reads(
    lab, make, file: Tokens, watching
) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(lab.channel)
    flood = "while True: print('x' * 1000)\n"
    request = tasks_pb2.RunTaskRequest(board="boards/sim-1", source=flood)
    stream = stub.RunTask(request, metadata=make("ann"))
    while not (await lab.within(stream.read())).output:
        pass

    before, now = -1, lab.board.snapshot().received_bytes
    while before != now:  # until nothing more goes anywhere
        await asyncio.sleep(0.3)
        before, now = now, lab.board.snapshot().received_bytes

    file.revoke("ann", datetime.now(UTC))

    await lab.until(lambda: lab.board.state is BoardState.READY)
    stream.cancel()


async def test_a_principal_has_only_so_many_streams_and_others_have_theirs(lab, make) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(lab.channel)
    ann, bob = make("ann"), make("bob")
    streams = [
        stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=ann) for _ in range(border.MOST_STREAMS)
    ]
    for stream in streams:
        await lab.within(stream.read())

    told, fields = await refused(read_all(stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=ann)))
    assert (told, fields) == ("QUOTA_EXCEEDED", {"most": str(border.MOST_STREAMS)})
    await lab.within(stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=bob).read())

    streams[0].cancel()
    async with asyncio.timeout(30):
        while True:  # until the server has heard of the end
            stream = stub.WatchBoards(boards_pb2.WatchBoardsRequest(), metadata=ann)
            if await stream.read() is not grpc.aio.EOF:
                break


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:4711", "10.0.0.7"),
        ("ipv6:%5B2001:db8::7%5D:4711", "2001:db8::/64"),
        ("ipv6:[::1]:4711", "::/64"),
        ("unix:", "unix"),
    ],
)
def test_a_peer_is_counted_by_its_address(peer: str, address: str) -> None:
    assert auth.address_of(peer) == address


def test_nobody_is_the_caller_outside_an_rpc() -> None:
    with pytest.raises(LookupError):
        auth.current()
