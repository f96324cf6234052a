"""A whole session with CircuitPython, as far as that goes without its firmware.

A real MicroPython, whose raw REPL CircuitPython shares, is dressed: a boot.py gives it
CircuitPython's modules and takes away what that lacks, and a relay puts CircuitPython's
words around its prompt. All of that is read in documents, nothing was tried on a board.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import pty
import secrets
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from belayd.call import prepare
from belayd.deployment.plan import ManifestFile
from belayd.deployment.transfer import Options, Plan, Progress, Summary, deploy
from belayd.errors import ReadOnly, TransportLost
from belayd.outcome import Raised, Returned
from belayd.session import Session
from belayd.transport.contract import Transport
from belayd.transport.serial import open_serial

PATIENCE = 60.0
UID = bytes.fromhex("e6614c311b7e6f35")
BANNER = (
    b"\r\nAdafruit CircuitPython 9.2.1 on 2024-11-20; Raspberry Pi Pico with rp2040\r\n"
    b"\x1b]0;\xf0\x9f\x90\x8dREPL | 9.2.1\x1b\\>>> "
)
AUTORELOAD = b"Auto-reload is on. Simply save files over USB to run them or enter REPL to disable.\r\n"
CODE = b"\x1b]0;\xf0\x9f\x90\x8dcode.py | 9.2.1\x1b\\code.py output:\r\nhello\r\n"
STOPPED = (
    b'Traceback (most recent call last):\r\n  File "code.py", line 3, in <module>\r\nKeyboardInterrupt: \r\n'
)
DONE = (
    b"\x1b]0;\xf0\x9f\x90\x8dDone | 9.2.1\x1b\\\r\nCode done running.\r\n\r\n"
    b"Press any key to enter the REPL. Use CTRL-D to reload.\r\n"
)
REBOOT = b"soft reboot\r\n"

DRESS = """
import sys
def dress(real):
    class Thing: pass
    def thing(**names):
        it = Thing()
        for name in names: setattr(it, name, names[name])
        return it
    modules = real.modules
    modules['machine'] = None
    modules['microcontroller'] = thing(cpu=thing(uid=bytearray(b'{uid}')))
    drive = thing(there=True)
    storage = thing(drive=drive)
    storage.getmount = lambda path: thing(readonly=drive.there)
    modules['storage'] = storage
    supervisor = thing()
    if {newer}:
        supervisor.runtime = thing(autoreload=True)
    else:
        supervisor.autoreload = True
        supervisor.runtime = thing(serial_connected=True)
        supervisor.disable_autoreload = lambda: setattr(supervisor, 'autoreload', False)
        supervisor.enable_autoreload = lambda: setattr(supervisor, 'autoreload', True)
    modules['supervisor'] = supervisor
    modules['traceback'] = thing(print_exception=lambda kind, error, where: real.print_exception(error))
    fake = thing(implementation=('circuitpython', (9, 2, 1)), platform='RP2040', path=real.path, modules=modules)
    fake.stdin, fake.stdout = real.stdin, real.stdout
    modules['sys'] = fake
dress(sys)
del sys, dress
"""


class Peer:
    """CircuitPython's words on a pty, around a board behind it.

    `runs` is whether code.py still runs at first; `reloads` whether a restart runs it again.
    """

    def __init__(self, board: Transport, *, runs: bool = False, reloads: bool = False) -> None:
        self._board = board
        self._runs = runs
        self._reloads = reloads
        self._near, self._far = pty.openpty()
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self._arrived = asyncio.Event()
        self._awake = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._near, self._arrived.set)
        self.path = os.ttyname(self._far)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._near)
        os.close(self._near)
        os.close(self._far)

    async def live(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._inward())
            tasks.create_task(self._outward())

    async def _hear(self) -> bytes:
        while True:
            self._arrived.clear()
            try:
                return os.read(self._near, 4096)
            except BlockingIOError:
                await self._arrived.wait()

    async def _say(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._near, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def _inward(self) -> None:
        data = await self._hear()
        if self._runs:
            while b"\x03" not in data:  # code.py reads nothing; Ctrl-C empties what waited with it
                data += await self._hear()
            await self._say(STOPPED + DONE)
            data = await self._hear()
        while True:
            if not self._awake.is_set():
                data = data[1:]  # any key; nobody reads it
                await self._say(BANNER)
                while self._board.receive_pending():
                    pass
                self._awake.set()
            await self._board.send(data)
            data = await self._hear()

    async def _outward(self) -> None:
        held = b""
        while True:
            await self._awake.wait()
            held += await self._board.receive()
            text, found, rest = held.partition(b"MPY: soft reboot\r\n")
            if found and self._reloads:
                await self._say(text + REBOOT + AUTORELOAD + CODE + DONE)
                self._awake.clear()
                await self._board.send(b"\x02")
                while b">>> " not in rest:
                    rest += await self._board.receive()
                held = b""
            elif found:
                held = REBOOT + rest
            else:
                keep = next((n for n in range(17, 0, -1) if b"MPY: soft reboot\r\n".startswith(text[-n:])), 0)
                held = text[len(text) - keep :]
                await self._say(text[: len(text) - keep])


async def discard(data: bytes) -> None:
    pass


async def within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await work


def letters(length: int) -> str:
    return secrets.token_hex(length)[:length]


Dressed = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def dressed(simulated_pty: Callable[..., Any]) -> AsyncIterator[Dressed]:
    """A factory of boards in CircuitPython's dress."""
    async with AsyncExitStack() as stack:

        async def dress(*, newer: bool = True, **manners: bool) -> Peer:
            uid = "".join(f"\\x{byte:02x}" for byte in UID)
            boot = DRESS.replace("{uid}", uid).replace("{newer}", str(newer))
            board = simulated_pty("board", files={"boot.py": boot})
            link = await open_serial(str(board.path))
            stack.push_async_callback(link.close)
            peer = Peer(link, **manners)
            stack.callback(peer.close)
            living = asyncio.create_task(peer.live())

            async def end() -> None:
                living.cancel()
                await asyncio.wait([living])

            stack.push_async_callback(end)
            return peer

        yield dress


Open = Callable[[Peer], Awaitable[Session]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens a session with a peer, and closes it at the end."""
    async with AsyncExitStack() as stack:

        async def start(peer: Peer) -> Session:
            session = Session("board", await open_serial(peer.path), letters)
            stack.push_async_callback(session.close)
            await within(session.start(discard))
            return session

        yield start


@pytest.mark.parametrize("runs", [False, True], ids=["after code.py", "while code.py runs"])
async def test_a_board_is_taken_over_and_says_who_it_is(dressed: Dressed, opened: Open, runs: bool) -> None:
    session = await opened(await dressed(runs=runs))

    assert session.facts.implementation == "circuitpython"
    assert session.facts.version == "9.2.1"
    assert session.facts.unique_id == UID.hex()
    assert session.facts.read_only
    assert await within(session.evaluate("6 * 7", discard)) == Returned(42)


async def test_calls_values_and_tracebacks_are_as_anywhere(dressed: Dressed, opened: Open) -> None:
    session = await opened(await dressed())
    await within(session.run("def f(x):\n    print('f')\n    return {x: [1.5, b'x']}\n", discard))

    value = await within(session.call(prepare("f", (3,), {}), discard))
    failure = await within(session.call(prepare("f", ([],), {}), discard))
    also = await within(session.run("1 / 0", discard))

    assert value == Returned({3: [1.5, b"x"]})
    assert isinstance(failure, Raised)
    assert failure.exception.type_name == "TypeError"
    assert isinstance(also, Raised)
    assert also.exception.type_name == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("newer", "expression"),
    [
        (True, "__import__('supervisor').runtime.autoreload"),
        (False, "__import__('supervisor').autoreload"),
    ],
    ids=["supervisor.runtime", "before version 8"],
)
async def test_auto_reload_is_off_while_belayd_is_there_and_on_again_afterwards(
    dressed: Dressed, opened: Open, simulated_pty: Any, newer: bool, expression: str
) -> None:
    peer = await dressed(newer=newer)
    session = await opened(peer)
    during = await within(session.evaluate(expression, discard))
    await within(session.run(f"import builtins\nbuiltins.seen = lambda: {expression}", discard))
    await within(session.close())

    transport = await open_serial(peer.path)
    await transport.send(b"\r\x03print('seen', seen())\r")
    heard = b""
    while b"seen True" not in heard and b"seen False" not in heard:
        heard += await within(transport.receive())
    await transport.close()

    assert during == Returned(False)
    assert b"seen True" in heard


async def test_a_soft_reset_ends_at_the_raw_prompt(dressed: Dressed, opened: Open) -> None:
    session = await opened(await dressed())
    await within(session.run("n = 1", discard))

    await within(session.soft_reset(discard))

    assert isinstance(await within(session.evaluate("n", discard)), Raised)
    assert await within(session.evaluate("1 + 1", discard)) == Returned(2)


async def test_a_reload_in_a_task_that_ends_in_code_py_is_told_and_the_board_taken_over_again(
    dressed: Dressed, opened: Open
) -> None:
    session = await opened(await dressed(reloads=True))
    printed = bytearray()

    async def emit(data: bytes) -> None:
        printed.extend(data)

    with pytest.raises(TransportLost, match="restarted"):
        # The relay takes these words for a restart, and puts code.py's behind them.
        await within(session.run("import os, sys\nsys.stdout.write('MPY: soft reboot\\r\\n')", emit))

    assert b"code.py output:\r\nhello\r\n" in printed
    assert await within(session.evaluate("1 + 1", discard)) == Returned(2)


async def test_a_board_that_was_handed_back_waits_for_a_key_and_is_taken_again(
    dressed: Dressed, opened: Open
) -> None:
    session = await opened(await dressed(reloads=True))

    await within(session.hand_back(discard))
    await within(session.start(discard))

    assert await within(session.evaluate("1 + 1", discard)) == Returned(2)


async def put(session: Session, files: dict[str, bytes]) -> Summary:
    contents = {hashlib.sha256(data).digest(): data for data in files.values()}
    manifest = [ManifestFile(path, hashlib.sha256(data).digest(), len(data)) for path, data in files.items()]

    async def content(digest: bytes) -> bytes:
        return contents[digest]

    async def report(step: Plan | Progress) -> None:
        pass

    return await deploy(session, manifest, content, Options(), report)


async def test_a_drive_that_the_host_has_is_told_before_anything_is_written(
    dressed: Dressed, opened: Open
) -> None:
    session = await opened(await dressed())
    before = await within(session.evaluate("sorted(__import__('os').listdir('/'))", discard))

    with pytest.raises(ReadOnly, match=r"storage\.disable_usb_drive\(\)"):
        await within(put(session, {"code.py": b"print('new')\n"}))

    assert await within(session.evaluate("sorted(__import__('os').listdir('/'))", discard)) == before


async def test_a_drive_that_was_ejected_since_is_written(dressed: Dressed, opened: Open) -> None:
    session = await opened(await dressed())
    await within(session.run("import storage\nstorage.drive.there = False", discard))

    summary = await within(put(session, {"code.py": b"print('new')\n"}))

    assert summary.files_written == 1
    assert await within(session.evaluate("open('/code.py').read()", discard)) == Returned("print('new')\n")


async def test_a_drive_that_holds_the_same_already_is_no_obstacle(dressed: Dressed, opened: Open) -> None:
    session = await opened(await dressed())
    await within(session.run("import storage\nstorage.drive.there = False", discard))
    await within(put(session, {"code.py": b"print('new')\n"}))
    await within(session.run("storage.drive.there = True", discard))

    summary = await within(put(session, {"code.py": b"print('new')\n"}))

    assert (summary.files_written, summary.files_same) == (0, 1)
