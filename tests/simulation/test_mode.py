from __future__ import annotations

import pytest

from belayd.simulation.mode import ModeTracker, ReplMode

RAW = b"raw REPL; CTRL-B to exit\r\n>"
FRIENDLY = b'\r\nMicroPython v1 on 2026; board\r\nType "help()" for more information.\r\n>>> '


def follow(mode: ReplMode, sent: bytes, received: bytes, size: int) -> ReplMode:
    tracker = ModeTracker(mode)
    tracker.sent(sent)
    for start in range(0, len(received), size):
        tracker.received(received[start : start + size])
    return tracker.mode


@pytest.mark.parametrize("size", [1, 7, 1000], ids=["byte by byte", "in pieces", "whole"])
@pytest.mark.parametrize(
    ("sent", "received", "mode"),
    [
        (b"\x01", b"\r\n" + RAW, ReplMode.RAW),
        (b"\x02", FRIENDLY, ReplMode.FRIENDLY),
        (b"\x02\x01", FRIENDLY + b"\r\n" + RAW, ReplMode.RAW),
        (b"\x01\x02", b"\r\n" + RAW + FRIENDLY, ReplMode.FRIENDLY),
    ],
    ids=["raw", "friendly", "there and back", "back and there"],
)
def test_the_last_banner_after_its_key_tells_the_mode(
    sent: bytes, received: bytes, mode: ReplMode, size: int
) -> None:
    before = ReplMode.FRIENDLY if mode is ReplMode.RAW else ReplMode.RAW

    assert follow(before, sent, received, size) is mode


def test_a_program_that_prints_a_banner_changes_nothing() -> None:
    assert follow(ReplMode.FRIENDLY, b"print(banner)\r", RAW, 1000) is ReplMode.FRIENDLY


def test_half_a_banner_before_its_key_does_not_count() -> None:
    tracker = ModeTracker(ReplMode.FRIENDLY)
    tracker.received(RAW[:10])
    tracker.sent(b"\x01")
    tracker.received(RAW[10:])

    assert tracker.mode is ReplMode.FRIENDLY
