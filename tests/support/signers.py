"""Keys and certificates of those who sign messages.

In:  a folder and names.  Out: PEM files, and a folder of the certificates that are trusted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


class Signer(NamedTuple):
    """Who can sign: paths for the settings security_key and security_certificate."""

    key: str
    cert: str

    def settings(self, store: Path | str) -> dict[str, object]:
        """The settings of an app that signs with this key and trusts that store."""
        return {
            "security_key": self.key,
            "security_certificate": self.cert,
            "security_cert_store": str(store),
            "task_serializer": "auth",
            "result_serializer": "auth",
            "event_serializer": "auth",
            "accept_content": ["auth"],
        }


def signer(
    folder: Path,
    name: str,
    *,
    trusted: Path | None = None,
    days: float = 2,
    password: bytes | None = None,
    is_rsa: bool = True,
) -> Signer:
    """A new key and its certificate, valid for these days; trusted: a folder that gets the certificate."""
    key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Shop"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    until = datetime.now(UTC) + timedelta(days=days)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=9))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem = cert.public_bytes(serialization.Encoding.PEM)
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    made = Signer(str(folder / f"{name}.key"), str(folder / f"{name}.pem"))
    Path(made.key).write_bytes(key.private_bytes(*form))
    Path(made.cert).write_bytes(pem)
    if trusted is not None:
        trusted.mkdir(exist_ok=True)
        (trusted / f"{name}.pem").write_bytes(pem)
    return made
