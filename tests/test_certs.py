"""A small lab's authority: what it issues is what TLS takes, and nothing else."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from belayd.certs import CertificateFailed, expiry, issue, make_authority
from belayd.errors import RequestInvalid

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path / "certs", "a lab", NOW)
    return tmp_path / "certs"


def caller(folder: Path, name: str = "ann@desk"):
    return issue(folder, [name], server=False, days=1, now=NOW)


def server(folder: Path, *names: str, days: float = 1):
    return issue(folder, names or ("lab.example",), server=True, days=days, now=NOW)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def policy(folder: Path) -> PolicyBuilder:
    return PolicyBuilder().store(Store([read(folder / "ca.pem")])).time(NOW)


def test_a_servers_certificate_is_good_for_each_of_its_names(folder: Path) -> None:
    made = server(folder, "lab.example", "lab", "10.0.0.5", "::1")

    names = read(made.cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["lab.example", "lab"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "::1"]
    policy(folder).build_server_verifier(x509.DNSName("lab.example")).verify(read(made.cert), [])


@pytest.mark.parametrize(
    ("name", "kind"), [("ann@desk", x509.RFC822Name), ("ci", x509.DNSName), ("10.0.0.5", x509.DNSName)]
)
def test_a_callers_certificate_has_its_name_alone(folder: Path, name: str, kind: type) -> None:
    certificate = read(caller(folder, name).cert)

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [kind(name)]


def test_neither_kind_passes_for_the_other(folder: Path) -> None:
    for_server, for_caller = read(server(folder).cert), read(caller(folder).cert)

    for certificate, purpose in (
        (for_server, ExtendedKeyUsageOID.SERVER_AUTH),
        (for_caller, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
    with pytest.raises(VerificationError):
        policy(folder).build_client_verifier().verify(for_server, [])


def test_another_authoritys_certificate_is_not_ours(folder: Path, tmp_path: Path) -> None:
    make_authority(tmp_path / "other", "a lab", NOW)

    with pytest.raises(VerificationError):
        policy(folder).build_client_verifier().verify(read(caller(tmp_path / "other").cert), [])


def test_keys_are_for_their_owner_alone_and_fit_their_certificates(folder: Path) -> None:
    made = [caller(folder), server(folder)]

    for each in made:
        key = load_pem_private_key(each.key.read_bytes(), None)
        assert key.public_key() == read(each.cert).public_key()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.glob(".*")) == []


def test_a_second_authority_in_a_folder_is_refused(folder: Path) -> None:
    before = (folder / "ca.key").read_bytes()

    with pytest.raises(CertificateFailed, match="already"):
        make_authority(folder, "another", NOW)

    assert (folder / "ca.key").read_bytes() == before


def test_without_an_authority_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(CertificateFailed, match="belayd certs init"):
        caller(tmp_path)


def test_the_same_name_again_renews(folder: Path) -> None:
    first = caller(folder)
    before = first.cert.read_bytes()

    second = caller(folder)

    assert (first.renewed, second.renewed) == (False, True)
    assert (second.cert, second.key) == (first.cert, first.key)
    assert second.cert.read_bytes() != before


def test_a_name_of_the_other_kind_is_not_overwritten(folder: Path) -> None:
    server(folder, "lab")

    with pytest.raises(CertificateFailed, match="choose another name"):
        caller(folder, "lab")


@pytest.mark.parametrize("name", ["local", "", "a b", "../ca", "unix:root", "ca", "ä"])
def test_a_caller_cannot_have_every_name(folder: Path, name: str) -> None:
    with pytest.raises(RequestInvalid):
        caller(folder, name)


@pytest.mark.parametrize("name", ["", "a/b", "../ca", "a b", "ann@desk", "ca", ".hidden"])
def test_a_server_cannot_have_every_name(folder: Path, name: str) -> None:
    with pytest.raises(RequestInvalid):
        server(folder, name)


def test_a_certificate_never_outlives_its_authority(folder: Path) -> None:
    made = server(folder, days=5000)

    assert expiry(made.cert.read_bytes()) == expiry((folder / "ca.pem").read_bytes()) == made.expires


def test_an_expired_authority_issues_nothing(folder: Path) -> None:
    with pytest.raises(CertificateFailed, match="expired"):
        issue(folder, ["ann"], server=False, days=1, now=NOW + timedelta(days=4000))


def test_what_is_no_certificate_has_no_expiry() -> None:
    with pytest.raises(CertificateFailed):
        expiry(b"nothing")
