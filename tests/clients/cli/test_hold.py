"""belayctl hold: another program under a lease."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

# Says that it runs, then waits; ends with 7 on SIGTERM, 8 on SIGINT.
PATIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.signal(signal.SIGINT, lambda *_: sys.exit(8))
print("running", flush=True)
while True:
    time.sleep(0.05)  # Not pause(): a signal just before it would be waited for in vain.
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("running", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def hold(belayctl, environment):
    """Start belayctl hold."""

    def hold(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*belayctl, "hold", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # No terminal, as in CI.
        )

    return hold


def test_the_program_knows_board_lease_and_daemon_and_its_code_is_passed_on(hold, lab) -> None:
    program = (
        "import os, sys; print(os.environ['BELAYD_BOARD'], os.environ['BELAYD_LEASE'],"
        " os.environ['BELAYD_ADDRESS'], sys.argv[1:]); sys.exit(3)"
    )

    with hold("-l", "chip=esp32", "--", sys.executable, "-c", program, "-l", "--json") as process:
        out, _ = process.communicate(timeout=60)

    assert out.split()[0] == "esp-1"
    assert out.split()[1].startswith("secret-")
    assert out.split()[2:] == [lab.address, "['-l',", "'--json']"]
    assert process.returncode == 3
    assert lab.held == {}


def test_belayctl_inside_works_under_the_lease(hold, belayctl, lab) -> None:
    with hold("pico-1", "--", *belayctl, "exec", "pico-1", "print(1)") as process:
        out, err = process.communicate(timeout=60)

    assert (out, process.returncode) == ("1\n", 0), err


def test_a_program_that_dies_of_a_signal_is_128_and_its_number(hold) -> None:
    with hold("pico-1", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") as process:
        process.communicate(timeout=60)

    assert process.returncode == 137


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), (".", 126)])
def test_a_program_that_cannot_be_run_gives_the_board_back(hold, lab, program: str, code: int) -> None:
    with hold("pico-1", "--", program) as process:
        _, err = process.communicate(timeout=60)

    assert process.returncode == code
    assert program in err
    assert lab.held == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 8)])
def test_a_signal_goes_on_to_the_program_and_the_board_is_given_back(
    hold, lab, number: int, code: int
) -> None:
    with hold("pico-1", "--", sys.executable, "-c", PATIENT) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        process.communicate(timeout=60)

    assert process.returncode == code
    assert lab.held == {}


def test_ctrl_c_at_a_terminal_reaches_the_program_once(terminal, lab) -> None:
    program = (
        "import signal, sys\ncount = 0\n"
        "def receive(*_):\n global count\n count += 1\n print('got', count, flush=True)\n"
        "signal.signal(signal.SIGINT, receive)\nprint('running', flush=True)\n"
        "signal.pause()\nsignal.sigtimedwait([signal.SIGUSR1], 0.5)\nsys.exit(count)\n"
    )
    shell = terminal("hold", "pico-1", "--", sys.executable, "-c", program)
    shell.expect("running")

    shell.interrupt()

    assert shell.finish() == 1
    assert lab.held == {}


def test_a_lease_is_renewed_while_the_program_runs(hold, lab) -> None:
    with hold("pico-1", "--ttl", "300ms", "--", sys.executable, "-c", PATIENT) as process:
        assert process.stdout.readline() == "running\n"
        for _ in range(4):
            assert lab.renewed.acquire(timeout=30)
        process.terminate()
        process.communicate(timeout=60)

    assert process.returncode == 7


@pytest.mark.parametrize("program", [PATIENT, STUBBORN], ids=["patient", "stubborn"])
def test_a_lost_lease_ends_the_program_with_exit_code_5(hold, lab, program: str) -> None:
    with hold("pico-1", "--ttl", "300ms", "--", sys.executable, "-c", program) as process:
        assert process.stdout.readline() == "running\n"
        lab.lose_leases()
        _, err = process.communicate(timeout=60)

    assert process.returncode == 5
    assert err.splitlines()[-1].startswith("belayctl: lost the lease on pico-1, so ")


def test_a_board_that_is_taken_fails_at_once(hold, lab) -> None:
    lab.failures["AcquireLease"] = (grpc.StatusCode.FAILED_PRECONDITION, "BOARD_LEASED", "ann has it", {})

    with hold("pico-1", "--", "true") as process:
        _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (5, "belayctl: ann has it\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_waiting_leaves_the_queue(
    hold, lab, belayctl, environment, number: int, code: int
) -> None:
    subprocess.run([*belayctl, "acquire", "pico-1"], env=environment, check=True, timeout=60)

    with hold("pico-1", "--wait", "5m", "--", "true") as process:
        assert "place 1" in process.stderr.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (code, "")
    assert len(lab.held) == 1


def test_a_daemon_that_is_gone_at_the_end_does_not_hide_the_programs_code(hold, lab, tmp_path: Path) -> None:
    with hold("pico-1", "--", sys.executable, "-c", PATIENT) as process:
        assert process.stdout.readline() == "running\n"
        lab.stop()
        process.terminate()
        _, err = process.communicate(timeout=60)

    assert process.returncode == 7
    assert "could not be given back" in err
