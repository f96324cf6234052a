"""The last way to a board whose program lets nobody in: a file put over WebREPL, past the REPL.

A board serves WebREPL's file records inside its terminal's input, so also while its
program catches every KeyboardInterrupt or has turned it off. A harmless main.py takes
effect when the board next starts: from its power hook, or by hand. Where the program
blocks in C, or the board offers no WebREPL, only new firmware or USB helps.
Source: MicroPython's extmod/modwebrepl.c; tried on a simulated board alone.
"""

from __future__ import annotations

from belayd.transport.contract import TransportError
from belayd.transport.websocket import open_webrepl

HARMLESS = b"# belayd put this here in place of a program that locked everybody out.\n"


async def rescue(
    url: str, *, password: str, path: str = "/main.py", content: bytes = HARMLESS, limit: float = 60.0
) -> None:
    """Replace a file on a board without its REPL, and read it back.

    The old content is gone. After a failure the file may be there in part; trying
    again is safe.

    Args:
        url, password: As for `open_webrepl`; the board serves one client at a time, so
            a session must have been closed before.
        path: On the board, at most 63 bytes; its folder must exist.
        content: At most 1 MiB.
        limit: Seconds for writing, and again for reading.

    Raises:
        ValueError: Path or content are too long.
        TransportDenied: The board does not accept the password.
        TransportError: The board cannot be reached, or does not keep what it was sent.
    """
    transport = await open_webrepl(url, password=password)
    try:
        await transport.put(path, content, limit=limit)
        # A full filesystem is not told: all of a put is confirmed, whatever was kept.
        try:
            kept = await transport.get(path, most=len(content), limit=limit)
        except TransportError as error:
            raise TransportError(f"{transport.address}: {path} may not be whole: {error}") from error
        if kept != content:
            raise TransportError(
                f"{transport.address}: {path} has {len(kept)} of {len(content)} bytes or others than were "
                "sent; is the board's filesystem full? Put an empty file in the place of a large one first"
            )
    finally:
        await transport.close()
