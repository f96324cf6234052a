from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from belayd.access import LOCAL, PERMISSIONS, Principal, Role, require
from belayd.errors import PermissionDenied
from belayd.v1 import boards_pb2, daemon_pb2, deployments_pb2, leases_pb2, tasks_pb2


def served_methods() -> list[str]:
    files = (boards_pb2, leases_pb2, tasks_pb2, deployments_pb2, daemon_pb2, health_pb2, reflection_pb2)
    return [
        f"{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


@pytest.mark.parametrize("method", served_methods())
def test_every_rpc_has_a_permission(method: str) -> None:
    assert method in PERMISSIONS


def test_no_permission_is_for_an_rpc_that_does_not_exist() -> None:
    ours = {method for method in PERMISSIONS if method.startswith("belayd.")}
    assert ours <= set(served_methods())


def test_an_unknown_method_needs_an_administrator() -> None:
    with pytest.raises(PermissionDenied):
        require(Principal("ann", Role.OPERATOR), "belayd.v1.NewService/Thing")
    require(Principal("root", Role.ADMIN), "belayd.v1.NewService/Thing")


def test_a_viewer_may_look_and_not_run() -> None:
    viewer = Principal("eye", Role.VIEWER)
    require(viewer, "belayd.v1.BoardService/ListBoards")
    with pytest.raises(PermissionDenied, match="needs user"):
        require(viewer, "belayd.v1.TaskService/RunTask")


def test_whoever_comes_without_credentials_is_a_user_at_the_most() -> None:
    assert LOCAL.role is Role.USER
