"""`belayd certs`, as a process: its files make a real TLS connection on both sides."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest


def certs(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belayd", "certs", *words, "--state", state]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    assert certs(tmp_path, "init").returncode == 0
    return tmp_path


def test_an_authority_is_made_once_and_its_key_is_warned_of(tmp_path: Path) -> None:
    first, second = certs(tmp_path, "init", "--name", "north"), certs(tmp_path, "init")

    assert first.stdout.strip() == str(tmp_path / "certs" / "ca.pem")
    assert "from everybody" in first.stderr
    assert (second.returncode, second.stdout) == (2, "")
    assert "already" in second.stderr


def test_what_it_issues_connects_a_caller_to_a_server(state: Path) -> None:
    server = certs(state, "issue", "localhost", "--server")
    caller = certs(state, "issue", "ann@desk")
    assert (server.returncode, caller.returncode) == (0, 0), server.stderr + caller.stderr
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=state / "certs" / "ca.pem")
    serving.load_cert_chain(*server.stdout.split())
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = ssl.create_default_context(cafile=state / "certs" / "ca.pem")
    calling.load_cert_chain(*caller.stdout.split())
    shown = []

    with socket.create_server(("localhost", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with serving.wrap_socket(plain, server_side=True) as connection:
                shown.append(connection.getpeercert()["subjectAltName"])
                connection.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listening.getsockname(), timeout=30) as plain,
            calling.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.recv(5) == b"hello"
        thread.join(30)

    assert shown == [(("email", "ann@desk"),)]


@pytest.mark.parametrize(
    "words",
    [
        ("issue", "local"),
        ("issue", "ann", "bob"),
        ("issue", "ann", "--days", "0"),
        ("issue", "a/b", "--server"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_issued_exits_with_2_and_a_reason(state: Path, words: tuple[str, ...]) -> None:
    done = certs(state, *words)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_authority_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = certs(tmp_path, "issue", "ann")

    assert (done.returncode, done.stdout) == (2, "")
    assert "belayd certs init" in done.stderr
