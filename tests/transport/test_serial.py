from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from belayd.transport.contract import TransportError
from belayd.transport.serial import open_serial, with_lines

HOLDER = """
import fcntl, os, sys, termios
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.ioctl(fd, termios.TIOCEXCL)
print('held', flush=True)
sys.stdin.read()
"""
INTRUDER = """
import os, sys
if os.geteuid() == 0:
    os.setuid(65534)
try:
    os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def port() -> Iterator[tuple[Path, int]]:
    """A plain pty: its path, and the descriptor of its far end."""
    with ExitStack() as stack:
        near, far = os.openpty()
        stack.callback(os.close, near)
        stack.callback(os.close, far)
        yield Path(os.ttyname(far)), near


async def test_the_port_is_raw_and_a_read_of_nothing_is_no_end(port: tuple[Path, int]) -> None:
    transport = await open_serial(str(port[0]))
    fd = os.open(port[0], os.O_RDWR | os.O_NOCTTY)
    try:
        _, output, control, local, *_, characters = termios.tcgetattr(fd)
    finally:
        os.close(fd)
    await transport.close()

    assert not local & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert not output & termios.OPOST
    assert not control & termios.HUPCL
    assert characters[termios.VMIN] in (1, b"\x01")


async def test_what_waited_in_the_port_is_discarded(port: tuple[Path, int]) -> None:
    path, far = port
    os.write(far, b"stale\n")

    transport = await open_serial(str(path))
    os.write(far, b"fresh")

    assert await transport.receive() == b"fresh"
    await transport.close()


async def test_a_second_opener_is_told_who_has_the_port(port: tuple[Path, int]) -> None:
    transport = await open_serial(str(port[0]))

    with pytest.raises(TransportError) as caught:
        await open_serial(str(port[0]))
    await transport.close()
    again = await open_serial(str(port[0]))
    await again.close()

    assert str(caught.value).startswith(f"{port[0]}: in use by ")
    assert f"itself (process {os.getpid()})" in str(caught.value)


async def test_a_port_that_another_program_locked_is_busy(port: tuple[Path, int]) -> None:
    fd = os.open(port[0], os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(TransportError, match="in use"):
            await open_serial(str(port[0]))
    finally:
        os.close(fd)


@pytest.fixture
def holder(port: tuple[Path, int]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has made the port its own in the way of terminal programs, without a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, port[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


async def test_a_port_that_another_program_made_its_own_is_busy_even_for_root(
    port: tuple[Path, int], holder: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(TransportError, match=rf"in use by .*process {holder.pid}"):
        await open_serial(str(port[0]))


@pytest.mark.skipif(os.geteuid() != 0, reason="the system refuses all but root")
async def test_a_port_whose_holder_was_killed_is_free_again(
    port: tuple[Path, int], holder: subprocess.Popen[bytes]
) -> None:
    holder.kill()
    holder.wait()  # its mark outlives it on a pty

    transport = await open_serial(str(port[0]))

    await transport.close()


async def test_nobody_else_opens_what_is_open(port: tuple[Path, int]) -> None:
    port[0].chmod(0o666)
    intrude = [sys.executable, "-c", INTRUDER, str(port[0])]

    transport = await open_serial(str(port[0]))
    during = await asyncio.to_thread(subprocess.check_output, intrude, text=True)
    await transport.close()
    after = await asyncio.to_thread(subprocess.check_output, intrude, text=True)

    assert during == "Device or resource busy\n"
    assert after == ""


@pytest.mark.parametrize(("wish", "falls"), [(None, False), (False, False), (True, True)])
async def test_closing_lets_the_lines_fall_only_where_that_is_wanted(
    port: tuple[Path, int], wish: bool | None, falls: bool
) -> None:
    transport = await open_serial(str(port[0]), hupcl=wish)
    control = termios.tcgetattr(port[1])[2]
    await transport.close()

    assert bool(control & termios.HUPCL) is falls


@pytest.mark.parametrize(("baudrate", "speed"), [(9600, termios.B9600), (921_600, termios.B921600)])
async def test_the_port_runs_at_the_rate_that_was_asked_for(
    port: tuple[Path, int], baudrate: int, speed: int
) -> None:
    transport = await open_serial(str(port[0]), baudrate=baudrate, low_latency=False)
    *_, into, out, _ = termios.tcgetattr(port[1])
    await transport.close()

    assert (into, out) == (speed, speed)


@pytest.mark.parametrize("dtr", [True, False])
@pytest.mark.parametrize("rts", [True, False])
@pytest.mark.parametrize("before", [0, termios.TIOCM_DTR | termios.TIOCM_RTS | termios.TIOCM_CTS])
def test_two_lines_are_set_and_the_others_left(before: int, dtr: bool, rts: bool) -> None:
    after = with_lines(before, dtr=dtr, rts=rts)

    assert bool(after & termios.TIOCM_DTR) is dtr
    assert bool(after & termios.TIOCM_RTS) is rts
    assert after & termios.TIOCM_CTS == before & termios.TIOCM_CTS


async def test_a_closed_port_is_open_to_others_without_leftovers(port: tuple[Path, int]) -> None:
    transport = await open_serial(str(port[0]))
    await transport.close()

    fd = os.open(port[0], os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


async def test_a_missing_port_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no such port; is the board plugged in"):
        await open_serial(str(tmp_path / "ttyACM9"))


async def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(TransportError, match="cannot be opened"):
        await open_serial(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
async def test_a_forbidden_port_names_the_group_to_join(tmp_path: Path) -> None:
    (tmp_path / "tty").touch(mode=0o000)

    with pytest.raises(TransportError, match="permission denied; add the daemon's user to the group"):
        await open_serial(str(tmp_path / "tty"))


async def test_1200_baud_is_refused(port: tuple[Path, int]) -> None:
    with pytest.raises(TransportError, match="bootloader"):
        await open_serial(str(port[0]), baudrate=1200)


@pytest.mark.parametrize("level", [True, False, None])
async def test_levels_of_lines_that_a_pty_lacks_are_no_obstacle(
    port: tuple[Path, int], level: bool | None
) -> None:
    transport = await open_serial(str(port[0]), baudrate=230400, dtr=level, rts=level)

    await transport.send(b"x")

    assert os.read(port[1], 10) == b"x"
    await transport.close()


async def test_opening_that_is_cancelled_leaves_the_port_free(port: tuple[Path, int]) -> None:
    opening = asyncio.create_task(open_serial(str(port[0])))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()

    for _ in range(1000):
        try:
            transport = await open_serial(str(port[0]))
            break
        except TransportError:  # the cancelled opening is being undone in its thread
            continue
    await transport.close()


async def test_a_board_that_fills_the_line_and_goes_does_not_hold_up_closing(
    port: tuple[Path, int],
) -> None:
    transport = await open_serial(str(port[0]))
    sending = asyncio.create_task(transport.send(b"x" * 1_000_000))
    await asyncio.sleep(0)

    await asyncio.wait_for(transport.close(), 10)

    await sending


async def test_a_microbit_answers(microbit_port: Path) -> None:
    transport = await open_serial(str(microbit_port))

    await transport.send(b"\r\x03\x03\r\x01")
    heard = b""
    while not heard.endswith(b"raw REPL; CTRL-B to exit\r\n>"):
        heard += await transport.receive()
    await transport.send(b"import sys; print(sys.platform)\x04")
    answer = b""
    while not answer.endswith(b"\x04\x04>"):
        answer += await transport.receive()

    assert answer == b"OKmicrobit\r\n\x04\x04>"
    await transport.close()


async def test_a_simulated_board_that_resets_comes_back_under_its_link(
    simulated_pty: Callable[..., Any],
) -> None:
    board = simulated_pty("board", "--absence", "0.05")
    transport = await open_serial(str(board.path))
    await transport.send(b"\x03import machine; machine.reset()\r")
    while await transport.receive():
        pass
    await transport.close()

    await asyncio.to_thread(board.process.stdout.readline)
    transport = await open_serial(str(board.path))
    await transport.send(b"1+1\r")
    heard = b""
    while b"\n2\n" not in heard:
        heard += await transport.receive()
    await transport.close()
