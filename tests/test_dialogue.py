"""belayd's own text that reads and answers, on real boards: as far as a deployment needs it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belayd.dialogue import Dialogue
from belayd.errors import InternalError, OutOfMemory
from belayd.outcome import BoardRaised
from belayd.session import Session
from belayd.transport.process import open_simulated

PATIENCE = 30.0
# Answers each block with its length and its last byte, until an empty one.
TEXT = """
def _E(t):
 from sys import stdin, stdout
 i = stdin.buffer.read
 w = stdout.write
 try:
  while 1:
   n = int(i(4), 16)
   if n == 0:
    break
   d = i(n)
   if d == b'raise':
    raise ValueError('no')
   if d == b'memory':
    raise MemoryError()
   if d == b'leave':
    break
   w('%sA%d,%d%s' % (t, len(d), d[-1], t))
 finally:
  w(t + 'Q' + t)
"""
START = "_E({token!r})"


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


def block(data: bytes) -> bytes:
    return b"%04x" % len(data) + data


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[Session]:
    session = Session("unix", await open_simulated(tmp_path / "unix"), letters)
    await session.start(ignore)
    await session.command(TEXT)
    yield session
    await session.close()


async def test_blocks_are_answered_one_by_one(session: Session) -> None:
    async def speak(dialogue: Dialogue) -> list[bytes]:
        answers = []
        for data in (b"abc", bytes([0, 1, 2, 4, 255]), b"x" * 5000):
            await dialogue.send(block(data))
            answers.append((await dialogue.answer()).payload)
        await dialogue.send(block(b""))
        return answers

    assert await session.dialogue(START, speak) == [b"3,99", b"5,255", b"5000,120"]
    assert session.proven


async def test_the_first_block_goes_out_with_the_start(session: Session) -> None:
    async def speak(dialogue: Dialogue) -> bytes:
        first = (await dialogue.answer()).payload
        await dialogue.send(block(b""))
        return first

    assert await session.dialogue(START, speak, block(b"ab")) == b"2,98"


async def test_a_text_that_raises_says_so(session: Session) -> None:
    async def speak(dialogue: Dialogue) -> bytes:
        await dialogue.send(block(b"raise"))
        return (await dialogue.answer()).payload

    with pytest.raises(BoardRaised, match="ValueError"):
        await session.dialogue(START, speak)
    assert session.proven


async def test_too_little_memory_is_told_as_that(session: Session) -> None:
    async def speak(dialogue: Dialogue) -> bytes:
        await dialogue.send(block(b"memory"))
        return (await dialogue.answer()).payload

    with pytest.raises(OutOfMemory):
        await session.dialogue(START, speak)


async def test_a_text_that_leaves_too_early_is_no_result(session: Session) -> None:
    async def speak(dialogue: Dialogue) -> bytes:
        await dialogue.send(block(b"leave"))
        return (await dialogue.answer()).payload

    with pytest.raises(InternalError, match="too early"):
        await session.dialogue(START, speak)
    assert session.proven


async def test_a_dialogue_that_is_cancelled_is_interrupted_and_the_board_serves_on(session: Session) -> None:
    begun = asyncio.Event()

    async def speak(dialogue: Dialogue) -> None:
        await dialogue.send(block(b"abc"))
        await dialogue.answer()
        await dialogue.send(b"1000half of a block")
        begun.set()
        await dialogue.answer()

    work = asyncio.create_task(session.dialogue(START, speak))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not session.proven
    await session.recovery(ignore)[0].action()
    assert (await session.command("print(6*7)")).strip() == b"42"


async def ignore(data: bytes) -> None:
    pass
