from __future__ import annotations

import re
import subprocess
import sys

import pytest

from belayd.__main__ import COMMANDS, main

HEAVY = ["grpc", "pydantic", "yaml", "serial", "google", "prometheus_client", "asyncio"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from belayd.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stderr == "[]\n"
    assert "check" in done.stdout
    assert "discover" in done.stdout


@pytest.mark.parametrize("command", [command.__name__.rpartition(".")[2] for command in COMMANDS])
def test_every_command_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])

    assert left.value.code == 0
    assert re.search(rf"\nexamples?:\n  belayd {command}", capsys.readouterr().out)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("belayd 0.")


@pytest.mark.parametrize("arguments", [[], ["chekc"]], ids=["nothing", "misspelt"])
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)

    assert left.value.code == 2
    assert "usage: belayd" in capsys.readouterr().err


def test_without_the_daemon_s_parts_one_line_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['yaml'] = None\n"
        "from belayd.__main__ import main\n"
        "sys.exit(main(['check', 'lab.yaml']))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert done.stderr == "This is the client's installation; run: pip install 'belayd[daemon]'\n"
