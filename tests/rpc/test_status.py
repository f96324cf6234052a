from __future__ import annotations

import inspect

import pytest
from google.rpc import error_details_pb2

from belayd import errors
from belayd.rpc.status import CODES, status_of


def leaves(root: type[errors.BelaydError]) -> set[type[errors.BelaydError]]:
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, root) and "reason" in vars(value)
    }


def test_every_leaf_of_the_error_tree_has_its_row() -> None:
    assert set(CODES) == leaves(errors.BelaydError)


def test_no_two_leaves_share_a_reason() -> None:
    reasons = [leaf.reason for leaf in leaves(errors.BelaydError)]
    assert len(reasons) == len(set(reasons))


def test_what_has_no_reason_only_groups_others() -> None:
    groups = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.BelaydError) and "reason" not in vars(value)
    }
    assert all(group.__subclasses__() for group in groups)


@pytest.mark.parametrize("leaf", sorted(CODES, key=lambda leaf: leaf.reason), ids=lambda leaf: leaf.reason)
def test_a_status_carries_exactly_one_error_info(leaf: type[errors.BelaydError]) -> None:
    status = status_of(leaf("what happened", board="b-1", since=3))
    infos = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            infos.append(info)
    assert [(info.domain, info.reason) for info in infos] == [("belayd", leaf.reason)]
    assert dict(infos[0].metadata) == {"board": "b-1", "since": "3"}
    assert status.message == "what happened"


def test_a_status_that_quotes_a_callers_megabyte_still_fits_the_trailers() -> None:
    long = "x" * (1 << 20)
    status = status_of(errors.RequestInvalid(f"path: {long}", field="path", value=long))
    assert status.ByteSize() < 4096
    assert status.message.endswith("…")


def test_an_offline_board_says_when_to_retry() -> None:
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_of(errors.BoardOffline("gone")).details)
    assert retry.retry_delay.seconds == 2


def test_an_invalid_field_is_named() -> None:
    bad = error_details_pb2.BadRequest()
    status = status_of(errors.RequestInvalid("ttl: too long", field="ttl"))
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == ["ttl"]
