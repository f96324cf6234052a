from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd.__main__ import main

Write = Callable[[str], str]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write lab.yaml into the folder where we are, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("lab.yaml").write_text(text)
        return "lab.yaml"

    return write


GOOD = """\
version: 1
boards:
  a: {simulated: {}}
  b: {simulated: {}}
  roof: {webrepl: {url: "ws://h", password_env: P}}
adopt:
  - {usb: {vid: 2e8a}, name: "x-{serial_number}"}
"""
BAD = """\
version: 1
boards:
  a: {simulatd: {}}
  b:
    usb: {vid: xyz}
    attach: never
"""


def test_a_right_inventory_is_one_line_and_warnings_stand_apart(
    inventory: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["check", inventory(GOOD)])

    out, err = capsys.readouterr()
    assert code == 0
    assert out == "lab.yaml: 3 boards (1 webrepl, 2 simulated), 1 adopt rule\n"
    assert err.startswith("warning: lab.yaml:5: boards.roof.webrepl: WebREPL is plaintext")


def test_three_mistakes_are_three_lines_on_stderr_with_three_line_numbers(
    inventory: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["check", inventory(BAD)])

    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.splitlines() == [
        "lab.yaml:3: boards.a.simulatd: unknown key; did you mean simulated?",
        "lab.yaml:5: boards.b.usb.vid: xyz is not a USB id; write up to four hexadecimal digits, such as 2e8a",
        "lab.yaml:6: boards.b.attach: never is not known here; permitted: interrupt, passive",
    ]


def test_a_missing_file_is_told_and_not_traced(inventory: Write, capsys: pytest.CaptureFixture[str]) -> None:
    inventory(GOOD)

    assert main(["check", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "nowhere.yaml:1: cannot be read: No such file or directory\n"


def test_json_tells_what_is_right(inventory: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", inventory(GOOD)]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is True
    assert told["boards"] == {"webrepl": 1, "simulated": 2}
    assert told["adopt_rules"] == 1
    assert told["problems"] == []
    assert [warning["line"] for warning in told["warnings"]] == [5]


def test_json_tells_what_is_wrong(inventory: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", inventory(BAD), "--json"]) == 2

    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["valid"] is False
    assert told["problems"][0] == {
        "file": "lab.yaml",
        "line": 3,
        "key": "boards.a.simulatd",
        "message": "unknown key",
        "suggestion": "did you mean simulated?",
    }


def test_the_schema_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--schema"]) == 0

    assert json.loads(capsys.readouterr().out)["title"] == "belayd inventory"


def test_no_file_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["check"])

    assert left.value.code == 2
    assert "name the inventory, such as: belayd check lab.yaml" in capsys.readouterr().err


def test_the_installed_command_checks_a_file(inventory: Write) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "belayd", "check", inventory(BAD)], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    assert [line.split(":")[:2] for line in done.stderr.splitlines()] == [
        ["lab.yaml", "3"],
        ["lab.yaml", "5"],
        ["lab.yaml", "6"],
    ]
