from __future__ import annotations

import pytest

from belayd_client.cli.main import main
from belayd_client.cli.mip import shadowed
from belayd_client.deployment import DeploymentPlan


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["list", "pico-1"], "there is no 'list'"),
        (["install", "pico-1"], "name the packages after the board"),
        (["install", "pico-1", "aioble", "--update"], "name it with --lock FILE"),
    ],
    ids=["another verb", "no package", "an update of nothing"],
)
def test_a_command_line_that_cannot_be_meant_is_refused_before_anybody_is_asked(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mip", *words, "--address", "localhost:1"]) == 2
    assert problem in capsys.readouterr().err


def test_only_source_beside_what_was_installed_hides_it() -> None:
    plan = DeploymentPlan(
        write=("/lib/a.mpy", "/lib/b/__init__.mpy", "/lib/c.py"),
        same=("/lib/d.mpy",),
        delete=(),
        keep=("/lib/a.py", "/lib/b/__init__.py", "/lib/b.py", "/lib/c.mpy", "/lib/d.py", "/lib/e.py"),
        payload_bytes=0,
    )

    assert shadowed(plan) == [
        ("/lib/a.py", "/lib/a.mpy"),
        ("/lib/b/__init__.py", "/lib/b/__init__.mpy"),
        ("/lib/d.py", "/lib/d.mpy"),
    ]
