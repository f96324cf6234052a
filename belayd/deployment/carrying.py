"""belayd's own texts on their way to a board in binary, past the windows of raw paste.

A short call reads the text from stdin and runs it in names of its own: nothing stays
among the user's. One round trip where the link holds back what the board does not
read yet, two elsewhere; through raw paste a text of 1 kB takes nine.
"""

from __future__ import annotations

import logging

from belayd.deployment.blocks import deflate
from belayd.deployment.writing import Conversation
from belayd.dialogue import Dialogue, Partner, T
from belayd.errors import BelaydError, BoardUnresponsive
from belayd.snapshot import Facts

log = logging.getLogger(__name__)

WINDOW_BITS = 12
SMALL_WINDOW_BITS = 10
ROOMY_BYTES = 64 * 1024
"""Free heap from which on a window of 4 kB is taken for a text: 10 % less to send than with 1 kB."""
BEGINNING = 5.0
"""Seconds within which a text begins: its bytes take 0.2 s at 115,200 baud, 2 s at 9600."""
# Ctrl-C; Ctrl-D, with which a rest that is left unread would run; what both are escaped by.
_ESCAPES = ((b"~", b"~0"), (b"\x03", b"~3"), (b"\x04", b"~4"))
_UNESCAPE = ".replace(b'~3',b'\\3').replace(b'~4',b'\\4').replace(b'~0',b'~')"


def carries(board: Conversation) -> bool:
    """Tell whether a board takes binary input as long as it likes."""
    facts = board.facts
    return facts.raw_paste and {"sys.stdin", "sys.stdout"} <= facts.modules and board.traffic.bulky


async def command(board: Conversation, source: str, keep: str = "") -> bytes:
    """As `Conversation.command`, for a board that `carries`; of its names only `keep` stays, if it is there.

    Raises:
        BoardRaised, OutOfMemory, TransportLost, BoardUnresponsive: As that.
    """
    if keep:
        source = f"{source.rstrip()}\nif '{keep}' in globals():__import__('__main__').{keep}={keep}\n"
    body = source.rstrip("\n").replace("\n", "\n ")
    text = f"w=__import__('sys').stdout.write\nw(t+'G'+t+t+'C')\ntry:\n {body}\nfinally:w(t+t+'Q'+t)\n"
    begun = False

    async def listen(dialogue: Dialogue) -> bytes:
        nonlocal begun
        await dialogue.answer(BEGINNING)
        begun = True
        return (await dialogue.answer()).payload

    while carries(board):
        try:
            return await converse(board, text, listen)
        except BoardUnresponsive as silence:
            if begun:
                raise
            await distrust(board, silence)
    return await board.command(source)


async def distrust(board: Conversation, error: BelaydError) -> None:
    """Trust a link that lost bytes less for as long as it is open, and win the board back.

    First nothing is sent ahead any more; then it no longer `carries`.
    """
    log.warning("a link loses bytes, so less is sent at a time: %s", error)
    if board.traffic.steady:
        board.traffic.steady = False
    else:
        board.traffic.bulky = False
    await interrupt(board)


async def interrupt(board: Conversation) -> None:
    """Interrupt what runs and prove the prompt; what was sent and not read is cleared from its line.

    Raises:
        BoardUnresponsive, TransportLost: As the first step of `Session.recovery`.
    """
    await board.recovery(_discard)[0].action()


async def converse(board: Conversation, text: str, partner: Partner[T], more: bytes = b"") -> T:
    """Run `text`, to which `t` is the dialogue's token, and let `partner` speak with it.

    `more` goes out with it where the link holds it back, and else when `partner`
    speaks, which it does when the board has begun to read the text.

    Raises:
        BoardRaised, OutOfMemory, TransportLost, BoardUnresponsive: As `Conversation.dialogue`.
    """
    packed, unpack = _pack(text, board.facts)
    if board.traffic.steady:
        return await board.dialogue(_call("", unpack), partner, packed + more)

    async def send_first(dialogue: Dialogue) -> T:
        await dialogue.answer(BEGINNING)
        await dialogue.send(packed + more)
        return await partner(dialogue)

    return await board.dialogue(_call("i('sys').stdout.write(t+'R'+t),", unpack), send_first)


def _call(before: str, unpack: str) -> str:
    return f"(lambda i,t:({before}exec({unpack},{{{{'t':t}}}})))(__import__,{{token!r}})"


def _pack(text: str, facts: Facts) -> tuple[bytes, str]:
    """Return what to send, and the expression that makes the text of it."""
    data = text.encode()
    if "deflate" not in facts.modules:
        return data, f"i('sys').stdin.buffer.read({len(data)})"
    free = facts.memory_free_bytes
    bits = WINDOW_BITS if free is None or free >= ROOMY_BYTES else SMALL_WINDOW_BITS
    data = deflate(data, bits)
    for meant, escaped in _ESCAPES:
        data = data.replace(meant, escaped)
    stream = f"i('io').BytesIO(i('sys').stdin.buffer.read({len(data)}){_UNESCAPE})"
    return data, f"i('deflate').DeflateIO({stream},1,{bits}).read()"


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""
