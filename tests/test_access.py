from __future__ import annotations

import importlib
import pkgutil

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from belayd import v1
from belayd.access import (
    HTTP_PERMISSIONS,
    LOCAL,
    PERMISSIONS,
    Principal,
    Role,
    check_name,
    may,
    require,
    require_board,
)
from belayd.errors import PermissionDenied, RequestInvalid
from belayd.selector import Selector


def served_methods() -> list[str]:
    ours = [importlib.import_module(f"belayd.v1.{one.name}") for one in pkgutil.iter_modules(v1.__path__)]
    files = [one for one in ours if one.__name__.endswith("_pb2")] + [health_pb2, reflection_pb2]
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


RP2 = Principal("ann", Role.ADMIN, Selector.parse("chip=rp2"))


@pytest.mark.parametrize(
    ("principal", "labels", "allowed"),
    [
        (RP2, {"chip": "rp2", "rack": "2"}, True),
        (RP2, {"chip": "esp32"}, False),
        (RP2, {}, False),
        (LOCAL, {}, True),
    ],
    ids=["its board", "another", "unlabelled", "no selector"],
)
def test_a_selector_bounds_a_principal_whatever_its_role(
    principal: Principal, labels: dict[str, str], allowed: bool
) -> None:
    assert may(principal, "pico-1", labels) is allowed


def test_a_board_of_others_is_denied_and_the_message_says_which_are_ones_own() -> None:
    with pytest.raises(PermissionDenied, match="'pico-1' is not among those of 'ann', which are 'chip=rp2'"):
        require_board(RP2, "pico-1", {})
    require_board(RP2, "pico-1", {"chip": "rp2"})


def test_a_board_may_be_allowed_by_its_name() -> None:
    principal = Principal("ann", Role.USER, Selector.parse("name=pico-1"))

    assert may(principal, "pico-1", {})
    assert not may(principal, "pico-2", {})


def test_metrics_need_a_viewer_and_health_nobody() -> None:
    assert HTTP_PERMISSIONS == {"/metrics": Role.VIEWER, "/healthz": None}


@pytest.mark.parametrize("name", ["ann", "ann@desk.example", "ci-7", "A.b_c+d", "7"])
def test_a_name_of_a_principal_is_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["local", "unix:ann", "", "a/b", ".a", "a" * 64])
def test_a_name_that_another_has_by_right_is_not(name: str) -> None:
    with pytest.raises(RequestInvalid):
        check_name(name)
