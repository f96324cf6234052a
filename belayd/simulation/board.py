"""The loop of a simulated board: carries bytes and knows what an end means.

One thread, one selector, nothing that waits: each byte passes in the call that
read it. What cannot be passed on stays in a bounded buffer, and its source is not
read until it is gone, so a slow reader slows the board as a USB link would.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping

from belayd.simulation.child import Child, Ending, Launch
from belayd.simulation.keyboard import Gate, Keyboard
from belayd.simulation.mode import ModeTracker, ReplMode
from belayd.simulation.startup import Stage, Startup
from belayd.simulation.terminal import Terminal

_READ_BYTES = 65536
_REBOOT = b"MPY: soft reboot\r\n"
_PWRON_RESET, _HARD_RESET, _SOFT_RESET = 1, 2, 5  # as firmware/machine.py has them
_REBOOT_PAUSE = 0.5  # seconds; scripts that reset the board for ever must not take the host's processor
_HANGUP_LOOK = 1.0  # seconds, only while the terminal is not read because its input goes nowhere

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class BoardFailure(Exception):
    """The board cannot go on; the message says why."""


class SimulatedBoard:
    """An interpreter at the end of a terminal."""

    def __init__(self, launch: Launch, terminal: Terminal, announce: Callable[[str], None]) -> None:
        """Prepare a board; `announce` gets the terminal's line each time it is there."""
        self._terminal = terminal
        self._announce = announce
        self._child = Child(launch)
        self._keyboard = Keyboard(
            self._child.channel, self._child.interrupt, self._child.unread_bytes, time.monotonic
        )
        self._mode = ModeTracker(ReplMode.FRIENDLY)
        self._startup = Startup(ReplMode.FRIENDLY, b"")
        self._output = b""
        self._ending: Ending | None = None
        self._start_at: float | None = time.monotonic()
        self._cause = _PWRON_RESET
        self._line = ""
        self._present = False
        self._done = False
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}
        self._wake, self._waker = os.pipe()

    def run(self) -> None:
        """Be a board until the link ends for good or a signal asks to stop.

        Raises:
            BoardFailure: The interpreter does not start, or crashed.
        """
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        react: Mapping[int, Callable[[int], None]] = {
            self._wake: lambda _: self._on_signal(),
            self._child.line: lambda _: self._child.pull(),
            self._child.channel.fileno(): self._on_channel,
        }
        self._watch(self._wake, _READ)
        self._watch(self._child.line, _READ)
        try:
            self._settle()
            while not self._done:
                for key, events in self._selector.select(self._timeout()):
                    react.get(key.fd, self._on_terminal)(events)
                self._settle()
        finally:
            self._child.kill()
            self._terminal.close()

    def _settle(self) -> None:
        """Do what has become due, then watch what matters now."""
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self._start()
        if self._keyboard.retry is not None:
            self._keyboard.push()
        if self._ending is not None and not self._output:
            self._finish(self._ending)
        if self._present:
            room = self._keyboard.room_bytes
            self._watch(self._terminal.fileno(), (_READ if room else 0) | (_WRITE if self._output else 0))
            if not room and self._terminal.hung_up():
                self._done = True
        self._watch(
            self._child.channel.fileno(),
            (0 if self._output else _READ) | (_WRITE if self._keyboard.blocked else 0),
        )

    def _timeout(self) -> float | None:
        if self._keyboard.retry is not None:
            return self._keyboard.retry
        if self._start_at is not None:
            return max(0.0, self._start_at - time.monotonic())
        return None if self._keyboard.room_bytes else _HANGUP_LOOK

    def _watch(self, fd: int, events: int) -> None:
        before = self._watched.get(fd, 0)
        if events == before:
            return
        if not before:
            self._selector.register(fd, events)
        elif events:
            self._selector.modify(fd, events)
        else:
            self._selector.unregister(fd)
        self._watched[fd] = events

    def _on_signal(self) -> None:
        for number in os.read(self._wake, 256):
            if number != signal.SIGCHLD:
                self._done = True
        if self._ending is None:
            self._ending = self._child.ended()
            if self._ending is not None:
                self._keyboard.set_gate(Gate.SHUT)

    def _on_terminal(self, events: int) -> None:
        if not self._present:
            return
        if events & _WRITE and self._output:
            self._show(b"")
        if events & _READ and self._present:
            try:
                data = os.read(self._terminal.fileno(), min(_READ_BYTES, self._keyboard.room_bytes) or 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._done = True
                return
            self._mode.sent(data)
            self._keyboard.type(data)

    def _on_channel(self, events: int) -> None:
        if events & _WRITE:
            self._keyboard.push()
        if events & _READ and not self._output:
            self._receive()

    def _receive(self) -> bool:
        """Pass on one portion of output; return False if there was none."""
        try:
            data = self._child.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        if self._startup.stage is not Stage.RUNNING:
            data = self._start_up(data)
        if data:
            self._mode.received(data)
            self._show(data)
        return True

    def _start_up(self, data: bytes) -> bytes:
        """Follow a start; return what may be seen of it."""
        before = self._startup.stage
        data = self._startup.receive(data)
        stage = self._startup.stage
        if stage is before:
            return data
        if before is Stage.LOADING and self._line:
            self._announce(self._line)
            self._line = ""
        if stage is Stage.SCRIPTS:
            raw = self._mode.mode is ReplMode.RAW
            self._keyboard.set_gate(Gate.INTERRUPTS if raw else Gate.OPEN)
        elif stage is Stage.ENTERING_RAW:
            self._keyboard.put_back(b"\x01")
            self._keyboard.set_gate(Gate.OPEN)
        else:
            self._keyboard.set_gate(Gate.OPEN)
        return data

    def _show(self, data: bytes) -> None:
        """Write output to the terminal; what does not fit waits."""
        if not self._present:
            return
        data = self._output + data if self._output else data
        try:
            sent = os.write(self._terminal.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the far end is gone
            self._done = True
            sent = len(data)
        self._output = data[sent:]

    def _start(self) -> None:
        """Start the interpreter, on a terminal that is there."""
        self._start_at = None
        if not self._present:
            self._line = self._terminal.open()
            self._present = True
        token = b"\x1e" + os.urandom(8).hex().encode() + b"\x1e"
        self._startup = Startup(self._mode.mode, token)
        self._child.start(self._mode.mode, token, self._cause)

    def _finish(self, ending: Ending) -> None:
        """Pass on the last output of an ended interpreter, then do what its end means."""
        while self._receive():
            if self._output and ending is Ending.SOFT_RESET:
                return
        self._ending = None
        stage = self._startup.stage
        if stage is Stage.LOADING and ending is not Ending.HARD_RESET:
            noise = self._startup.noise.decode(errors="backslashreplace").strip()
            raise BoardFailure(f"the interpreter does not start: {noise or 'it says nothing'}")
        if ending is Ending.CRASH:
            raise BoardFailure(f"the interpreter crashed or was killed (signal {self._child.killed_by})")
        if ending is Ending.HARD_RESET:
            self._hard_reset()
            return
        self._keyboard.put_back(self._child.take_unread())
        self._show(_REBOOT)
        self._cause = _SOFT_RESET
        self._start_at = time.monotonic() + (0.0 if stage is Stage.RUNNING else _REBOOT_PAUSE)

    def _hard_reset(self) -> None:
        """Go away, and come back if the terminal can."""
        self._watch(self._terminal.fileno(), 0)
        self._terminal.close()
        self._present = False
        self._output = b""
        self._child.take_unread()
        self._keyboard.clear()
        self._mode = ModeTracker(ReplMode.FRIENDLY)
        self._cause = _HARD_RESET
        if self._terminal.absence is None:
            self._done = True
        else:
            self._start_at = time.monotonic() + self._terminal.absence
