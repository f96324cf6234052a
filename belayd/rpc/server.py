"""The gRPC server: services, health, reflection, and where it listens.

Without credentials it listens on loopback only, unless the operator spells out
otherwise. Keepalive as measured: a frozen peer is noticed in about 3 s with
ping_timeout, in 62 s without.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from belayd.rpc.border import Border, Tally
from belayd.v1 import (
    boards_pb2,
    boards_pb2_grpc,
    daemon_pb2,
    daemon_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    tasks_pb2,
    tasks_pb2_grpc,
)

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
    (deployments_pb2, "DeploymentService", deployments_pb2_grpc),
    (daemon_pb2, "DaemonService", daemon_pb2_grpc),
)


class Server:
    """Serves servicers, given by service name, from `start` to `stop`."""

    def __init__(self, servicers: dict[str, object], tally: Tally) -> None:
        self._server = grpc.aio.server(interceptors=[Border(tally)], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names = []
        for messages, name, stubs in _SERVICES:
            getattr(stubs, f"add_{name}Servicer_to_server")(servicers[name], self._server)
            self._names.append(messages.DESCRIPTOR.services_by_name[name].full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflected = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(reflected, self._server)

    async def start(self, address: str) -> str:
        """Listen on "host:port" (port 0: any free) and return the address taken.

        Raises:
            OSError: Nothing can listen there.
        """
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is another belayd running there?") from error
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{address.rpartition(':')[0]}:{port}"

    async def leave(self) -> None:
        """Say in health that the server will stop; it still serves."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Take no new RPCs, and end those under way after `grace` seconds."""
        await self._server.stop(grace)


def is_loopback(address: str) -> bool:
    """Return whether nobody outside this host can reach "host:port"."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
