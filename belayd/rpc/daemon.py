"""DaemonService: what the daemon is, and who the caller is to it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from belayd.fleet import Fleet
from belayd.rpc import auth, convert
from belayd.v1 import daemon_pb2, daemon_pb2_grpc


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while the daemon runs; metrics_address "" where none are served."""

    started: datetime
    metrics_address: str


class Daemon(daemon_pb2_grpc.DaemonServiceServicer):
    """Tells about the daemon."""

    def __init__(self, about: About, fleet: Fleet) -> None:
        self._about = about
        self._fleet = fleet

    async def GetDaemon(
        self, request: daemon_pb2.GetDaemonRequest, context: Any
    ) -> daemon_pb2.GetDaemonResponse:
        """See the proto."""
        caller = auth.principal(context)
        return daemon_pb2.GetDaemonResponse(
            version=version("belayd"),
            host=socket.gethostname(),
            start_time=convert.timestamp(self._about.started),
            metrics_address=self._about.metrics_address,
            boards=len(self._fleet),
            principal=caller.name,
            role=caller.role.name.lower(),
        )
