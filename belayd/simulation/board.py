"""The loop of a simulated board: carries bytes and knows what an end means.

One thread, one selector, nothing that waits: each byte passes in the call that
read it. What cannot be passed on stays in a link's bounded buffer, and its source
is not read until it is gone, so a slow reader slows the board as a USB link would.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from belayd.simulation.child import Child, Ending, Launch
from belayd.simulation.keyboard import Gate, Keyboard
from belayd.simulation.link import READ, WRITE, Link
from belayd.simulation.mode import ModeTracker, ReplMode
from belayd.simulation.ring import Ring
from belayd.simulation.startup import Stage, Startup

_READ_BYTES = 65536
_REBOOT = b"MPY: soft reboot\r\n"
_PWRON_RESET, _HARD_RESET, _SOFT_RESET = 1, 2, 5  # as firmware/machine.py has them
_REBOOT_PAUSE = 0.5  # seconds; scripts that reset the board for ever must not take the host's processor
_HANGUP_LOOK = 1.0  # seconds, only while the links are not read because their input goes nowhere


class BoardFailure(Exception):
    """The board cannot go on; the message says why."""


class SimulatedBoard:
    """An interpreter at the end of its links."""

    def __init__(
        self,
        launch: Launch,
        announce: Callable[[str], None],
        *,
        ring_bytes: int | None = None,
        unplug_after: int | None = None,
        raw_paste: bool = True,
    ) -> None:
        """Prepare a board; it needs links before it runs.

        Args:
            launch: How its interpreter is started.
            announce: Gets each link's line each time the links are there.
            ring_bytes: Size of a ring that drops input; None for one that makes
                the far end wait.
            unplug_after: Bytes of output after which its plug is pulled, once.
            raw_paste: False to be as firmware before 1.14, which does not know it.
        """
        self._links: Sequence[Link] = ()
        self._announce = announce
        self._child = Child(launch)
        self._keyboard = Keyboard(
            self._child.channel, self._child.interrupt, self._child.unread_bytes, time.monotonic
        )
        self._ring = None if ring_bytes is None else Ring(ring_bytes, self._unread)
        self._mode = ModeTracker(ReplMode.FRIENDLY)
        self._startup = Startup(ReplMode.FRIENDLY, b"")
        self._ending: Ending | None = None
        self._start_at: float | None = time.monotonic()
        self._cause = _PWRON_RESET
        self._lines: list[str] = []
        self._present = False
        self._plugged_for = unplug_after
        self._raw_paste = raw_paste
        self._done = False
        # Not epoll: that knows files, and links' numbers are used again.
        self._selector = selectors.PollSelector()
        self._watched: dict[int, int] = {}
        self._wake, self._waker = os.pipe()

    def join(self, links: Sequence[Link]) -> None:
        """Be at the end of these links."""
        self._links = links

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
        try:
            self._settle()
            while not self._done:
                for key, events in self._selector.select(self._timeout()):
                    react.get(key.fd, partial(self._on_link, key.fd))(events)
                self._settle()
        finally:
            self._child.kill()
            for link in self._links:
                link.close()

    def show(self, data: bytes) -> None:
        """Show output on every link."""
        if self._plugged_for is not None:
            data = data[: self._plugged_for]
            self._plugged_for -= len(data)
        for link in self._links:
            link.show(data)

    @property
    def _full(self) -> bool:
        return any(link.full for link in self._links)

    def _settle(self) -> None:
        """Do what has become due, then watch what matters now."""
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self._start()
        if self._keyboard.retry is not None:
            self._keyboard.push()
        full = self._full
        if self._plugged_for == 0 and not full:
            self._unplug()
        # A soft reset waits until all output is read; what goes away does not.
        if self._ending is not None and not (full and self._ending is Ending.SOFT_RESET):
            self._finish(self._ending)
            full = self._full
        wanted = {self._wake: READ, self._child.line: READ}
        room = self._keyboard.room_bytes
        for link in self._links:
            wanted.update(link.interest(room))
            self._done = self._done or link.ended
        if channel := (0 if full else READ) | (WRITE if self._keyboard.blocked else 0):
            wanted[self._child.channel.fileno()] = channel
        self._watch(wanted)

    def _timeout(self) -> float | None:
        if self._keyboard.retry is not None:
            return self._keyboard.retry
        waits = [link.wait() for link in self._links]
        if self._start_at is not None:
            waits.append(max(0.0, self._start_at - time.monotonic()))
        if not self._keyboard.room_bytes:
            waits.append(_HANGUP_LOOK)
        return min((wait for wait in waits if wait is not None), default=None)

    def _watch(self, wanted: dict[int, int]) -> None:
        if wanted == self._watched:
            return
        for fd in self._watched.keys() - wanted.keys():
            self._selector.unregister(fd)
        for fd, events in wanted.items():
            before = self._watched.get(fd)
            if before is None:
                self._selector.register(fd, events)
            elif before != events:
                self._selector.modify(fd, events)
        self._watched = wanted

    def _on_signal(self) -> None:
        for number in os.read(self._wake, 256):
            if number != signal.SIGCHLD:
                self._done = True
        if self._ending is None:
            self._ending = self._child.ended()
            if self._ending is not None:
                self._keyboard.set_gate(Gate.SHUT)

    def _on_link(self, fd: int, events: int) -> None:
        for link in self._links:
            if typed := link.ready(fd, events, self._keyboard.room_bytes):
                # A network's bytes wait in it, until a program makes the board fetch them.
                if self._ring is not None and (not link.lossless or self._child.executes()):
                    typed = self._ring.keep(typed)
                if not self._raw_paste and self._mode.mode is ReplMode.RAW and not self._child.executes():
                    typed = typed.replace(b"\x05", b"")  # old firmware ignores it, and then takes ^A
                self._mode.sent(typed)
                self._keyboard.type(typed)

    def _unread(self) -> int:
        return self._keyboard.queued_bytes + self._child.unread_bytes()

    def _on_channel(self, events: int) -> None:
        if events & WRITE:
            self._keyboard.push()
        if events & READ and not self._full:
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
            self.show(data)
        return True

    def _start_up(self, data: bytes) -> bytes:
        """Follow a start; return what may be seen of it."""
        before = self._startup.stage
        data = self._startup.receive(data)
        stage = self._startup.stage
        if stage is before:
            return data
        if before is Stage.LOADING:
            for line in self._lines:
                self._announce(line)
            self._lines = []
        if stage is Stage.SCRIPTS:
            raw = self._mode.mode is ReplMode.RAW
            self._keyboard.set_gate(Gate.INTERRUPTS if raw else Gate.OPEN)
        elif stage is Stage.ENTERING_RAW:
            self._keyboard.put_back(b"\x01")
            self._keyboard.set_gate(Gate.OPEN)
        else:
            self._keyboard.set_gate(Gate.OPEN)
        return data

    def _start(self) -> None:
        """Start the interpreter, on links that are there."""
        self._start_at = None
        if not self._present:
            self._lines = [link.open() for link in self._links]
            self._present = True
        token = b"\x1e" + os.urandom(8).hex().encode() + b"\x1e"
        self._startup = Startup(self._mode.mode, token)
        self._child.start(self._mode.mode, token, self._cause)

    def _finish(self, ending: Ending) -> None:
        """Pass on the last output of an ended interpreter, then do what its end means."""
        while self._receive():
            if ending is Ending.SOFT_RESET and self._full:
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
        self.show(_REBOOT)
        for link in self._links:
            link.soft_reset()
        self._cause = _SOFT_RESET
        self._start_at = time.monotonic() + (0.0 if stage is Stage.RUNNING else _REBOOT_PAUSE)

    def _unplug(self) -> None:
        """Lose power and links; they come back where links do."""
        self._plugged_for = None
        self._child.kill()
        self._ending = None
        self._hard_reset()
        self._cause = _PWRON_RESET

    def _hard_reset(self) -> None:
        """Go away, and come back if the links can."""
        for link in self._links:
            link.close()
        self._present = False
        self._child.take_unread()
        self._keyboard.clear()
        self._keyboard.set_gate(Gate.SHUT)
        self._mode = ModeTracker(ReplMode.FRIENDLY)
        self._cause = _HARD_RESET
        absences = [link.absence for link in self._links]
        if None in absences:
            self._done = True
        else:
            self._start_at = time.monotonic() + max(filter(None, absences), default=0.0)
