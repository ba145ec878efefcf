"""Signed messages: app.setup_security(), with the arguments, settings and errors of Celery's.

In:  the settings security_* of an app.  Out: the serializer `auth` in kombu's registry, for the process.
Before this: app.py, and `celery.security` of an unmodified project.  After this: wire/signing.py.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qcore.errors import ConfigError
from qcore.tasks.current_app import current_app

log = logging.getLogger("qcore.security")


def setup_security(
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
    app: Any = None,
) -> None:
    """Register the serializer `auth`, which signs what is sent and reads only what is signed.

    key, cert, store: paths, each by default that of the setting; serializer: of the body that is signed;
    allowed_serializers: others that a signed body may have. Raises ConfigError, SecurityError, OSError.
    """
    signing = importlib.import_module("qcore.wire.signing")  # ConfigError without cryptography
    conf = (current_app() if app is None else app).conf
    allowed = None if allowed_serializers is None else list(allowed_serializers)
    importlib.import_module("kombu.serialization").disable_insecure_serializers(allowed)
    if conf.task_serializer != "auth" or list(conf.accept_content) != ["auth"]:
        raise ConfigError(
            "signed messages need task_serializer = 'auth', and accept_content = ['auth'], without which "
            f"unsigned ones run too; they are {conf.task_serializer!r} and {list(conf.accept_content)!r}"
        )
    key, cert = key or conf.security_key, cert or conf.security_certificate
    store = store or conf.security_cert_store
    given = {"security_key": key, "security_certificate": cert, "security_cert_store": store}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise ConfigError(f"signed messages need {', '.join(given)}; not set: {', '.join(missing)}")
    digest, wanted = digest or conf.security_digest, conf.security_digest
    if digest != wanted:
        log.warning(
            "messages are signed with %s and not with security_digest (%s), since setup_security() has the "
            "default digest='sha256', as in Celery; digest=None takes the setting",
            digest,
            wanted,
        )
    signing.register_auth(
        Path(str(key)).read_text(),
        key_password or conf.security_key_password,
        Path(str(cert)).read_text(),
        store,
        digest,
        serializer,
        allowed or (),
    )
    importlib.import_module("kombu.serialization").registry._set_default_serializer("auth")


def disable_untrusted_serializers(whitelist: Iterable[str] | None = None) -> None:
    """Have kombu refuse all serializers but these, where its callers do not say what they accept."""
    allowed = None if whitelist is None else list(whitelist)
    importlib.import_module("kombu.serialization").disable_insecure_serializers(allowed)
