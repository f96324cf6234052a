"""The gRPC server: services, health, reflection, and where it listens.

It has two doors: an address, with TLS or without, and a unix socket that its own
user alone can open. gRPC shows no credentials of a socket's peer in Python, so the
file's mode is what guards it. Who may come in through which is in `entrance`.
Keepalive as measured: a frozen peer is noticed in about 3 s with ping_timeout, in
62 s without.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from belayd.audit import Trail
from belayd.entrance import Door, Entrance
from belayd.rpc.border import Border, Tally
from belayd.tls import Pems, ServerCertificate
from belayd.v1 import (
    boards_pb2,
    boards_pb2_grpc,
    consoles_pb2,
    consoles_pb2_grpc,
    daemon_pb2,
    daemon_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

log = logging.getLogger(__name__)

MOST_SOCKET_PATH = 107
"""Bytes of a unix socket's path; Linux takes no more."""
MOST_MESSAGE_BYTES = 16 * 1024 * 1024
_OPTIONS = (
    # Two daemons on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # What a client may ping; by default a third ping within 5 min without data ends its connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
_SERVICES: tuple[tuple[Any, str, Any], ...] = (
    (boards_pb2, "BoardService", boards_pb2_grpc),
    (leases_pb2, "LeaseService", leases_pb2_grpc),
    (tasks_pb2, "TaskService", tasks_pb2_grpc),
    (consoles_pb2, "ConsoleService", consoles_pb2_grpc),
    (deployments_pb2, "DeploymentService", deployments_pb2_grpc),
    (files_pb2, "FileService", files_pb2_grpc),
    (daemon_pb2, "DaemonService", daemon_pb2_grpc),
)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen.

    Attributes:
        address: "host:port", port 0 for any free one.
        certificate: What TLS is served with; None serves in the clear.
        open: Whoever shows nothing is let in from beyond loopback too (--insecure).
        socket: A unix socket's path in a folder of this user's own; None for none.
    """

    address: str
    certificate: ServerCertificate | None = None
    open: bool = False
    socket: Path | None = None


class Server:
    """Serves servicers, given by service name, from `start` to `stop`."""

    def __init__(self, servicers: dict[str, object], tally: Tally, entrance: Entrance, trail: Trail) -> None:
        self._border = Border(tally, entrance, trail)
        self._server = grpc.aio.server(interceptors=[self._border], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._socket: Path | None = None
        self._names = []
        for messages, name, stubs in _SERVICES:
            getattr(stubs, f"add_{name}Servicer_to_server")(servicers[name], self._server)
            self._names.append(messages.DESCRIPTOR.services_by_name[name].full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflected = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, self._server)

    async def start(self, listening: Listening) -> str:
        """Listen, and return the address taken, "host:port".

        Raises:
            OSError: Nothing can listen there.
        """
        address, certificate = listening.address, listening.certificate
        self._border.tcp = Door(
            loopback=is_loopback(address), encrypted=certificate is not None, open=listening.open
        )
        try:
            if certificate is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(certificate))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is another belayd running there?") from error
        fresh = self._bind_socket(listening.socket) if listening.socket else None
        await self._server.start()
        if fresh is not None and listening.socket is not None:
            fresh.chmod(0o600)
            fresh.replace(listening.socket)
            fresh.parent.rmdir()
            self._socket = listening.socket
        await self.show_serving(True)
        return f"{address.rpartition(':')[0]}:{port}"

    async def watch(self) -> None:
        """End, until cancelled, what goes on for callers who may stay no longer."""
        await self._border.watch()

    async def show_serving(self, serving: bool) -> None:
        """Say in health whether the daemon takes new work."""
        status = health_pb2.HealthCheckResponse
        for name in ("", *self._names):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def leave(self) -> None:
        """Say in health that the server will stop; it still serves."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Take no new RPCs, and end those under way after `grace` seconds."""
        await self._server.stop(grace)
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._socket = None

    def _bind_socket(self, path: Path) -> Path | None:
        """Bind where only this user can reach, and return the path, to be moved when its mode is right."""
        if answers(path):
            raise OSError(f"another belayd serves {path}; give each its own --state")
        folder = path.with_name(".new")
        fresh = folder / "s"
        if len(os.fsencode(path)) > MOST_SOCKET_PATH:
            log.warning("no unix socket: %s is longer than %d bytes", path, MOST_SOCKET_PATH)
            return None
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        fresh.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix:{fresh}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {path}: {error}") from error
        owner = pwd.getpwuid(os.geteuid()).pw_name
        self._border.unix = Door(loopback=True, owner=f"unix:{owner}")
        return fresh


def answers(path: Path) -> bool:
    """Return whether somebody serves the unix socket; a stale one is nobody's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
        return True


def _credentials(certificate: ServerCertificate) -> grpc.ServerCredentials:
    """Return credentials that follow the certificate: each handshake asks whether it is new."""
    handed = certificate.current

    def fetch() -> Any:
        # Called in gRPC's own threads; `current` is one reference to something that never changes.
        nonlocal handed
        if certificate.current is handed:
            return None
        handed = certificate.current
        return _configuration(handed)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(handed), fetch, require_client_authentication=handed.client_ca is not None
    )


def _configuration(pems: Pems) -> Any:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], pems.client_ca)


def is_loopback(address: str) -> bool:
    """Return whether nobody outside this host can reach "host:port"."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
