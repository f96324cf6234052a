"""The door as webrepl_cli.py finds it: unmasked frames, a short handshake, records in two parts.

Source: MicroPython's webrepl_cli.py and modwebrepl.c, as the protocol's description has them.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 30.0
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: echo.websocket.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: foo\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89
DONE = b"WB\0\0"
BUSY = b"busy\n"


class Client:
    """A client that sends what it is told and reads frames."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.rest = b""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_frame(self, payload: bytes, first: int = BINARY) -> None:
        length = len(payload)
        head = bytes((first, length)) if length < 126 else bytes((first, 126)) + struct.pack(">H", length)
        self.send(head + payload)

    def _more(self) -> bool:
        try:
            data = self.connection.recv(65536)
        except ConnectionResetError:
            data = b""
        self.rest += data
        return bool(data)

    def read_to_end(self) -> bytes:
        while self._more():
            pass
        found, self.rest = self.rest, b""
        return found

    def read_head(self) -> bytes:
        while b"\r\n\r\n" not in self.rest:
            assert self._more(), self.rest
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head

    def read_frame(self) -> tuple[int, bytes]:
        while True:
            if len(self.rest) >= 2:
                length, start = self.rest[1], 2
                if length == 126 and len(self.rest) >= 4:
                    length, start = struct.unpack(">H", self.rest[2:4])[0], 4
                if (self.rest[1] != 126 or start == 4) and len(self.rest) >= start + length:
                    first, payload = self.rest[0], self.rest[start : start + length]
                    self.rest = self.rest[start + length :]
                    return first, payload
            assert self._more(), f"the connection ended after {self.rest!r}"

    def read_text(self, end: bytes) -> bytes:
        text = b""
        while end not in text:
            first, payload = self.read_frame()
            assert first == TEXT, (first, payload)
            text += payload
        return text

    def record(self) -> bytes:
        first, payload = self.read_frame()
        while first == TEXT:
            first, payload = self.read_frame()
        assert first == BINARY, (first, payload)
        return payload

    def log_in(self, password: bytes = b"secret") -> None:
        self.send(REQUEST)
        assert self.read_head().startswith(b"HTTP/1.1 101 ")
        assert self.read_frame() == (TEXT, b"Password: ")
        self.send_frame(password + b"\r")

    def enter(self) -> None:
        self.log_in()
        assert self.read_frame() == (TEXT, b"\r\nWebREPL connected\r\n>>> ")


@dataclass(frozen=True, slots=True)
class Door:
    """A board with a WebREPL, and the far end of its terminal."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    terminal: socket.socket

    def terminal_until(self, end: bytes) -> bytes:
        heard = b""
        while end not in heard:
            more = self.terminal.recv(65536)
            assert more, heard
            heard += more
        return heard


@pytest.fixture
def door(tmp_path: Path, micropython_binary: str) -> Iterator[Callable[..., Door]]:
    """A factory of boards with a terminal and a WebREPL."""
    with ExitStack() as stack:

        def start(*options: str, files: dict[str, str] | None = None) -> Door:
            folder = tmp_path / "board"
            folder.mkdir(exist_ok=True)
            for file, content in (files or {}).items():
                (folder / file).write_text(content)
            (tmp_path / "password").write_text("secret\n")
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "belayd.simulation", folder, "--webrepl=0"),
                        *(f"--password-file={tmp_path / 'password'}", f"--terminal-fd={theirs.fileno()}"),
                        *options,
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                )
            stack.callback(process.communicate, timeout=PATIENCE)
            stack.enter_context(ours)
            ours.settimeout(PATIENCE)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            port = int(process.stdout.readline().rpartition(b":")[2])
            board = Door(port, folder, process, ours)
            board.terminal_until(BUSY if files else b">>> ")
            return board

        yield start


@pytest.fixture
def client() -> Iterator[Callable[[Door], Client]]:
    """A factory of clients."""
    with ExitStack() as stack:

        def connect(door: Door) -> Client:
            made = Client(door.port)
            stack.enter_context(made.connection)
            return made

        yield connect


Open = Callable[..., Door]
Connect = Callable[[Door], Client]


def test_a_client_without_masks_reaches_the_prompt(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.enter()

    visitor.send_frame(b"1+1\r", TEXT)

    assert visitor.read_text(b">>> ") == b"1+1\r\n2\n>>> "


def test_the_answer_to_the_handshake_is_right(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.send(REQUEST.replace(b"foo", b"dGhlIHNhbXBsZSBub25jZQ=="))

    head = visitor.read_head()

    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head.split(b"\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        REQUEST.replace(b"Sec-WebSocket-Key", b"sec-websocket-key"),
        REQUEST.replace(b"Upgrade: websocket", b"upgrade: websocket"),
        b"GET / HTTP/1.1\r\nHost: board\r\n\r\n",
    ],
    ids=["key in lower case", "upgrade in lower case", "a browser"],
)
def test_other_requests_get_a_page(door: Open, client: Connect, request_bytes: bytes) -> None:
    visitor = client(door())

    visitor.send(request_bytes)

    assert visitor.read_to_end().startswith(b'HTTP/1.0 200 OK\r\n\r\n<base href="')


def test_a_header_without_a_colon_ends_the_connection_and_the_next_is_served(
    door: Open, client: Connect
) -> None:
    board = door()
    visitor = client(board)
    visitor.send(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")
    assert visitor.read_to_end() == b""

    client(board).enter()


@pytest.mark.parametrize("password", [b"wrong", b"", b"secret7", b"secretsecretsecret"])
def test_a_wrong_password_is_denied(door: Open, client: Connect, password: bytes) -> None:
    board = door()
    visitor = client(board)

    visitor.log_in(password)

    assert visitor.read_frame() == (TEXT, b"\r\nAccess denied\r\n")
    assert visitor.read_to_end() == b""
    client(board).enter()


def test_a_second_client_gets_a_handshake_and_the_end(door: Open, client: Connect) -> None:
    board = door()
    first, second = client(board), client(board)
    first.enter()

    second.send(REQUEST)

    assert second.read_head().startswith(b"HTTP/1.1 101 ")
    assert second.read_to_end() == b""
    assert first.read_text(b"rejected\r\n").startswith(
        b"\r\nConcurrent WebREPL connection from ('127.0.0.1', "
    )


def test_both_links_see_the_same_terminal(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()
    told = board.terminal_until(b"connection from: ('127.0.0.1', ")

    visitor.send_frame(b"x = 5\r", TEXT)
    board.terminal_until(b">>> ")
    visitor.read_text(b">>> ")
    board.terminal.sendall(b"x\r")

    assert told.startswith(b"\r\nWebREPL connection from: ")
    assert visitor.read_text(b">>> ") == b"x\r\n5\n>>> "
    assert board.terminal_until(b"5\n>>> ").endswith(b"x\r\n5\n>>> ")


def test_a_client_that_leaves_is_told_to_the_others(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()

    visitor.connection.close()

    board.terminal_until(b"dupterm: EOF received, deactivating\r\n")
    client(board).enter()


def test_pings_are_ignored_and_a_close_is_answered(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.enter()

    visitor.send_frame(b"are you there", PING)
    visitor.send_frame(b"1+1\r", TEXT)
    answered = visitor.read_text(b">>> ")
    visitor.send_frame(b"", CLOSE)

    assert answered == b"1+1\r\n2\n>>> "
    assert visitor.read_to_end() == b"\x88\x00"


def test_a_length_of_64_bits_kills_the_connection(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()

    visitor.send(bytes((TEXT, 127)) + struct.pack(">Q", 70_000) + b"x" * 100)

    assert visitor.read_to_end() == b""
    client(board).enter()


def test_masked_and_continued_frames_are_understood(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.enter()
    key = bytes((1, 2, 3, 4))
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(b"40+"))

    visitor.send(bytes((0x01, 0x80 | 3)) + key + masked)
    visitor.send_frame(b"2\r", 0x80)

    assert visitor.read_text(b">>> ") == b"40+2\r\n42\n>>> "


def test_text_frames_carry_any_bytes(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.enter()
    visitor.send_frame(b"\x01", TEXT)
    visitor.read_text(b"exit\r\n>")

    visitor.send_frame(b"\x05A\x01", TEXT)

    assert visitor.read_text(b"\x01") == b"R\x01\x80\x00\x01"


def test_a_soft_reset_closes_the_connection_and_keeps_the_terminal(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()

    visitor.send_frame(b"\x04", TEXT)

    assert b"MPY: soft reboot\r\n" in visitor.read_to_end()
    board.terminal_until(b"MPY: soft reboot\r\n")
    again = client(board)
    again.enter()


def test_an_interrupt_from_the_network_stops_a_program(door: Open, client: Connect) -> None:
    visitor = client(door(files={"main.py": "print('busy')\nwhile True: pass\n"}))
    visitor.enter()

    visitor.send_frame(b"\x03", TEXT)

    assert b"KeyboardInterrupt" in visitor.read_text(b">>> ")


def record(operation: int, name: bytes, size: int = 0) -> bytes:
    return struct.pack("<2sBBQLH64s", b"WA", operation, 0, 0, size, len(name), name)


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_a_file_is_put_and_got_as_webrepl_cli_does(door: Open, client: Connect, size: int) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()
    content = os.urandom(size)
    request = record(1, b"data.bin", size)

    visitor.send_frame(request[:10])
    visitor.send_frame(request[10:])
    started = visitor.record()
    for at in range(0, size, 1024):
        visitor.send_frame(content[at : at + 1024])
    finished = visitor.record()
    visitor.send_frame(record(2, b"/data.bin"))
    got, blocks = visitor.record(), []
    while not blocks or blocks[-1] != b"\0\0":
        visitor.send_frame(b"\0")
        blocks.append(visitor.record())
    last = visitor.record()

    assert [started, finished, got, last] == [DONE] * 4
    assert (board.folder / "data.bin").read_bytes() == content
    assert b"".join(block[2:] for block in blocks) == content
    assert all(struct.unpack("<H", block[:2])[0] == len(block) - 2 <= 256 for block in blocks)


def test_the_version_is_told_without_ado(door: Open, client: Connect) -> None:
    visitor = client(door())
    visitor.enter()

    visitor.send_frame(record(3, b""))

    assert visitor.record() == bytes((1, 29, 0))


@pytest.mark.parametrize(("operation", "name"), [(1, b"nowhere/x"), (2, b"missing")])
def test_a_missing_folder_or_file_ends_the_connection_without_an_answer(
    door: Open, client: Connect, operation: int, name: bytes
) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()

    visitor.send_frame(record(operation, name, 5))

    assert visitor.read_to_end() == b""
    board.terminal_until(b"dupterm: Exception in read() method, deactivating: OSError: [Errno 2]")
    client(board).enter()


def test_a_name_cannot_leave_the_boards_folder(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()

    visitor.send_frame(record(1, b"../../outside", 0))

    assert [visitor.record(), visitor.record()] == [DONE, DONE]
    assert (board.folder / "outside").exists()


def test_a_program_that_cannot_be_interrupted_is_replaced(door: Open, client: Connect) -> None:
    stubborn = "import micropython\nmicropython.kbd_intr(-1)\nprint('busy')\nwhile True: pass\n"
    board = door(files={"main.py": stubborn})
    visitor = client(board)
    visitor.enter()

    visitor.send_frame(record(1, b"/main.py", 4))
    started = visitor.record()
    visitor.send_frame(b"pass")

    assert [started, visitor.record()] == [DONE, DONE]
    assert (board.folder / "main.py").read_text() == "pass"


def test_a_client_that_does_not_read_stops_the_board_and_loses_nothing(door: Open, client: Connect) -> None:
    board = door()
    visitor = client(board)
    visitor.enter()
    visitor.send_frame(b"for i in range(60000): print(i, end=' ')\r\r", TEXT)
    with ThreadPoolExecutor() as pool:
        hearing = pool.submit(board.terminal_until, b"59999 ")

        text = visitor.read_text(b"59999 ")

        heard = hearing.result()
    assert b"".join(b"%d " % number for number in range(60_000)) in text
    assert b"".join(b"%d " % number for number in range(60_000)) in heard


def test_a_port_that_is_taken_is_told_in_a_line(door: Open, tmp_path: Path) -> None:
    taken = door().port

    refused = subprocess.run(
        [
            *(sys.executable, "-m", "belayd.simulation", tmp_path / "other", f"--webrepl={taken}"),
            f"--password-file={tmp_path / 'password'}",
        ],
        capture_output=True,
        timeout=PATIENCE,
    )

    assert refused.returncode == 1
    assert refused.stderr.decode().startswith(f"the WebREPL cannot listen on port {taken}: ")


def test_a_hard_reset_closes_the_door_and_opens_it_again(door: Open, client: Connect, tmp_path: Path) -> None:
    door()  # for the password's file
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "belayd.simulation", tmp_path / "alone", "--webrepl=0", "--absence=0.1"),
            f"--password-file={tmp_path / 'password'}",
        ],
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        visitor = Client(int(first.rpartition(b":")[2]))
        visitor.enter()

        visitor.send_frame(b"import machine; machine.reset()\r", TEXT)
        visitor.read_to_end()
        again = process.stdout.readline()
        other = Client(int(again.rpartition(b":")[2]))
        other.enter()

        process.terminate()
        visitor.connection.close()
        other.connection.close()
    assert again == first
    assert process.returncode == 0
