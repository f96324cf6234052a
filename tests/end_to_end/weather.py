"""A link with weather between belayd and a board: `weather.py FAR NEAR KIND SEED`.

FAR is a pty's path, or 127.0.0.1:PORT where a board is served. NEAR is where a
symbolic link to this program's own pty shall be, or "tcp" for a port on loopback.
Prints where NEAR is, then serves one client after another until it is killed.

Kinds: `bytewise` passes single bytes both ways; `late` tears and delays; `stalling`
falls silent now and then; `vanishing` breaks LIVES times, each time after a number
of bytes from the board, and then stays. Chance comes from SEED alone.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import socket
import stat
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

LIVES = 4
ABSENCE = 0.1  # seconds that a pty which vanished stays away
READ_BYTES = 4096
HELD_BYTES = 8192  # on their way at the most, as in servers of serial ports, not megabytes


class Weather:
    """What becomes of the bytes of one direction; `pieces` sleeps where they are late."""

    def __init__(self, kind: str, seed: str, from_board: bool) -> None:
        self.kind = kind
        self.chance = random.Random(f"{kind} {seed} {from_board}")
        self.from_board = from_board
        self.lives = LIVES
        self.left = self._until_next()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the data in pieces, in their time.

        Raises:
            ConnectionError: The link vanishes here.
        """
        match self.kind:
            case "bytewise":
                for at in range(len(data)):
                    yield data[at : at + 1]
            case "late":
                while data:
                    time.sleep(self.chance.choice((0, 0, 0, 0.002, 0.01)))
                    cut = self.chance.randint(1, self.chance.choice((3, 60, 8000)))
                    yield data[:cut]
                    data = data[cut:]
            case "stalling" | "vanishing" if self.from_board and self.lives:
                while len(data) > self.left:
                    if self.left:
                        yield data[: self.left]
                    data = data[self.left :]
                    if self.kind == "vanishing":
                        self.lives -= 1
                        self.left = self._until_next()
                        raise ConnectionError
                    self.left = self._until_next()
                    time.sleep(self.chance.uniform(0.15, 0.7))
                self.left -= len(data)
                yield data
            case _:
                yield data

    def _until_next(self) -> int:
        if self.kind == "stalling":
            return int(10 ** self.chance.uniform(2.5, 5.3))
        # In the middle of work, then of belayd's taking the board over, and again.
        return int(
            10 ** (self.chance.uniform(3.7, 4.5) if self.lives % 2 == 0 else self.chance.uniform(1, 3))
        )


def reach(far: str) -> int:
    """Return a descriptor of the board's end."""
    host, _, port = far.rpartition(":")
    if host == "127.0.0.1":
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BYTES)
        connection.connect((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection.detach()
    return os.open(far, os.O_RDWR | os.O_NOCTTY)


def carry(near: int, far: int, outward: Weather, inward: Weather) -> None:
    """Carry bytes both ways until one end is gone or the link vanishes."""
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select([near, far], [], [])[0]:
                data = os.read(ready, READ_BYTES)
                if not data:
                    return
                acknowledge(ready)
                sink, weather = (far, outward) if ready == near else (near, inward)
                for piece in weather.pieces(data):
                    while piece:
                        piece = piece[os.write(sink, piece) :]


def acknowledge(descriptor: int) -> None:
    """Keep a far end that waits for it, as lwIP does, from waiting 40 ms."""
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def serve_tcp(far: str, outward: Weather, inward: Weather) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        print(door.getsockname()[1], flush=True)
        while True:
            connection, _ = door.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(ConnectionError):
                    board = reach(far)
                    carry(connection.fileno(), board, outward, inward)
                    os.close(board)


def serve_pty(far: str, link: Path, outward: Weather, inward: Weather) -> None:
    board = reach(far)
    while True:
        near, tool = pty.openpty()  # `tool` stays open, so that belayd may come and go
        tty.setraw(tool)
        fresh = link.with_suffix(".fresh")
        fresh.symlink_to(os.ttyname(tool))
        fresh.replace(link)
        print(link, flush=True)
        carry(near, board, outward, inward)
        link.unlink()
        os.close(tool)
        os.close(near)
        time.sleep(ABSENCE)


def main() -> None:
    far, near, kind, seed = sys.argv[1:]
    outward, inward = Weather(kind, seed, False), Weather(kind, seed, True)
    if near == "tcp":
        serve_tcp(far, outward, inward)
    else:
        serve_pty(far, Path(near), outward, inward)


if __name__ == "__main__":
    main()
