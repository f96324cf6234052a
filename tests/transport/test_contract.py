"""What `transport/contract.py` promises, held against every kind of transport on real parts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Maker = Callable[[str], Awaitable[Any]]

MEBIBYTE = 1024 * 1024
LIMIT = 256 * 1024
FLOOD = b"".join(b"%04d" % number * 256 for number in range(1024))
EVERY_BYTE = bytes(range(256))


async def receive_exactly(transport: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await transport.receive()
        assert more, f"gone after {len(data)} of {size} bytes"
        data += more
    return data


async def received(transport: Any, size: int) -> None:
    """Let the loop turn until so many bytes have arrived, received or not."""
    while transport.traffic.received_bytes < size:  # noqa: ASYNC110 - the very turn matters
        await asyncio.sleep(0)


async def receive_all(transport: Any) -> bytes:
    data = b""
    while more := await transport.receive():
        data += more
    return data


async def test_every_byte_value_passes_both_ways(maker: Maker) -> None:
    link = await maker("echo")

    await link.transport.send(EVERY_BYTE)

    assert await receive_exactly(link.transport, 256) == EVERY_BYTE


async def test_a_mebibyte_comes_in_whole(maker: Maker) -> None:
    link = await maker("flood")
    await link.transport.send(b"x")

    assert await receive_exactly(link.transport, MEBIBYTE) == FLOOD
    assert link.transport.traffic.received_bytes == MEBIBYTE + 1


async def test_a_mebibyte_goes_out_whole(maker: Maker) -> None:
    link = await maker("sink")

    await link.transport.send(FLOOD)

    assert await receive_exactly(link.transport, 32) == hashlib.sha256(FLOOD).digest()
    assert link.transport.traffic.sent_bytes == MEBIBYTE + 1


async def test_a_mebibyte_passes_both_ways_at_once(maker: Maker) -> None:
    link = await maker("mirror")

    sending = asyncio.create_task(link.transport.send(FLOOD))

    assert await receive_exactly(link.transport, MEBIBYTE) == FLOOD
    await sending


async def test_nothing_is_the_end_and_the_end_stays(maker: Maker) -> None:
    link = await maker("echo")
    waiting = asyncio.create_task(link.transport.receive())

    link.vanish()

    assert await waiting == b""
    assert await link.transport.receive() == b""
    assert link.transport.receive_pending() == b""
    assert await link.transport.receive() == b""


async def test_what_came_before_the_end_is_received_first(maker: Maker) -> None:
    link = await maker("echo")
    arrived = asyncio.Event()
    link.transport.on_pending = arrived.set
    await link.transport.send(b"x")
    await arrived.wait()

    link.vanish()

    assert await receive_all(link.transport) == b"x"


async def test_a_cancelled_receive_loses_nothing(maker: Maker) -> None:
    link = await maker("flood")
    await link.transport.send(b"x")
    data = b""
    cancelled = 0

    while len(data) < MEBIBYTE:
        receiving = asyncio.create_task(link.transport.receive())
        await asyncio.sleep(0)
        receiving.cancel()
        try:
            data += await receiving
        except asyncio.CancelledError:
            cancelled += 1

    assert data == FLOOD
    assert cancelled


async def test_bytes_that_come_together_with_a_cancellation_are_told_as_pending(maker: Maker) -> None:
    link = await maker("echo")
    told: list[bytes | None] = []
    link.transport.on_pending = lambda: told.append(link.transport.receive_pending())
    receiving = asyncio.create_task(link.transport.receive())
    await asyncio.sleep(0)
    await link.transport.send(b"x")

    # The turn in which the byte arrives wakes the receiver; cancel it before it runs.
    await received(link.transport, 2)
    receiving.cancel()
    done, _ = await asyncio.wait([receiving])

    outcome = [task.result() for task in done if not task.cancelled()]
    assert outcome + told == [b"x"]


async def test_a_receive_that_would_wait_is_told_apart(maker: Maker) -> None:
    link = await maker("echo")
    arrived = asyncio.Event()
    link.transport.on_pending = arrived.set

    assert link.transport.receive_pending() is None
    await link.transport.send(b"x")
    await arrived.wait()

    assert link.transport.receive_pending() == b"x"
    assert link.transport.receive_pending() is None


async def test_bytes_that_nobody_waits_for_are_told_once_until_the_next_receive(maker: Maker) -> None:
    link = await maker("flood")
    await link.transport.send(b"x")
    calls: list[None] = []
    link.transport.on_pending = lambda: calls.append(None)

    await received(link.transport, 1 + LIMIT)
    first = len(calls)
    link.transport.receive_pending()
    await received(link.transport, 1 + 2 * LIMIT)

    assert (first, len(calls)) == (1, 2)


async def test_bytes_that_somebody_waits_for_are_not_told(maker: Maker) -> None:
    link = await maker("echo")
    calls: list[None] = []
    link.transport.on_pending = lambda: calls.append(None)

    for _ in range(20):
        receiving = asyncio.create_task(link.transport.receive())
        await asyncio.sleep(0)
        await link.transport.send(b"x")
        assert await receiving == b"x"

    assert calls == []


async def test_the_end_is_told_to_an_idle_owner(maker: Maker) -> None:
    link = await maker("echo")
    told = asyncio.Event()
    link.transport.on_pending = told.set

    link.vanish()
    await told.wait()

    assert link.transport.receive_pending() == b""


async def test_no_more_than_the_limit_is_held_and_the_rest_waits(maker: Maker) -> None:
    link = await maker("flood")
    await link.transport.send(b"x")

    await received(link.transport, LIMIT + 1)
    for _ in range(1000):
        await asyncio.sleep(0)

    assert link.transport.traffic.received_bytes == LIMIT + 1
    assert await link.transport.receive() == FLOOD[:LIMIT]
    assert await receive_exactly(link.transport, MEBIBYTE - LIMIT) == FLOOD[LIMIT:]


async def test_what_fits_is_sent_before_the_first_await(maker: Maker) -> None:
    link = await maker("echo")
    sending = link.transport.send(b"x" * 200)

    with pytest.raises(StopIteration):  # done without a single suspension
        sending.send(None)

    assert await receive_exactly(link.transport, 200) == b"x" * 200


async def test_a_cancelled_send_leaves_the_transport_in_use(maker: Maker) -> None:
    link = await maker("mirror")
    sending = asyncio.create_task(link.transport.send(FLOOD))
    await asyncio.sleep(0)

    sending.cancel()
    await asyncio.wait([sending])
    sent = link.transport.traffic.sent_bytes - 1
    await link.transport.send(bytes(1024 - sent % 1024))

    heard = await receive_exactly(link.transport, sent + 1024 - sent % 1024)
    assert heard[:sent] == FLOOD[:sent]


async def test_sending_to_a_board_that_is_gone_does_nothing(maker: Maker) -> None:
    link = await maker("mute")

    link.vanish()
    for _ in range(3):
        await link.transport.send(FLOOD)

    assert await receive_all(link.transport) == b""
    await link.transport.send(b"x")


async def test_a_send_that_waits_returns_when_the_board_goes(maker: Maker) -> None:
    link = await maker("mute")
    sending = asyncio.create_task(link.transport.send(FLOOD))
    await asyncio.sleep(0)
    assert not sending.done()

    link.vanish()

    await sending
    assert await receive_all(link.transport) == b""


async def test_a_send_that_waits_returns_at_close(maker: Maker) -> None:
    link = await maker("mute")
    sending = asyncio.create_task(link.transport.send(FLOOD))
    await asyncio.sleep(0)

    await link.transport.close()

    await sending


async def test_closing_ends_a_receive_that_waits(maker: Maker) -> None:
    link = await maker("echo")
    waiting = asyncio.create_task(link.transport.receive())
    await asyncio.sleep(0)

    await link.transport.close()

    assert await waiting == b""


async def test_closing_twice_or_at_once_is_closing(maker: Maker) -> None:
    link = await maker("echo")

    await asyncio.gather(link.transport.close(), link.transport.close())
    await link.transport.close()

    assert await link.transport.receive() == b""
    assert link.transport.receive_pending() == b""
    await link.transport.send(b"x")


async def test_a_board_that_is_gone_can_be_closed(maker: Maker) -> None:
    link = await maker("echo")
    link.vanish()
    await receive_all(link.transport)

    await link.transport.close()
    await link.transport.close()

    assert await link.transport.receive() == b""


async def test_bytes_that_were_not_received_are_gone_after_closing(maker: Maker) -> None:
    link = await maker("echo")
    arrived = asyncio.Event()
    link.transport.on_pending = arrived.set
    await link.transport.send(b"x")
    await arrived.wait()

    await link.transport.close()

    assert await link.transport.receive() == b""


async def test_the_address_says_where_it_is(maker: Maker) -> None:
    link = await maker("mute")

    assert link.transport.address
    assert "\n" not in link.transport.address
