from __future__ import annotations

from pathlib import Path

import pytest

from belayd_client.channel import connect, full_address, is_loopback
from belayd_client.client import Client
from belayd_client.errors import RequestInvalid
from belayd_client.profile import Profile, write


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("lab", "lab:50951"),
        ("lab:1", "lab:1"),
        ("10.0.0.7:50951", "10.0.0.7:50951"),
        ("[::1]:50951", "[::1]:50951"),
        ("[::1]", "[::1]:50951"),
        ("::1", "[::1]:50951"),
        ("unix:/run/belayd.sock", "unix:/run/belayd.sock"),
    ],
)
def test_an_address_gets_its_port(given: str, full: str) -> None:
    assert full_address(given) == full


@pytest.mark.parametrize("given", [":50951", "lab:", "lab:x", "lab:0", "lab:65536", "a b:1", "http://lab:1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(RequestInvalid, match="not an address"):
        full_address(given)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("unix:/run/belayd.sock", True),
        ("10.0.0.7:1", False),
        ("localhost.example:1", False),
        ("lab:1", False),
    ],
)
def test_loopback_is_known_by_the_address_alone(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_token_is_not_sent_in_the_clear_beyond_loopback() -> None:
    with pytest.raises(RequestInvalid, match="in the clear"):
        connect("lab:50951", token="secret")


def test_a_token_of_the_environment_is_not_sent_in_the_clear_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELAYD_TOKEN", "secret")

    with pytest.raises(RequestInvalid, match="in the clear"):
        connect("lab:50951")


def test_a_token_travels_with_each_call_to_loopback(lab, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("secret\n")

    with Client(lab.address, token_file=file) as client:
        client.boards()

    assert ("authorization", "Bearer secret") in lab.metadata[-1]


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    file.chmod(0o644)

    with pytest.raises(RequestInvalid, match="chmod 600"):
        connect("localhost", token_file=file)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch(0o600)

    with pytest.raises(RequestInvalid):
        connect("localhost", token_file=tmp_path / name)


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="--key"):
        connect("localhost", cert=tmp_path / "cert.pem")


def test_the_address_of_the_environment_is_taken(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELAYD_ADDRESS", lab.address)

    with Client() as client:
        assert client.address == lab.address
        assert len(client.boards()) == 3


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of profiles, empty, in an environment without anything of belayd's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("BELAYD_ADDRESS", "BELAYD_TOKEN", "BELAYD_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "belayd"


def test_the_default_profile_gives_address_and_token(lab, kept: Path) -> None:
    path = write(Profile("default", lab.address, "secret"))

    with Client() as client:
        client.boards()

    assert client.address == lab.address
    assert ("authorization", "Bearer secret") in lab.metadata[-1]
    assert (path, path.stat().st_mode & 0o777) == (kept / "default.json", 0o600)


def test_a_profiles_token_goes_to_no_other_address(lab, kept: Path) -> None:
    write(Profile("default", "localhost:1", "secret"))

    with Client(lab.address) as client:
        client.boards()

    assert "authorization" not in dict(lab.metadata[-1])


def test_a_token_of_the_environment_wins_over_the_profiles(
    lab, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Profile("default", lab.address, "kept"))
    monkeypatch.setenv("BELAYD_TOKEN", "given")

    with Client() as client:
        client.boards()

    assert ("authorization", "Bearer given") in lab.metadata[-1]


def test_an_empty_profile_name_leaves_them_all_aside(lab, kept: Path) -> None:
    write(Profile("default", lab.address, "secret"))

    with Client(lab.address, profile="") as client:
        client.boards()

    assert "authorization" not in dict(lab.metadata[-1])


def test_a_profiles_token_does_not_travel_in_the_clear_either(kept: Path) -> None:
    write(Profile("default", "lab:50951", "secret"))

    with pytest.raises(RequestInvalid, match="in the clear"):
        connect()


@pytest.mark.parametrize(
    ("name", "says"), [("missing", "belayctl login"), ("../x", "cannot name"), ("broken", "no profile")]
)
def test_a_profile_that_cannot_be_used_is_refused(kept: Path, name: str, says: str) -> None:
    write(Profile("broken", "localhost")).write_text("{")

    with pytest.raises(RequestInvalid, match=says):
        connect(profile=name)


def test_a_profile_that_others_can_read_is_refused(kept: Path) -> None:
    write(Profile("default", "localhost:1", "secret")).chmod(0o644)

    with pytest.raises(RequestInvalid, match="chmod 600"):
        connect()


def test_a_named_profile_and_another_address_contradict_each_other(kept: Path) -> None:
    write(Profile("north", "localhost:1", "secret"))

    with pytest.raises(RequestInvalid, match="is for localhost:1, not for localhost:2"):
        connect("localhost:2", profile="north")
