from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from belayd.transport.contract import TransportDenied, TransportError
from belayd.transport.rescue import HARMLESS, rescue
from belayd.transport.websocket import open_webrepl

PASSWORD = "roof-4711"
PATIENCE = 30.0
CATCHING = """\
import time
while True:
    try:
        while True:
            print('mine')
            time.sleep_ms(20)
    except BaseException:
        pass
"""
DEAF = "import micropython\nmicropython.kbd_intr(-1)\nwhile True: pass\n"

Webrepl = Callable[..., Any]


async def answer_to_a_sum(url: str) -> bytes:
    """Interrupt what runs and ask; return what came within a while."""
    transport = await open_webrepl(url, password=PASSWORD)
    heard = b""
    try:
        async with asyncio.timeout(PATIENCE):
            await transport.send(b"\r\x03\x03\r40+2\r")
            while b"\n42\r\n" not in heard and b"\n42\n" not in heard and heard.count(b"mine") < 20:
                heard += await transport.receive()
    finally:
        await transport.close()
    return heard


@pytest.mark.parametrize("program", [CATCHING, DEAF], ids=["catches every interrupt", "hears none"])
async def test_a_main_py_that_locks_everybody_out_is_replaced_and_gone_after_a_restart(
    webrepl: Webrepl, program: str
) -> None:
    served = webrepl("board", files={"main.py": program})

    await rescue(served.url, password=PASSWORD)

    assert (served.folder / "main.py").read_bytes() == HARMLESS
    served.process.kill()
    served.process.wait()
    again = webrepl("board")
    assert b"42" in await answer_to_a_sum(again.url)


async def test_the_program_does_lock_everybody_out(webrepl: Webrepl) -> None:
    heard = await answer_to_a_sum(webrepl(files={"main.py": CATCHING}).url)

    assert heard.count(b"mine") >= 20
    assert b"42" not in heard


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 20_000])
async def test_any_content_is_put_and_read_back(webrepl: Webrepl, size: int) -> None:
    served = webrepl()
    content = (bytes(range(256)) * 80)[:size]

    await rescue(served.url, password=PASSWORD, path="/lib.bin", content=content)

    assert (served.folder / "lib.bin").read_bytes() == content


async def test_a_file_that_the_board_did_not_keep_is_told(webrepl: Webrepl) -> None:
    served = webrepl()
    (served.folder / "main.py").symlink_to("/dev/full")  # swallows nothing, and reads as zeros without end

    with pytest.raises(TransportError, match=r"main\.py may not be whole"):
        await rescue(served.url, password=PASSWORD)


async def test_a_file_that_came_out_otherwise_is_told(webrepl: Webrepl) -> None:
    served = webrepl()
    (served.folder / "main.py").symlink_to("/dev/null")

    with pytest.raises(TransportError, match="0 of"):
        await rescue(served.url, password=PASSWORD)


async def test_a_wrong_password_is_denied(webrepl: Webrepl) -> None:
    with pytest.raises(TransportDenied):
        await rescue(webrepl().url, password="wrong")


async def test_a_board_that_has_a_client_says_so(webrepl: Webrepl) -> None:
    served = webrepl()
    session = await open_webrepl(served.url, password=PASSWORD)

    with pytest.raises(TransportError, match="one WebREPL client at a time"):
        await rescue(served.url, password=PASSWORD)

    await session.close()


async def test_a_file_that_is_missing_ends_the_link(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    with pytest.raises(TransportError, match="does not read /nothing"):
        await transport.get("/nothing", most=100)

    async with asyncio.timeout(PATIENCE):
        while await transport.receive():  # what it said before counts
            pass
    await transport.close()


async def test_a_path_that_no_record_holds_is_refused_before_anything_is_asked(webrepl: Webrepl) -> None:
    transport = await open_webrepl(webrepl().url, password=PASSWORD)

    with pytest.raises(ValueError, match="63"):
        await transport.get("x" * 64, most=100)

    await transport.put("/a", b"a")
    assert await transport.get("/a", most=1) == b"a"
    await transport.close()
