"""What is kept of deployments to a real board, for how long, and what becomes of those that broke off."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from belayd.errors import BoardOffline, DeploymentNotFound, RequestInvalid, StoreFailed
from belayd.events import BoardChanged, DeploymentSettled
from belayd.records import Asked
from belayd.snapshot import BoardState
from belayd.store import Change, DeploymentOutcome, DeploymentRecord, Entry

KIB = 1024
PATIENCE = 30.0

# A board whose hashlib says of one content that it is another.
LIE = """
import sys,hashlib
class Liar:
 real=hashlib.sha256
 class sha256:
  def __init__(self,data=b''):
   self.data=bytes(data)
  def update(self,data):
   self.data+=bytes(data)
  def digest(self):
   return {digest!r} if self.data=={told!r} else Liar.real(self.data).digest()
sys.modules['hashlib']=Liar
"""


def entry(data: bytes) -> Entry:
    return Entry(sha256(data).digest(), len(data))


@contextlib.contextmanager
def unwritable(file: Path) -> Iterator[None]:
    """Keep the store from writing, as another program on its file would."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.fixture
def broken(bench) -> Any:
    """A deployment on record that broke off: it was to write /main.py and /new.py."""

    async def make(name: str = "broken") -> None:
        changes = [
            Change("/main.py", entry(b"old\n"), entry(b"new\n")),
            Change("/new.py", None, entry(b"N\n")),
            Change("/lib", None, Entry(b"", 0)),
        ]
        bench.store.deployments.add(DeploymentRecord(name, "a", "ann", bench.now, "/"), changes)
        await bench.store.deployments.settled()
        await bench.remember().start()

    return make


async def outcome(bench: Any, name: str = "broken") -> DeploymentOutcome:
    record = await bench.store.deployments.get(name)
    found: DeploymentOutcome = record.outcome
    return found


async def test_only_what_nobody_holds_is_read_from_the_board(bench) -> None:
    bench.write("by_hand.py", b"H\n")
    bench.write("main.py", b"0\n")
    await bench.deploy({"main.py": b"1\n"})
    await bench.roll_back()
    await bench.roll_back()
    first = list(bench.read)

    await bench.deploy({"main.py": b"2\n"}, prune=True)

    assert first == ["/main.py"]
    assert bench.read == ["/main.py", "/by_hand.py"]


async def test_what_somebody_else_deployed_is_not_read_if_the_board_proves_that_it_has_it(bench) -> None:
    large = bytes(range(256)) * 300
    names = [f"{'x' * 100}/{number}.py" for number in range(60)]
    await bench.deploy({"data.bin": large, **{name: name.encode() for name in names}}, Asked("a", "ben"))
    before = bench.files()

    await bench.deploy({"main.py": b"M\n"}, prune=True)
    await bench.roll_back()

    assert bench.read == []
    assert bench.files() == before


async def test_a_board_that_lies_about_its_files_gets_nobodys_contents(bench) -> None:
    secret = b"KEY = 'correct horse battery staple'\n"
    lie = b"?" * len(secret)
    await bench.archive.keep(sha256(secret).digest(), secret)
    bench.write("wifi.py", lie)
    await bench.session.command(LIE.strip().format(digest=sha256(secret).digest(), told=lie))

    deployed = await bench.deploy({"main.py": b"M" * 100}, prune=True)
    with pytest.raises(RequestInvalid, match="not what the board has"):
        await bench.roll_back()

    assert bench.read == ["/wifi.py"]
    assert deployed.name == ""
    assert bench.files() == {"main.py": b"M" * 100}


async def test_an_empty_file_comes_back_and_costs_no_reading(bench) -> None:
    bench.write("empty.txt", b"")
    await bench.deploy({"empty.txt": b"not empty\n"})

    await bench.roll_back()

    assert bench.files() == {"empty.txt": b""}
    assert "/empty.txt" not in bench.read[:1]


async def test_what_is_too_large_to_be_kept_is_deployed_and_said(bench) -> None:
    bench.remember(limit_bytes=64 * KIB)
    bench.write("large.bin", bytes(range(256)) * 4 * 100)

    deployed = await bench.deploy({"large.bin": b"small\n"})

    assert deployed.name == ""
    assert f"takes {100 * KIB} bytes, and {64 * KIB} are kept" in deployed.refusal
    assert bench.read == []
    assert bench.files() == {"large.bin": b"small\n"}
    with pytest.raises(RequestInvalid, match="are kept of all boards"):
        await bench.roll_back()


async def test_when_there_is_no_room_the_oldest_gives_way(bench) -> None:
    bench.remember(limit_bytes=64 * KIB)
    for number in range(3):
        bench.write("data.bin", bytes([number]) * 30 * KIB)
        await bench.deploy({"data.bin": b"%d\n" % number})
    [latest, _, oldest], _ = await bench.records.of_board("a", 10)

    with pytest.raises(RequestInvalid, match="made room"):
        await bench.roll_back(oldest.name)
    await bench.roll_back(latest.name)

    assert bench.files() == {"data.bin": b"\x02" * 30 * KIB}
    assert bench.archive.used_bytes <= 64 * KIB


async def test_the_last_few_of_a_board_are_kept(bench) -> None:
    bench.remember(most=3)
    for number in range(6):
        await bench.deploy({"main.py": b"%d\n" % number})
    await bench.records.sweep()
    found, _ = await bench.records.of_board("a", 100)

    await bench.roll_back(found[-1].name)

    assert len(found) == 3
    assert bench.files() == {"main.py": b"2\n"}


async def test_what_is_too_old_cannot_be_rolled_back_and_its_contents_are_gone(bench) -> None:
    bench.write("main.py", b"by hand\n")
    await bench.deploy({"main.py": b"1\n"})
    bench.now += timedelta(days=31)
    await bench.records.sweep()

    with pytest.raises(RequestInvalid, match="too old"):
        await bench.roll_back()

    assert not bench.archive.holds(sha256(b"by hand\n").digest())
    assert await bench.records.drift(bench.session, "a") is not None


async def test_contents_go_when_nothing_leads_back_to_them_any_more(bench) -> None:
    for number in range(12):
        bench.write("main.py", b"by hand %d\n" % number)
        await bench.deploy({"main.py": b"%d\n" % number})
        await bench.records.sweep()

    kept = [number for number in range(12) if bench.archive.holds(sha256(b"by hand %d\n" % number).digest())]

    assert kept == [7, 8, 9, 10, 11]


async def test_a_file_whose_name_no_deployment_can_give_is_said(bench) -> None:
    bench.write("a\\..\\b", b"odd\n")

    deployed = await bench.deploy({"main.py": b"M\n"}, prune=True)

    assert "has a name that no deployment can give" in deployed.refusal
    assert bench.files() == {"main.py": b"M\n"}


async def test_nothing_is_touched_when_it_cannot_be_put_on_record(bench) -> None:
    bench.write("main.py", b"old\n")

    with unwritable(bench.file), pytest.raises(StoreFailed):
        await bench.deploy({"main.py": b"new\n"})
    untouched = bench.files()
    await bench.deploy({"main.py": b"newer\n"})
    found, _ = await bench.records.of_board("a", 10)

    assert untouched == {"main.py": b"old\n"}
    assert [each.outcome for each in found] == [DeploymentOutcome.DONE, DeploymentOutcome.UNDONE]


async def test_contents_that_were_lost_on_disk_are_said_before_anything_is_touched(bench) -> None:
    bench.write("main.py", b"by hand\n")
    await bench.deploy({"main.py": b"1\n"})
    await bench.archive.retain(())

    with pytest.raises(RequestInvalid, match="kept no more"):
        await bench.roll_back()

    assert bench.files() == {"main.py": b"1\n"}


async def test_what_is_rolled_back_is_asked_of_whoever_allows_it(bench) -> None:
    for number in range(3):
        await bench.deploy({"main.py": b"%d\n" % number}, Asked("a", f"user {number}"))
    [*_, second, _], _ = await bench.records.of_board("a", 10)
    asked: list[str] = []

    chosen = await bench.records.choose("a", second.name, lambda record: asked.append(record.principal))

    assert asked == ["user 2", "user 1"]
    assert chosen.aim.name == second.name
    with pytest.raises(DeploymentNotFound):
        await bench.records.choose("a", "0123", lambda record: None)
    with pytest.raises(DeploymentNotFound):
        await bench.records.choose("b", "", lambda record: None)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": b"old\n"}, DeploymentOutcome.UNDONE),
        ({"main.py": b"new\n", "new.py": b"N\n", "more.py": b""}, DeploymentOutcome.DONE),
        ({"main.py": b"new\n"}, DeploymentOutcome.MIXED),
        ({"main.py": b"old\n", "new.py": b"N\n"}, DeploymentOutcome.MIXED),
        ({"main.py": b"OLD\n"}, DeploymentOutcome.MIXED),
    ],
    ids=["nothing", "all", "the first", "the last", "something else"],
)
async def test_a_look_tells_what_became_of_one_that_broke_off(bench, broken, files, expected) -> None:
    await broken()
    for path, data in files.items():
        bench.write(path, data)

    await bench.records.look(bench.session, "a")

    assert await outcome(bench) is expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("completed", DeploymentOutcome.DONE),
        ("undone", DeploymentOutcome.UNDONE),
        ("failed", DeploymentOutcome.OPEN),
    ],
)
async def test_what_settles_the_board_tells_what_became_of_it(bench, broken, told, expected) -> None:
    await broken()

    bench.records.hear(DeploymentSettled("b", "completed"))
    bench.records.hear(DeploymentSettled("a", told))

    assert await outcome(bench) is expected


async def test_what_settles_the_board_knows_better_than_a_look_before(bench, broken) -> None:
    await broken()
    bench.write("main.py", b"new\n")
    await bench.records.look(bench.session, "a")
    mixed = await outcome(bench)

    bench.records.hear(DeploymentSettled("a", "completed"))

    assert mixed is DeploymentOutcome.MIXED
    assert await outcome(bench) is DeploymentOutcome.DONE


async def test_a_board_that_serves_again_is_visited_but_not_for_ever(bench, broken) -> None:
    await broken()
    visits: asyncio.Queue[str] = asyncio.Queue()

    async def visit(board: str) -> None:
        await visits.put(board)
        await bench.records.look(away, board)

    away = Away()
    watching = asyncio.create_task(bench.records.watch(visit))
    seen = []
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            bench.records.hear(BoardChanged("b", BoardState.BUSY, BoardState.READY, ""))
            bench.records.hear(BoardChanged("a", BoardState.BUSY, BoardState.READY, ""))
            seen.append(await visits.get())
            await away.asked.get()
    bench.records.hear(BoardChanged("a", BoardState.BUSY, BoardState.READY, ""))
    await bench.records.sweep()
    more = visits.qsize()
    watching.cancel()
    await asyncio.wait([watching])

    assert seen == ["a", "a", "a"]
    assert more == 0
    assert await outcome(bench) is DeploymentOutcome.OPEN


class Away:
    """A session with a board that is away."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[None] = asyncio.Queue()

    @property
    def facts(self) -> Any:
        self.asked.put_nowait(None)
        raise BoardOffline("it is away")


async def test_a_deployment_first_finds_out_what_became_of_the_one_before(bench, broken) -> None:
    await broken()
    bench.write("main.py", b"new\n")

    await bench.deploy({"main.py": b"newer\n"})
    found, _ = await bench.records.of_board("a", 10)

    assert [each.outcome for each in found] == [DeploymentOutcome.DONE, DeploymentOutcome.MIXED]
