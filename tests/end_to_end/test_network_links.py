"""Boards over the network: WebREPL with its password, and a serial port served over TCP."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belayd_client.board import BoardState
from belayd_client.errors import OperatorNeeded, RunTimeout

PATIENCE = 30.0
PASSWORD = "s3cret-9"


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
def door(tmp_path: Path) -> Iterator[str]:
    """The WebREPL address of a simulated board."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "belayd.simulation", tmp_path / "roof"),
            *("--webrepl", "0", "--password-file", secret),
        ],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "ws://" not in said:
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            said = process.stdout.readline().decode()
            assert said
        yield said.split()[-1]
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


def test_a_board_over_webrepl_does_what_others_do(daemon: Callable, door: str, tmp_path: Path, until) -> None:
    lab = daemon({"roof": {"webrepl": {"url": door, "password_file": str(tmp_path / "password")}}})
    client = lab.client
    client.run("roof", "def add(a, b):\n return a + b\n")
    assert [client.call("roof", "add", number, 1) for number in range(20)] == list(range(1, 21))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "blob.bin").write_bytes(bytes(range(256)) * 20)
    assert client.deploy("roof", tree).files_written == 1
    assert client.evaluate("roof", "open('/blob.bin', 'rb').read()") == bytes(range(256)) * 20
    with pytest.raises(RunTimeout):
        client.run("roof", "while True: pass", timeout=0.5)
    assert client.evaluate("roof", "6 * 7") == 42
    with client.acquire("roof", wait=PATIENCE) as lease:
        client.run("roof", "mine = 1", lease=lease)
    until(lambda: client.board("roof").state is BoardState.READY)
    with client.acquire("roof", wait=PATIENCE) as lease:
        assert client.evaluate("roof", "'mine' in globals()", lease=lease) is False
    assert PASSWORD not in lab.log + lab.scrape() + str(client.board("roof"))


def test_a_wrong_password_puts_the_board_in_quarantine_and_is_shown_nowhere(
    daemon: Callable, door: str, tmp_path: Path, until
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("guess-77\n")
    wrong.chmod(0o600)
    lab = daemon({"roof": {"webrepl": {"url": door, "password_file": str(wrong)}}}, ready=False)
    until(lambda: lab.client.board("roof").state is BoardState.QUARANTINED)
    with pytest.raises(OperatorNeeded) as caught:
        lab.client.evaluate("roof", "1")
    assert caught.value.reason == "WEBREPL_DENIED"
    assert lab.metric("belayd_board_quarantined", board="roof", reason="webrepl_denied") == 1
    assert "guess-77" not in lab.log + lab.scrape() + str(lab.client.board("roof"))


def test_a_serial_port_behind_tcp_serves(
    daemon: Callable, simulated_pty: Callable, unused_tcp_port: int
) -> None:
    board = simulated_pty("far")
    relay = subprocess.Popen([sys.executable, "-c", RELAY, str(board.path), str(unused_tcp_port)], stdout=-1)
    try:
        assert relay.stdout is not None
        relay.stdout.readline()
        lab = daemon({"far": {"tcp": {"url": f"socket://127.0.0.1:{unused_tcp_port}"}}})
        assert lab.client.evaluate("far", "6 * 7") == 42
        with pytest.raises(RunTimeout):
            lab.client.run("far", "while True: pass", timeout=0.5)
        assert lab.client.evaluate("far", "6 * 7") == 42
    finally:
        relay.kill()
        relay.communicate()


RELAY = """
import os, select, socket, sys, tty
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); tty.setraw(fd)
door = socket.create_server(("127.0.0.1", int(sys.argv[2]))); print("ready", flush=True)
peer, _ = door.accept()
while True:
    for ready in select.select([fd, peer], [], [])[0]:
        if ready is peer:
            data = peer.recv(65536)
            if not data: raise SystemExit
            os.write(fd, data)
        else: peer.sendall(os.read(fd, 65536))
"""
