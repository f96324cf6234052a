"""Serves a serial port over TCP on loopback, one client at a time: `bridge.py PORT raw|rfc2217`.

With RFC 2217 by pyserial's own server. Prints the TCP port, then serves until it is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

import serial
import serial.rfc2217


class PtySerial(serial.Serial):
    """A pty has no modem lines to ask for."""

    cts = dsr = ri = cd = True


class Client:
    """What pyserial's port manager writes its own bytes to."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self.lock:
            self.connection.sendall(data)


def serve(port: serial.Serial, connection: socket.socket, telnet: bool) -> None:
    client = Client(connection)
    manager = serial.rfc2217.PortManager(port, client) if telnet else None
    gone = threading.Event()

    def outward() -> None:
        try:
            while not gone.is_set():
                data = port.read(1)
                data += port.read(min(port.in_waiting, 4096))
                if data:
                    client.write(b"".join(manager.escape(data)) if manager else data)
        except OSError:
            os._exit(0)  # the board went: so does its server

    thread = threading.Thread(target=outward)
    thread.start()
    try:
        while data := connection.recv(4096):
            port.write(b"".join(manager.filter(data)) if manager else data)
    except OSError:
        pass
    finally:
        gone.set()
        thread.join()
        connection.close()


def main() -> None:
    path, mode = sys.argv[1:]
    port = PtySerial(path, 115200, timeout=0.05, dsrdtr=True, rtscts=True)
    with socket.create_server(("127.0.0.1", 0)) as door:
        print(door.getsockname()[1], flush=True)
        while True:
            connection, _ = door.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            serve(port, connection, mode == "rfc2217")


if __name__ == "__main__":
    main()
