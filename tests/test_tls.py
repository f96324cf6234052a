"""The server's certificate, as its files are replaced under it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from belayd.certs import CertificateFailed
from belayd.tls import ServerCertificate

AUTHORITY = trustme.CA()
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


def put(folder: Path, until: datetime = SOON, *, key: bool = True, cert: bool = True) -> None:
    """Put a new certificate and key in place, each as a whole, as tools that renew do."""
    made = AUTHORITY.issue_cert("localhost", not_after=until.replace(tzinfo=None))
    for wanted, name, pem in (
        (key, "key.pem", made.private_key_pem),
        (cert, "cert.pem", made.cert_chain_pems[0]),
    ):
        if wanted:
            fresh = folder / f".{name}"
            fresh.touch(0o600)
            pem.write_to_path(fresh)
            fresh.replace(folder / name)


@pytest.fixture
def certificate(tmp_path: Path) -> ServerCertificate:
    put(tmp_path)
    return ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem", None)


def test_a_certificate_says_when_it_expires(certificate: ServerCertificate) -> None:
    assert certificate.expires == SOON


def test_files_that_stay_the_same_change_nothing(certificate: ServerCertificate) -> None:
    before = certificate.current

    assert not certificate.refresh()
    assert certificate.current is before


def test_renewed_files_are_read(certificate: ServerCertificate, tmp_path: Path) -> None:
    before = certificate.current

    put(tmp_path, SOON + timedelta(days=60))

    assert certificate.refresh()
    assert certificate.current != before
    assert certificate.expires == SOON + timedelta(days=60)


@pytest.mark.parametrize("broken", ["key first", "no key", "garbage"])
def test_files_that_do_not_fit_yet_change_nothing_until_they_do(
    certificate: ServerCertificate, tmp_path: Path, broken: str
) -> None:
    before = certificate.current
    breaks = {
        "key first": lambda: put(tmp_path, cert=False),
        "no key": lambda: (tmp_path / "key.pem").unlink(),
        "garbage": lambda: (tmp_path / "cert.pem").write_text("nothing"),
    }

    breaks[broken]()
    assert not certificate.refresh()
    assert certificate.current is before

    put(tmp_path)
    assert certificate.refresh()


@pytest.mark.parametrize("name", ["cert.pem", "key.pem"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    put(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(CertificateFailed, match=name):
        ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem", None)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "key.pem").chmod(0o644)

    with pytest.raises(CertificateFailed, match="chmod 600"):
        ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem", None)


def test_a_client_ca_that_is_none_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(CertificateFailed):
        ServerCertificate(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
