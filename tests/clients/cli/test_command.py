from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from belayd_client.cli.command import duration
from belayd_client.cli.latency import summarise
from belayd_client.cli.main import main

WORDS = ["boards", "info", "acquire", "renew", "hold", "release", "leases"]
WORDS += ["exec", "eval", "run", "deploy", "reset", "latency"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("1.5s", 1.5),
        ("30", 30),
        ("0s", 0),
        (" 5s ", 5),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "5x", "s", "-5s", "1h1h", "5s1m", "1.2.3s", "5 s", "1e3", "٣s", "."]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert [word for word in WORDS if f"\n  {word} " not in shown] == []
    assert "exit codes: 0 done, 1 the code on the board raised" in shown


@pytest.mark.parametrize(
    "command",
    [
        "boards",
        "info",
        "acquire",
        "renew",
        "hold",
        "release",
        "leases",
        "exec",
        "eval",
        "run",
        "deploy",
        "reset",
        "latency",
    ],
)
def test_each_command_explains_itself_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"example:\n  belayctl {command}" in shown
    assert "--address HOST:PORT" in shown


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["boards", "--frobnicate"],
        ["info"],
        ["exec", "print(1)"],
        ["exec", "pico-1", "-l", "chip=rp2", "print(1)"],
        ["exec", "pico-1", "print(1)", "--timeout", "soon"],
        ["acquire"],
        ["acquire", "pico-1", "-l", "chip=rp2"],
        ["hold", "pico-1"],
        ["hold", "--", "true"],
        ["latency", "pico-1", "-n", "0"],
        ["run", "pico-1", "no-such-file.py"],
        ["deploy", "src"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code

    assert code == 2
    assert capsys.readouterr().out == ""


def test_help_and_usage_errors_import_no_grpc() -> None:
    program = (
        "import sys\nfrom belayd_client.cli.main import main\n"
        "try:\n main(['exec', '--help'])\nexcept SystemExit:\n pass\n"
        "main(['hold', 'pico-1'])\n"
        "heavy = {'grpc', 'google', 'asyncio', 'concurrent', 'pathspec', 'belayd'}\n"
        "print('imported:', sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    ("times", "median", "p99"),
    [
        ([0.25], 0.25, 0.25),
        ([0.5, 0.25], 0.375, 0.5),
        ([n / 1000 for n in range(1, 1001)], 0.5005, 0.99),
    ],
)
def test_latency_figures_are_those_of_the_times(times: list[float], median: float, p99: float) -> None:
    figures = summarise(times)

    assert figures["median_seconds"] == pytest.approx(median)
    assert figures["p99_seconds"] == pytest.approx(p99)
    assert figures["minimum_seconds"] == min(times)
    assert figures["calls_per_second"] == pytest.approx(len(times) / sum(times))
