"""The raw REPL and raw paste, as a machine that never blocks and reads no clock.

`RawRepl` takes what a board sent (`receive`), returns what it means (events) and
says what to send next (`bytes_to_send`). One exchange is open at a time; each is
a generator that reads straight down the dialogue and is resumed with new bytes,
so that the code has the order of the wire.

A frame that says its length must have it, or it is no value: `onboard/runner.py`
tells which do.

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

import re
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
ANY_KEY = b"Press any key to enter the REPL. Use CTRL-D to reload.\r\n"
"""CircuitPython after its code.py, in English; the first byte sent is the key and read by nobody."""
_TITLE = re.compile(rb"\x1b\][^\x1b\x07]*(\x1b\\|\x07)\Z")  # CircuitPython's, for a terminal's title bar

MOST_FRAME_BYTES = 8 << 20
"""The longest value or traceback taken; more would not fit a message to the caller either."""
_IN_BYTES, _IN_CHARACTERS = b"#", b"="  # before a length; onboard/runner.py
_LENGTH_BYTES = 8
_MIXED = "a thread printed meanwhile, or the link loses bytes: what was called ran, its result is lost"
_TAIL_BYTES = 256  # a prompt, and a title behind it
_SPARE_BYTES = 6  # of the two windows that a raw paste may use: a ring of 256 bytes holds 255 (esp8266)
_STRAY_BYTES = 512
"""What threads may print while a board reads one window of a paste; a board that restarts prints more."""
_UNSTARTED_BYTES = 16384
"""The longest traceback of a command that never started; a deep recursion prints 7 kB."""
_TRACEBACK = re.compile(rb"Traceback|Error|Exception|Interrupt|Exit")
_UNSTARTED = re.compile(rb"\x04([^\x04]*)\x04[^\x04>]{0,64}>")

_Reading = Generator[None, None, None]
_Taking = Generator[None, None, bytes]


class ProtocolError(Exception):
    """The board sent what no REPL sends here; the prompt is unproven from now on."""


class RawRepl:
    """One side of one board's REPL dialogue.

    Attributes:
        window_bytes: Of raw paste, as the board last told; its input holds two. 0 before.
    """

    def __init__(self) -> None:
        self.window_bytes = 0
        self._buffer = bytearray()
        self._to_send = bytearray()
        self._events: list[Event] = []
        self._exchange: _Reading | None = None
        self._searching = False
        self._counting = False
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
    def counting(self) -> bool:
        """Whether bytes come whose number was announced: nothing else may, and no pause."""
        return self._counting

    @property
    def suspect(self) -> bool:
        """Whether the output so far ends like a prompt, although no token came.

        True for the raw prompt after an execution or a banner, and for the
        friendly prompt after a board's start. A program can print the same
        bytes, so this is a reason to look, never a proof.
        """
        return self._searching and (
            self.unstarted or self._tail_with_held().endswith((b"\x04>", BANNER, FRIENDLY_PROMPT, ANY_KEY))
        )

    @property
    def unstarted(self) -> bool:
        """Whether all that came looks like a command that never started, whatever came after it."""
        return self._searching and _UNSTARTED.match(self._buffer) is not None

    @property
    def suspect_friendly(self) -> bool:
        """Whether `suspect` is because of a friendly prompt, or of what waits before it."""
        return self._searching and self._tail_with_held().endswith((FRIENDLY_PROMPT, ANY_KEY))

    @property
    def key(self) -> bytes:
        """What a question must begin with to be read: one byte if the board seems to wait for any key."""
        return b"\r" if self._tail_with_held().endswith(ANY_KEY) else b""

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
        self._counting = False
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
        unstarted = _UNSTARTED.match(self._buffer) if self._searching else None
        error = unstarted[1] if unstarted else b""
        self.abandon()
        return Ended(framed=False, error=error, restarted=not unstarted)

    def stop_sending(self) -> None:
        """Send nothing more of the source: an interrupt follows, and its rest must not run."""
        self._source = b""
        self._all_sent = True
        self._to_send.clear()

    def _tail_with_held(self) -> bytes:
        return _TITLE.sub(b"", self._tail + bytes(self._buffer[-_TAIL_BYTES:]))

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
        window = self.window_bytes = int.from_bytes((yield from self._take(2)), "little")
        self._credit = window
        self._spend()
        spare = min(_SPARE_BYTES, window // 2)
        stray = b""
        while (byte := (yield from self._take(1))) != END_OF_TEXT:
            if byte == b"\x01":
                self._credit += window - spare
                spare = 0
                self._spend()
                stray = b""
                continue
            stray += byte  # from a thread, a timer, or the RP2040's second core
            if len(stray) > _STRAY_BYTES or stray.endswith((BANNER, FRIENDLY_PROMPT)):
                raise ProtocolError(f"expected a raw-paste acknowledgement, got {stray!r}")
            self._events.append(Output(byte))
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
        # SystemExit leaves the prompt out; the restart's text follows, then boot.py's
        stray = yield from self._take_until(b">", RESTARTED, BANNER)
        restarted = self._matched != b">"
        if error and not (restarted or _TRACEBACK.search(error)):  # SystemExit tells its argument there
            self._events.append(Output(error))
            error = b""
        if stray and not restarted:
            self._events.append(Output(stray))
        if self._matched == RESTARTED:
            yield from self._output_until(BANNER)
        self._events.append(Ended(framed=token is not None, error=error, restarted=restarted))

    def _framed(self, token: bytes) -> _Taking:
        self._searching, self._tail = True, b""
        # A command that never started answers b"\x04traceback\x04>" at once: hold
        # back what begins like that, so that it is not taken for output.
        stray = yield from self._pass_stray(token)
        while (
            self._buffer.startswith(END_OF_TEXT)
            and not (stray and self._buffer.startswith(2 * END_OF_TEXT))  # it printed: it started
            and len(self._buffer) < _UNSTARTED_BYTES
            and token not in self._buffer
        ):
            yield
        yield from self._output_until(token)
        mark = yield from self._take(1)
        if mark == _IN_BYTES:
            self._searching = False
            framed = yield from self._counted(token)
        elif mark == _IN_CHARACTERS:
            length = yield from self._length()
            framed = yield from self._take_until(token)
            if length not in (len(framed), len(framed.decode("utf-8", "replace"))):
                raise ProtocolError(f"a value of {length} characters came with others in it; {_MIXED}")
        else:
            self._buffer[:0] = mark
            framed = yield from self._take_until(token)
        self._searching = False
        self._events.append(Framed(framed[:1], framed[1:]))
        return framed[:1]

    def _pass_stray(self, token: bytes) -> Generator[None, None, int]:
        """Emit what threads printed before the answer, if that begins soon; return the number of bytes."""
        passed = 0
        while passed < _STRAY_BYTES:
            found = [at for mark in (END_OF_TEXT, token) if (at := self._buffer.find(mark)) >= 0]
            length = min(found) if found else len(self._buffer) - self._beginning_of((token,))
            passed += length
            self._pass_on(length)
            if found:
                break
            yield
        return passed

    def _counted(self, token: bytes) -> _Taking:
        self._counting = True
        length = yield from self._length()
        framed = yield from self._take(length)
        if (yield from self._take(len(token))) != token:
            raise ProtocolError(f"a value of {length} bytes came with more or with fewer; {_MIXED}")
        self._counting = False
        return framed

    def _length(self) -> Generator[None, None, int]:
        while b";" not in self._buffer[:_LENGTH_BYTES] and len(self._buffer) < _LENGTH_BYTES:
            yield
        digits, _, _ = self._buffer[:_LENGTH_BYTES].partition(b";")
        if not re.fullmatch(rb"[0-9a-f]{1,7}", digits) or int(digits, 16) > MOST_FRAME_BYTES:
            raise ProtocolError(f"announces the length {bytes(digits)!r}, at most {MOST_FRAME_BYTES:x}")
        del self._buffer[: len(digits) + 1]
        return int(digits, 16)

    def _output_until(self, *markers: bytes) -> _Reading:
        """Emit what comes before the first marker as output, and drop the marker."""
        while True:
            found = [(at, mark) for mark in markers if (at := self._buffer.find(mark)) >= 0]
            if found:
                at, self._matched = min(found)
                self._pass_on(at)
                del self._buffer[: len(self._matched)]
                return
            self._pass_on(len(self._buffer) - self._beginning_of(markers))
            yield

    def _beginning_of(self, markers: tuple[bytes, ...]) -> int:
        """Return how many of the last bytes may be the beginning of a marker."""
        longest = min(max(map(len, markers)) - 1, len(self._buffer))
        for length in range(longest, 0, -1):
            last = bytes(self._buffer[-length:])
            if any(marker.startswith(last) for marker in markers):
                return length
        return 0

    def _pass_on(self, length: int) -> None:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        if data:
            self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            self._events.append(Output(data))

    def _take_until(self, *markers: bytes) -> _Taking:
        searched = 0
        while not (
            found := [(at, mark) for mark in markers if (at := self._buffer.find(mark, searched)) >= 0]
        ):
            if len(self._buffer) > MOST_FRAME_BYTES:
                raise ProtocolError(f"sends a value or a traceback of more than {MOST_FRAME_BYTES >> 20} MiB")
            searched = max(0, len(self._buffer) - max(map(len, markers)) + 1)
            yield
        at, self._matched = min(found)
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._matched)]
        return taken

    def _take(self, length: int) -> _Taking:
        while len(self._buffer) < length:
            yield
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return taken
