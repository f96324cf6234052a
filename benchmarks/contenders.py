"""Who deploys to a simulated board: Belay and mpremote inside this process, belayd through its daemon.

Each has a board of its own and keeps its connection, so that what is timed is the
deployment alone. mpremote is its own `fs cp -r`, called as its command line calls it,
without the soft reset that the command line begins with; given the pty's own path
it reads as fast as it can, and by any other path, as that of a real serial port, it
looks every 10 ms.

Belay's `sync` asks a board for hashes by code that it compiles for the board ("viper").
The simulated board's interpreter is one of 64 bits, on which those hashes are wrong, so
that Belay sends everything again each time. What it would do on a board of 32 bits is
what it does here when it is told that the board cannot compile: `Belay(portable=True)`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import belay
import grpc
from mpremote.commands import (  # type: ignore[import-untyped]
    do_filesystem_cp,
    do_filesystem_recursive_cp,
)
from mpremote.main import State  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]
from parts import daemon, wait_until_ready
from trees import NAME, Tree

from belayd.v1 import files_pb2, files_pb2_grpc
from belayd_client import Client

DESTINATION = f"/{NAME}"
PIECE = 4096
"""Bytes that Belay reads at once."""
WIPE = f"""
import os
def _wipe(path):
    for entry in list(os.ilistdir(path)):
        inner = path + "/" + entry[0]
        if entry[1] & 0x4000:
            _wipe(inner)
        else:
            os.remove(inner)
    os.rmdir(path)
try:
    os.stat({DESTINATION!r})
except OSError:
    pass
else:
    _wipe({DESTINATION!r})
del _wipe
"""
DIGEST = f"""
import os, hashlib, binascii
def _names(path):
    names = []
    for entry in os.ilistdir(path):
        inner = path + "/" + entry[0]
        names += _names(inner) if entry[1] & 0x4000 else [inner]
    return names
def _digest():
    total = hashlib.sha256()
    # By parts, as pathlib sorts.
    for name in sorted(_names({DESTINATION!r}), key=lambda name: name.split("/")):
        total.update(name[{len(DESTINATION) + 1}:].encode())
        with open(name, "rb") as file:
            total.update(hashlib.sha256(file.read()).digest())
    return binascii.hexlify(total.digest()).decode()
def _count():
    return len(_names({DESTINATION!r}))
"""


class Contender(Protocol):
    """One way to put files on one board, and to bring them back."""

    exact: bool
    """Whether the board gets the files byte for byte."""

    def deploy(self, tree: Tree) -> None:
        """Make DESTINATION equal to a tree."""

    def download(self, path: str) -> bytes:
        """Return a file's content."""

    def run(self, source: str) -> None:
        """Run statements on the board."""

    def evaluate(self, expression: str) -> object:
        """Return an expression's value."""


class Belay:
    """Belay's sync; `portable` says that the board cannot compile."""

    def __init__(self, device: belay.Device, minify: bool, portable: bool) -> None:
        self.exact = not minify
        self._device = device
        self._minify = minify
        if portable:
            device.implementation.emitters = ()

    def deploy(self, tree: Tree) -> None:
        self._device.sync(tree.folder, dst=DESTINATION, minify=self._minify)

    def download(self, path: str) -> bytes:
        # Device has no download, and its module's fs_get waits for line ends that this board does not
        # send: as a program of a user's would do it, in pieces that leave the board room for their repr.
        self._device(f"_file = open({path!r}, 'rb')", minify=False)
        content = b""
        while piece := self._device(f"_file.read({PIECE})", minify=False):
            content += piece
        self._device("_file.close()", minify=False)
        return content

    def run(self, source: str) -> None:
        self._device(source, minify=False)

    def evaluate(self, expression: str) -> object:
        return self._device(expression, minify=False)


class Mpremote:
    """mpremote's `fs cp`, with `-r` for trees."""

    exact = True

    def __init__(self, transport: SerialTransport, folder: Path) -> None:
        self._state = State()
        self._state.transport = transport
        self._file = folder / "downloaded"

    def deploy(self, tree: Tree) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # "Up to date: ..." for each
            do_filesystem_recursive_cp(self._state, str(tree.folder), ":/", False, True)

    def download(self, path: str) -> bytes:
        do_filesystem_cp(self._state, f":{path}", str(self._file), False)
        return self._file.read_bytes()

    def run(self, source: str) -> None:
        self._state.transport.exec(source)

    def evaluate(self, expression: str) -> object:
        value: object = self._state.transport.eval(expression)
        return value


class Belayd:
    """belayd's deployment through gRPC, of one board.

    Attributes:
        counted: Wire bytes and round trips of the last deployment, as its summary says.
    """

    exact = True

    def __init__(self, client: Client, files: files_pb2_grpc.FileServiceStub, board: str) -> None:
        self.counted = (0, 0)
        self._client = client
        self._files = files
        self._board = board

    def deploy(self, tree: Tree) -> None:
        summary = self._client.deploy(self._board, tree.folder, dst=DESTINATION, prune=True)
        self.counted = (summary.wire_bytes, summary.round_trips)

    def download(self, path: str) -> bytes:
        request = files_pb2.ReadFileRequest(board=f"boards/{self._board}", path=path)
        return b"".join(step.chunk for step in self._files.ReadFile(request))

    def run(self, source: str) -> None:
        self._client.run(self._board, source)

    def evaluate(self, expression: str) -> object:
        return self._client.evaluate(self._board, expression)


Opener = Callable[[str, Path], contextlib.AbstractContextManager[Contender]]


def belay_opener(*, minify: bool, portable: bool = True) -> Opener:
    """Return what opens Belay on a board's pty; the folder is for its files."""

    @contextmanager
    def open_belay(path: str, folder: Path) -> Iterator[Contender]:
        # Without its usual startup, which imports machine.Pin, and the board has none.
        with belay.Device(path, startup="") as device:
            yield Belay(device, minify, portable)

    return open_belay


def mpremote_opener(*, polling: bool = False) -> Opener:
    """Return what opens mpremote on a board's pty: by the pty's own path, or by one that makes it poll."""

    @contextmanager
    def open_mpremote(path: str, folder: Path) -> Iterator[Contender]:
        own = Path(path).resolve()
        if polling:
            link = folder / "ttyACM0"
            link.symlink_to(own)
            own = link
        transport = SerialTransport(str(own))
        transport.enter_raw_repl(soft_reset=False)
        try:
            yield Mpremote(transport, folder)
            transport.exit_raw_repl()
        finally:
            transport.close()

    return open_mpremote


@contextmanager
def open_belayd(path: str, folder: Path) -> Iterator[Contender]:
    """Open belayd, in a daemon of its own, on a board's pty."""
    with (
        daemon(folder, f"  b: {{serial: {{port: {path}}}}}\n") as address,
        Client(address) as client,
        grpc.insecure_channel(address) as channel,
    ):
        wait_until_ready(client, ["b"])
        yield Belayd(client, files_pb2_grpc.FileServiceStub(channel), "b")


def check(name: str, contender: Contender, tree: Tree) -> None:
    """Make sure, by the board's own words, that it has the tree."""
    contender.run(DIGEST)
    count = contender.evaluate("_count()")
    if count != tree.files or (contender.exact and contender.evaluate("_digest()") != tree.digest()):
        raise SystemExit(f"{name}: the board has not what was deployed")
