from __future__ import annotations

import threading
from collections.abc import Iterator

from belayd.v1 import tasks_pb2
from belayd_client.outbox import MOST_BYTES, MOST_STEPS, Outbox, Posted

Messages = Iterator[tasks_pb2.ConverseRequest]


def step(number: int, size: int = 1) -> tasks_pb2.ConverseStep:
    return tasks_pb2.ConverseStep(id=number, expression="1" * size)


def outbox(most_open: int = 1) -> tuple[Outbox, Messages]:
    made = Outbox(tasks_pb2.ConverseRequest(board="boards/b"), most_open=most_open)
    return made, iter(made)


def ids(message: tasks_pb2.ConverseRequest) -> list[int]:
    return [step.id for step in message.steps]


def test_what_is_ready_shares_a_message_and_the_first_names_the_board() -> None:
    box, messages = outbox()
    first = [box.post(step(number)) for number in range(3)]
    message = next(messages)
    assert (message.board, ids(message)) == ("boards/b", [0, 1, 2])
    box.ended(first)
    box.post(step(3))
    message = next(messages)
    assert (message.board, ids(message)) == ("", [3])


def test_steps_gather_until_all_before_them_have_ended() -> None:
    box, messages = outbox()
    first = [box.post(step(number)) for number in range(2)]
    assert ids(next(messages)) == [0, 1]
    gathered: list[list[int]] = []
    taking = threading.Thread(target=lambda: gathered.append(ids(next(messages))))
    taking.start()
    box.post(step(2))
    box.ended(first[:1])
    box.post(step(3))
    assert not gathered
    box.ended(first[1:])
    taking.join(30)
    assert gathered == [[2, 3]]


def test_whoever_is_in_a_hurry_takes_along_what_stands_before() -> None:
    box, messages = outbox()
    box.post(step(0))
    next(messages)
    box.post(step(1))
    box.post(step(2), hurry=True)
    assert ids(next(messages)) == [1, 2]


def test_an_order_lets_nobody_wait_for_its_answer() -> None:
    box, messages = outbox()
    box.post(step(0), hurry=True, awaited=False)
    next(messages)
    box.post(step(1))
    assert ids(next(messages)) == [1]


def test_no_message_has_too_many_steps_or_bytes() -> None:
    box, messages = outbox()
    for number in range(MOST_STEPS + 1):
        box.post(step(number), hurry=True)
    assert len(next(messages).steps) == MOST_STEPS
    assert ids(next(messages)) == [MOST_STEPS]
    for number, size in enumerate((MOST_BYTES // 2, MOST_BYTES // 3, 2 * MOST_BYTES, 1)):
        box.post(step(number, size), hurry=True)
    assert [ids(next(messages)) for _ in range(3)] == [[0, 1], [2], [3]]


def test_no_more_steps_are_open_than_there_may_be() -> None:
    box, messages = outbox(most_open=2)
    posted = [box.post(step(number)) for number in range(5)]
    assert ids(next(messages)) == [0, 1]
    box.ended(posted[:1])
    assert ids(next(messages)) == [2]


def test_a_step_is_withdrawn_until_it_goes() -> None:
    box, messages = outbox()
    posted: list[Posted] = [box.post(step(number)) for number in range(3)]
    assert box.withdraw(posted[1])
    assert ids(next(messages)) == [0, 2]
    assert not box.withdraw(posted[0])


def test_a_closed_outbox_sends_nothing_more() -> None:
    box, messages = outbox()
    box.post(step(0))
    box.close()
    assert list(messages) == []
