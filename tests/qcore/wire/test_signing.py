"""Signed bodies: Celery reads ours, we read Celery's, and what is not right is refused with its reason."""

from __future__ import annotations

import base64
import inspect
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured as TheirImproperlyConfigured
from celery.exceptions import SecurityError as TheirSecurityError
from celery.security import certificate as their_certificate
from celery.security import key as their_key
from celery.security import serialization as theirs
from kombu import serialization as kombu

from qcore import App
from qcore.errors import ConfigError, Malformed, SecurityError
from qcore.wire import content, signing
from tests.support.signers import Signer, signer

BODY: Any = [[1, "é"], {"a": None}, {"callbacks": None}]
AUTH = frozenset(("auth",))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    folder = tmp_path_factory.mktemp("signers")
    return signer(folder, "one", trusted=folder / "store"), folder / "store"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test has set up is gone after it."""
    found = kombu.registry
    maps = (found._encoders, found._decoders, found.type_to_name, found.name_to_type)
    copies = [dict(one) for one in maps]
    disabled = set(found._disabled_content_types)
    yield
    for map_, copy in zip(maps, copies, strict=True):
        map_.clear()
        map_.update(copy)
    found._disabled_content_types = disabled
    found._set_default_serializer("json")


def ours(who: Signer, store: Path, **more: Any) -> signing.SecureSerializer:
    key = signing.PrivateKey(Path(who.key).read_text())
    cert = signing.Certificate(Path(who.cert).read_text())
    return signing.SecureSerializer(key, cert, signing.FSCertStore(store), **more)


def celerys(who: Signer, store: Path, **more: Any) -> theirs.SecureSerializer:
    key = their_key.PrivateKey(Path(who.key).read_text())
    cert = their_certificate.Certificate(Path(who.cert).read_text())
    return theirs.SecureSerializer(key, cert, their_certificate.FSCertStore(str(store)), **more)


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
def test_each_side_reads_what_the_other_has_signed(
    one: tuple[Signer, Path], serializer: str, digest: str
) -> None:
    us = ours(*one, digest=digest, serializer=serializer)
    them = celerys(*one, digest=digest, serializer=serializer)

    assert them.deserialize(us.serialize(BODY)) == BODY
    assert us.deserialize(them.serialize(BODY)) == BODY


def unpacked(text: str) -> list[bytes]:
    return base64.b64decode(text).split(b"\x00\x01", maxsplit=4)


def packed(fields: list[bytes]) -> str:
    return base64.b64encode(b"\x00\x01".join(fields)).decode()


def test_what_is_altered_or_unsigned_is_refused_with_its_reason(
    one: tuple[Signer, Path], tmp_path: Path
) -> None:
    us = ours(*one)
    signer_, signature, mime, encoding, body = unpacked(us.serialize(BODY))
    stranger = signer(tmp_path, "stranger", trusted=tmp_path / "strangers")
    expired = signer(tmp_path, "expired", days=-1)
    by_stranger = celerys(stranger, tmp_path / "strangers").serialize(BODY)
    forged = [base64.b64encode(signing.Certificate(Path(one[0].cert).read_text()).get_id().encode())]

    for words, text in {
        "Bad signature": packed([signer_, signature, mime, encoding, body.replace(b"1", b"2")]),
        "Bad signature: the body": packed([*forged, *unpacked(by_stranger)[1:]]),
        "Unknown certificate: 'Shop stranger": by_stranger,
        "is not signed": base64.b64encode(b"[[1], {}, {}]").decode(),
        "Unable to deserialize": json.dumps(BODY),
        "refused: content_disallowed": packed(
            [signer_, signature, b"application/x-python-serialize", b"binary", body]
        ),
    }.items():
        with pytest.raises(SecurityError, match=words):
            us.deserialize(text)

    store = signing.CertStore()
    late = signing.Certificate(Path(expired.cert).read_text())
    store.add_cert(late)
    key = signing.PrivateKey(Path(expired.key).read_text())
    with pytest.raises(SecurityError, match="Expired certificate: 'Shop expired"):
        signing.SecureSerializer(key, late, store).deserialize(
            signing.SecureSerializer(key, late, store).serialize(BODY)
        )


def test_a_signed_body_has_the_serializer_that_was_agreed_on(one: tuple[Signer, Path]) -> None:
    text = celerys(*one, serializer="pickle").serialize(BODY)

    with pytest.raises(SecurityError, match=r"\(pickle\) is not accepted"):
        ours(*one).deserialize(text)
    assert ours(*one, accept=["pickle"]).deserialize(text) == BODY


def test_keys_and_certificates_that_cannot_be_used_have_celerys_errors(tmp_path: Path) -> None:
    curve = signer(tmp_path, "curve", is_rsa=False)
    locked = signer(tmp_path, "locked", password=b"secret")
    pem, key = Path(curve.cert).read_text(), Path(locked.key).read_text()

    for text, kind, their_kind in (
        ("nonsense", signing.Certificate, their_certificate.Certificate),
        (pem, signing.Certificate, their_certificate.Certificate),
        ("nonsense", signing.PrivateKey, their_key.PrivateKey),
        (Path(curve.key).read_text(), signing.PrivateKey, their_key.PrivateKey),
    ):
        with pytest.raises(SecurityError, match="Invalid"):
            kind(text)
        with pytest.raises(TheirSecurityError, match="Invalid"):
            their_kind(text)
    with pytest.raises(SecurityError, match="Invalid private key"):
        signing.PrivateKey(key, "wrong")
    assert signing.PrivateKey(key, "secret").sign(b"x", signing.get_digest_algorithm())


def test_a_store_refuses_expired_and_repeated_certificates(tmp_path: Path) -> None:
    good = signer(tmp_path, "good", trusted=tmp_path / "store")
    (tmp_path / "store" / "again.pem").write_bytes(Path(good.cert).read_bytes())
    with pytest.raises(SecurityError, match="Duplicate certificate: 'Shop good"):
        signing.FSCertStore(tmp_path / "store")

    signer(tmp_path, "old", trusted=tmp_path / "expired", days=-1)
    with pytest.raises(SecurityError, match="Expired certificate: 'Shop old"):
        signing.FSCertStore(tmp_path / "expired")
    assert [c.get_issuer() for c in signing.FSCertStore(tmp_path / "store" / "goo*").itercerts()] == [
        "Shop good"
    ]


def test_setup_security_has_celerys_arguments_and_errors(one: tuple[Signer, Path]) -> None:
    who, store = one
    names = list(inspect.signature(Celery.setup_security).parameters)
    ours, theirs = App("shop"), Celery("shop", set_as_current=False)
    good = {"security_key": who.key, "security_certificate": who.cert, "security_cert_store": str(store)}
    auth = {"task_serializer": "auth", "accept_content": ["auth"]}

    assert list(inspect.signature(App.setup_security).parameters) == names
    for settings, words in (
        ({}, "need task_serializer = 'auth'"),
        ({"task_serializer": "auth", "accept_content": ["auth", "json"]}, "accept_content"),
        (auth, "not set: security_key, security_certificate, security_cert_store"),
        ({**auth, **good, "security_key": None}, "not set: security_key$"),
    ):
        ours, theirs = App("shop", **settings), Celery("shop", set_as_current=False)
        theirs.conf.update(settings)
        with pytest.raises(ConfigError, match=words):
            ours.setup_security()
        with pytest.raises(TheirImproperlyConfigured):
            theirs.setup_security()
    with pytest.raises(FileNotFoundError):
        App("shop", **auth, **{**good, "security_key": "/no/such.key"}).setup_security()
    with pytest.raises(ConfigError, match="security_digest 'md99' is no digest"):
        App("shop", **auth, **good, security_digest="md99").setup_security(digest=None)


def test_an_app_that_is_set_up_signs_its_messages_and_reads_only_signed_ones(
    one: tuple[Signer, Path], caplog: pytest.LogCaptureFixture
) -> None:
    who, store = one
    app = App("shop", **who.settings(store), security_digest="sha512")
    with caplog.at_level(logging.WARNING):
        app.setup_security()

    mime, encoding, raw = content.dumps(BODY, "auth")

    assert (mime, encoding) == ("application/data", "utf-8")
    assert content.loads(raw, mime, AUTH, encoding) == BODY
    assert celerys(who, store).deserialize(raw) == BODY
    with pytest.raises(Malformed, match="not_verified: Unknown"):
        content.loads(packed([b"eA==", *unpacked(raw.decode())[1:]]).encode(), mime, AUTH)
    with pytest.raises(Malformed, match=r"\(json\) is not accepted; accept_content names what is: auth$"):
        content.loads(b"[]", "application/json", AUTH)
    with pytest.raises(kombu.ContentDisallowed):
        kombu.loads(b"[]", "application/json", "utf-8")
    assert "messages are signed with sha256 and not with security_digest (sha512)" in caplog.text


def test_without_setup_a_signed_message_says_what_is_missing() -> None:
    with pytest.raises(Malformed, match=r"auth needs app\.setup_security\(\)"):
        content.loads(b"x", "application/data", AUTH)
    with pytest.raises(
        ConfigError, match=r"'auth', which is no serializer; auth needs app\.setup_security\(\)"
    ):
        content.check_accepted(["json", "auth"])
    with pytest.raises(
        ConfigError, match="accept_content names 'jason', which is no serializer; did you mean 'json'"
    ):
        content.check_accepted(["jason"])


PROJECT = """
import qcore.celery; qcore.celery.install()
from celery.security import disable_untrusted_serializers, setup_security, register_auth
from celery.security.certificate import Certificate, CertStore, FSCertStore
from celery.security.key import PrivateKey
from celery.security.serialization import SecureSerializer
from celery.security.utils import get_digest_algorithm, reraise_errors
from celery.exceptions import SecurityError
import qcore.errors, qcore.wire.signing
assert SecurityError is qcore.errors.SecurityError and PrivateKey is qcore.wire.signing.PrivateKey
"""
WITHOUT = """
import sys; sys.modules["cryptography"] = None
from qcore import App
try:
    App("shop").setup_security()
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def test_the_modules_of_celery_are_there_and_a_missing_package_is_named() -> None:
    subprocess.run([sys.executable, "-c", PROJECT], check=True)
    said = subprocess.run([sys.executable, "-c", WITHOUT], check=True, capture_output=True, text=True)

    assert said.stdout == "ConfigError signed messages need the package cryptography: install qctl[auth]\n"
