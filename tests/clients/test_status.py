from __future__ import annotations

from datetime import UTC, datetime

import grpc
import pytest

from belayd import errors as daemon_errors
from belayd_client import errors
from belayd_client.client import Client
from belayd_client.status import REASONS

FIXED = [
    "REQUEST_INVALID",
    "PREPARATION_FAILED",
    "BOARD_NOT_FOUND",
    "LEASE_NOT_FOUND",
    "FILE_NOT_FOUND",
    "RUN_NOT_FOUND",
    "ROLLOUT_NOT_FOUND",
    "BOARD_LEASED",
    "LEASE_EXPIRED",
    "LEASE_BROKEN",
    "STALE_FENCE",
    "BOARD_OFFLINE",
    "DRAINING",
    "HOST_UNREACHABLE",
    "TRANSPORT_LOST",
    "BOARD_UNRESPONSIVE",
    "BOARD_QUARANTINED",
    "BOARD_DISABLED",
    "WRONG_BOARD",
    "WEBREPL_DENIED",
    "READ_ONLY",
    "UNSUPPORTED",
    "BOARD_FULL",
    "OUT_OF_MEMORY",
    "QUEUE_FULL",
    "QUOTA_EXCEEDED",
    "RUN_TIMEOUT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "STORE_FAILED",
]


def leaves(kind: type[daemon_errors.BelaydError]) -> set[str]:
    children = kind.__subclasses__()
    own = {kind.reason} if "reason" in vars(kind) else set()
    return own.union(*(leaves(child) for child in children))


def test_every_reason_of_the_interface_and_of_the_daemon_has_its_exception() -> None:
    assert {*FIXED, *leaves(daemon_errors.BelaydError)} <= REASONS.keys()


def test_a_refusal_keeps_the_daemons_words_reason_and_fields(lab) -> None:
    lab.failures["GetBoard"] = (
        grpc.StatusCode.FAILED_PRECONDITION,
        "BOARD_LEASED",
        "pico-1 is leased by ann@desk; wait",
        {"holder": "ann@desk", "expires": "2026-11-22T10:10:00Z", "queue_length": "2", "since": "soon"},
    )

    with Client(lab.address) as client, pytest.raises(errors.BoardLeased) as caught:
        client.board("pico-1")

    error = caught.value
    assert str(error) == "pico-1 is leased by ann@desk; wait"
    assert (error.reason, error.holder, error.queue_length) == ("BOARD_LEASED", "ann@desk", 2)
    assert error.expires == datetime(2026, 11, 22, 10, 10, tzinfo=UTC)
    assert error.since is None


@pytest.mark.parametrize("reason", FIXED)
def test_each_reason_raises_its_exception(lab, reason: str) -> None:
    lab.failures["GetBoard"] = (grpc.StatusCode.ABORTED, reason, "why", {})

    with Client(lab.address) as client, pytest.raises(REASONS[reason]) as caught:
        client.board("pico-1")

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.RequestInvalid),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.RunTimeout),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Refused),
        (grpc.StatusCode.DATA_LOSS, errors.InternalError),
        (grpc.StatusCode.UNKNOWN, errors.InternalError),
    ],
)
def test_a_status_without_a_reason_falls_back_to_its_code(lab, code, kind) -> None:
    lab.failures["GetBoard"] = (code, "", "why", {})

    with Client(lab.address) as client, pytest.raises(kind) as caught:
        client.board("pico-1")

    assert caught.value.reason == ""


def test_a_reason_of_a_newer_daemon_falls_back_to_its_code(lab) -> None:
    lab.failures["GetBoard"] = (grpc.StatusCode.RESOURCE_EXHAUSTED, "MOON_FULL", "why", {})

    with Client(lab.address) as client, pytest.raises(errors.Exhausted) as caught:
        client.board("pico-1")

    assert caught.value.reason == "MOON_FULL"


def test_nobody_at_the_address_is_a_failed_connection_that_says_what_to_do(unused_address: str) -> None:
    with Client(unused_address) as client, pytest.raises(errors.ConnectionFailed) as caught:
        client.boards()

    assert not isinstance(caught.value, errors.ConnectionLost)
    assert unused_address in str(caught.value)
    assert "belayd serve" in str(caught.value)


def test_a_read_is_repeated_when_the_connection_failed_but_work_is_not(lab) -> None:
    lab.failures["ListBoards"] = (grpc.StatusCode.UNAVAILABLE, "", "proxy", {})
    lab.failures["CallTask"] = (grpc.StatusCode.UNAVAILABLE, "", "proxy", {})

    with Client(lab.address) as client:
        with pytest.raises(errors.ConnectionFailed):
            client.boards()
        reads = len(lab.requests)
        with pytest.raises(errors.ConnectionFailed):
            client.call("pico-1", "f")

    assert reads == 3
    assert len(lab.requests) == reads + 1
