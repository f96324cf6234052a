"""Who a caller is, and what each role may do.

Every RPC has its row in `PERMISSIONS`; a test walks the descriptors and fails for
one that has none. Roles grow: each may do what those before it may.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from belayd.errors import PermissionDenied


class Role(enum.IntEnum):
    """What a caller may do at the most."""

    VIEWER = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: leases and quotas count by its name."""

    name: str
    role: Role


LOCAL = Principal("local", Role.USER)
"""Whoever reaches an address that asks for no credentials."""

PERMISSIONS: Mapping[str, Role] = MappingProxyType(
    {
        "belayd.v1.BoardService/GetBoard": Role.VIEWER,
        "belayd.v1.BoardService/ListBoards": Role.VIEWER,
        "belayd.v1.BoardService/WatchBoards": Role.VIEWER,
        "belayd.v1.BoardService/ResetBoard": Role.USER,
        "belayd.v1.LeaseService/AcquireLease": Role.USER,
        "belayd.v1.LeaseService/RenewLease": Role.USER,
        "belayd.v1.LeaseService/ReleaseLease": Role.USER,
        "belayd.v1.LeaseService/GetLease": Role.VIEWER,
        "belayd.v1.LeaseService/ListLeases": Role.VIEWER,
        "belayd.v1.TaskService/RunTask": Role.USER,
        "belayd.v1.TaskService/CallTask": Role.USER,
        "belayd.v1.TaskService/Converse": Role.USER,
        "belayd.v1.DeploymentService/PutBlobs": Role.USER,
        "belayd.v1.DeploymentService/Deploy": Role.USER,
        "belayd.v1.DaemonService/GetDaemon": Role.VIEWER,
        "grpc.health.v1.Health/Check": Role.VIEWER,
        "grpc.health.v1.Health/List": Role.VIEWER,
        "grpc.health.v1.Health/Watch": Role.VIEWER,
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.VIEWER,
    }
)


def require(principal: Principal, method: str) -> None:
    """Raise PermissionDenied unless `principal` may call `method` ("package.Service/Method")."""
    needed = PERMISSIONS.get(method, Role.ADMIN)
    if principal.role < needed:
        raise PermissionDenied(
            f"{principal.name!r} is {principal.role.name.lower()} and {method} needs {needed.name.lower()}; "
            "ask an administrator of the daemon for a token with that role",
            role=principal.role.name.lower(),
            needed=needed.name.lower(),
        )
