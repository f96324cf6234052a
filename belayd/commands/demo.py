"""`belayd demo`: a lab on this machine, from its inventory to its metrics.

Starts a daemon with simulated boards in a folder of its own, drives it with
`belayctl` as anybody would, and prints each command before its output. Where no
MicroPython for simulated boards is installed, a micro:bit in QEMU takes their place.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0
"""Seconds for the daemon to say that it is ready; 1 is usual."""
FIRMWARE = Path("/usr/share/firmware-microbit-micropython/firmware.hex")
PROJECT = Path(__file__).parent / "demo_project"
METRICS = ("belayd_board_up", "belayd_operations_total", "belayd_deployment_bytes_total")

_EXAMPLES = """\
example:
  belayd demo

Nothing is left behind: the boards' files, the daemon and its ports go with it.
Exit codes: 0 everything worked, 1 something did not, 2 there is no MicroPython to run.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="see everything once, on simulated boards",
        description="Start a daemon with simulated boards, deploy a small project to them and call it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Lab:
    """What the demo has to show: an inventory, and a selector of its boards."""

    inventory: str
    selector: str
    deploys: bool


@dataclass(frozen=True, slots=True)
class Served:
    """Where the demo's daemon listens."""

    grpc: str
    metrics: str


class DemoFailed(Exception):
    """A step did not work; the message says which."""


def run(args: argparse.Namespace) -> int:
    """Show everything once; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="belayd-demo-") as folder, _lab() as lab:
        if lab is None:
            print(
                "belayd demo: no MicroPython to run: pip install 'belayd[sim]', or "
                "apt-get install qemu-system-arm firmware-microbit-micropython",
                file=sys.stderr,
            )
            return 2
        try:
            with _daemon(Path(folder), lab.inventory) as served:
                _tour(served, lab)
        except DemoFailed as error:
            print(f"belayd demo: {error}", file=sys.stderr)
            return 1
    print("\nThat was a lab: README.md says how to make it yours.")
    return 0


def _tour(served: Served, lab: Lab) -> None:
    _say("The boards of the lab, each a real MicroPython, once they have started:")
    _belayctl(served, "eval", "-l", lab.selector, "__import__('sys').version")
    _belayctl(served, "boards")
    if lab.deploys:
        _say("A small project, put on all of them; then again, when nothing differs:")
        _belayctl(served, "deploy", "-l", lab.selector, str(PROJECT))
        _belayctl(served, "deploy", "-l", lab.selector, str(PROJECT))
        _say("Its function, called on each board; what it prints and what it returns:")
        _belayctl(served, "exec", "-l", lab.selector, "import station")
        _belayctl(served, "eval", "-l", lab.selector, "station.report()")
    else:
        _say("A function, defined on the board and called there:")
        _belayctl(served, "exec", "-l", lab.selector, "def add(a, b):\n    return a + b\n")
        _belayctl(served, "eval", "-l", lab.selector, "add(20, 22)")
    _say("One board taken for oneself while a program runs, and given back at its end:")
    _belayctl(
        served,
        "hold",
        "-l",
        lab.selector,
        "--",
        "sh",
        "-c",
        'belayctl eval "$BELAYD_BOARD" "6 * 7"; belayctl leases',
    )
    _say("How they are now:")
    _belayctl(served, "boards")
    _say(f"What Prometheus is told at {served.metrics}:")
    _show_metrics(served)


def _belayctl(served: Served, *arguments: str) -> None:
    shown = [argument if re.fullmatch(r"[\w./=:-]+", argument) else repr(argument) for argument in arguments]
    print("\n$ belayctl " + " ".join(shown).replace(str(PROJECT), "demo_project"), flush=True)
    beside = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "BELAYD_ADDRESS": served.grpc,
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]),
    }
    command = [sys.executable, "-m", "belayd_client.cli", *arguments]
    code = subprocess.run(command, env=environment, stderr=sys.stdout, check=False).returncode
    if code:
        raise DemoFailed(f"belayctl {arguments[0]} ended with exit code {code}")


def _show_metrics(served: Served) -> None:
    with urllib.request.urlopen(served.metrics, timeout=PATIENCE) as answer:
        text = answer.read().decode()
    for line in text.splitlines():
        if line.startswith(METRICS) and not line.endswith(" 0.0"):
            print(line)


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


@contextmanager
def _daemon(folder: Path, inventory: str) -> Iterator[Served]:
    file = folder / "lab.yaml"
    file.write_text(inventory)
    print("# The inventory, lab.yaml:\n")
    print(inventory)
    print("$ belayd serve --inventory lab.yaml", flush=True)
    state = folder / "state"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "belayd", "serve", "--inventory", str(file), "--state", str(state)),
            *("--listen", "localhost:0", "--metrics", "localhost:0", "--log-level", "warning"),
        ],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        yield _ready(process)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


def _ready(process: subprocess.Popen[bytes]) -> Served:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
    line = process.stdout.readline().decode() if readable else ""
    said = re.search(r"gRPC (\S+) metrics (\S+)", line)
    if said is None:
        raise DemoFailed("the daemon did not become ready")
    print(line, end="")
    return Served(said[1], said[2])


@contextmanager
def _lab() -> Iterator[Lab | None]:
    from belayd.simulation.interpreter import InterpreterMissing, find_interpreter

    try:
        find_interpreter(None)
    except InterpreterMissing:
        with _microbit() as port:
            yield Lab(_MICROBIT.format(port=port), "chip=nrf51", deploys=False) if port else None
    else:
        yield Lab(_SIMULATED, "chip=sim", deploys=True)


@contextmanager
def _microbit() -> Iterator[str | None]:
    emulator = shutil.which("qemu-system-arm")
    if emulator is None or not FIRMWARE.exists():
        yield None
        return
    process = subprocess.Popen(
        [
            *(emulator, "-M", "microbit", "-device", f"loader,file={FIRMWARE}"),
            *("-serial", "pty", "-display", "none", "-monitor", "none"),
        ],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        assert process.stdout is not None
        said = re.search(r"/dev/\S+", process.stdout.readline().decode())
        yield said[0] if said else None
    finally:
        process.kill()
        process.communicate()


_SIMULATED = """\
version: 1
defaults:
  labels: {chip: sim}
boards:
  sim-1: {simulated: {}}
  sim-2: {simulated: {}}
  sim-3: {simulated: {flash: 1024}}
"""
_MICROBIT = """\
version: 1
boards:
  microbit-1:
    serial: {{port: {port}}}
    labels: {{chip: nrf51}}
"""
