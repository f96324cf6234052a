"""What systemd is told: that the daemon is ready, that its loop runs, that it stops.

Does nothing where nobody supervises. deploy/belayd.service asks for it with
Type=notify and WatchdogSec.

Source: systemd, sd_notify(3) and sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def tell(*words: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send words such as READY to whoever supervises, if anybody does."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(words).encode(), address)
    except OSError as error:
        log.warning("the supervisor cannot be told %s: %s", words, error)


async def feed_watchdog(environment: Mapping[str, str] = os.environ) -> None:
    """Tell twice in each of the supervisor's intervals that the loop runs, until cancelled.

    Returns at once where no watchdog is meant for this process.
    """
    interval = float(environment.get("WATCHDOG_USEC") or 0) / 1_000_000
    meant_for = environment.get("WATCHDOG_PID") or str(os.getpid())
    if not interval or meant_for != str(os.getpid()):
        return
    while True:
        tell(WATCHDOG, environment=environment)
        await asyncio.sleep(interval / 2)
