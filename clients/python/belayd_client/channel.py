"""An address and credentials become a gRPC channel.

A token travels only inside TLS or to a loopback address; anything else is
refused here, before a byte is sent. Tokens come from a profile, a file or the environment,
never from a command line, where other users could read them. A profile's
credentials go to its own address only.
Source of the keepalive times: a frozen daemon is noticed within about 15 s with
them, and after 62 s without http2.ping_timeout_ms (measured, grpcio 1.85).
"""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import grpc

from belayd_client.errors import RequestInvalid
from belayd_client.link import Link
from belayd_client.profile import Profile, chosen

DEFAULT_ADDRESS = "localhost:50951"
DEFAULT_PORT = 50951

# The largest answer is a page of 500 boards or a value of a board; both stay far below.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Only what reads, and only when the connection failed: nothing that ran is ever repeated.
_RETRIED = (
    {"service": "belayd.v1.BoardService", "method": "GetBoard"},
    {"service": "belayd.v1.BoardService", "method": "ListBoards"},
    {"service": "belayd.v1.LeaseService", "method": "GetLease"},
    {"service": "belayd.v1.LeaseService", "method": "ListLeases"},
    {"service": "belayd.v1.DaemonService", "method": "GetDaemon"},
)
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    token_file: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    profile: str | None = None,
) -> Link:
    """Return a link to a daemon; the connection itself is made by the first call.

    Args:
        address: "HOST", "HOST:PORT", "[IPV6]:PORT" or "unix:PATH"; None takes
            BELAYD_ADDRESS, else the profile's, else localhost:50951.
        token: The bearer token; None takes `token_file`, else BELAYD_TOKEN, else the
            profile's, else none.
        token_file: A file that holds the token and that nobody else may read.
        ca: PEM of the authority that signed the daemon's certificate; switches TLS on.
        cert: PEM of the caller's certificate; needs `key`; switches TLS on.
        key: PEM of its private key.
        profile: Whose address and credentials are taken where nothing else says so;
            None takes BELAYD_PROFILE's, else the one called default; "" takes none.

    Raises:
        RequestInvalid: The address or credentials cannot be used, or a token would
            travel in the clear beyond loopback.
    """
    target, kept = _daemon(address, profile)
    bearer = token or _read_token(token_file) or (kept.token if kept else "")
    if kept is not None:
        ca = ca or kept.ca
        if cert is None and key is None:
            cert, key = kept.cert, kept.key
    secure = ca is not None or cert is not None
    if bearer and not secure and not is_loopback(target):
        raise RequestInvalid(
            f"the token is not sent to {target} in the clear; name the daemon's CA with --ca to use TLS"
        )
    credentials = _credentials(ca, cert, key) if secure else None
    options = _options(is_loopback(target))

    def open_channel() -> grpc.Channel:
        if credentials is None:
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, credentials, options=options)

    return Link(target, open_channel, (("authorization", f"Bearer {bearer}"),) if bearer else ())


def _daemon(address: str | None, name: str | None) -> tuple[str, Profile | None]:
    """Return where the daemon is, and the profile if it is one for there."""
    given = address or (os.environ.get("BELAYD_ADDRESS") if not name else None)
    profile = chosen(name)
    if profile is None:
        return full_address(given or DEFAULT_ADDRESS), None
    target = full_address(given or profile.address)
    if target == profile.address:
        return target, profile
    if name:
        raise RequestInvalid(
            f"profile {name!r} is for {profile.address}, not for {target}; name one of the two"
        )
    return target, None


def full_address(address: str) -> str:
    """Return the address with its port, or as it is when it is a unix socket.

    Raises:
        RequestInvalid: It is none.
    """
    if address.startswith("unix:"):
        return address
    host, port = _split(address)
    if not host or not 0 < port < 65536 or any(c.isspace() or c == "/" for c in host):
        raise RequestInvalid(f"not an address: {address!r}; write HOST:PORT, such as {DEFAULT_ADDRESS}")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Tell whether what is sent to the address stays on this machine."""
    if address.startswith("unix:"):
        return True
    host, _ = _split(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(address: str) -> tuple[str, int]:
    """Return host and port; port -1 when it is not a number."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") if rest else str(DEFAULT_PORT)
    elif address.count(":") > 1:
        host, port = address, str(DEFAULT_PORT)
    else:
        host, colon, port = address.partition(":")
        port = port if colon else str(DEFAULT_PORT)
    return host, int(port) if port.isascii() and port.isdecimal() else -1


def _read_token(path: Path | None) -> str:
    if path is None:
        return os.environ.get("BELAYD_TOKEN", "").strip()
    text = read_secret(path).strip()
    if not text:
        raise RequestInvalid(f"{path} holds no token")
    return text


def read_secret(path: Path) -> str:
    """Return the text of a file that only its owner may read.

    Raises:
        RequestInvalid: It cannot be read, or others can.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
                raise RequestInvalid(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"cannot read {path}: {error}") from None


def _credentials(ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    if (cert is None) != (key is None):
        raise RequestInvalid("a certificate and its key belong together: give both --cert and --key")
    try:
        return grpc.ssl_channel_credentials(
            root_certificates=ca.read_bytes() if ca else None,
            private_key=read_secret(key).encode() if key else None,
            certificate_chain=cert.read_bytes() if cert else None,
        )
    except OSError as error:
        raise RequestInvalid(f"cannot read {error.filename}: {error.strerror}") from None


def _options(loopback: bool) -> Sequence[tuple[str, str | int]]:
    return (
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A lease of one minute must survive a blip of some seconds; gRPC's own backoff grows to 2 min.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # http_proxy is for the world outside, and gRPC would send even localhost through it.
        ("grpc.enable_http_proxy", 0 if loopback else 1),
        (
            "grpc.service_config",
            json.dumps({"methodConfig": [{"name": list(_RETRIED), "retryPolicy": _RETRY_POLICY}]}),
        ),
    )
