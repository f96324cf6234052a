"""From a failed RPC to the exception a caller catches.

The reason of the status's one ErrorInfo decides; the gRPC status code alone
does where there is none (the client's own deadline, a broken connection, a
daemon of another age). The details are read from the trailing metadata
`grpc-status-details-bin`, a serialised google.rpc.Status.
Source: gRPC "Richer error model"; google/rpc/status.proto, error_details.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from belayd_client import errors

DOMAIN = "belayd"

REASONS: Mapping[str, type[errors.BelaydError]] = {
    "REQUEST_INVALID": errors.RequestInvalid,
    "PREPARATION_FAILED": errors.PreparationFailed,
    "BOARD_NOT_FOUND": errors.NotFound,
    "LEASE_NOT_FOUND": errors.LeaseNotFound,
    "FILE_NOT_FOUND": errors.NotFound,
    "RUN_NOT_FOUND": errors.NotFound,
    "ROLLOUT_NOT_FOUND": errors.NotFound,
    "DEPLOYMENT_NOT_FOUND": errors.NotFound,
    "BOARD_LEASED": errors.BoardLeased,
    "LEASE_REQUIRED": errors.LeaseRequired,
    "LEASE_EXPIRED": errors.LeaseLost,
    "LEASE_BROKEN": errors.LeaseLost,
    "STALE_FENCE": errors.LeaseLost,
    "BOARD_OFFLINE": errors.BoardUnavailable,
    "DRAINING": errors.BoardUnavailable,
    "HOST_UNREACHABLE": errors.BoardUnavailable,
    "TRANSPORT_LOST": errors.TransportLost,
    "BOARD_UNRESPONSIVE": errors.OperatorNeeded,
    "BOARD_QUARANTINED": errors.OperatorNeeded,
    "BOARD_DISABLED": errors.OperatorNeeded,
    "WRONG_BOARD": errors.OperatorNeeded,
    "WEBREPL_DENIED": errors.OperatorNeeded,
    "READ_ONLY": errors.OperatorNeeded,
    "UNSUPPORTED": errors.Unsupported,
    "BOARD_FULL": errors.Exhausted,
    "OUT_OF_MEMORY": errors.Exhausted,
    "QUEUE_FULL": errors.Exhausted,
    "QUOTA_EXCEEDED": errors.Exhausted,
    "RUN_TIMEOUT": errors.RunTimeout,
    "RUN_CANCELLED": errors.RunCancelled,
    "UNAUTHENTICATED": errors.Refused,
    "PERMISSION_DENIED": errors.Refused,
    "STORE_FAILED": errors.InternalError,
    "INTERNAL": errors.InternalError,
}

# Where the daemon sent no reason: a proxy, gRPC itself, or a daemon of another age answered.
CODES: Mapping[grpc.StatusCode, type[errors.BelaydError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.RequestInvalid,
    grpc.StatusCode.OUT_OF_RANGE: errors.RequestInvalid,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ABORTED: errors.TransportLost,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.RunTimeout,
    grpc.StatusCode.CANCELLED: errors.RunCancelled,
    grpc.StatusCode.UNAUTHENTICATED: errors.Refused,
    grpc.StatusCode.PERMISSION_DENIED: errors.Refused,
}

# How grpcio 1.7x-1.8x words that no connection came about. Only ConnectionFailed or
# ConnectionLost hangs on it, and the second is the first's child.
_NEVER_CONNECTED = ("failed to connect", "dns resolution failed", "name resolution", "empty address list")

# How a TLS handshake that fails is worded, and what helps.
_HANDSHAKE = (
    ("certificate has expired", "the daemon's certificate has expired; its administrator must renew it"),
    ("certificate is not yet valid", "the daemon's certificate is not valid yet; is a clock wrong?"),
    ("certificate_verify_failed", "the daemon's certificate is not of the authority that --ca names"),
    ("hostname verification", "the daemon's certificate is for another name; connect by that name"),
    ("wrong_version_number", "the daemon serves without TLS; leave out --ca and --cert"),
    (
        "socket closed",
        "it ended the connection at once. If it serves TLS, name its CA with --ca; if it asks for "
        "certificates, yours (--cert, --key) is missing, has expired, or is of another authority",
    ),
)


def from_reason(reason: str, message: str, fields: Mapping[str, str]) -> errors.BelaydError:
    """Return the exception for what the daemon told inside a stream."""
    kind = REASONS.get(reason, errors.InternalError)
    return kind(message, reason=reason, fields=fields)


def from_rpc_error(error: grpc.RpcError, address: str) -> errors.BelaydError:
    """Return the exception for a failed RPC; `address` is for the message when nobody answered."""
    code: grpc.StatusCode = error.code()
    text: str = error.details() or ""
    info = _error_info(error)
    if info is not None:
        kind = REASONS.get(info.reason) or CODES.get(code, errors.InternalError)
        return kind(text, reason=info.reason, fields=dict(info.metadata))
    if code is grpc.StatusCode.UNAVAILABLE:
        return _no_connection(text, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.RunTimeout(f"belayd at {address} did not answer in time")
    if code is grpc.StatusCode.CANCELLED:
        return errors.RunCancelled(text or "cancelled")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.Unsupported(f"belayd at {address} does not know this call; is it older? ({text})")
    return CODES.get(code, errors.InternalError)(f"belayd at {address}: {code.name}: {text}")


def _no_connection(text: str, address: str) -> errors.ConnectionFailed:
    if any(words in text.lower() for words in _NEVER_CONNECTED):
        if hint := next((hint for words, hint in _HANDSHAKE if words in text.lower()), ""):
            return errors.ConnectionFailed(f"no connection to belayd at {address}: {hint} ({text})")
        cause = "connection refused" if "refused" in text.lower() else text
        return errors.ConnectionFailed(
            f"no belayd answers at {address} ({cause}); is `belayd serve` running there?"
            " The address comes from --address or BELAYD_ADDRESS"
        )
    return errors.ConnectionLost(
        f"the connection to belayd at {address} broke ({text}); what the call did is unknown"
    )


def _error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """Return belayd's ErrorInfo among the call's trailing metadata, if it has one that can be read."""
    trailing: Iterable[tuple[str, str | bytes]] = cast(grpc.Call, error).trailing_metadata() or ()
    for key, value in trailing:
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
        except DecodeError:
            return None
    return None
