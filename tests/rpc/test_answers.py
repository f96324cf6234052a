from __future__ import annotations

import asyncio

from belayd.rpc.answers import MOST_MESSAGE_BYTES, MOST_UNREAD_BYTES, MOST_UNREAD_EVENTS, Answers
from belayd.v1 import tasks_pb2


def printed(number: int, size: int) -> tasks_pb2.ConverseEvent:
    return tasks_pb2.ConverseEvent(id=number, output=b"x" * size)


async def test_what_has_happened_goes_in_one_message_and_in_order() -> None:
    answers = Answers()
    for number in range(100):
        await answers.pass_on(printed(number, 10))
    message = await answers.next()
    assert message is not None
    assert [event.id for event in message.events] == list(range(100))
    assert not answers


async def test_no_message_grows_beyond_its_bound_unless_one_event_does() -> None:
    answers = Answers()
    sizes = (MOST_MESSAGE_BYTES // 2, MOST_MESSAGE_BYTES // 3, 2 * MOST_MESSAGE_BYTES, 10)
    for number, size in enumerate(sizes):
        answers.tell(printed(number, size), size)
    messages = [await answers.next() for _ in range(3)]
    assert [[event.id for event in message.events] for message in messages if message] == [[0, 1], [2], [3]]


async def test_whoever_passes_on_waits_while_too_much_is_unread() -> None:
    answers = Answers()
    await answers.pass_on(printed(1, MOST_UNREAD_BYTES - 100))
    passing = asyncio.create_task(answers.pass_on(printed(2, 200)))
    await asyncio.sleep(0)
    assert not passing.done()
    message = await answers.next()
    assert message is not None
    assert [event.id for event in message.events] == [1, 2]  # told before the wait
    await passing


async def test_a_cancelled_wait_for_room_loses_no_event() -> None:
    answers = Answers()
    passing = asyncio.create_task(answers.pass_on(printed(1, 2 * MOST_UNREAD_BYTES)))
    await asyncio.sleep(0)
    passing.cancel()
    message = await answers.next()
    assert message is not None
    assert [event.id for event in message.events] == [1]


async def test_nobody_waits_for_a_reader_that_left() -> None:
    answers = Answers()
    passing = asyncio.create_task(answers.pass_on(printed(1, 2 * MOST_UNREAD_BYTES)))
    await asyncio.sleep(0)
    answers.abandon()
    await passing
    await answers.pass_on(printed(2, 2 * MOST_UNREAD_BYTES))


async def test_a_wake_without_events_gives_no_message() -> None:
    answers = Answers()
    answers.wake()
    assert await answers.next() is None


async def test_a_client_that_never_reads_is_not_asked_for_more_beyond_a_bound() -> None:
    answers = Answers()
    for number in range(MOST_UNREAD_EVENTS):
        answers.tell(printed(number, 0))
    await asyncio.wait_for(answers.slack(), 10)
    answers.tell(printed(0, 0))

    waiting = asyncio.create_task(answers.slack())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await answers.next() is not None
    await asyncio.wait_for(waiting, 10)
