"""What `belayctl deploy` makes of its words: trees for each board, and refusals before anything is sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from belayd.v1 import deployments_pb2

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PICO = 0x06 | 0x100 | 4 << 10  # 1.20 on an RP2040
ESP = 0x06 | 0x300 | 10 << 10  # 1.23 and later on an ESP32
NATIVE = "import micropython\n@micropython.native\ndef f():\n    return 1\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run(belayctl: tuple[str, ...], environment: dict[str, str], cache: str, tmp_path: Path) -> Run:
    def run(*words: str | Path, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        # pip warns of itself under the -W error of our own tests.
        settings = {**environment, "XDG_CACHE_HOME": cache, "PYTHONWARNINGS": "default"}
        return subprocess.run(
            [*belayctl, "deploy", *words],
            env=settings,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "main.py").write_text("import fast  # at once\n")
    (folder / "fast.py").write_text(NATIVE)
    return folder


def test_boards_of_one_selector_get_what_each_can_load(run: Run, lab, src: Path) -> None:
    lab.mpy = {"pico-1": PICO, "esp-1": ESP}
    lab.boards = {name: {"kind": "board"} for name in lab.mpy}

    done = run("-l", "kind=board", src, "--mpy")

    assert done.returncode == 0, done.stderr
    assert set(lab.files["pico-1"]) == set(lab.files["esp-1"]) == {"/main.py", "/fast.mpy"}
    pico, esp = lab.files["pico-1"]["/fast.mpy"], lab.files["esp-1"]["/fast.mpy"]
    assert (pico[1], pico[2] & 3, pico[2] >> 2) == (6, 1, 4)
    assert (esp[1], esp[2] & 3, esp[2] >> 2) == (6, 3, 10)


def test_a_board_that_takes_none_fails_alone(run: Run, lab, src: Path) -> None:
    lab.mpy = {"pico-1": PICO, "pico-2": 0}

    done = run("-l", "chip=rp2", src, "--mpy")

    assert done.returncode == 3
    assert "pico-2 takes .mpy files not at all" in done.stderr
    assert set(lab.files) == {"pico-1"}


def test_a_board_that_never_answered_is_unavailable(run: Run, lab, src: Path) -> None:
    done = run("pico-1", src, "--mpy")

    assert done.returncode == 5
    assert "pico-1 has not answered yet" in done.stderr
    assert lab.files == {}


def test_one_board_for_which_a_file_cannot_be_compiled_stops_all(run: Run, lab, src: Path) -> None:
    lab.mpy = {"pico-1": PICO, "pico-2": 0x306}

    done = run("-l", "chip=rp2", src, "--mpy")

    assert done.returncode == 3
    assert "fast.py" in done.stderr
    assert lab.files == {}
    assert not any(isinstance(request, deployments_pb2.DeployRequest) for request in lab.requests)


def test_what_hid_the_compiled_file_goes_and_nothing_else(run: Run, lab, src: Path) -> None:
    lab.mpy = {"pico-1": PICO}

    assert run("pico-1", src, "--mpy").returncode == 0

    [request] = [request for request in lab.requests if isinstance(request, deployments_pb2.DeployRequest)]
    assert (request.prune, list(request.keep)) == (True, ["*", "!/fast.py"])


def test_flags_reach_the_daemon(run: Run, lab, src: Path) -> None:
    assert run("pico-1", src, "--in-place", "--no-rollback", "--minify").returncode == 0

    [request] = [request for request in lab.requests if isinstance(request, deployments_pb2.DeployRequest)]
    assert (request.in_place, request.without_rollback, request.prune) == (True, True, False)
    assert lab.files["pico-1"]["/main.py"] == b"import fast\n"


def test_the_project_here_needs_no_folder(run: Run, lab, src: Path, tmp_path: Path) -> None:
    (tmp_path / "belayd.toml").write_text('sources = ["src"]\ndestination = "/app"\nminify = true\n')

    assert run("pico-1").returncode == 0
    assert run("pico-2", "--no-minify", "--dst", "/").returncode == 0

    assert lab.files["pico-1"]["/app/main.py"] == b"import fast\n"
    assert lab.files["pico-2"]["/main.py"] == b"import fast  # at once\n"


def test_a_mistake_in_the_settings_is_told_with_file_and_key(run: Run, lab, src: Path) -> None:
    (src / "belayd.toml").write_text("mpy = 'yes'\n")

    done = run("pico-1", src)

    assert done.returncode == 3
    assert "belayd.toml: mpy: write true or false, not 'yes'" in done.stderr
    assert lab.requests == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pico-1"], "here is no belayd.toml"),
        (["-l", "chip=rp2"], "here is no belayd.toml"),
        (["pico-1", "src", "--canary", "1", "--dry-run"], "no dry run"),
        (["pico-1", "src", "--rollback"], "takes no DIR"),
        (["-l", "chip=rp2", "--rollback", "--canary", "1"], "takes no --canary"),
        (["-l", "chip=rp2", "--rollback", "--max-failures", "0"], "takes no --max-failures"),
        (["pico-1", "--rollback", "--dst", "/app"], "takes no --dst"),
        (["pico-1", "--rollback", "--prune"], "takes no --prune"),
        (["pico-1", "src", "--check-timeout", "5s"], "--check-timeout is of a rollout"),
        (["pico-1", "src", "--reason", "new"], "--reason is of a rollout"),
        (["pico-1", "src", "--max-failures", "0", "--dry-run"], "no dry run"),
        (["pico-1", "src", "--canary", "many"], "not a number of boards"),
        (["pico-1", "src", "--check", "1", "--check-file", "x.py"], "not allowed with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_a_usage_error(
    run: Run, lab, src: Path, words: list[str], message: str
) -> None:
    done = run(*words)

    assert done.returncode == 2
    assert message in done.stderr
    assert lab.requests == []
