"""What belayctl prints: results on stdout, all else on stderr.

What a board, its firmware or another user wrote is data. Control characters in
it are shown as escapes (`\\x1b`) wherever they would reach a terminal, since a
terminal obeys them; into a pipe or a file a board's output goes byte by byte,
but for the "\\r\\n" that its REPL makes of each line end.
"""

from __future__ import annotations

import codecs
import enum
import json
import sys
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from belayd_client.lineends import LineEnds

# A line without an end is written in parts, so that a board cannot fill our memory.
LONGEST_LINE = 16 * 1024


class Sink(Protocol):
    """Where one board's output goes."""

    def write(self, data: bytes) -> None:
        """Write what the board printed."""

    def close(self) -> None:
        """Write what was held back; the run has ended."""


class PipeSink:
    """For another program: bytes at once, only line ends as this machine has them."""

    def __init__(self) -> None:
        self._lines = LineEnds()

    def write(self, data: bytes) -> None:
        """Write what the board printed."""
        _write_bytes(self._lines.feed(data))

    def close(self) -> None:
        """Write what was held back."""
        _write_bytes(self._lines.end())


class RawSink:
    """Every byte as it comes, at once."""

    def write(self, data: bytes) -> None:
        """Write what the board printed."""
        _write_bytes(data)

    def close(self) -> None:
        """Do nothing; nothing is held back."""


class TerminalSink:
    """For a person's terminal: text at once, control characters but line ends and tabs as escapes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        """Write what the board printed; half a character waits for its rest."""
        sys.stdout.write(neutral(self._decoder.decode(data)))
        sys.stdout.flush()

    def close(self) -> None:
        """Write half a character that was never completed, as an escape."""
        sys.stdout.write(neutral(self._decoder.decode(b"", final=True)))
        sys.stdout.flush()


class PrefixedSink:
    """One of several boards: whole lines, each after the board's name."""

    def __init__(self, prefix: str, lock: threading.Lock, *, raw: bool) -> None:
        self._prefix = prefix
        self._lock = lock
        self._raw = raw
        self._line = bytearray()

    def write(self, data: bytes) -> None:
        """Write the lines that are complete; the last one waits for its end."""
        self._line += data
        while True:
            end = self._line.find(b"\n", 0, LONGEST_LINE)
            if end >= 0:
                line = bytes(self._line[:end])
                del self._line[: end + 1]
            elif len(self._line) >= LONGEST_LINE:
                line = bytes(self._line[:LONGEST_LINE])
                del self._line[:LONGEST_LINE]
            else:
                return
            self._put(line)

    def close(self) -> None:
        """Write the last line, if it had no end."""
        if self._line:
            self._put(bytes(self._line))
            self._line.clear()

    def _put(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if not self._raw:
            line = neutral(line.decode("utf-8", "backslashreplace")).encode("utf-8", "backslashreplace")
        with self._lock:
            _write_bytes(self._prefix.encode() + line + b"\n")


class StderrSink:
    """Output that is not the result: to stderr, neutral on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        """Write what the board printed."""
        self._put(self._decoder.decode(data))

    def close(self) -> None:
        """Write half a character that was never completed, as an escape."""
        self._put(self._decoder.decode(b"", final=True))

    def _put(self, text: str) -> None:
        sys.stderr.write(neutral(text) if self._terminal else text)
        sys.stderr.flush()


def stdout_sink(*, raw: bool) -> Sink:
    """Return where one board's output goes when it is the result."""
    if raw:
        return RawSink()
    return TerminalSink() if sys.stdout.isatty() else PipeSink()


def neutral(text: str) -> str:
    """Return text that no terminal obeys: control characters but newline, return and tab as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\r\t" or not _obeyed(c) else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return text as one line that no terminal obeys."""
    return "".join(ascii(c)[1:-1] if _obeyed(c) else c for c in text)


def fit(line: str, columns: int) -> str:
    """Return as much of a line as so many columns of a terminal hold, wide characters counted as two."""
    taken = 0
    for at, character in enumerate(line):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return line[:at]
    return line


def note(text: str) -> None:
    """Print a line about what happens or went wrong."""
    print(f"belayctl: {one_line(text)}", file=sys.stderr, flush=True)


def traceback_to_stderr(text: str) -> None:
    """Print a board's traceback."""
    print(neutral(text.rstrip("\r\n")), file=sys.stderr, flush=True)


def print_json(value: object, *, one_per_line: bool = False) -> None:
    """Print a value of dataclasses, times and plain Python as JSON."""
    print(json.dumps(plain(value), indent=None if one_per_line else 2, ensure_ascii=False), flush=True)


def plain(value: object) -> object:
    """Return what JSON can carry: dataclasses as objects, times in ISO 8601, enums as their values."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return {name: plain(getattr(value, name)) for name in fields}
    return value


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows in columns; `empty` goes to stderr when there are none."""
    if not rows:
        note(empty)
        return
    cells = [[one_line(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def local_time(time: datetime | None) -> str:
    """Return a time of day on the user's clock, with the date when it is another day; "-" for None."""
    if time is None:
        return "-"
    local = time.astimezone()
    today = datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def spell_duration(seconds: float) -> str:
    """Return seconds as "1h30m", "10m", "5.2s" or "830ms"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _write_bytes(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _obeyed(character: str) -> bool:
    # C0 and C1 controls, DEL, and what turns the direction of text or hides in it.
    number = ord(character)
    return (
        number < 32
        or 127 <= number < 160
        or number in (0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF)
        or 0x202A <= number <= 0x202E
        or 0x2066 <= number <= 0x2069
        or 0xD800 <= number <= 0xDFFF
    )
