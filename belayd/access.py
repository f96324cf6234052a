"""Who a caller is, what each role may do, and on which boards.

Every RPC has its row in `PERMISSIONS` and every HTTP path one in
`HTTP_PERMISSIONS`; a test walks the descriptors and fails for one that has none.
Roles grow: each may do what those before it may. A principal's selector bounds
which boards exist for it at all, whatever its role.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from belayd.errors import PermissionDenied, RequestInvalid
from belayd.selector import Selector

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}")
"""What a principal may be called; "unix:ann" is none, so that no token can pass for it."""


EVERY_BOARD = Selector()


class Role(enum.IntEnum):
    """What a caller may do at the most."""

    VIEWER = 1
    USER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: leases and quotas count by its name; it sees the boards that `selector` matches."""

    name: str
    role: Role
    selector: Selector = EVERY_BOARD


LOCAL = Principal("local", Role.USER)
"""Whoever reaches an address that asks for no credentials."""

PERMISSIONS: Mapping[str, Role] = MappingProxyType(
    {
        "belayd.v1.BoardService/GetBoard": Role.VIEWER,
        "belayd.v1.BoardService/ListBoards": Role.VIEWER,
        "belayd.v1.BoardService/WatchBoards": Role.VIEWER,
        "belayd.v1.BoardService/ResetBoard": Role.USER,
        "belayd.v1.BoardService/DisableBoard": Role.OPERATOR,
        "belayd.v1.BoardService/EnableBoard": Role.OPERATOR,
        "belayd.v1.LeaseService/AcquireLease": Role.USER,
        "belayd.v1.LeaseService/RenewLease": Role.USER,
        "belayd.v1.LeaseService/ReleaseLease": Role.USER,
        "belayd.v1.LeaseService/BreakLease": Role.OPERATOR,
        "belayd.v1.LeaseService/GetLease": Role.VIEWER,
        "belayd.v1.LeaseService/ListLeases": Role.VIEWER,
        "belayd.v1.TaskService/RunTask": Role.USER,
        "belayd.v1.TaskService/CallTask": Role.USER,
        "belayd.v1.TaskService/Converse": Role.USER,
        "belayd.v1.TaskService/StartRun": Role.USER,
        "belayd.v1.TaskService/GetRun": Role.VIEWER,  # one's own; an operator anybody's
        "belayd.v1.TaskService/ListRuns": Role.VIEWER,
        "belayd.v1.TaskService/WatchRun": Role.VIEWER,
        "belayd.v1.TaskService/CancelRun": Role.USER,
        "belayd.v1.ConsoleService/Attach": Role.VIEWER,  # and USER to type
        "belayd.v1.DeploymentService/PutBlobs": Role.USER,
        "belayd.v1.DeploymentService/Deploy": Role.USER,
        "belayd.v1.DeploymentService/RollBack": Role.USER,  # one's own; an operator anybody's
        "belayd.v1.DeploymentService/ListDeployments": Role.VIEWER,
        "belayd.v1.DeploymentService/GetDrift": Role.USER,
        "belayd.v1.DeploymentService/CreateRollout": Role.USER,
        "belayd.v1.DeploymentService/GetRollout": Role.VIEWER,
        "belayd.v1.DeploymentService/ListRollouts": Role.VIEWER,
        "belayd.v1.DeploymentService/WatchRollout": Role.VIEWER,
        "belayd.v1.DeploymentService/PauseRollout": Role.USER,  # as RollBack, and the next two
        "belayd.v1.DeploymentService/ResumeRollout": Role.USER,
        "belayd.v1.DeploymentService/AbortRollout": Role.USER,
        "belayd.v1.FileService/ListFiles": Role.USER,
        "belayd.v1.FileService/ReadFile": Role.USER,
        "belayd.v1.FileService/WriteFile": Role.USER,
        "belayd.v1.FileService/MoveFile": Role.USER,
        "belayd.v1.FileService/DeleteFile": Role.USER,
        "belayd.v1.FileService/MakeDirectory": Role.USER,
        "belayd.v1.FileService/GetUsage": Role.USER,
        "belayd.v1.DaemonService/GetDaemon": Role.VIEWER,
        "belayd.v1.DaemonService/ReloadInventory": Role.OPERATOR,
        "belayd.v1.DaemonService/Drain": Role.ADMIN,
        "belayd.v1.DaemonService/ListAuditEvents": Role.OPERATOR,
        "belayd.v1.DaemonService/VerifyAudit": Role.OPERATOR,
        "belayd.v1.DaemonService/WatchEvents": Role.VIEWER,
        "grpc.health.v1.Health/Check": Role.VIEWER,
        "grpc.health.v1.Health/List": Role.VIEWER,
        "grpc.health.v1.Health/Watch": Role.VIEWER,
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.VIEWER,
    }
)

HTTP_PERMISSIONS: Mapping[str, Role | None] = MappingProxyType(
    {
        "/metrics": Role.VIEWER,
        "/healthz": None,  # a supervisor has no token, and hears one bit
    }
)
"""The role that each path needs; None is open to everybody who can reach it."""


def require(principal: Principal, method: str) -> None:
    """Raise PermissionDenied unless `principal` may call `method` ("package.Service/Method")."""
    require_role(principal, PERMISSIONS.get(method, Role.ADMIN), method)


def require_role(principal: Principal, needed: Role, what: str) -> None:
    """Raise PermissionDenied unless `principal` has at least the role that `what` needs."""
    if principal.role < needed:
        raise PermissionDenied(
            f"{principal.name!r} is {principal.role.name.lower()} and {what} needs {needed.name.lower()}; "
            "ask an administrator of the daemon for a token with that role",
            role=principal.role.name.lower(),
            needed=needed.name.lower(),
        )


def may(principal: Principal, board: str, labels: Mapping[str, str]) -> bool:
    """Return whether a board of this name and labels is among the principal's."""
    return principal.selector.matches(board, labels)


def require_all_boards(principal: Principal, what: str) -> None:
    """Raise PermissionDenied for `what` concerns every board, unless all are the principal's."""
    if principal.selector.terms:
        raise PermissionDenied(
            f"{what} concerns every board, and those of {principal.name!r} are {str(principal.selector)!r}; "
            "ask an administrator of the daemon for a token without a selector",
            selector=str(principal.selector),
        )


def require_board(principal: Principal, board: str, labels: Mapping[str, str]) -> None:
    """Raise PermissionDenied unless the board is among the principal's.

    It is denied and not hidden: that a name exists is no secret, and whoever was
    given the wrong selector should hear so.
    """
    if not may(principal, board, labels):
        raise PermissionDenied(
            f"board {board!r} is not among those of {principal.name!r}, which are {str(principal.selector)!r}; "
            "ask an administrator of the daemon for a token with another selector",
            board=board,
            selector=str(principal.selector),
        )


def check_name(name: str) -> str:
    """Return `name` if a token or certificate may be called so.

    Raises:
        RequestInvalid: It may not.
    """
    if not NAME.fullmatch(name):
        raise RequestInvalid(
            f"{name!r} cannot name a principal: letters, digits and . _ @ + -, at most 63, "
            "a letter or digit first",
            field="name",
        )
    if name == LOCAL.name:
        raise RequestInvalid(f"{name!r} is who comes without credentials; choose another name", field="name")
    return name
