"""The arrows of the house: which room may import which, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python" / "belayd_client"

# Rooms that anybody may import: values, never behaviour of the daemon. They see each other as below.
LEAVES = {"errors", "events", "selector", "snapshot", "values"}

# room -> the rooms it may import besides the leaves; a room that is not here may import leaves only.
ARROWS: dict[str, set[str]] = {
    "__main__": {"commands"},
    "audit": {"access", "store"},
    "between": {"cleaning", "deployment", "inventory", "onboard", "outcome", "session"},
    "board": {
        "audience",
        "backoff",
        "cleaning",
        "flapping",
        "identity",
        "leasing",
        "link",
        "queue",
        "recovery",
        "run",
        "session",
        "settling",
        "standing",
        "transport",
    },
    "circuitpython": {"onboard", "prompt"},
    "cleaning": {"backoff", "identity", "leasing", "recovery", "session"},
    "certs": {"access"},
    "cluster": {"fleet", "rpc", "v1", "wire"},
    "console": {"board", "fleet", "run"},
    "daemon": {
        "access",
        "archive",
        "audit",
        "blobs",
        "board",
        "certs",
        "chronicle",
        "cluster",
        "console",
        "deployment",
        "detached",
        "disabling",
        "discovery",
        "draining",
        "entrance",
        "exposition",
        "files",
        "fleet",
        "health",
        "inventory",
        "leasing",
        "metrics",
        "power",
        "records",
        "reload",
        "rollout",
        "rpc",
        "run",
        "session",
        "store",
        "supervision",
        "tls",
        "tokens",
        "transport",
    },
    "detached": {"audit", "board", "leasing", "outcome", "run", "session", "store"},
    "archive": set(),
    "deployment": {"archive", "blobs", "dialogue", "onboard", "outcome", "run", "session"},
    "files": {"deployment", "dialogue", "onboard", "outcome", "session"},
    "records": {"archive", "deployment", "onboard", "outcome", "session", "store"},
    "dialogue": {"outcome", "prompt", "protocol"},
    "difference": {"discovery", "inventory"},
    "disabling": {"fleet", "leasing", "store"},
    "discovery": {"inventory"},
    "draining": {"fleet", "leasing"},
    "entrance": {"access", "attempts", "tokens"},
    "exposition": {"access", "attempts", "entrance", "metrics", "tls"},
    "fleet": {
        "backoff",
        "between",
        "board",
        "discovery",
        "identity",
        "inventory",
        "leasing",
        "link",
        "transport",
    },
    "health": {"board", "fleet", "session"},
    "installation": {"circuitpython", "loop", "onboard", "outcome", "placing", "prompt", "protocol"},
    "lease": {"refusing", "terms", "waiting"},
    "line": {"transport"},
    "link": {"backoff", "flapping", "identity", "session", "transport"},
    "leasing": {"clock", "lease", "revival", "store", "terms", "ticket", "waiting"},
    "loop": {"call", "iteration", "outcome", "prompt", "protocol", "request"},
    "metrics": {"gauges", "tallies"},
    "outcome": {"protocol"},
    "power": {"board", "fleet", "inventory"},
    "placing": {"call", "outcome", "prompt", "source"},
    "prompt": {"line", "passthrough", "protocol", "transport"},
    "queue": {"run"},
    "recovery": {"session"},
    "refusing": {"terms"},
    "reload": {"difference", "discovery", "fleet", "inventory", "leasing"},
    "request": {"call"},
    "revival": {"store", "terms"},
    "rollout": {
        "access",
        "archive",
        "audit",
        "blobs",
        "board",
        "deployment",
        "fleet",
        "leasing",
        "outcome",
        "records",
        "run",
        "session",
        "store",
        "terms",
        "ticket",
    },
    "rpc": {
        "access",
        "allowance",
        "archive",
        "attempts",
        "audit",
        "blobs",
        "board",
        "call",
        "chronicle",
        "console",
        "deployment",
        "detached",
        "difference",
        "disabling",
        "draining",
        "entrance",
        "files",
        "fleet",
        "health",
        "iteration",
        "lease",
        "leasing",
        "metrics",
        "outcome",
        "power",
        "records",
        "reload",
        "rollout",
        "run",
        "session",
        "store",
        "terms",
        "ticket",
        "tls",
        "v1",
        "wire",
    },
    "run": {"outcome", "session"},  # a job is given the session
    "session": {
        "call",
        "circuitpython",
        "dialogue",
        "installation",
        "iteration",
        "loop",
        "outcome",
        "passthrough",
        "placing",
        "prompt",
        "protocol",
        "request",
        "source",
        "transport",
    },
    "settling": {"deployment", "recovery", "session"},
    "standing": {"leasing"},
    "ticket": {"terms"},
    "tls": {"certs"},
    "tokens": {"access"},
    "values": {"literals"},
    "waiting": {"terms"},
    "wire": {"v1"},
}
EVERYTHING = {"commands"}  # rooms that build the others
ALONE = {"errors", "simulation", "v1", "onboard"}  # rooms that import nothing of belayd

# Outside modules that only some rooms may import.
RESERVED: dict[str, set[str]] = {
    "grpc": {"rpc", "cluster"},
    "grpc_health": {"rpc", "cluster"},
    "grpc_reflection": {"rpc", "cluster"},
    "grpc_status": {"rpc", "cluster"},
    "google": {"rpc", "cluster", "wire"},
    "serial": {"transport"},
    "websockets": {"transport"},
    "pty": {"transport", "simulation"},
    "termios": {"transport", "simulation"},
    "tty": {"transport", "simulation"},
    "prometheus_client": {"exposition", "gauges", "metrics", "tallies"},
    "yaml": {"inventory", "commands"},
    "pydantic": {"inventory"},
    "sqlite3": {"store", "tokens"},
    "cryptography": {"certs"},
}
# The one exception: who is on USB is asked of pyserial, which opens nothing for it.
LISTING = ("discovery", "serial.tools.list_ports")

# Rooms that are values in, values out: no clock, no randomness, no I/O, no tasks.
PURE = {
    "errors",
    "lease",
    "literals",
    "outcome",
    "protocol",
    "revival",
    "selector",
    "snapshot",
    "terms",
    "values",
}
PURE |= {"difference", "refusing", "waiting", "wire"}
PURE_FILES = {"deployment/paths.py", "deployment/plan.py", "rollout/course.py"}
IMPURE = {
    "asyncio",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
}
IMPURE |= {"threading", "time", "uuid", "concurrent", "shutil", "tempfile"}


@dataclass(frozen=True)
class Source:
    """One file of a package; `name` is relative to the package, such as "rpc/tasks.py"."""

    package: str
    name: str
    text: str

    @property
    def room(self) -> str:
        return PurePosixPath(self.name).with_suffix("").parts[0]

    def imports(self) -> Iterator[tuple[str, int]]:
        """Yield every imported name in full with its line, wherever in the file it stands."""
        ancestors = (self.package, *PurePosixPath(self.name).parts[:-1])
        for node in ast.walk(ast.parse(self.text, self.name)):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                origin = ancestors[: len(ancestors) - node.level + 1] if node.level else ()
                module = ".".join(filter(None, (*origin, node.module)))
                # with the name: `from belayd import board` imports a room as well
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)

    def complain(self, line: int, text: str) -> str:
        return f"{self.package}/{self.name}:{line}: {text}"


def find(folder: Path) -> list[Source]:
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}
    return [Source(folder.name, name, text) for name, text in files.items()]


def daemon_sources() -> list[Source]:
    skipped = {"v1", "onboard"}  # generated, and MicroPython's
    return [source for source in find(ROOT / "belayd") if source.room not in skipped]


def allowed(room: str) -> set[str]:
    if room in ALONE:
        return {room}
    return {room, *LEAVES, *ARROWS.get(room, set())}


def inward(source: Source) -> list[str]:
    """Complain of imports of belayd's own rooms that run against the arrows."""
    if source.room in EVERYTHING:
        return []
    complaints = []
    for module, line in source.imports():
        package, _, rest = module.partition(".")
        if package == "belayd_client":
            complaints.append(source.complain(line, "the daemon imports its client"))
        elif package == "belayd" and rest.split(".")[0] not in allowed(source.room):
            complaints.append(source.complain(line, f"{source.room} may not import {rest.split('.')[0]}"))
    return list(dict.fromkeys(complaints))


def outward(source: Source) -> list[str]:
    """Complain of outside modules that other rooms have for themselves."""
    complaints = []
    for module, line in source.imports():
        top = module.partition(".")[0]
        listing = source.room == LISTING[0] and module.startswith(LISTING[1])
        if source.room not in RESERVED.get(top, {source.room}) and not listing:
            complaints.append(source.complain(line, f"{source.room} may not import {top}"))
        if (source.room in PURE or source.name in PURE_FILES) and top in IMPURE:
            complaints.append(source.complain(line, f"{source.room} is pure and may not import {top}"))
    return list(dict.fromkeys(complaints))


def test_rooms_import_downward_only() -> None:
    complaints = [complaint for source in daemon_sources() for complaint in inward(source)]

    assert not complaints, "\n".join(["", *complaints])


def test_rooms_keep_to_their_outside_modules() -> None:
    complaints = [complaint for source in daemon_sources() for complaint in outward(source)]

    assert not complaints, "\n".join(["", *complaints])


def test_the_client_imports_only_the_light_part_of_belayd() -> None:
    light = {"v1", "wire", "values"}
    complaints = [
        source.complain(line, f"the client may not import {module}")
        for source in find(CLIENT)
        for module, line in source.imports()
        if module.partition(".")[0] == "belayd" and (*module.split("."), "")[1] not in light
    ]

    assert not complaints, "\n".join(["", *complaints])


def test_the_arrows_make_no_circle() -> None:
    graph = {room: targets - {room} for room, targets in ARROWS.items() if room not in EVERYTHING}
    while ends := [room for room, targets in graph.items() if not targets & graph.keys()]:
        graph = {room: targets for room, targets in graph.items() if room not in ends}

    assert graph == {}


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("board.py", "from belayd.rpc import tasks", "board may not import rpc"),
        ("board.py", "def f():\n    import belayd.fleet", "board may not import fleet"),
        ("protocol/rawrepl.py", "from ..session import Session", "protocol may not import session"),
        ("protocol/rawrepl.py", "from time import monotonic", "protocol is pure and may not import time"),
        ("session.py", "import grpc.aio", "session may not import grpc"),
        ("fleet.py", "from serial.tools import list_ports", "fleet may not import serial"),
        ("discovery.py", "import serial", "discovery may not import serial"),
        ("simulation/board.py", "from belayd import errors", "simulation may not import errors"),
        ("fleet.py", "import belayd_client", "the daemon imports its client"),
    ],
)
def test_an_arrow_upward_is_noticed(path: str, text: str, complaint: str) -> None:
    source = Source("belayd", path, text)

    noticed = [line.partition(": ")[2] for line in inward(source) + outward(source)]

    assert noticed == [complaint]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("discovery.py", "from serial.tools.list_ports import comports"),
        ("rpc/tasks.py", "import grpc\nfrom belayd.board import Board"),
        ("transport/process.py", "import pty, os"),
    ],
    ids=["listing ports", "the skin", "a transport"],
)
def test_an_arrow_downward_is_let_through(path: str, text: str) -> None:
    source = Source("belayd", path, text)

    assert inward(source) + outward(source) == []
