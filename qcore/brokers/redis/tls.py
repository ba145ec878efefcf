"""TLS to Redis: translate Celery's settings into redis-py's, and explain failures.

In:  `broker_use_ssl`, `ssl_…` options and the query of a rediss:// URL.  Out: `ssl_…` keywords.
Certificates are verified against the system's authorities or `ssl_ca_certs`, and names are checked,
unless the settings disable that explicitly; this is logged once in each process.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

from qcore.errors import ConfigError

log = logging.getLogger("qcore.broker")

_NEEDED = {ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "optional", ssl.CERT_REQUIRED: "required"}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")
_KNOWN = (
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_password", "ssl_ciphers", "ssl_min_version"),
    *("ssl_ca_data", *_FILES),
)

_warned: set[str] = set()


def tls_keywords(options: dict[str, Any], query: dict[str, Any], where: str) -> dict[str, Any]:
    """The keywords of an SSLConnection. query: the URL's options, which win; where: shown in messages.

    Raises ConfigError for values that redis-py would not understand and for missing files.
    """
    chosen = options.get("broker_use_ssl")
    found = dict(chosen) if isinstance(chosen, dict) else {}
    found.update({k: v for k, v in options.items() if k.startswith("ssl_")})
    found.update({k: v for k, v in query.items() if k.startswith("ssl_")})
    for name in found:
        if name not in _KNOWN:
            raise ConfigError(f"broker_use_ssl knows no '{name}'; known for Redis: {', '.join(_KNOWN)}")
    if "ssl_cert_reqs" in found:
        found["ssl_cert_reqs"] = _needed(found["ssl_cert_reqs"])
    for name in _FILES:
        if found.get(name) and not Path(found[name]).exists():
            raise ConfigError(f"there is no file '{found[name]}', which {name} names for the broker")
    if found.get("ssl_cert_reqs") == "none":
        # Python does not check the host name of a certificate that it does not verify.
        found["ssl_check_hostname"] = False
        _warn(where, "the certificate of the broker at %s is not checked: ssl_cert_reqs is CERT_NONE")
    elif found.get("ssl_check_hostname") is False:
        _warn(where, "the name in the certificate of the broker at %s is not checked")
    return found


def wants_tls(options: dict[str, Any]) -> bool:
    """Whether `broker_use_ssl` requests TLS where the URL does not."""
    return bool(options.get("broker_use_ssl"))


def _needed(value: Any) -> str:
    """Celery's ssl.CERT_REQUIRED or 'CERT_REQUIRED' as redis-py's 'required'."""
    if value is None:
        return "none"  # as redis-py treats None
    if isinstance(value, str):
        word = value.upper().removeprefix("SSL.").removeprefix("CERT_").lower()
    else:
        word = _NEEDED.get(value, "")
    if word not in _NEEDED.values():
        raise ConfigError(f"ssl_cert_reqs takes CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE, not {value!r}")
    return word


def _warn(where: str, words: str) -> None:
    if words + where not in _warned:
        _warned.add(words + where)
        log.warning(words + "; others on the network path can read and change the traffic", where)


def tls_reason(error: BaseException | None) -> str:
    """Why a handshake failed, as text for operators; '' when TLS is not the cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {error.verify_message.rstrip('.')}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {error.reason or error}".replace("_", " ").lower().replace("tls", "TLS")
        error = error.__cause__ or error.__context__
    return ""
