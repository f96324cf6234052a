"""What the next holder finds on a board: wiped, deployed to, or not handed over at all."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from belayd_client import Client, OperatorNeeded

PATIENCE = 30.0
PASSWORD = "s3cret-9"
LEAVE = """\
import os
os.mkdir('/lib')
for name in ('boot.py', 'main.py', 'secret.txt', 'lib/left.py'):
    with open('/' + name, 'w') as file:
        file.write('x = 1')
"""
# A thread that puts its file back for as long as it lives.
HYDRA = """\
import _thread
def grow():
    while True:
        try:
            with open('/boot.py', 'w') as file:
                file.write('x = 1')
        except OSError:
            pass
_thread.start_new_thread(grow, ())
"""
LIST = "sorted(__import__('os').listdir('/'))"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder for boards."""
    (tmp_path / "clean" / "lib").mkdir(parents=True)
    (tmp_path / "clean" / "main.py").write_text("clean = 1\n")
    (tmp_path / "clean" / "lib" / "a.py").write_text("a = 1\n")
    return tmp_path / "clean"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[str]:
    """The WebREPL address of a simulated board."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    words = [sys.executable, "-m", "belayd.simulation", tmp_path / "roof", "--webrepl", "0"]
    process = subprocess.Popen([*words, "--password-file", secret], stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        yield process.stdout.readline().decode().split()[-1]
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


def use(client: Client, source: str, board: str = "sim-1") -> None:
    with client.acquire(board, ttl=60) as lease:
        client.run(board, source, lease=lease)


def found(client: Client, board: str = "sim-1") -> object:
    """Return the files that the next holder finds."""
    with client.acquire(board, ttl=60, wait=PATIENCE) as lease:
        return client.evaluate(board, LIST, lease=lease, timeout=PATIENCE)


@pytest.mark.parametrize("flash", [{}, {"flash": 1024}], ids=["folder", "littlefs"])
def test_a_wiped_board_has_nothing_left_for_its_next_holder(daemon: Callable, flash: dict) -> None:
    client = daemon({"sim-1": {"simulated": flash, "between": "wipe"}}).client

    use(client, LEAVE)

    assert found(client) == []


def test_a_deployed_board_has_the_folders_files_as_they_were_read(
    daemon: Callable, tree: Path, tmp_path: Path
) -> None:
    lab = daemon({"sim-1": {"simulated": {}, "between": {"deploy": str(tree)}}})
    (tree / "main.py").write_text("changed = 1\n")

    use(lab.client, LEAVE)

    assert found(lab.client) == ["lib", "main.py"]
    assert lab.client.evaluate("sim-1", "open('/main.py').read()") == "clean = 1\n"
    with Client(f"unix:{lab.folder / 'state' / 'belayd.sock'}") as operator:
        [change] = operator.reload().changes
    assert change.details == (
        f"between: deploy {tree} (2 files, 16 bytes) -> deploy {tree} (2 files, 18 bytes)",
    )
    use(lab.client, "x = 1")
    assert found(lab.client) == ["lib", "main.py"]
    assert lab.client.evaluate("sim-1", "open('/main.py').read()") == "changed = 1\n"
    assert lab.metric("belayd_reconnects_total") == 0


@pytest.mark.parametrize("under_lease", [True, False], ids=["lease", "none"])
def test_only_what_a_lease_leaves_is_wiped(daemon: Callable, until: Callable, under_lease: bool) -> None:
    client = daemon({"sim-1": {"simulated": {}, "between": "wipe"}}).client
    client.run("sim-1", LEAVE)

    with client.acquire("sim-1", ttl=60) as lease:
        client.evaluate("sim-1", "1", lease=lease) if under_lease else None

    until(lambda: client.board("sim-1").state.value == "ready")
    left = client.evaluate("sim-1", LIST, timeout=PATIENCE)
    assert left == ([] if under_lease else ["boot.py", "lib", "main.py", "secret.txt"])


def test_what_a_holders_thread_puts_back_is_gone_as_well(daemon: Callable) -> None:
    client = daemon({"sim-1": {"simulated": {}, "between": "wipe"}}).client

    use(client, HYDRA)

    assert found(client) == []


def test_a_board_that_cannot_be_brought_there_is_not_handed_over(
    daemon: Callable, tree: Path, until: Callable
) -> None:
    (tree / "large.bin").write_bytes(os.urandom(600 * 1024))
    lab = daemon({"sim-1": {"simulated": {"flash": 512}, "between": {"deploy": str(tree)}}})
    client = lab.client

    use(client, "x = 1")

    until(lambda: client.board("sim-1").state.value == "quarantined")
    assert "not in the state for its next holder" in client.board("sim-1").state_reason
    assert "bytes free" in client.board("sim-1").state_reason
    assert lab.metric("belayd_board_quarantined", board="sim-1", reason="between") == 1
    with pytest.raises(OperatorNeeded):
        client.evaluate("sim-1", "1")

    (tree / "large.bin").unlink()
    with Client(f"unix:{lab.folder / 'state' / 'belayd.sock'}") as operator:
        operator.reload()

    assert found(client) == ["lib", "main.py"]


def test_a_daemon_killed_before_its_board_is_clean_cleans_it_at_its_next_start(
    daemon: Callable, until: Callable
) -> None:
    lab = daemon({"sim-1": {"simulated": {}, "between": "wipe"}})
    lease = lab.client.acquire("sim-1", ttl=60)
    lab.client.run("sim-1", LEAVE, lease=lease)
    lease.release()
    lab.kill()

    again = lab.again()

    assert found(again.client) == []


def test_a_passive_board_is_cleaned_and_runs_what_was_deployed(
    daemon: Callable, tree: Path, until: Callable
) -> None:
    (tree / "main.py").write_text("with open('/ran', 'w') as file: file.write('1')\nprint('mine')\n")
    lab = daemon({"sim-1": {"simulated": {}, "attach": "passive", "between": {"deploy": str(tree)}}})

    use(lab.client, LEAVE)

    folder = lab.folder / "state" / "boards" / "sim-1"
    until(lambda: (folder / "ran").exists())
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "lib",
        "main.py",
        "ran",
    ]


@pytest.mark.parametrize("between", ["wipe", "deploy"])
def test_a_board_over_webrepl_is_cleaned_across_its_lost_connections(
    daemon: Callable, door: str, tree: Path, tmp_path: Path, between: str
) -> None:
    asked = {"wipe": "wipe", "deploy": {"deploy": str(tree)}}[between]
    webrepl = {"url": door, "password_file": str(tmp_path / "password")}
    client = daemon({"roof": {"webrepl": webrepl, "between": asked}}).client

    use(client, LEAVE + "open('/webrepl_cfg.py', 'w').close()\n", "roof")

    doors = ["boot.py", "webrepl_cfg.py"]
    assert found(client, "roof") == {"wipe": doors, "deploy": sorted([*doors, "lib", "main.py"])}[between]


def test_check_tells_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    boards = {"sim-1": {"simulated": {}, "between": {"deploy": "nowhere"}}}
    (tmp_path / "lab.yaml").write_text(json.dumps({"version": 1, "boards": boards}))

    done = subprocess.run(
        [sys.executable, "-m", "belayd", "check", tmp_path / "lab.yaml"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert f"boards.sim-1.between: {tmp_path / 'nowhere'} is not a folder" in done.stderr
