"""The driver of a broker URL: built-in ones by name, and installed ones."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from qcore.base.plugins import Registry
from qcore.brokers.base import Broker
from qcore.brokers.shared.endpoints import split_urls
from qcore.errors import ConfigError, mask_url

brokers: Registry[type[Broker]] = Registry(
    "broker",
    "qcore.brokers",
    {
        "kombu": "qcore.brokers.kombu.broker:KombuBroker",
        "memory": "qcore.brokers.memory.broker:MemoryBroker",
        "redis": "qcore.brokers.redis.broker:RedisBroker",
        "sqlite": "qcore.brokers.sqlite.broker:SqliteBroker",
    },
    aliases={
        "rediss": "redis",
        "redis+cluster": "redis",
        "rediss+cluster": "redis",
        "redis+socket": "redis",
        "unix": "redis",
        "sentinel": "redis",
        "amqp": "kombu",
        "amqps": "kombu",
        "pyamqp": "kombu",
    },
)


def open_broker(url: str, options: dict[str, Any] | None = None) -> Broker:
    """The broker at `url`, or at one of several URLs with `;` between them; the scheme selects the
    driver, and the schemes of other kombu transports select the kombu driver. Raises ConfigError for
    an invalid URL."""
    urls = split_urls(url) or [""]
    scheme = urls[0].partition("://")[0] if "://" in url else ""
    if not scheme:
        raise ConfigError(
            f"'{mask_url(url)}' is not a broker URL; write sqlite:///path, redis://host/0 or amqp://host//"
        )
    try:
        for one in urls:
            _ = urlsplit(one).port
    except ValueError:  # its words quote the URL, and so the password
        hint = "; in a password write '/' as %2F, '#' as %23, '?' as %3F and '@' as %40" if "@" in url else ""
        raise ConfigError(f"the broker URL {mask_url(url)} has a bad port or host{hint}") from None
    kinds = {_driver(one) for one in urls}
    if len(kinds) > 1:
        raise ConfigError(
            f"one broker URL names servers of one kind, not {' and '.join(sorted(kinds))}: {mask_url(url)}"
        )
    driver = brokers.get(kinds.pop())
    if len(urls) > 1 and not driver.takes_lists:
        raise ConfigError(f"the {driver.name} broker takes one URL, not {len(urls)}: {mask_url(url)}")
    return driver(";".join(urls), options)


def _driver(url: str) -> str:
    """The name of the driver for a single URL."""
    scheme = url.partition("://")[0]
    name = brokers.aliases.get(scheme, scheme)
    return name if name in brokers else "kombu"
