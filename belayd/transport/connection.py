"""TCP connections to boards: made with limits, watched by the kernel.

Nothing here waits for bytes of the board's; an idle link is silent for days, so
the kernel asks whether the far end is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from belayd.transport.contract import TransportError

CONNECT = 10.0
"""Seconds for finding the host and reaching it; a board on a weak WiFi link takes three."""
_KEEPALIVE_IDLE = 10  # seconds of silence before the kernel asks
_KEEPALIVE_INTERVAL = 5  # seconds between its questions
_KEEPALIVE_COUNT = 3  # questions without an answer, then the board is gone: 25 s after its last sign
_UNACKNOWLEDGED = 25_000  # ms until sent bytes that nobody acknowledges mean the same
_SEND_BYTES = 64 * 1024  # the system would take megabytes, which no cancellation takes back


class SocketPort:
    """A connected socket, as `descriptor.Port`; does not block."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        self.fd = connection.fileno()
        self.address = address
        self.steady = False  # behind it may be a UART
        self.connection = connection

    def release(self) -> None:
        """Close the connection; what the system has not sent yet it still tries to send."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


async def connect(host: str, port: int, address: str) -> socket.socket:
    """Return a connected socket that does not block; `address` names it in errors.

    Raises:
        TransportError: There is no way there, or nobody listens.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        async with asyncio.timeout(CONNECT):
            for family, kind, protocol, _, where in await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            ):
                connection = socket.socket(family, kind, protocol)
                try:
                    connection.setblocking(False)
                    _configure(connection)
                    await loop.sock_connect(connection, where)
                except OSError as error:
                    connection.close()
                    failure = error
                except BaseException:
                    connection.close()
                    raise
                else:
                    return connection
    except TimeoutError:
        raise TransportError(
            f"{address}: no answer within {CONNECT:.0f} s; is it powered and on this network?"
        ) from None
    except OSError as error:  # of getaddrinfo
        raise TransportError(f"{address}: {_explain(error)}") from error
    raise TransportError(f"{address}: {_explain(failure)}") from failure


def acknowledge_at_once(connection: socket.socket) -> None:
    """Acknowledge what was received now, not after up to 40 ms; to be repeated after each receive.

    A board that writes a message in two parts sends the second when the first is
    acknowledged (Nagle): 44 ms for an exchange instead of 0.3, measured on loopback.
    """
    quickack = getattr(socket, "TCP_QUICKACK", None)  # Linux only
    if quickack is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, quickack, 1)


def _configure(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED),
    ):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _explain(error: OSError | None) -> str:
    match error:
        case None:
            return "the name has no address; use the board's IP address"
        case socket.gaierror():
            return f"the name is not known ({error.strerror}); use the board's IP address"
        case OSError(errno=errno.ECONNREFUSED):
            return "nobody listens there; is its server started, and the port right?"
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN):
            return "cannot be reached; is it powered and on this network?"
        case OSError(errno=errno.ETIMEDOUT):
            return "does not answer; is it powered and on this network?"
        case _:
            return f"cannot be reached: {error}"
