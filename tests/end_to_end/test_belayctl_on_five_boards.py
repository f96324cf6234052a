"""Four simulated boards and a micro:bit in QEMU on a pty, from a second shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SIMULATED = ["sim-1", "sim-2", "sim-3", "sim-4"]
ALL = ["bit-1", *SIMULATED]


@pytest.fixture
def lab(daemon, sim, microbit_port: Path):
    bit = {"serial": {"port": str(microbit_port)}, "labels": {"chip": "nrf51"}}
    return daemon({**dict.fromkeys(SIMULATED, sim), "bit-1": bit})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "tide.py").write_text("def height(hour):\n    return hour * hour\n")
    (folder / "sea.py").write_text("import sys\nsys.path.append('/lib')\nimport tide\n")
    return folder


def test_code_runs_on_all_five_boards(lab, tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text("import sys\nprint(sys.implementation[0])\nprint('line', 2)\n")

    boards = json.loads(lab.belayctl("boards", "--json").stdout)
    printed = lab.belayctl("exec", "-l", "chip", "print(6 * 7)")
    value = lab.belayctl("eval", "bit-1", "[1, 'two', (3,)]")
    ran = [lab.belayctl("run", name, tmp_path / "ask.py").stdout for name in ("sim-4", "bit-1")]

    assert [(board["name"], board["state"]) for board in boards] == [(name, "ready") for name in ALL]
    assert printed.returncode == 0, printed.stderr
    assert sorted(printed.stdout.splitlines()) == ["bit-1 | 42", *(f"{name} | 42" for name in SIMULATED)]
    assert value.stdout == "[1, 'two', (3,)]\n"
    assert ran == ["micropython\nline 2\n"] * 2


def test_a_tree_goes_to_the_boards_that_can_take_it(lab, project: Path) -> None:
    deployed = lab.belayctl("deploy", "-l", "chip=sim", project)
    refused = lab.belayctl("deploy", "bit-1", project)
    used = lab.belayctl("exec", "sim-3", "import sea; print(sea.tide.height(5))")
    after = lab.belayctl("eval", "bit-1", "2 ** 10")

    assert deployed.returncode == 0, deployed.stderr
    assert [line.partition(";")[0] for line in deployed.stdout.splitlines()] == [
        f"{name}: 2 written, 0 same, 0 deleted" for name in SIMULATED
    ]
    assert used.stdout == "25\n", used.stderr
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "no hashlib" in refused.stderr
    assert after.stdout == "1024\n", after.stderr
