"""Signed bodies, the serializer `auth`, in Celery's format: X.509 certificates, RSA keys, PSS.

In:  a value and the key of its writer, or bytes and the certificates that are trusted.  Out: the other one;
SecurityError for what is altered, unsigned, of an unknown or an expired certificate.
Format: base64 of five fields with the bytes 00 01 between them: base64 of the certificate's id (names of the
issuer, serial number), base64 of the signature, content type, content encoding, and the body, which is what
is signed. The two types are not signed, so only those are read that setup_security() names.
Importing this module raises ConfigError where the package cryptography is not installed.
Before this: app/security.py.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import importlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qcore.errors import ConfigError, Malformed, SecurityError
from qcore.wire import content

try:
    import cryptography.exceptions
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.x509 import load_pem_x509_certificate
except ImportError:
    raise ConfigError("signed messages need the package cryptography: install qctl[auth]") from None

_ERRORS = (
    cryptography.exceptions.InvalidSignature,
    cryptography.exceptions.InvalidKey,
    cryptography.exceptions.UnsupportedAlgorithm,
    cryptography.exceptions.InternalError,
    ValueError,
)
SEPARATOR = b"\x00\x01"
DIGEST = "sha256"


def get_digest_algorithm(digest: str = DIGEST) -> Any:
    """The algorithm of this name, as cryptography has it; raises ConfigError for an unknown one."""
    kind = getattr(hashes, str(digest).upper(), None)
    if not (isinstance(kind, type) and issubclass(kind, hashes.HashAlgorithm)):
        raise ConfigError(f"security_digest '{digest}' is no digest; use sha256, sha384 or sha512")
    return kind()


@contextlib.contextmanager
def reraise_errors(msg: str = "{0!r}", errors: Any = None) -> Iterator[None]:
    """Within it these errors (of cryptography, say) become a SecurityError with this text."""
    kinds = errors or _ERRORS
    try:
        yield
    except SecurityError:
        raise
    except kinds as exc:
        raise SecurityError(msg.format(exc)) from exc


def _padding(digest: Any) -> Any:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.MAX_LENGTH)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class PrivateKey:
    """An RSA key, from PEM text."""

    def __init__(self, key: str | bytes, password: str | bytes | None = None) -> None:
        with reraise_errors("Invalid private key: {0!r}", (ValueError, TypeError)):
            found = serialization.load_pem_private_key(
                _bytes(key), password=_bytes(password) if password is not None else None
            )
            if not isinstance(found, rsa.RSAPrivateKey):
                raise ValueError("only RSA keys can be used")
            self._key = found

    def sign(self, data: str | bytes, digest: Any) -> bytes:
        with reraise_errors("Unable to sign data: {0!r}"):
            return self._key.sign(_bytes(data), _padding(digest), digest)


class Certificate:
    """An X.509 certificate with an RSA key, from PEM text."""

    def __init__(self, cert: str | bytes) -> None:
        with reraise_errors("Invalid certificate: {0!r}", (ValueError,)):
            self._cert = load_pem_x509_certificate(_bytes(cert))
            key = self._cert.public_key()
            if not isinstance(key, rsa.RSAPublicKey):
                raise ValueError("only certificates with RSA keys can be used")
            self._key = key

    def has_expired(self) -> bool:
        return datetime.now(UTC) >= self._cert.not_valid_after_utc

    def get_pubkey(self) -> Any:
        return self._key

    def get_serial_number(self) -> int:
        return self._cert.serial_number

    def get_issuer(self) -> str:
        """The values of the issuer's name, with spaces between them."""
        return " ".join(str(one.value) for one in self._cert.issuer)

    def get_id(self) -> str:
        """The issuer and the serial number: what a message says of its writer."""
        return f"{self.get_issuer()} {self.get_serial_number()}"

    def verify(self, data: str | bytes, signature: bytes, digest: Any) -> None:
        """Raises SecurityError unless the signature is one of `data` by the key of this certificate."""
        if self.has_expired():
            raise SecurityError(f"Expired certificate: {self.get_id()!r}")
        with reraise_errors(f"Bad signature: the body is not what {self.get_id()!r} has signed ({{0!r}})"):
            self._key.verify(signature, _bytes(data), _padding(digest), digest)


class CertStore:
    """The certificates that are trusted, by their ids."""

    def __init__(self) -> None:
        self._certs: dict[str, Certificate] = {}

    def itercerts(self) -> Iterator[Certificate]:
        yield from self._certs.values()

    def __getitem__(self, id: str | bytes) -> Certificate:
        name = id.decode("utf-8", "replace") if isinstance(id, bytes) else id
        try:
            return self._certs[name]
        except KeyError:
            raise SecurityError(f"Unknown certificate: {name!r:.200}; security_cert_store has none") from None

    def add_cert(self, cert: Certificate) -> None:
        if cert.get_id() in self._certs:
            raise SecurityError(f"Duplicate certificate: {cert.get_id()!r}")
        self._certs[cert.get_id()] = cert


class FSCertStore(CertStore):
    """The certificates in the files of a folder, or of a pattern such as /etc/certs/*.pem."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        pattern = str(Path(path) / "*") if Path(path).is_dir() else str(path)
        for name in sorted(glob.glob(pattern)):  # noqa: PTH207  a pattern of the user's
            cert = Certificate(Path(name).read_text())
            if cert.has_expired():
                raise SecurityError(f"Expired certificate: {cert.get_id()!r} in {name}")
            self.add_cert(cert)


class SecureSerializer:
    """Signs what it writes, and reads only what is signed."""

    def __init__(
        self,
        key: PrivateKey | None = None,
        cert: Certificate | None = None,
        cert_store: CertStore | None = None,
        digest: str = DIGEST,
        serializer: str = "json",
        accept: Any = (),
    ) -> None:
        self._key, self._cert, self._cert_store = key, cert, cert_store
        self._digest = get_digest_algorithm(digest)
        self._serializer = serializer
        self._accept = frozenset((serializer, "json", *accept))

    def serialize(self, data: Any) -> str:
        """The value as signed text; raises SecurityError."""
        if self._key is None or self._cert is None:
            raise SecurityError("signing needs security_key and security_certificate")
        with reraise_errors("Unable to serialize: {0!r}", (Exception,)):
            mime, encoding, body = content.dumps(data, self._serializer)
            return self._pack(body, mime, encoding, self._cert.get_id(), self._key.sign(body, self._digest))

    def deserialize(self, data: str | bytes) -> Any:
        """The value in signed text, after its signature was verified; raises SecurityError."""
        if self._cert_store is None:
            raise SecurityError("verifying needs security_cert_store")
        with reraise_errors("Unable to deserialize: {0!r}", (Exception,)):
            found = self._unpack(data)
            body = found["body"]
            self._cert_store[found["signer"]].verify(body, found["signature"], self._digest)
            try:
                return content.loads(body, found["content_type"], self._accept, found["content_encoding"])
            except Malformed as exc:
                raise SecurityError(f"the signed body is refused: {exc}") from exc

    def _pack(
        self, body: bytes, content_type: str, content_encoding: str, signer: str, signature: bytes
    ) -> str:
        named = (base64.b64encode(signer.encode()), base64.b64encode(signature))
        fields = (*named, content_type.encode(), content_encoding.encode(), body)
        return base64.b64encode(SEPARATOR.join(fields)).decode()

    def _unpack(self, payload: str | bytes) -> dict[str, Any]:
        fields = base64.b64decode(_bytes(payload), validate=True).split(SEPARATOR, maxsplit=4)
        if len(fields) != 5:
            raise SecurityError("the body is not signed: it has not the form of the serializer auth")
        signer, signature, mime, encoding, body = fields
        return {
            "signer": base64.b64decode(signer, validate=True),
            "signature": base64.b64decode(signature, validate=True),
            "content_type": mime.decode(),
            "content_encoding": encoding.decode(),
            "body": body,
        }


def register_auth(
    key: str | bytes | None = None,
    key_password: str | bytes | None = None,
    cert: str | bytes | None = None,
    store: str | Path | None = None,
    digest: str = DIGEST,
    serializer: str = "json",
    accept: Any = (),
) -> None:
    """Register the serializer `auth` with kombu, for the whole process. key, cert: PEM text; store: a folder
    or pattern; accept: what a signed body may be besides `serializer` and JSON."""
    found = SecureSerializer(
        PrivateKey(key, key_password) if key else None,
        Certificate(cert) if cert else None,
        FSCertStore(store) if store else None,
        digest,
        serializer,
        accept,
    )
    registry = importlib.import_module("kombu.serialization").registry
    registry.register(
        "auth", found.serialize, found.deserialize, content_type="application/data", content_encoding="utf-8"
    )
