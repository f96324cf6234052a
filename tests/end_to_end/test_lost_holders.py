"""Holders that vanish and holders whose network does: a board comes free in its TTL, and not before."""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from belayd_client import BoardLeased, Client

TTL = 6.0
HOLDER = """\
import sys, time
from belayd_client import Device
device = Device(f"{sys.argv[1]}/sim-1", ttl=float(sys.argv[2]))
device("x = 1")
print("holds", flush=True)
device("while True: pass")
"""


@pytest.fixture(scope="module")
def lab(shared_daemon, sim) -> Iterator:
    yield shared_daemon({"sim-1": sim})


class Cable:
    """A TCP connection to the daemon, by way of a relay that can be cut and mended."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._listener = socket.create_server(("localhost", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self._whole = threading.Event()
        self._whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through; nobody is told."""
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    self._whole.wait()
                    try:
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        key.data.sendall(data)
                    except OSError:
                        return
                    if not data:
                        return


def test_the_board_of_a_killed_client_serves_the_next_in_its_ttl(lab) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lab.address, str(TTL)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    with pytest.raises(BoardLeased):
        lab.client.acquire("sim-1", wait=0)

    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    holder.communicate(timeout=30)
    with lab.client.acquire("sim-1", ttl=60, wait=60) as lease:
        took = time.monotonic() - killed
        assert lab.client.evaluate("sim-1", "'x' in globals()", lease=lease, timeout=60) is False

    assert took < TTL + 10  # cleaning, on a busy machine, included


def test_a_network_away_for_half_a_ttl_loses_nothing(lab) -> None:
    cable = Cable(lab.address)
    with Client(cable.address) as client:
        lease = client.acquire("sim-1", ttl=TTL, wait=60).keep()
        client.run("sim-1", "kept = 17", lease=lease)
        fence = lease.fence

        cable.cut()
        gone = time.monotonic()
        with pytest.raises(BoardLeased):
            lab.client.acquire("sim-1", wait=TTL / 2)
        assert time.monotonic() - gone >= TTL / 2
        cable.mend()

        assert client.evaluate("sim-1", "kept", lease=lease, timeout=60) == 17
        assert not lease.lost
        # Beyond the expiry that it had when the network went.
        with pytest.raises(BoardLeased):
            lab.client.acquire("sim-1", wait=TTL)
        assert client.evaluate("sim-1", "kept", lease=lease, timeout=60) == 17
        assert [(one.board, one.fence) for one in lab.client.leases()] == [("sim-1", fence)]
        lease.release()
