"""A small lab's own authority and its certificates, and what a certificate says of itself.

One authority (P-256, ten years) signs the daemon's certificates and the callers'.
A caller's certificate can be used by callers only and the daemon's by daemons
only, so that neither passes for the other. There is no revocation list: `belayd
token revoke --certificate NAME` keeps a name out. A lab that has a CA uses that.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from belayd.access import check_name
from belayd.errors import RequestInvalid

CA_CERT = "ca.pem"
CA_KEY = "ca.key"
CA_DAYS = 3650
SKEW = timedelta(minutes=10)
"""By which a certificate is older than it is: clocks of a lab differ."""


class CertificateFailed(Exception):
    """A certificate cannot be made or used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key were written, and until when it is valid."""

    cert: Path
    key: Path
    expires: datetime
    renewed: bool


def make_authority(folder: Path, name: str, now: datetime) -> Issued:
    """Make a folder with an authority's certificate and key.

    Raises:
        CertificateFailed: There is one already, or the folder cannot be written.
    """
    cert_path, key_path = folder / CA_CERT, folder / CA_KEY
    if cert_path.exists() or key_path.exists():
        raise CertificateFailed(f"{folder} has an authority already; all its certificates depend on it")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    expires = now + timedelta(days=CA_DAYS)
    builder = _builder(subject, subject, key.public_key(), now, expires)
    cert = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(key_path, _key_pem(key), 0o600)
        _write(cert_path, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CertificateFailed(f"{folder}: {error.strerror}") from error
    return Issued(cert_path, key_path, expires, renewed=False)


def issue(folder: Path, names: Sequence[str], *, server: bool, days: float, now: datetime) -> Issued:
    """Issue a certificate and key, NAME.pem and NAME.key after the first name.

    A server may have several names and IP addresses; a caller has one, which is
    its principal's. One of the same name and kind is replaced: that renews it.

    Raises:
        CertificateFailed: There is no authority, or the name has the other kind.
        RequestInvalid: A name cannot be one.
    """
    name = names[0]
    if not server:
        check_name(name)
    alternatives = [_alternative(each, server=server) for each in names]
    authority, authority_key = _authority(folder)
    cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    if {cert_path.name, key_path.name} & {CA_CERT, CA_KEY}:
        raise RequestInvalid("'ca' names the authority; choose another name", field="name")
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    renewed = cert_path.exists()
    if renewed and purpose not in _purposes(cert_path):
        raise CertificateFailed(
            f"{cert_path} is {'a caller' if server else 'a server'}'s; choose another name, or move it away"
        )
    expires = min(now + timedelta(days=days), authority.not_valid_after_utc)
    if expires <= now:
        raise CertificateFailed(f"the authority in {folder} expired on {expires:%Y-%m-%d}; make another")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = (
        _builder(subject, authority.subject, key.public_key(), now, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    try:
        # A daemon that reads between the two finds them not to fit, and looks again.
        _write(key_path, _key_pem(key), 0o600)
        _write(cert_path, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CertificateFailed(f"{folder}: {error.strerror}") from error
    return Issued(cert_path, key_path, expires, renewed)


def expiry(pem: bytes) -> datetime:
    """Return until when the first certificate in a PEM file is valid.

    Raises:
        CertificateFailed: There is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError as error:
        raise CertificateFailed(f"a file of server.tls holds no certificate in PEM: {error}") from error


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        cert = x509.load_pem_x509_certificate((folder / CA_CERT).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), password=None)
    except FileNotFoundError as error:
        raise CertificateFailed(
            f"{folder} has no authority ({Path(error.filename).name} is missing); run: belayd certs init"
        ) from error
    except (OSError, ValueError) as error:
        raise CertificateFailed(f"{folder}: its authority cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateFailed(f"{folder / CA_KEY} is not one that belayd made; use its own tools")
    return cert, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    expires: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(expires)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str, *, server: bool) -> x509.GeneralName:
    if server:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            pass
    try:
        if "@" in name and not server:
            return x509.RFC822Name(name)
        if not name or set(name) & set("/\\@ ") or name.startswith("."):
            raise ValueError("not a host's name")
        return x509.DNSName(name)
    except ValueError as error:
        raise RequestInvalid(f"{name!r} cannot be in a certificate: {error}", field="name") from error


def _purposes(path: Path) -> list[x509.ObjectIdentifier]:
    try:
        cert = x509.load_pem_x509_certificate(path.read_bytes())
        return list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise CertificateFailed(f"{path} is not a certificate of belayd's; move it away") from error


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place at once, and never with more rights than `mode`."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(fresh, mode)  # noqa: PTH101
    Path(fresh).replace(path)
