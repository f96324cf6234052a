"""Links that come and go: counted, and their boards put aside until they last."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from belayd.backoff import Backoff
from belayd.board import Board
from belayd.errors import BoardQuarantined
from belayd.events import BoardAdded, BoardChanged, Event, Events
from belayd.flapping import Flapping
from belayd.identity import Identity
from belayd.leasing import Leasing
from belayd.run import Order, Transcript
from belayd.snapshot import BoardState
from belayd.transport.serial import open_serial

PATIENCE = 60.0


def test_short_lives_in_a_row_are_too_many() -> None:
    flapping = Flapping(steady=5, losses=3, probation=30)
    for lived in (1, 2, 3):
        assert not flapping.too_often
        flapping.lost(lived)

    assert flapping.too_often
    assert "lost 3 times in a row, each within 5 s" in flapping.fault("pico-1").message


def test_a_life_of_some_length_neither_counts_nor_forgives() -> None:
    flapping = Flapping(steady=5, losses=2, probation=30)
    flapping.lost(1)
    flapping.lost(20)
    assert not flapping.too_often
    flapping.lost(1)
    assert flapping.too_often


def test_a_long_life_forgives() -> None:
    flapping = Flapping(steady=5, losses=2, probation=30)
    flapping.lost(1)
    flapping.lost(31)
    flapping.lost(1)
    assert not flapping.too_often


# Resets its chip by itself soon after each of its first three starts, as a brown-out does.
BOOT = """\
import _thread, time, machine
try:
    with open('/boots') as file: boots = len(file.read())
except OSError:
    boots = 0
def reset():
    time.sleep(1)
    machine.reset()
if boots < 3:
    with open('/boots', 'a') as file: file.write('x')
    _thread.start_new_thread(reset, ())
"""


async def test_a_flapping_board_is_quarantined_and_returns_when_its_link_lasts(
    simulated_pty: Callable[..., Any],
) -> None:
    path = str(simulated_pty("loose", "--absence", "0.3", files={"boot.py": BOOT}).path)
    events, news = Events(), asyncio.Event()
    heard: list[Event] = []
    events.listen(heard.append)
    events.listen(lambda _: news.set())
    leasing = Leasing(events, on_ended=lambda *_: None, max_hold=60, idle=60)
    board = Board(
        Identity("loose", "serial", {}, None),
        leasing,
        events,
        lambda n: secrets.token_hex(n)[:n],
        Backoff(lambda: 1.0, limit=0.2),
        Flapping(steady=10, losses=3, probation=3),
    )
    events.publish(BoardAdded("loose"))
    board.attach(partial(open_serial, path), path)
    task = asyncio.create_task(board.live())
    try:
        async with asyncio.timeout(PATIENCE):
            while board.state is not BoardState.QUARANTINED:
                news.clear()
                await news.wait()
            assert "lost 3 times in a row" in board.snapshot().reason
            assert board.snapshot().quarantine == "flapping"
            with pytest.raises(BoardQuarantined, match="check its cable"):
                board.submit(Order("run", None, 1.0, Transcript().write), lambda session, emit: emit(b""))
            while board.state is not BoardState.READY:
                news.clear()
                await news.wait()
    finally:
        await board.close()
        await task
        leasing.close()
    states = [event.state for event in heard if isinstance(event, BoardChanged)]
    assert states.count(BoardState.QUARANTINED) == 1
