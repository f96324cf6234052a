"""Callers that work at the same time: each has its own board and calls `add` there again and again.

A crowd is a process of its own, so that nothing shares an interpreter unless the
contender does: Belay's sixteen threads are one crowd of sixteen, sixteen clients of
belayd are sixteen crowds of one.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import belay
import grpc

from belayd_client import Device

PATIENCE = 120.0
Call = Callable[[int, int], int]


class Crowd:
    """One process with a thread for each of `targets`: ptys for Belay, ADDRESS/BOARD for belayd, ADDRESS for echo."""

    def __init__(self, library: str, targets: Sequence[str]) -> None:
        spawn = multiprocessing.get_context("spawn")  # grpc does not survive a fork
        self._pipe, far = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(library, list(targets), far), daemon=True)
        self._process.start()
        far.close()

    def order(self, *words: object) -> None:
        """Say what to do next; `answer` waits until it is done."""
        self._pipe.send(words)

    def answer(self) -> list[array[float]]:
        """Return what came of the order: for "call", milliseconds of each call of each caller."""
        try:
            if self._pipe.poll(PATIENCE):
                answer: list[array[float]] = self._pipe.recv()
                return answer
        except EOFError:
            raise RuntimeError("a crowd of callers died; its own words stand above") from None
        raise RuntimeError("a crowd of callers answers nothing")

    def end(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):  # it died before
            self._pipe.send(("end",))
        self._process.join(PATIENCE)


@contextmanager
def crowds(library: str, groups: Sequence[Sequence[str]]) -> Iterator[list[Crowd]]:
    """Yield a crowd for each group of targets."""
    with ExitStack() as stack:
        found = []
        for targets in groups:
            found.append(Crowd(library, targets))
            stack.callback(found[-1].end)
        yield found


def tell(members: Sequence[Crowd], *words: object) -> list[array[float]]:
    """Give all crowds one order; return what came of it, caller by caller."""
    for crowd in members:
        crowd.order(*words)
    return [took for crowd in members for took in crowd.answer()]


def call_for(members: Sequence[Crowd], seconds: float) -> list[array[float]]:
    """Let all callers call for so long, from one moment on; return the milliseconds of their calls."""
    # perf_counter is the same clock in all processes of one machine, on Linux.
    began = time.perf_counter() + 0.1
    return tell(members, "call", began, began + seconds)


def _work(library: str, targets: list[str], pipe: Connection) -> None:
    openers = {"Belay": _belay_add, "belayd": _belayd_add, "echo": _echo_add}
    devices = ExitStack()
    adds: list[Call] = []
    while True:
        word, *rest = pipe.recv()
        match word:
            case "open":
                adds = [devices.enter_context(openers[library](target)) for target in targets]
                pipe.send([])
            case "call":
                pipe.send(_call(adds, *rest))
            case "close":
                devices.close()
                pipe.send([])
            case _:
                devices.close()
                return


def _call(adds: Sequence[Call], begin: float, end: float) -> list[array[float]]:
    took = [array("d") for _ in adds]
    threads = [
        threading.Thread(target=_loop, args=(add, begin, end, times))
        for add, times in zip(adds, took, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def _loop(add: Call, begin: float, end: float, took: array[float]) -> None:
    time.sleep(max(0.0, begin - time.perf_counter()))
    number = 0
    while (began := time.perf_counter()) < end:
        if add(number, 2) != number + 2:
            raise SystemExit(f"add({number}, 2) went wrong")
        took.append((time.perf_counter() - began) * 1e3)
        number += 1


@contextmanager
def _belay_add(path: str) -> Iterator[Call]:
    with belay.Device(path, startup="") as device:

        @device.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        yield add


@contextmanager
def _belayd_add(address: str) -> Iterator[Call]:
    with Device(address) as device:

        @device.task
        def add(a, b):  # type: ignore[no-untyped-def]
            return a + b

        yield add


@contextmanager
def _echo_add(address: str) -> Iterator[Call]:
    """Add here, after a round trip on a bare gRPC stream: the floor under a remote call."""
    go = threading.Semaphore(0)
    request = b"x" * 32

    def requests() -> Iterator[bytes]:
        while True:
            go.acquire()
            yield request

    with grpc.insecure_channel(address) as channel:
        echo: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/echo/Stream")
        answers = echo(requests())

        def add(a: int, b: int) -> int:
            go.release()
            return a + b if next(answers) == request else 0

        yield add
        answers.cancel()


def cpu_seconds() -> dict[str, float]:
    """Return the processor time that this program's parts have used so far: daemon, boards, callers."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(words[1])
        used[int(stat.parent.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    total = {"daemon": 0.0, "boards": 0.0, "callers": 0.0}
    for process, parent in parents.items():
        if parent == os.getpid():
            total[_role(process)] += used[process]
        elif parents.get(parent) == os.getpid() and _role(parent) == "boards":
            total["boards"] += used[process]  # the interpreter in a simulated board
    return total


def _role(process: int) -> str:
    words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    if b"belayd.simulation" in words:
        return "boards"
    serves = b"serve" in words or any(word.endswith(b"echo_server.py") for word in words)
    return "daemon" if serves else "callers"
