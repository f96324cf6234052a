from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from belayd_client import Device, PyboardException
from belayd_client.device import DeviceAddress, parse_address
from belayd_client.errors import BoardException, BoardLeased, LeaseLost, RequestInvalid


@pytest.fixture
def device(lab):
    with Device(f"{lab.address}/pico-1") as device:
        yield device


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("pico-1", DeviceAddress(None, "pico-1", None)),
        ("label:chip=rp2,rack=2", DeviceAddress(None, None, "chip=rp2,rack=2")),
        ("lab:50951/pico-1", DeviceAddress("lab:50951", "pico-1", None)),
        ("[::1]:1/label:chip=rp2", DeviceAddress("[::1]:1", None, "chip=rp2")),
        ("unix:/run/belayd.sock/pico-1", DeviceAddress("unix:/run/belayd.sock", "pico-1", None)),
    ],
)
def test_an_address_names_a_board_or_a_label(text: str, address: DeviceAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "lab:1/", "/pico-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a board"):
        parse_address(text)


def test_a_device_holds_its_board_until_it_is_closed(lab) -> None:
    device = Device(f"{lab.address}/pico-1")
    with pytest.raises(BoardLeased):
        Device(f"{lab.address}/pico-1", wait=0)

    device.close()
    device.close()

    Device(f"{lab.address}/pico-1", wait=0).close()


def test_a_label_takes_any_board_that_has_it(lab) -> None:
    with Device(f"{lab.address}/label:chip=esp32") as device:
        assert device.name == "esp-1"


def test_the_environments_daemon_is_the_default(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELAYD_ADDRESS", lab.address)

    with Device("pico-2") as device:
        assert device("6 * 7") == 42


def test_an_expression_gives_its_value_and_a_statement_none(device: Device) -> None:
    assert device("x = 20") is None
    assert device(" x + 1 ") == 21
    assert device("'hello'") == "hello"
    assert device("print('shown')") is None


@pytest.mark.parametrize("code", ["'\ud800'", "x = '\ud800'", "x = 1\ny = '\udfff'"])
def test_code_with_half_a_character_is_refused_before_anything_is_sent(device: Device, code: str) -> None:
    device("x = 'as before'")
    with pytest.raises(RequestInvalid, match="half a character") as refused:
        device(code)
    assert refused.value.reason == "REQUEST_INVALID"
    assert device("x") == "as before"


def test_prints_come_to_the_hosts_stdout(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    device("print('temperature: 21 °C')")

    assert capsys.readouterr().out == "temperature: 21 °C\n"


def test_prints_go_to_a_stream_or_nowhere(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()

    device("print('a')", stream_out=stream)
    device("print('b')", stream_out=None)

    assert stream.getvalue() == "a\n"
    assert capsys.readouterr().out == ""


def test_what_the_board_raises_is_belays_exception(device: Device) -> None:
    assert PyboardException is BoardException
    with pytest.raises(PyboardException, match="ZeroDivisionError"):
        device("1 / 0")


def test_a_task_runs_on_the_board_with_typed_arguments(device: Device, capsys) -> None:
    @device.task
    def join(a, *rest, sep=b"-"):
        print("joining")
        return [a, rest, {"sep": sep}]

    assert join(1, "two", 3.5, sep=b"\x00\xff") == [1, ("two", 3.5), {"sep": b"\x00\xff"}]
    assert capsys.readouterr().out == "joining\n"
    assert join.__name__ == "join"


def test_a_task_may_take_keywords_of_any_name(device: Device) -> None:
    @device.task
    def echo(**keywords):
        return keywords

    assert echo(timeout=1, board="x", lease=None) == {"timeout": 1, "board": "x", "lease": None}


def test_a_task_with_belays_options_is_an_attribute_of_the_device(device: Device) -> None:
    @device.task(minify=False, record=False)
    def double(x):
        return x * 2

    assert device.double(4) == double(4) == 8


def test_a_task_that_is_not_registered_is_none(device: Device) -> None:
    @device.task(register=False)
    def double(x):
        return x * 2

    assert not hasattr(device, "double")


def test_a_task_named_like_a_method_replaces_nothing(device: Device) -> None:
    @device.task
    def close():
        return "board"

    assert close() == "board"
    assert device.close != close


def test_the_source_is_sent_once_and_at_the_decoration(lab, device: Device) -> None:
    @device.task
    def one():
        return 1

    runs = [request for request in lab.requests if type(request).__name__ == "RunTaskRequest"]
    one()
    one()

    assert [request.source for request in runs] == ["def one():\n    return 1\n"]
    assert [type(request).__name__ for request in lab.requests][-2:] == ["CallTaskRequest"] * 2


def test_what_a_task_raises_bears_the_boards_traceback(device: Device) -> None:
    @device.task
    def fail(x):
        raise ValueError(x)

    with pytest.raises(PyboardException) as caught:
        fail("why")

    assert (caught.value.type_name, caught.value.message) == ("ValueError", "why")


def test_after_a_loss_the_next_call_raises_and_nothing_is_set_up_again(lab) -> None:
    with Device(f"{lab.address}/pico-1", ttl=0.3) as device:

        @device.task
        def one():
            return 1

        lost = threading.Event()
        lab.lose_leases()
        while not device.lease.lost:
            lost.wait(0.01)
        sent = len(lab.requests)

        with pytest.raises(LeaseLost):
            one()
        with pytest.raises(LeaseLost):
            device("1")

        assert [type(r).__name__ for r in lab.requests[sent:] if "Lease" not in type(r).__name__] == []
    Device(f"{lab.address}/pico-1", wait=0).close()


def test_an_exit_without_close_gives_the_board_up(lab, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom belayd_client import Device\n"
        "device = Device(sys.argv[1] + '/pico-1')\n"
        "@device.task\ndef one():\n    return 1\n"
        "print(one() + device('2'))\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", program, lab.address], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr) == ("3\n", "")
    assert lab.held == {}
