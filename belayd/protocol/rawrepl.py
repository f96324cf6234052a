"""The raw REPL and raw paste, as a machine that never blocks and reads no clock.

`RawRepl` takes what a board sent (`receive`), returns what it means (events) and
says what to send next (`bytes_to_send`). One exchange is open at a time; each is
a generator that reads straight down the dialogue and is resumed with new bytes,
so that the code has the order of the wire.

User output cannot break the framing: an execution that gives a token trusts
nothing but that token as the end of its output. Without it, `suspect` tells when
the bytes so far look like an end that came without the token (a board that
restarted, or a command that never started); the session then proves the prompt
before it believes it.

Leaves to the session: time, the choice of mode, tokens, and all text that runs.

Source: MicroPython docs, reference/repl, "Raw mode and raw-paste mode"; observed
bytes in tests/protocol/transcripts.
"""

from __future__ import annotations

from collections.abc import Generator

from belayd.protocol.events import Ended, Entered, Event, Framed, Output, PasteRefused

INTERRUPT = b"\x03"
"""Ctrl-C: interrupts code; at the raw prompt it silently clears the line."""
ENTER_RAW = b"\x01"
ENTER_FRIENDLY = b"\x02"
END_OF_TEXT = b"\x04"
"""Ctrl-D: runs what was sent; on an empty line it restarts the interpreter."""
ENTER_PASTE = b"\x05A\x01"
BANNER = b"raw REPL; CTRL-B to exit\r\n>"
RESTARTED = b"soft reboot\r\n"
FRIENDLY_PROMPT = b"\r\n>>> "

MOST_FRAME_BYTES = 8 << 20
"""The longest value or traceback taken; more would not fit a message to the caller either."""
_TAIL_BYTES = 64
_UNSTARTED_BYTES = 16384
"""The longest traceback of a command that never started; a deep recursion prints 7 kB."""

_Reading = Generator[None, None, None]
_Taking = Generator[None, None, bytes]


class ProtocolError(Exception):
    """The board sent what no REPL sends here; the prompt is unproven from now on."""


class RawRepl:
    """One side of one board's REPL dialogue."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._to_send = bytearray()
        self._events: list[Event] = []
        self._exchange: _Reading | None = None
        self._searching = False
        self._tail = b""
        self._matched = b""
        self._source = b""
        self._all_sent = False
        self._credit = 0

    @property
    def open(self) -> bool:
        """Whether an exchange has begun and not ended."""
        return self._exchange is not None

    @property
    def suspect(self) -> bool:
        """Whether the output so far ends like a prompt, although no token came.

        True for the raw prompt after an execution or a banner, and for the
        friendly prompt after a board's start. A program can print the same
        bytes, so this is a reason to look, never a proof.
        """
        return self._searching and (
            self.unstarted or self._tail_with_held().endswith((b"\x04>", BANNER, FRIENDLY_PROMPT))
        )

    @property
    def unstarted(self) -> bool:
        """Whether all that came looks like a command that never started, whatever came after it."""
        return self._searching and self._buffer.startswith(END_OF_TEXT) and b"\x04>" in self._buffer

    @property
    def suspect_friendly(self) -> bool:
        """Whether `suspect` is because of a friendly prompt."""
        return self._searching and self._tail_with_held().endswith(FRIENDLY_PROMPT)

    def bytes_to_send(self) -> bytes:
        """Return what is to be sent now, and forget it."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the board; return what they mean, in order.

        Outside an exchange all bytes are output: what a timer or a thread printed.

        Raises:
            ProtocolError: As its class says.
        """
        self._buffer += data
        if self._exchange is not None:
            try:
                next(self._exchange)
            except StopIteration:
                self._exchange = None
        if self._exchange is None and self._buffer:
            self._events.append(Output(bytes(self._buffer)))
            self._buffer.clear()
        events, self._events = self._events, []
        return events

    def abandon(self) -> None:
        """Forget the exchange and everything received: the prompt is unproven."""
        self._exchange = None
        self._searching = False
        self._buffer.clear()
        self._to_send.clear()
        self._events.clear()

    def enter(self) -> None:
        """Begin to wait for the raw REPL's banner after sending `ENTER_RAW`.

        Ends with Entered; what came before the banner is output.
        """
        self._to_send += ENTER_RAW
        self._begin(self._entering())

    def execute(self, source: bytes, token: bytes | None = None, last: bytes = b"") -> None:
        """Send `source` at the raw prompt and read its outcome.

        With a token: Output..., Framed, Output..., Ended; with `last` any number of
        frames, the last of that kind. Without a token: Output..., Ended, its output
        cut at the first 0x04 it holds. `source` must not hold the bytes 01 to 05. A
        whole command goes out at once: short ones only, where the board may not
        keep up (see `paste`).
        """
        self._to_send += source + END_OF_TEXT
        self._begin(self._executing(token, last))

    def paste(self, source: bytes, token: bytes | None = None) -> None:
        """Send `source` by raw paste, never more than the board has room for.

        As `execute`; PasteRefused alone if the board knows no raw paste.
        """
        self._to_send += ENTER_PASTE
        self._source = source
        self._all_sent = False
        self._begin(self._pasting(token))

    def restart(self) -> None:
        """Ask for a soft reset at the raw prompt; ends with Ended(restarted=True)."""
        self._to_send += END_OF_TEXT
        self._begin(self._restarting())

    def concede(self) -> Ended:
        """End an execution whose token will not come, its prompt having been proven otherwise.

        Returns how it ended by the plain framing: a command that never started
        has its traceback as error; else the interpreter restarted.
        """
        unstarted = self.unstarted
        error = bytes(self._buffer[1 : self._buffer.index(b"\x04>")]) if unstarted else b""
        self.abandon()
        return Ended(framed=False, error=error, restarted=not unstarted)

    def stop_sending(self) -> None:
        """Send nothing more of the source: an interrupt follows, and its rest must not run."""
        self._source = b""
        self._all_sent = True
        self._to_send.clear()

    def _tail_with_held(self) -> bytes:
        return self._tail + bytes(self._buffer[-_TAIL_BYTES:])

    def _begin(self, exchange: _Reading) -> None:
        if self._exchange is not None:
            raise RuntimeError("an exchange is open already")
        self._tail = b""
        self._exchange = exchange
        next(exchange)

    def _entering(self) -> _Reading:
        yield
        yield from self._output_until(BANNER)
        self._events.append(Entered())

    def _executing(self, token: bytes | None, last: bytes) -> _Reading:
        yield
        yield from self._output_until(b"OK")
        yield from self._outcome(token, last)

    def _pasting(self, token: bytes | None) -> _Reading:
        yield
        yield from self._output_until(b"R\x01", b"R\x00>", BANNER)
        if self._matched != b"R\x01":
            # "R\0": known, but not in this form. Firmware before 1.14 ignores ^E and
            # takes ^A as "raw mode, again".
            self._events.append(PasteRefused())
            return
        window = int.from_bytes((yield from self._take(2)), "little")
        self._credit = window
        self._spend()
        while True:
            acknowledgement = yield from self._take(1)
            if acknowledgement == b"\x01":
                self._credit += window
                self._spend()
            elif acknowledgement == END_OF_TEXT:
                break
            else:
                raise ProtocolError(f"expected a raw-paste acknowledgement, got {acknowledgement!r}")
        if not self._all_sent:  # a syntax error: the board stops reading early and wants an answer
            self._source = b""
            self._to_send += END_OF_TEXT
        yield from self._outcome(token, b"")

    def _spend(self) -> None:
        part, self._source = self._source[: self._credit], self._source[self._credit :]
        self._to_send += part
        self._credit -= len(part)
        if not (self._source or self._all_sent):
            self._all_sent = True
            self._to_send += END_OF_TEXT

    def _restarting(self) -> _Reading:
        yield
        yield from self._output_until(BANNER)
        self._events.append(Ended(framed=False, error=b"", restarted=True))

    def _outcome(self, token: bytes | None, last: bytes) -> _Reading:
        if token is not None:
            kind = yield from self._framed(token)
            while last and kind != last:
                kind = yield from self._framed(token)
        # What threads and timers print may come anywhere, so also here.
        yield from self._output_until(END_OF_TEXT)
        error = yield from self._take_until(END_OF_TEXT)
        following = yield from self._take(1)
        restarted = following != b">"
        if restarted:  # SystemExit leaves the prompt out; the restart's text follows, then boot.py's
            self._buffer[:0] = following
            yield from self._output_until(RESTARTED, BANNER, emit=False)
            if self._matched == RESTARTED:
                yield from self._output_until(BANNER)
        self._events.append(Ended(framed=token is not None, error=error, restarted=restarted))

    def _framed(self, token: bytes) -> _Taking:
        self._searching = True
        # A command that never started answers b"\x04traceback\x04>" at once: hold
        # back what begins like that, so that it is not taken for output.
        while not self._buffer:
            yield
        while (
            self._buffer.startswith(END_OF_TEXT)
            and len(self._buffer) < _UNSTARTED_BYTES
            and token not in self._buffer
        ):
            yield
        yield from self._output_until(token)
        framed = yield from self._take_until(token)
        self._searching = False
        self._events.append(Framed(framed[:1], framed[1:]))
        return framed[:1]

    def _output_until(self, *markers: bytes, emit: bool = True) -> _Reading:
        """Emit (or drop) what comes before the first marker as output, and drop the marker."""
        while True:
            found = [(at, mark) for mark in markers if (at := self._buffer.find(mark)) >= 0]
            if found:
                at, self._matched = min(found)
                self._pass_on(at, emit)
                del self._buffer[: len(self._matched)]
                return
            self._pass_on(len(self._buffer) - self._beginning_of(markers), emit)
            yield

    def _beginning_of(self, markers: tuple[bytes, ...]) -> int:
        """Return how many of the last bytes may be the beginning of a marker."""
        longest = min(max(map(len, markers)) - 1, len(self._buffer))
        for length in range(longest, 0, -1):
            last = bytes(self._buffer[-length:])
            if any(marker.startswith(last) for marker in markers):
                return length
        return 0

    def _pass_on(self, length: int, emit: bool) -> None:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        if data and emit:
            self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            self._events.append(Output(data))

    def _take_until(self, marker: bytes) -> _Taking:
        searched = 0
        while (at := self._buffer.find(marker, searched)) < 0:
            if len(self._buffer) > MOST_FRAME_BYTES:
                raise ProtocolError(f"sends a value or a traceback of more than {MOST_FRAME_BYTES >> 20} MiB")
            searched = max(0, len(self._buffer) - len(marker) + 1)
            yield
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(marker)]
        return taken

    def _take(self, length: int) -> _Taking:
        while len(self._buffer) < length:
            yield
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken
