"""Changes carried to real MicroPython, over links that hold back, that drop, and that turn bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from belayd.deployment import carrying
from belayd.deployment.plan import ManifestFile
from belayd.deployment.sender import estimate
from belayd.deployment.transfer import Options, Plan, Progress, Summary, deploy
from belayd.deployment.writing import Put
from belayd.errors import RequestInvalid
from belayd.outcome import BoardRaised
from belayd.session import Session
from belayd.transport.contract import Traffic, Transport
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial

RANDOM = random.Random(3).randbytes(30_000)
SOURCE = Path(__file__).read_bytes()
TREE = {"app/a.py": SOURCE * 3, "app/b.bin": RANDOM, "c.py": b"", "main.py": b"import app\n"}


class FaultyLink:
    """A transport that does something once to what is sent, after so many bytes."""

    def __init__(self, inner: Transport, after: int, change: Callable[[bytes], bytes]) -> None:
        self.address = inner.address
        self.left = after
        self._inner = inner
        self._change = change

    @property
    def traffic(self) -> Traffic:
        return self._inner.traffic

    @property
    def on_pending(self) -> Callable[[], None] | None:
        return self._inner.on_pending

    @on_pending.setter
    def on_pending(self, told: Callable[[], None] | None) -> None:
        self._inner.on_pending = told

    async def receive(self) -> bytes:
        return await self._inner.receive()

    def receive_pending(self) -> bytes | None:
        return self._inner.receive_pending()

    async def send(self, data: bytes) -> None:
        before, self.left = self.left, self.left - len(data)
        if before > 0 >= self.left:
            at = before - 1
            data = data[:at] + self._change(data[at : at + 1]) + data[at + 1 :]
        await self._inner.send(data)

    async def close(self) -> None:
        await self._inner.close()


@contextlib.asynccontextmanager
async def session_over(transport: Transport) -> AsyncIterator[Session]:
    session = Session("board", transport, lambda letters: secrets.token_hex(letters)[:letters])
    try:
        await session.start(nothing)
        yield session
    finally:
        await transport.close()


async def nothing(data: object) -> None:
    pass


async def deployed(session: Session, files: dict[str, bytes], options: Options | None = None) -> Summary:
    contents = {sha256(data).digest(): data for data in files.values()}
    manifest = [ManifestFile(path, sha256(data).digest(), len(data)) for path, data in files.items()]

    async def content(digest: bytes) -> bytes:
        return contents[digest]

    async def report(step: Plan | Progress) -> None:
        pass

    return await deploy(session, manifest, content, options or Options(), report)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


IN_PLACE = pytest.mark.parametrize("in_place", [False, True], ids=["staged", "in place"])


@IN_PLACE
@pytest.mark.parametrize("steady", [False, True], ids=["none ahead", "one ahead"])
@pytest.mark.parametrize("after", [20_000, 25_001], ids=["in one block", "in another"])
async def test_a_byte_that_was_turned_is_noticed_and_its_files_are_sent_again(
    tmp_path: Path, steady: bool, after: int, in_place: bool
) -> None:
    link = FaultyLink(await open_simulated(tmp_path / "b"), 1 << 30, lambda byte: bytes((byte[0] ^ 0x40,)))
    link.traffic.steady = steady
    async with session_over(link) as session:
        link.left = after

        summary = await deployed(session, TREE, Options(in_place=in_place))

        assert link.left < 0
        assert files_in(tmp_path / "b") == TREE
        assert summary.files_written == len(TREE)
        assert (await deployed(session, TREE)).files_same == len(TREE)


@pytest.mark.parametrize("steady", [False, True], ids=["none ahead", "one ahead"])
async def test_a_byte_that_was_lost_is_noticed_and_its_files_are_sent_again(
    tmp_path: Path, steady: bool
) -> None:
    link = FaultyLink(await open_simulated(tmp_path / "b"), 1 << 30, lambda byte: b"")
    link.traffic.steady = steady
    async with session_over(link) as session:
        link.left = 20_000

        await deployed(session, TREE)

        assert link.left < 0
        assert files_in(tmp_path / "b") == TREE


async def test_a_line_that_drops_what_finds_no_room_loses_nothing(simulated_pty, tmp_path: Path) -> None:
    board = simulated_pty("slow", "--baud=115200", "--ring=259")
    async with session_over(await open_serial(str(board.path))) as session:
        assert not session.traffic.steady
        before = session.traffic.received_bytes + session.traffic.sent_bytes

        summary = await deployed(session, TREE)
        again = await deployed(session, TREE)

        wire = session.traffic.received_bytes + session.traffic.sent_bytes - before
        assert wire == summary.wire_bytes + again.wire_bytes
        assert files_in(board.folder) == TREE
        assert again.round_trips <= 3


async def test_a_link_that_takes_no_bulk_is_served_by_steps(tmp_path: Path) -> None:
    async with session_over(await open_simulated(tmp_path / "b")) as session:
        session.traffic.bulky = False

        await deployed(session, TREE)

        assert not carrying.carries(session)
        assert files_in(tmp_path / "b") == TREE


@IN_PLACE
async def test_a_board_without_raw_paste_or_without_binary_input_is_served_by_steps(
    tmp_path: Path, in_place: bool
) -> None:
    async with session_over(await open_simulated(tmp_path / "b")) as session:
        session.facts = replace(session.facts, modules=session.facts.modules - {"sys.stdin"})

        await deployed(session, TREE, Options(in_place=in_place))

        assert files_in(tmp_path / "b") == TREE


@pytest.mark.parametrize("heap_kib", [128, 512])
async def test_python_source_takes_few_bytes_and_few_round_trips(tmp_path: Path, heap_kib: int) -> None:
    top = Path(contextlib.__file__).parent
    files = [path for path in sorted(top.glob("*.py")) if 2000 < path.stat().st_size < 12_000][:50]
    tree = {f"app/{path.name}": path.read_bytes() for path in files}
    async with session_over(await open_simulated(tmp_path / "b", heap_kib=heap_kib)) as session:
        first = await deployed(session, tree)
        again = await deployed(session, tree)

        assert first.wire_bytes <= 0.40 * first.payload_bytes
        assert first.round_trips <= 120
        assert (again.files_written, again.round_trips) == (0, 1)


async def test_a_dry_run_estimates_what_is_then_sent_and_knows_when_contents_are_missing(
    tmp_path: Path,
) -> None:
    plans: list[Plan] = []
    manifest = [ManifestFile(path, sha256(data).digest(), len(data)) for path, data in TREE.items()]
    contents = {sha256(data).digest(): data for data in TREE.values()}

    async def report(step: Plan | Progress) -> None:
        if isinstance(step, Plan):
            plans.append(step)

    async def content(digest: bytes) -> bytes:
        return contents[digest]

    async def unknown(digest: bytes) -> bytes:
        raise RequestInvalid("not sent")

    async with session_over(await open_simulated(tmp_path / "b")) as session:
        await deploy(session, manifest, unknown, Options(dry_run=True), report)
        await deploy(session, manifest, content, Options(dry_run=True), report)
        summary = await deploy(session, manifest, content, Options(), report)

    assert plans[0].wire_bytes == 0
    assert 0.85 * summary.wire_bytes < plans[1].wire_bytes < summary.wire_bytes * 1.05


@pytest.mark.parametrize("bulky", [True, False], ids=["blocks", "steps"])
async def test_others_are_served_while_a_dry_run_estimates(tmp_path: Path, bulky: bool) -> None:
    data = random.Random(4).randbytes(300_000)
    served = 0

    async def others() -> None:
        nonlocal served
        while True:
            await asyncio.sleep(0)
            served += 1

    async def content(digest: bytes) -> bytes:
        return data

    async with session_over(await open_simulated(tmp_path / "b")) as session:
        session.traffic.bulky = bulky
        put = Put("/a", "/b", sha256(data).digest(), len(data))
        async with asyncio.TaskGroup() as tasks:
            rival = tasks.create_task(others())
            estimated = await estimate(session, [put], content)
            rival.cancel()

    assert estimated > len(data)
    assert served >= 20


async def test_a_text_that_is_carried_leaves_no_names_and_says_what_it_raised(tmp_path: Path) -> None:
    async with session_over(await open_simulated(tmp_path / "b")) as session:
        before = await session.command("print(sorted(globals()))")

        output = await carrying.command(session, "x='~\\x03'\ny=6\nprint(x.encode(),y*7)\n")
        with pytest.raises(BoardRaised, match="ValueError"):
            await carrying.command(session, "raise ValueError(1)")
        kept = await carrying.command(session, "def f():\n return 5\n", keep="f")

        assert output.strip() == b"b'~\\x03' 42"
        assert (kept, (await session.command("print(f())\ndel f")).strip()) == (b"", b"5")
        assert await session.command("print(sorted(globals()))") == before
