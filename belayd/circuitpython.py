"""What a session does on CircuitPython alone.

While belayd has a board, auto-reload is off: a write to the USB drive would otherwise
restart the interpreter as soon as a program runs. It is on again when belayd leaves,
if it was before. What belayd itself writes never reloads, since only the host's
writes do. Source: CircuitPython docs, modules storage and supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from belayd import onboard
from belayd.errors import BoardUnresponsive, TransportLost
from belayd.prompt import ANSWER, Prompt
from belayd.snapshot import Facts

IMPLEMENTATION = "circuitpython"
# Short enough for any input, and without names of their own.
_ON = {
    "runtime.autoreload": b"__import__('supervisor').runtime.autoreload=True",
    "enable_autoreload": b"__import__('supervisor').enable_autoreload()",
}


async def prepare(command: Callable[[str], Awaitable[bytes]], facts: Facts) -> Facts:
    """Turn auto-reload off, and return `facts` with what only CircuitPython has among the modules.

    Any other board is left alone. `command` is `Session.command`.
    """
    if facts.implementation != IMPLEMENTATION:
        return facts
    told = (await command(onboard.load("circuitpython"))).decode("ascii", "replace").strip()
    return replace(facts, modules=facts.modules | {word for word in told.split(",") if word})


async def leave(prompt: Prompt, facts: Facts) -> None:
    """Turn auto-reload on again if `prepare` turned it off; a board that does not answer stays as it is."""
    for word in _ON.keys() & facts.modules:
        with contextlib.suppress(TransportLost, BoardUnresponsive, TimeoutError):
            async with asyncio.timeout(ANSWER):
                await prompt.execute(_ON[word], None, _discard)


async def _discard(data: bytes) -> None:
    """Take output that nobody asked for."""
