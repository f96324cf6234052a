"""Durations and times between the API's messages and plain Python.

Here durations are float seconds and times of day aware UTC datetimes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def to_duration(seconds: float | None) -> Duration | None:
    """Return seconds as a Duration; None stays None, which leaves a field absent."""
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def to_seconds(duration: Duration) -> float:
    """Return a Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def to_datetime(timestamp: Timestamp) -> datetime:
    """Return a Timestamp as an aware UTC time."""
    return timestamp.ToDatetime(tzinfo=UTC)
