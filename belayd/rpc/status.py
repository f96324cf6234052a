"""The error tree as gRPC statuses, and the one place that aborts an RPC.

Each leaf of `belayd.errors` has its row; a test fails until a new one has. A
status carries exactly one ErrorInfo (domain "belayd", the leaf's reason and
fields), and RetryInfo or BadRequest where they help.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from belayd import errors

DOMAIN = "belayd"
MOST_MESSAGE = 800
MOST_FIELD = 200
"""Characters; a status travels in trailers, of which clients take 8 KiB, and texts may quote callers."""

CODES: Mapping[type[errors.BelaydError], grpc.StatusCode] = MappingProxyType(
    {
        errors.RequestInvalid: grpc.StatusCode.INVALID_ARGUMENT,
        errors.PreparationFailed: grpc.StatusCode.INVALID_ARGUMENT,
        errors.BoardNotFound: grpc.StatusCode.NOT_FOUND,
        errors.LeaseNotFound: grpc.StatusCode.NOT_FOUND,
        errors.FileNotFound: grpc.StatusCode.NOT_FOUND,
        errors.RunNotFound: grpc.StatusCode.NOT_FOUND,
        errors.RolloutNotFound: grpc.StatusCode.NOT_FOUND,
        errors.DeploymentNotFound: grpc.StatusCode.NOT_FOUND,
        errors.BoardLeased: grpc.StatusCode.FAILED_PRECONDITION,
        errors.LeaseRequired: grpc.StatusCode.FAILED_PRECONDITION,
        errors.LeaseExpired: grpc.StatusCode.ABORTED,
        errors.LeaseBroken: grpc.StatusCode.ABORTED,
        errors.StaleFence: grpc.StatusCode.ABORTED,
        errors.BoardOffline: grpc.StatusCode.UNAVAILABLE,
        errors.Draining: grpc.StatusCode.UNAVAILABLE,
        errors.TransportLost: grpc.StatusCode.ABORTED,
        errors.BoardUnresponsive: grpc.StatusCode.FAILED_PRECONDITION,
        errors.BoardQuarantined: grpc.StatusCode.FAILED_PRECONDITION,
        errors.BoardDisabled: grpc.StatusCode.FAILED_PRECONDITION,
        errors.WrongBoard: grpc.StatusCode.FAILED_PRECONDITION,
        errors.WebreplDenied: grpc.StatusCode.FAILED_PRECONDITION,
        errors.ReadOnly: grpc.StatusCode.FAILED_PRECONDITION,
        errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
        errors.BoardFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.OutOfMemory: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.RunTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
        errors.RunCancelled: grpc.StatusCode.CANCELLED,
        errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
        errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
        errors.StoreFailed: grpc.StatusCode.INTERNAL,
        errors.InternalError: grpc.StatusCode.INTERNAL,
    }
)
_RETRY_AFTER = {errors.BoardOffline: 2.0, errors.Draining: 5.0, errors.QueueFull: 1.0}


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: errors.BelaydError) -> NoReturn:
    """End the RPC with `error`."""
    status = status_of(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(CODES[type(error)], status.message, details)


def status_of(error: errors.BelaydError) -> status_pb2.Status:
    """Return the status that tells of `error`."""
    code: int = CODES[type(error)].value[0]
    message = _cut(error.message, MOST_MESSAGE)
    fields = {name: _cut(value, MOST_FIELD) for name, value in error.fields.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=fields)
    status = status_pb2.Status(code=code, message=message, details=[_packed(info)])
    if seconds := _RETRY_AFTER.get(type(error)):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(seconds * 1e9))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if field := error.fields.get("field"):
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    return status


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
