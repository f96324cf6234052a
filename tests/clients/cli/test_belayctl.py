"""belayctl as a user has it: a process, its output, its exit code."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from belayd.v1 import boards_pb2, tasks_pb2


@pytest.fixture
def run(belayctl, environment):
    """Run belayctl to its end."""

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*belayctl, *words], env={**environment, **more}, capture_output=True, text=True, timeout=60
        )

    return run


def token_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "belayd" / "leases").glob("*"))


def test_boards_are_a_table_or_json(run) -> None:
    table, parsed = run("boards"), run("boards", "-l", "chip=rp2", "--json")

    lines = table.stdout.splitlines()
    assert lines[0].split() == ["BOARD", "STATE", "HOLDER", "UNTIL", "QUEUE", "LABELS"]
    assert lines[1].split() == ["esp-1", "ready", "-", "-", "0", "chip=esp32"]
    assert len(lines) == 4
    assert [board["name"] for board in json.loads(parsed.stdout)] == ["pico-1", "pico-2"]
    assert (table.stderr, table.returncode) == ("", 0)


@pytest.mark.parametrize("before", [True, False])
def test_the_address_may_stand_before_the_command_or_after(run, lab, before: bool) -> None:
    option = ["--address", lab.address]

    done = run(
        *(option if before else []), "boards", *([] if before else option), BELAYD_ADDRESS="localhost:1"
    )

    assert done.returncode == 0


def test_watching_prints_a_line_for_each_change(belayctl, environment, lab) -> None:
    with subprocess.Popen(
        [*belayctl, "boards", "--watch", "-l", "chip=rp2"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGINT)

        assert [line.split("\t")[0] for line in first] == ["pico-1", "pico-2"]
        assert process.wait(30) == 130


def test_watching_draws_the_table_anew_on_a_terminal(terminal, lab) -> None:
    shell = terminal("boards", "--watch", "-l", "chip=rp2")
    shell.expect("pico-2 .*\r\n")

    lab.changes.put(boards_pb2.WatchBoardsResponse(removed=["boards/pico-1"]))
    shell.expect("\x1b\\[H\x1b\\[J(.*)pico-2")
    drawn = shell.match[1]
    shell.interrupt()

    assert shell.finish() == 130
    assert "BOARD" in drawn
    assert "pico-1" not in drawn


def test_watching_as_json_is_one_object_a_line(belayctl, environment, lab) -> None:
    words = [*belayctl, "boards", "--watch", "--json"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)

        assert len(first["boards"]) == 3
        assert process.wait(30) == 130


def test_info_tells_of_one_board(run) -> None:
    assert "chip=esp32" in run("info", "esp-1").stdout
    assert json.loads(run("info", "esp-1", "--json").stdout)["labels"] == {"chip": "esp32"}


def test_an_unknown_board_is_refused_with_one_line(run) -> None:
    done = run("info", "pico-9")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "belayctl: there is no board pico-9\n"


def test_nobody_at_the_address_is_exit_code_4(run, unused_address: str) -> None:
    done = run("boards", "--address", unused_address)

    assert done.returncode == 4
    assert unused_address in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("REQUEST_INVALID", 3),
        ("PERMISSION_DENIED", 3),
        ("UNSUPPORTED", 3),
        ("READ_ONLY", 3),
        ("BOARD_FULL", 3),
        ("INTERNAL", 3),
        ("BOARD_LEASED", 5),
        ("BOARD_OFFLINE", 5),
        ("BOARD_QUARANTINED", 5),
        ("DRAINING", 5),
        ("QUEUE_FULL", 5),
        ("LEASE_BROKEN", 5),
        ("RUN_TIMEOUT", 6),
        ("TRANSPORT_LOST", 6),
    ],
)
def test_each_refusal_has_its_exit_code_and_is_one_line(run, lab, reason: str, code: int) -> None:
    lab.failures["ResetBoard"] = (grpc.StatusCode.ABORTED, reason, f"pico-1: {reason}\x1b[2J", {})

    done = run("reset", "pico-1")

    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == f"belayctl: pico-1: {reason}\\x1b[2J"


def test_exec_prints_what_the_board_prints_and_nothing_else(run) -> None:
    done = run("exec", "pico-1", "print('a'); print('b', end='')")

    assert (done.stdout, done.stderr, done.returncode) == ("a\nb", "", 0)


def test_code_that_starts_with_a_dash_follows_two_dashes(run) -> None:
    assert run("eval", "pico-1", "--", "-1").stdout == "-1\n"


def test_output_into_a_pipe_is_byte_by_byte(belayctl, environment, lab) -> None:
    lab.run = lambda request, context: iter(
        [
            tasks_pb2.RunTaskResponse(output=bytes(range(256))),
            tasks_pb2.RunTaskResponse(result=tasks_pb2.TaskResult(value={"none": {}})),
        ]
    )

    done = subprocess.run(
        [*belayctl, "exec", "pico-1", "x"], env=environment, capture_output=True, timeout=60
    )

    assert done.stdout == bytes(range(256))


@pytest.mark.parametrize(("option", "shown"), [([], "red \\x1b[31m!"), (["--raw"], "red \x1b[31m!")])
def test_escapes_are_neutral_on_a_terminal_unless_raw(terminal, option, shown: str) -> None:
    shell = terminal("exec", "pico-1", "print('red \\x1b[31m!')", *option)

    assert shell.finish() == 0
    assert shell.before.strip() == shown


def test_partial_lines_are_live(belayctl, environment, lab) -> None:
    def run(request, context):
        yield tasks_pb2.RunTaskResponse(output=b"half a li")
        lab.ended.wait(60)

    lab.run = run
    with subprocess.Popen(
        [*belayctl, "exec", "pico-1", "x"], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None

        assert process.stdout.read(9) == b"half a li"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_output_that_finds_no_room_is_said(belayctl, environment, lab) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*belayctl, "boards"], env=environment, stdout=full, stderr=subprocess.PIPE)

    assert done.returncode == 3
    assert done.stderr == b"belayctl: cannot write all of the output: No space left on device\n"


def test_code_that_raises_is_exit_code_1_with_the_boards_traceback(run) -> None:
    done = run("exec", "pico-1", "raise ValueError('no')")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("ValueError: no\n")


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("1 + 1", "2\n"),
        ("'a'", "'a'\n"),
        ("[1, (2,), b'\\x00']", "[1, (2,), b'\\x00']\n"),
        ("None", "None\n"),
    ],
)
def test_eval_prints_the_value_as_python_writes_it(run, expression: str, printed: str) -> None:
    assert run("eval", "pico-1", expression).stdout == printed


@pytest.mark.parametrize(
    ("expression", "described"),
    [
        ("{'a': [1, 2.5, None]}", {"type": "dict", "value": {"a": [1, 2.5, None]}}),
        ("b'\\x00'", {"type": "bytes"}),
        ("float('nan')", {"type": "float"}),
        ("(1, 2)", {"type": "tuple"}),
        ("{1: 2}", {"type": "dict"}),
    ],
)
def test_eval_as_json_holds_the_value_only_where_json_can(run, expression: str, described) -> None:
    read = json.loads(run("eval", "pico-1", expression, "--json").stdout)

    assert read.pop("board") == "pico-1"
    assert read.pop("repr")
    assert read == described


def test_what_an_evaluated_expression_prints_goes_to_stderr(run) -> None:
    done = run("eval", "pico-1", "print('aside') or 1")

    assert (done.stdout, done.stderr) == ("1\n", "aside\n")


def test_a_file_and_stdin_are_run(run, belayctl, environment, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('from a file')\n")

    piped = subprocess.run(
        [*belayctl, "run", "pico-1", "-"],
        input="print('from stdin')",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run("run", "pico-1", str(tmp_path / "a.py")).stdout == "from a file\n"
    assert piped.stdout == "from stdin\n"


def test_a_file_that_is_not_utf8_is_a_usage_error(run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = '\xff'")

    done = run("run", "pico-1", str(tmp_path / "a.py"))

    assert done.returncode == 2
    assert "not UTF-8" in done.stderr


def test_several_boards_are_prefixed_and_each_outcome_is_told(run, lab) -> None:
    lab.globals["pico-2"] = {"bad": True}

    done = run("exec", "-l", "chip=rp2", "print('hello')\nif 'bad' in globals(): raise ValueError('no')")

    assert sorted(done.stdout.splitlines()) == ["pico-1 | hello", "pico-2 | hello"]
    assert done.stderr.splitlines()[-3:] == [
        "belayctl: pico-1  done",
        "belayctl: pico-2  ValueError: no",
        "belayctl: 1 of 2 boards done",
    ]
    assert done.returncode == 1


def test_several_values_are_told_by_board(run) -> None:
    done = run("eval", "-l", "chip=rp2", "7", "--json")

    assert [(value["board"], value["value"]) for value in json.loads(done.stdout)] == [
        ("pico-1", 7),
        ("pico-2", 7),
    ]
    assert run("eval", "-l", "chip=rp2", "7").stdout == "pico-1 | 7\npico-2 | 7\n"


def test_a_selector_that_matches_nothing_is_refused(run) -> None:
    done = run("exec", "-l", "chip=z80", "1")

    assert done.returncode == 3
    assert "no board matches chip=z80" in done.stderr


@pytest.mark.parametrize("aim", [["pico-1"], ["-l", "chip=rp2"]])
def test_ctrl_c_cancels_the_run_and_exits_130(belayctl, environment, lab, aim: list[str]) -> None:
    def run(request, context):
        yield tasks_pb2.RunTaskResponse(output=b"running\n")
        lab.ended.wait(60)

    lab.run = run
    with subprocess.Popen(
        [*belayctl, "exec", *aim, "while True: pass"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"running\n")

        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
        assert b"Traceback" not in process.stderr.read()
    assert lab.ended.wait(30)


def test_a_closed_pipe_ends_quietly(belayctl, environment, lab) -> None:
    def run(request, context):
        while context.is_active():
            yield tasks_pb2.RunTaskResponse(output=b"on and on\n")

    lab.run = run
    with subprocess.Popen(
        [*belayctl, "exec", "pico-1", "x"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()

        assert process.wait(30) == 141
        assert process.stderr.read() == b""
    assert lab.ended.wait(30)


def test_a_leased_board_is_busy_unless_waited_for(run, lab, belayctl, environment) -> None:
    holder = {**environment, "XDG_STATE_HOME": environment["HOME"] + "/other"}
    subprocess.run([*belayctl, "acquire", "pico-1"], env=holder, check=True, capture_output=True, timeout=60)

    refused = run("exec", "pico-1", "print(1)")
    with subprocess.Popen(
        [*belayctl, "exec", "pico-1", "print(1)", "--wait", "60s"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        told = waiting.stderr.readline()
        subprocess.run([*belayctl, "release", "pico-1"], env=holder, check=True, timeout=60)

        assert waiting.stdout.read() == "1\n"
        assert waiting.wait(30) == 0
    assert refused.returncode == 5
    assert told == "belayctl: waiting for pico-1: place 1 in the queue\n"
    assert lab.held == {}


def test_an_acquired_board_serves_the_next_commands_until_released(run, lab, tmp_path: Path) -> None:
    acquired = run("acquire", "pico-1", "--reason", "test")
    (file,) = token_files(tmp_path)

    assert acquired.stdout.split()[1:3] == ["pico-1", "until"]
    assert str(file) in acquired.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert run("exec", "pico-1", "print(1)").stdout == "1\n"
    assert "test" in run("leases").stdout
    assert run("renew", "pico-1", "--ttl", "1h").returncode == 0
    assert run("release", "pico-1").returncode == 0
    assert token_files(tmp_path) == []
    assert lab.held == {}


def test_acquiring_as_json_prints_the_token(run, lab) -> None:
    read = json.loads(run("acquire", "-l", "chip=esp32", "--ttl", "30s", "--json").stdout)

    assert (read["board"], read["ttl"]) == ("esp-1", 30)
    assert list(lab.held) == [read["token"]]


def test_a_named_token_file_and_the_environments_token_are_used(run, tmp_path: Path) -> None:
    token = json.loads(run("acquire", "pico-1", "--json", XDG_STATE_HOME=str(tmp_path / "x")).stdout)["token"]
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(token)

    assert run("exec", "pico-1", "print(1)").returncode == 5
    assert run("exec", "pico-1", "print(1)", "--lease", str(file)).returncode == 0
    assert run("exec", "pico-1", "print(1)", BELAYD_LEASE=token).returncode == 0
    assert run("exec", "pico-1", "print(1)", BELAYD_LEASE=token, BELAYD_BOARD="pico-1").returncode == 0
    assert run("exec", "pico-2", "print(1)", BELAYD_LEASE="other", BELAYD_BOARD="pico-1").returncode == 0


def test_a_lease_that_the_daemon_has_forgotten_is_a_lost_one(run, lab, tmp_path: Path) -> None:
    run("acquire", "pico-1")
    lab.failures["RunTask"] = (grpc.StatusCode.NOT_FOUND, "LEASE_NOT_FOUND", "no such lease", {})

    done = run("exec", "pico-1", "print(1)")

    assert done.returncode == 5
    assert token_files(tmp_path) == []


def test_a_lost_lease_is_told_once_and_then_forgotten(run, lab, tmp_path: Path) -> None:
    run("acquire", "pico-1")
    lab.lose_leases()

    first, second = run("exec", "pico-1", "print(1)"), run("exec", "pico-1", "print(1)")

    assert (first.returncode, first.stdout) == (5, "")
    assert "your lease is over" in first.stderr
    assert token_files(tmp_path) == []
    assert second.stdout == "1\n"


@pytest.mark.parametrize("command", ["renew", "release"])
def test_without_a_lease_there_is_nothing_to_renew_or_release(run, command: str) -> None:
    done = run(command, "pico-1")

    assert done.returncode == 3
    assert "belayctl acquire pico-1" in done.stderr


def test_a_board_that_is_taken_is_not_acquired(run) -> None:
    run("acquire", "pico-1")

    mine = run("acquire", "pico-1", "--wait", "50ms")
    stranger = run("acquire", "pico-1", XDG_STATE_HOME="/nonexistent")

    assert (mine.returncode, stranger.returncode) == (5, 5)
    assert "is leased by" in stranger.stderr
    assert "a lease of yours on pico-1 is known here" in mine.stderr
    assert "yours" not in stranger.stderr


def test_a_token_that_cannot_be_kept_gives_the_board_back(run, lab) -> None:
    done = run("acquire", "pico-1", XDG_STATE_HOME="/proc/nowhere")

    assert done.returncode == 2
    assert "given back" in done.stderr
    assert lab.held == {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    root.mkdir()
    (root / "main.py").write_text("print(1)\n")
    (root / "x.md").write_text("# x\n")
    return root


def test_a_deployment_reports_each_board(run, lab, folder: Path) -> None:
    one = run("deploy", "pico-1", str(folder), "--ignore", "*.md")
    many = run("deploy", "-l", "chip=rp2", str(folder), "--ignore", "*.md")

    assert one.stdout.startswith("pico-1: 1 written, 0 same, 0 deleted; 9 bytes in ")
    assert one.stderr == ""
    assert [line.partition(";")[0] for line in many.stdout.splitlines()] == [
        "pico-1: 0 written, 1 same, 0 deleted",
        "pico-2: 1 written, 0 same, 0 deleted",
    ]
    assert lab.files["pico-2"] == {"/main.py": b"print(1)\n"}


def test_a_dry_run_prints_the_plan_and_changes_nothing(run, lab, folder: Path) -> None:
    done = run("deploy", "pico-1", str(folder), "--dst", "/app", "--dry-run")

    assert done.stdout.splitlines() == [
        "pico-1: write  /app/main.py",
        "pico-1: write  /app/x.md",
        "pico-1: would write 2 files, 13 bytes; skip 0, 0 bytes; delete 0, keep 0",
    ]
    assert lab.files["pico-1"] == {}


def test_a_deployment_as_json_is_its_summary(run, folder: Path) -> None:
    read = json.loads(run("deploy", "pico-1", str(folder), "--json").stdout)

    assert (read["board"], read["files_written"]) == ("pico-1", 2)


def test_a_folder_that_cannot_be_deployed_sends_nothing(run, lab, folder: Path) -> None:
    (folder / "new\nline").touch()

    done = run("deploy", "pico-1", str(folder))

    assert done.returncode == 3
    assert "control character" in done.stderr
    assert lab.requests == []


def test_a_terminal_shows_progress(terminal, folder: Path) -> None:
    shell = terminal("deploy", "pico-1", str(folder))

    assert shell.finish() == 0
    assert "100%" in shell.before
    assert "13/13 bytes" in shell.before
    assert shell.before.rstrip().rpartition("\x1b[K")[2].startswith("pico-1: 2 written")


def test_latency_measures_calls_and_leaves_nothing_on_the_board(run, lab) -> None:
    read = json.loads(run("latency", "pico-1", "-n", "20", "--json").stdout)

    assert read["calls"] == 20
    assert 0 < read["minimum_seconds"] <= read["median_seconds"] <= read["p99_seconds"]
    assert not [name for name in lab.globals["pico-1"] if "latency" in name]
    assert run("latency", "pico-1", "-n", "3").stdout.startswith("pico-1: 3 calls, min ")


def test_no_lease_file_is_read_for_a_name_that_is_no_board(run, tmp_path: Path) -> None:
    done = run("exec", "../../../secret", "print(1)")

    assert done.returncode == 3
    assert not token_files(tmp_path)


def test_ctrl_c_during_a_call_cancels_it_too(belayctl, environment, lab) -> None:
    begun = threading.Event()

    def call(request, context):
        lab.ended.clear()
        begun.set()
        lab.ended.wait(60)

    lab.call = call

    with subprocess.Popen([*belayctl, "latency", "pico-1"], env=environment) as process:
        assert begun.wait(30)
        process.send_signal(signal.SIGINT)

        assert process.wait(30) == 130
    assert lab.ended.wait(30)
