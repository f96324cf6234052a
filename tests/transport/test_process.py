from __future__ import annotations

import asyncio
import logging
import os
import select
from pathlib import Path
from typing import Any

import pytest

from belayd.transport.contract import TransportError
from belayd.transport.process import open_simulated

PATIENCE = 30.0
RAW_PROMPT = b"raw REPL; CTRL-B to exit\r\n>"


async def until(transport: Any, end: bytes) -> bytes:
    heard = b""
    while not heard.endswith(end):
        more = await transport.receive()
        assert more, heard
        heard += more
    return heard


async def run(transport: Any, code: bytes) -> bytes:
    await transport.send(code + b"\x04")
    return (await until(transport, b"\x04>"))[2:]


async def enter_raw(transport: Any) -> None:
    await until(transport, b">>> ")
    await transport.send(b"\x01")
    await until(transport, RAW_PROMPT)


def processes_of(folder: Path) -> set[int]:
    """Return the processes that have the folder among their arguments: board and interpreter."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.add(int(process.name))
    return found


def variables_of(pid: int) -> set[bytes]:
    """Return the names in a process's environment."""
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {variable.partition(b"=")[0] for variable in variables if variable}


def ends(pid: int) -> bool:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], PATIENCE)[0])
    finally:
        os.close(watched)


async def test_a_board_is_started_with_what_the_inventory_says(tmp_path: Path) -> None:
    transport = await open_simulated(tmp_path / "sim-1", heap_kib=128, flash_kib=64, unique_id="00ff")
    await enter_raw(transport)

    assert await run(transport, b"import machine; print(machine.unique_id())") == b"b'\\x00\\xff'\n\x04\x04>"
    assert await run(transport, b"import os; print(os.statvfs('/')[2])") == b"16\n\x04\x04>"
    assert b"MemoryError" in await run(transport, b"bytearray(130 * 1024)")
    assert transport.address == "simulated:sim-1"
    await transport.close()


async def test_closing_ends_board_and_interpreter_and_leaves_no_zombie(tmp_path: Path) -> None:
    folder = tmp_path / "sim-1"
    transport = await open_simulated(folder)
    started = processes_of(folder)

    await transport.close()

    assert len(started) == 2
    assert processes_of(folder) == set()


async def test_a_board_that_crashed_is_reaped_without_being_closed_and_says_why_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "sim-1"
    transport = await open_simulated(folder)
    board, interpreter = sorted(processes_of(folder))
    await until(transport, b">>> ")

    with caplog.at_level(logging.WARNING):
        os.kill(interpreter, 9)
        assert await transport.receive() == b""
        assert await asyncio.to_thread(ends, board)
        await transport.close()

    assert "the interpreter crashed or was killed (signal 9)" in caplog.text
    assert "simulated:sim-1" in caplog.text


async def test_a_hard_reset_is_the_end_of_the_link_and_nothing_to_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await open_simulated(tmp_path / "sim-1")
    await enter_raw(transport)

    await transport.send(b"import machine; machine.reset()\x04")
    while await transport.receive():
        pass
    await transport.close()

    assert caplog.text == ""


async def test_a_board_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="simulated board sim-1: /bin/cat offers no raw REPL"):
        await open_simulated(tmp_path / "sim-1", micropython="/bin/cat")
    with pytest.raises(TransportError, match="a flash of 3 KiB: must be a multiple of 4"):
        await open_simulated(tmp_path / "sim-1", flash_kib=3)


async def test_nothing_of_the_environment_but_path_reaches_the_board(tmp_path: Path) -> None:
    folder = tmp_path / "sim-1"
    transport = await open_simulated(folder)

    names = set().union(*(variables_of(pid) for pid in processes_of(folder)))
    await transport.close()

    assert names <= {b"PATH", b"HOME", b"LC_CTYPE"}


async def test_opening_that_is_cancelled_leaves_no_board(tmp_path: Path) -> None:
    folder = tmp_path / "sim-1"
    opening = asyncio.create_task(open_simulated(folder))
    while not (started := await asyncio.to_thread(processes_of, folder)):
        pass

    opening.cancel()
    await asyncio.wait([opening])

    assert opening.cancelled()
    for pid in started:
        assert await asyncio.to_thread(ends, pid)


async def test_many_boards_start_at_once(tmp_path: Path) -> None:
    boards = await asyncio.gather(*(open_simulated(tmp_path / f"sim-{number}") for number in range(12)))

    for number, board in enumerate(boards):
        await enter_raw(board)
        assert await run(board, b"print(%d)" % number) == b"%d\n\x04\x04>" % number
    await asyncio.gather(*(board.close() for board in boards))
