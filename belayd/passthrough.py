"""Raw bytes both ways between a person and a board, nothing added and nothing understood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Keys = Callable[[], Awaitable[bytes]]
"""Waits for what was typed; b"" when the person leaves."""


async def pass_through(
    receive: Callable[[], Awaitable[bytes]],
    send: Callable[[bytes], Awaitable[None]],
    keys: Keys,
    emit: Callable[[bytes], Awaitable[None]],
) -> None:
    """Pass on until `keys` returns b"" or one of the others raises."""

    async def type_all() -> None:
        while data := await keys():
            await send(data)

    now = asyncio.get_running_loop().time
    left = asyncio.timeout(None)
    typing = asyncio.create_task(type_all(), name="keys")

    def stop(_: asyncio.Task[None]) -> None:
        left.reschedule(now())

    try:
        async with left:
            typing.add_done_callback(stop)
            while True:
                await emit(await receive())
    except TimeoutError:
        if not typing.done():
            raise
        typing.result()
    finally:
        typing.remove_done_callback(stop)
        typing.cancel()
