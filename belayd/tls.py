"""The server's certificate and key, from their files, and anew when those are renewed.

Files that do not fit each other, as in the middle of a renewal, change nothing;
they are looked at again. Handshakes that began keep what they began with.
"""

from __future__ import annotations

import logging
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from belayd.certs import CertificateFailed, expiry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files hold; `client_ca` is None where clients need no certificate."""

    cert: bytes
    key: bytes
    client_ca: bytes | None


class ServerCertificate:
    """A server's TLS files; `current` is what they last were when they fitted.

    Raises:
        CertificateFailed: They cannot be used.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._seen = self._signature()
        self._complained = False
        self.current = self._read()
        self.expires = expiry(self.current.cert)
        if self.expires <= datetime.now(UTC):
            log.error("%s expired on %s; no client will accept it", cert, self.expires.date())

    def refresh(self) -> bool:
        """Read the files if they changed; return whether `current` is new. Blocks."""
        seen = self._signature()
        if seen == self._seen:
            return False
        try:
            pems = self._read()
            expires = expiry(pems.cert)
        except CertificateFailed as error:
            if not self._complained:
                log.error("the TLS certificate stays as it was: %s", error)
            self._complained = True
            return False
        self._seen, self._complained = seen, False
        if pems == self.current:
            return False
        self.current, self.expires = pems, expires
        log.info("the TLS certificate was read anew from %s, valid until %s", self._cert, expires.date())
        return True

    def context(self) -> ssl.SSLContext:
        """Return a context for asyncio's servers, in which a client may show a certificate."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(made)
        if self.current.client_ca is not None:
            made.load_verify_locations(cadata=self.current.client_ca.decode("ascii"))
            made.verify_mode = ssl.CERT_OPTIONAL
        return made

    def load(self, context: ssl.SSLContext) -> None:
        """Give new handshakes of `context` the certificate that the files hold now."""
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise CertificateFailed(f"{self._cert} and {self._key}: {error}") from error

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in (self._cert, self._key, self._client_ca):
            try:
                status = path.stat() if path else None
            except OSError:
                status = None
            found.append((status.st_ino, status.st_mtime_ns, status.st_size) if status else (0, 0, 0))
        return tuple(found)

    def _read(self) -> Pems:
        try:
            if stat.S_IMODE(self._key.stat().st_mode) & 0o027:
                raise CertificateFailed(
                    f"{self._key}: others can read or change it; run: chmod 600 {self._key}"
                )
            pems = Pems(
                self._cert.read_bytes(),
                self._key.read_bytes(),
                self._client_ca.read_bytes() if self._client_ca else None,
            )
        except OSError as error:
            raise CertificateFailed(f"{error.filename}: {error.strerror}") from error
        self.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        if pems.client_ca is not None:
            expiry(pems.client_ca)
        return pems


def _no_password() -> str:
    """Refuse keys with a passphrase: the daemon starts with nobody there to type it."""
    raise CertificateFailed("the TLS key has a passphrase; take it off: openssl pkey -in KEY -out NEW")
