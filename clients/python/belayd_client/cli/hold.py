"""hold: another program, run while a board is leased to it."""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, UsageError, add_target, check_target
from belayd_client.cli.connection import open_client
from belayd_client.cli.leases import acquire_target, add_acquire_options
from belayd_client.cli.output import note

if TYPE_CHECKING:
    from belayd_client.lease import Lease

# How long the program may take to end itself once the lease is lost, before it is killed.
GRACE = 5.0

# How often to look for the program's end should a signal have got lost.
_POLL = 1.0

NOT_FOUND = 127
NOT_EXECUTABLE = 126

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser, many="the first free board of these")
    add_acquire_options(parser, ttl="1m")
    # Not declared to argparse, which would look for options in it; Command.parse fills it.
    parser.set_defaults(trailing=[])
    parser.usage = "belayctl hold [-h] [BOARD | -l SEL] [--wait TIME] [--ttl TIME] [--reason TEXT] -- CMD ..."


def _hold(args: argparse.Namespace) -> int:
    check_target(args)
    if not args.trailing:
        raise UsageError("name the program after --, such as: belayctl hold pico-1 -- pytest")
    with _Signals() as signals, open_client(args) as client:
        with signals.interrupting():
            lease = acquire_target(client, args)
        try:
            return _run_under(lease, client.address, args, signals)
        finally:
            _give_back(lease)


def _run_under(lease: Lease, address: str, args: argparse.Namespace, signals: _Signals) -> int:
    """Run the program until it ends or the lease is lost; return the exit code."""
    note(f"{lease.board} is yours ({lease.name})")
    environment = {
        **os.environ,
        "BELAYD_BOARD": lease.board,
        "BELAYD_LEASE": lease.token,
        "BELAYD_ADDRESS": address,
    }
    if profile := getattr(args, "profile", None):
        environment["BELAYD_PROFILE"] = profile
    words: list[str] = args.trailing
    try:
        program = subprocess.Popen(words, env=environment)
    except FileNotFoundError:
        note(f"no such program: {words[0]}")
        return NOT_FOUND
    except OSError as error:
        note(f"cannot run {words[0]}: {error.strerror}")
        return NOT_EXECUTABLE
    signals.forward_to(program)
    over = threading.Event()

    def stop(_: object) -> None:
        # Runs in the renewing thread; the main one waits for the program.
        program.terminate()
        if not over.wait(GRACE):
            program.kill()

    lease.keep(stop)
    try:
        code = signals.wait_for(program)
    finally:
        over.set()
        if program.poll() is None:
            program.kill()
            program.wait()
    if lease.loss is not None:
        from belayd_client.cli.outcome import exit_code

        note(f"lost the lease on {lease.board}, so {words[0]} was stopped: {lease.loss}")
        return exit_code(lease.loss)
    return code if code >= 0 else 128 - code


def _give_back(lease: Lease) -> None:
    from belayd_client.errors import BelaydError

    try:
        lease.release()
    except BelaydError as error:  # The program's exit code matters more.
        note(f"{lease.board} could not be given back, so it is free when the lease expires: {error}")


class _Signals:
    """Signals to this process: end the acquisition first, then go on to the program.

    The kernel may hand a signal to any thread, gRPC's too, and Python runs its
    handler only when the main thread moves; so that one waits for a pipe which
    Python writes to at each signal, the program's end (SIGCHLD) included.
    """

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._previous: dict[int, object] = {}
        self._program: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._interrupting = False

    def __enter__(self) -> _Signals:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # As under nohup.
                self._previous[number] = signal.signal(number, self._receive)
        if hasattr(signal, "SIGCHLD"):
            self._previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, previous in self._previous.items():
            signal.signal(number, previous)  # type: ignore[arg-type]
        self._woken.close()
        self._waker.close()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal end what is done inside, by SystemExit or KeyboardInterrupt."""
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def forward_to(self, program: subprocess.Popen[bytes]) -> None:
        """Send what comes from now on, and what came in between, to the program."""
        self._program = program
        for number in self._early:
            self._forward(number)

    def wait_for(self, program: subprocess.Popen[bytes]) -> int:
        """Return the program's exit code when it has ended; signals are forwarded meanwhile."""
        while (code := program.poll()) is None:
            if select.select([self._woken], [], [], _POLL)[0]:
                self._woken.recv(1024)
        return code

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self._program is not None:
            self._forward(number)
        elif self._interrupting and number == signal.SIGINT:
            raise KeyboardInterrupt
        elif self._interrupting:
            sys.exit(128 + number)
        else:
            self._early.append(number)

    def _forward(self, number: int) -> None:
        # Ctrl-C and Ctrl-\ at a terminal reach the whole foreground group, the program too.
        if number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)) and _in_foreground():
            return
        if self._program is not None:
            self._program.send_signal(number)


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


COMMANDS = (
    Command(
        name="hold",
        summary="run a program while holding a board",
        description="Acquire a board, or any one that a selector matches, run a program with BELAYD_BOARD,\n"
        "BELAYD_LEASE and BELAYD_ADDRESS set, and give the board back when it ends. The lease is\n"
        "renewed meanwhile; if it is lost the program is stopped. Exits with the program's code.",
        example="  belayctl hold -l chip=rp2 --wait 5m -- pytest tests/\n"
        "  belayctl hold pico-1 -- sh -c 'belayctl run $BELAYD_BOARD selftest.py'",
        configure=_configure,
        run=_hold,
    ),
)
